"""Answers that function calls have bought, kept in a folder in the journal's format and found again by any later call.

Every partition that has something to ask writes a bucket of its own, so that workers which run at the same time never
fence each other out; all buckets of the same kind of call are read.
"""

import hashlib
import os
import threading
import uuid
from collections.abc import Sequence

import orjson

from pipeline.errors import ErrorCode, JournalCorrupt
from pipeline.journal import BucketJournal, Entry
from pipeline.journal.frames import HEAD, decode, frame_at, summarize
from pipeline.journal.index import RequestIndex, pack_value
from pipeline.journal.segments import ROOT, SUFFIX, read_segment, seed_of_segment
from pipeline.questions import QuestionSpec
from pipeline.records import Exchange
from pipeline.storage import Store, open_store

_READ_BYTES = 16 << 10  # a chat answer has a few kB
_BUCKETS = 10**9  # drawn at random: that two partitions meet costs one of them a wait


class ResponseCache:
    """A `ResponseLog` over one folder; one per partition."""

    def __init__(self, path: str, question: QuestionSpec) -> None:
        self._store = open_store(path)
        self._fingerprint = fingerprint(question)
        self._known = _known(path, self._fingerprint, self._store)
        self._own: BucketJournal | None = None

    def lookup(self, ids: Sequence[str]) -> list[Entry | None]:
        """See `ResponseLog.lookup`; only answers count, so that what failed is asked again."""
        found = self._known.lookup(ids)
        if self._own is None and None in found:
            self._own = BucketJournal.open(
                self._store,
                self._fingerprint,
                uuid.uuid4().int % _BUCKETS,
                run_id="",
                attempt=f"{os.getpid()}-{uuid.uuid4().hex[:12]}",
                on_corrupt="skip",
            )
        return found

    def read(self, entry: Entry) -> Exchange:
        """See `ResponseLog.read`; a damaged answer is an error that may pass, so that its requests are asked again."""
        return self._known.read(entry)

    def append(self, *exchanges: Exchange) -> None:
        """See `ExchangeLog.append`."""
        assert self._own is not None, "nothing is sent that was not looked up"
        self._own.append(*exchanges)

    def claim(self, ids: Sequence[str]) -> None:
        """Nothing to note: a row tells the usage of its answer, bought now or before."""

    def is_held(self) -> bool:
        """True: nobody else writes this partition's bucket."""
        return True

    def close(self) -> None:
        """Seals what was written; a second call does nothing."""
        if self._own is not None:
            self._own.close()


def fingerprint(question: QuestionSpec) -> str:
    """SHA-256, hex, of what all rows of a call share: calls with equal ones share their answers."""
    parts = [str(question.task), dict(question.identity), question.template, question.system]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


class _Known:
    """The answers in one folder, as far as this process has read them."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._index = RequestIndex()
        self._names: list[str] = []
        self._seen: dict[str, tuple[int, int]] = {}  # name -> its number, its size when it was read
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Reads the segments that are new or have grown."""
        with self._lock:
            for name, size, _ in self._store.list(self._folder):
                number, known_size = self._seen.get(name, (len(self._names), -1))
                if not name.endswith(SUFFIX) or size == known_size:
                    continue
                if known_size < 0:
                    self._names.append(name)
                data = self._store.read(name)
                self._seen[name] = (number, size)
                self._add(number, name, data)

    def _add(self, number: int, name: str, data: bytes) -> None:
        for frame in read_segment(name, data).exchanges:
            summary = summarize(frame.payload)
            if summary.is_answered:
                value = pack_value(number, frame.offset, is_final=True, is_answered=True, unknown_outcomes=0)
                self._index.add(summary.request_ids, value)

    def lookup(self, ids: Sequence[str]) -> list[Entry | None]:
        with self._lock:
            return self._index.lookup(ids)

    def read(self, entry: Entry) -> Exchange:
        name = self._names[entry.segment]
        try:
            seed = seed_of_segment(name)
            buffer = self._store.read_range(name, entry.offset, _READ_BYTES)
            length, payload = frame_at(buffer, 0, seed)
            if payload is None:
                buffer = self._store.read_range(name, entry.offset, max(length, HEAD.size))
                _, payload = frame_at(buffer, 0, seed)
            if payload is None:
                raise JournalCorrupt("the file ends within the frame")
            return decode(payload)
        except JournalCorrupt as exc:
            return Exchange((), 1, 0.0, 0.0, transport_error=ErrorCode.INTERNAL, message=str(exc))


_process: dict[tuple[int, str, str], _Known] = {}
_process_lock = threading.Lock()


def _known(path: str, fingerprint: str, store: Store) -> _Known:
    """What this process knows of a folder, brought up to date. A forked child starts with its own."""
    with _process_lock:
        key = (os.getpid(), path, fingerprint)
        known = _process.setdefault(key, _Known(store, f"{ROOT}/{fingerprint}"))
    known.refresh()
    return known
