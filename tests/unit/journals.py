"""Exchanges, stores and failing file operations for the tests of the journal."""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import ErrorCode
from pipeline.journal import BucketJournal
from pipeline.records import Exchange, HttpResponse, Usage
from pipeline.storage import FileOps, LocalStore

FINGERPRINT = "f" * 16


@cache
def request_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def exchange(
    *numbers: int,
    status: int | None = 200,
    error: ErrorCode | None = None,
    body: bytes = b'{"answer": 42}',
    run_id: str = "run-1",
    attempt: int = 1,
    sent_at_s: float = 1_000.0,
) -> Exchange:
    """Answered by default; with `error` there is no response."""
    response = HttpResponse(status, body, {"content-type": "application/json"}) if status and not error else None
    return Exchange(
        request_ids=tuple(map(request_id, numbers)),
        attempt=attempt,
        sent_at_s=sent_at_s,
        latency_ms=250.0,
        response=response,
        transport_error=error,
        message="it broke" if error else "",
        run_id=run_id,
        usage=Usage(10, 20, 30) if response is not None and status == 200 else Usage(),
        is_final=response is not None and status in (200, 400),
    )


class QuietOps(FileOps):
    """Forces nothing to the disk: the tests kill processes, not machines."""

    def sync(self, fd: int) -> None:
        pass


class FaultyOps(QuietOps):
    """Fails operation number `fail_at`, counted from 1, once; `failed` is its name then."""

    def __init__(self, fail_at: int, number: int) -> None:
        self.fail_at = fail_at
        self.number = number
        self.count = 0
        self.failed = ""


def _counted(name: str) -> Callable[..., Any]:
    def call(self: FaultyOps, *args: Any) -> Any:
        self.count += 1
        if self.count != self.fail_at:
            return getattr(QuietOps, name)(self, *args)
        self.failed = name
        if name == "close":  # the descriptor is gone even where close reports an error
            os.close(args[0])
        if name == "write":  # half of it arrived
            os.write(args[0], bytes(args[1])[: len(args[1]) // 2])
        raise OSError(self.number, os.strerror(self.number))

    return call


for _name in [name for name in vars(FileOps) if not name.startswith("_")]:
    setattr(FaultyOps, _name, _counted(_name))


def local_store(root: Any, ops: FileOps | None = None) -> LocalStore:
    return LocalStore(str(root), ops or QuietOps())


def open_bucket(store: Any, attempt: str = "a1", **options: Any) -> BucketJournal:
    options = {"run_id": "run-1", "wait_s": 0.0, **options}
    return BucketJournal.open(store, FINGERPRINT, 7, attempt=attempt, **options)


def crash(journal: BucketJournal) -> None:
    """What a SIGKILL leaves: nothing is sealed, the kernel frees lock and descriptor."""
    if journal._writer is not None:
        journal._writer.close()
    journal._writer = None
    journal._let_go()


def segments(root: Path) -> list[Path]:
    return sorted(root.glob(f"journal/{FINGERPRINT}/000007/*.seg"))


def held(journal: BucketJournal, numbers: range) -> list[int]:
    """The numbers that are answered, each answer read and compared."""
    entries = journal.lookup([request_id(n) for n in numbers])
    for number, entry in zip(numbers, entries, strict=True):
        if entry is not None:
            assert request_id(number) in journal.read(entry).request_ids, f"another answer for request {number}"
    return [number for number, entry in zip(numbers, entries, strict=True) if entry is not None]
