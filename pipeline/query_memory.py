"""What the tasks of one query on one machine buy together: each request is asked by one of them, its answer is for all.

A small SQLite database in the query's folder. It only ever saves calls: where it cannot be used, every task asks for
itself. An owner's claims count while it holds the lock on its file, so those of a killed worker are free at once.
"""

import contextlib
import fcntl
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import orjson

from pipeline.query_failure import own_folder
from pipeline.records import Outcome, Task
from pipeline.vector_ring import VectorRing

Claim = Outcome | Literal["ask", "wait"]

# Answers that one task keeps for others; the oldest go first, and are asked again if they are wanted again.
MOST_BYTES = 32 * 2**20
# A folder that nobody has written to for so long is removed.
IDLE_S = 600.0
_BUSY_S = 5.0
_AT_ONCE = 500  # ids per statement
_TABLE = "CREATE TABLE IF NOT EXISTS answers (id BLOB PRIMARY KEY, owner TEXT NOT NULL, answer BLOB, told BLOB) WITHOUT ROWID"


class QueryMemory:
    """One task's door to it. `claim` is called by the task's thread, `settle` by the loop's."""

    def __init__(self, folder: Path, task: Task) -> None:
        self._is_vector = task is Task.EMBEDDING
        self._owner = uuid.uuid4().hex
        self._folder = folder
        self._mutex = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._alive: IO[bytes] | None = None
        self._claimed: set[bytes] = set()
        self._kept: deque[tuple[bytes, int]] = deque()
        self._kept_bytes = 0
        self._vectors = VectorRing(folder, self._owner) if self._is_vector else None
        self._open()

    def claim(self, ids: Sequence[str]) -> list[Claim]:
        """Per request: its answer without usage, "ask" where it is this task's now, "wait" where another asks it."""
        with self._mutex, self._writing() as database:
            if database is None:
                return ["ask"] * len(ids)
            keys = [bytes.fromhex(request_id) for request_id in ids]
            found = {row[0]: row[1:] for row in _select(database, keys)}
            dead = self._dead({owner for owner, answer, _ in found.values() if answer is None})
            claims: list[Claim] = []
            for request_id, key in zip(ids, keys, strict=True):
                owner, answer, told = found.get(key, (None, None, None))
                known = self._outcome(request_id, owner, answer, told)
                if known is not None:
                    claims.append(known)
                elif answer is None and owner is not None and owner != self._owner and owner not in dead:
                    claims.append("wait")
                else:
                    claims.append("ask")
            mine = [key for key, claim in zip(keys, claims, strict=True) if claim == "ask"]
            database.executemany(
                "INSERT OR REPLACE INTO answers (id, owner) VALUES (?, ?)", [(key, self._owner) for key in mine]
            )
            self._claimed.update(mine)
            return claims
        return ["ask"] * len(ids)

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Gives the answers to the others; what failed is free to be asked again."""
        with self._mutex, self._writing() as database:
            if database is None:
                return
            keys = [bytes.fromhex(outcome.request_id) for outcome in outcomes]
            self._claimed.difference_update(keys)
            answered = [(key, o) for key, o in zip(keys, outcomes, strict=True) if o.error is None]
            rows = []
            for key, outcome in answered:
                data = self._encoded(outcome)
                told = orjson.dumps((outcome.finish_reason, outcome.model, outcome.attempts))
                rows.append((data if self._vectors is None else self._vectors.put(data), told, key))
                self._kept.append((key, len(data)))
                self._kept_bytes += len(data)
            database.executemany("UPDATE answers SET answer = ?, told = ? WHERE id = ?", rows)
            forgotten = [key for key, o in zip(keys, outcomes, strict=True) if o.error is not None]
            while self._kept_bytes > MOST_BYTES:
                key, size = self._kept.popleft()
                self._kept_bytes -= size
                forgotten.append(key)
            database.executemany("DELETE FROM answers WHERE id = ?", [(key,) for key in forgotten])

    def close(self) -> None:
        """Frees what was claimed and not answered; a second call does nothing."""
        with self._mutex:
            with self._writing() as database:
                if database is not None:
                    unanswered = [(key,) for key in self._claimed]
                    database.executemany("DELETE FROM answers WHERE id = ? AND answer IS NULL", unanswered)
            self._drop()

    def _open(self) -> None:
        if own_folder(self._folder) is None:
            return
        _remove_idle(self._folder)
        try:
            self._alive = (self._folder / self._owner).open("wb")
            fcntl.flock(self._alive, fcntl.LOCK_EX)
            with (self._folder / "opening").open("wb") as one_at_a_time:
                # SQLite waits for nobody when it changes the mode: of two tasks that begin at once one would be refused
                fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
                database = sqlite3.connect(
                    self._folder / "answers.db", timeout=_BUSY_S, isolation_level=None, check_same_thread=False
                )
                # nothing here must outlive the machine: no waiting for the disk
                for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF", _TABLE):
                    database.execute(statement)
            self._database = database
        except (OSError, sqlite3.Error):
            self._drop()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection | None]:
        """The database within a transaction, None where there is none; one that fails is not used again."""
        database = self._database
        try:
            if database is not None:
                database.execute("BEGIN IMMEDIATE")
            yield database
            if database is not None:
                database.execute("COMMIT")
        except (OSError, sqlite3.Error):
            self._drop()

    def _drop(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        if self._vectors is not None:
            self._vectors.close()
        if self._alive is not None:
            self._alive.close()
            self._alive = None
            (self._folder / self._owner).unlink(missing_ok=True)

    def _dead(self, owners: set[str]) -> set[str]:
        return {owner for owner in owners if owner != self._owner and not _is_held(self._folder / owner)}

    def _encoded(self, outcome: Outcome) -> bytes:
        if self._is_vector:
            return np.ascontiguousarray(outcome.response, dtype=np.float32).tobytes()
        return str(outcome.response).encode("utf-8", "surrogatepass")

    def _outcome(self, request_id: str, owner: str | None, answer: bytes | None, told: bytes | None) -> Outcome | None:
        """None where there is no answer yet, or none any more."""
        if owner is None or answer is None or told is None:
            return None
        finish_reason, model, attempts = orjson.loads(told)
        response: Any
        if self._vectors is None:
            response = answer.decode("utf-8", "surrogatepass")
        elif (data := self._vectors.get(owner, answer)) is not None:
            response = np.frombuffer(data, np.float32)
        else:
            return None
        return Outcome(request_id, response, finish_reason=finish_reason, model=model, attempts=attempts)


def _select(
    database: sqlite3.Connection, keys: Sequence[bytes]
) -> Iterator[tuple[bytes, str, bytes | None, bytes | None]]:
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        yield from database.execute(f"SELECT id, owner, answer, told FROM answers WHERE id IN ({marks})", some)  # noqa: S608


def _is_held(path: Path) -> bool:
    """Whether the process that made this file still lives."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _remove_idle(folder: Path) -> None:
    """Folders of queries that ended long ago."""
    before = time.time() - IDLE_S
    with contextlib.suppress(OSError):
        for other in os.scandir(folder.parent):
            with contextlib.suppress(OSError):
                if other.name != folder.name and _changed_s(other) < before:
                    shutil.rmtree(other.path, ignore_errors=True)


def _changed_s(folder: "os.DirEntry[str]") -> float:
    return max([folder.stat().st_mtime, *(entry.stat().st_mtime for entry in os.scandir(folder.path))])
