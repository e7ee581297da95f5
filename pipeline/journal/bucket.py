"""The journal of one bucket: every exchange is in it before its outcome is used, and no attempt loses another's."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from pipeline.errors import JournalCorrupt, StateError
from pipeline.journal.frames import HEAD, Summary, decode, encode, frame_at, ids_of, summarize
from pipeline.journal.index import Entry, RequestIndex, pack_value
from pipeline.journal.lease import Lease
from pipeline.journal.segments import (
    SUFFIX,
    SegmentDamage,
    SegmentWriter,
    folder_of,
    read_segment,
    repair,
    seed_of_segment,
    segment_name,
)
from pipeline.journal.spool import Spool
from pipeline.journal.totals import JournalTotals, Sums
from pipeline.journal.uploads import Uploads
from pipeline.records import Exchange
from pipeline.storage import LocalStore, Store

Fsync = Literal["never", "interval", "always"]

# The starting values of the reference: what is lost with a node is at most this much, and what was in flight.
SEAL_BYTES = 8 << 20
SEAL_INTERVAL_S = 10.0
FSYNC_INTERVAL_S = 1.0
# One read brings most exchanges whole: a chat answer has a few kB. Rows come back about in the order in which they
# were asked, so a read behind the one before brings the next hundred as well.
_READ_BYTES = 16 << 10
_READ_AHEAD_BYTES = 256 << 10
_CACHE_BYTES = 8 << 20


class BucketJournal:
    """Made by `BucketJournal.open`. One thread may append while another looks up and reads."""

    def __init__(
        self,
        store: Store,
        fingerprint: str,
        bucket: int,
        lease: Lease,
        *,
        run_id: str,
        attempt: str,
        clock: Callable[[], float],
        fsync: Fsync,
        seal_bytes: int,
        seal_interval_s: float,
        spool_folder: str | None,
    ) -> None:
        self.lease = lease
        self.damage: list[SegmentDamage] = []
        self._store = store
        self._fingerprint = fingerprint
        self._bucket = bucket
        self._folder = folder_of(fingerprint, bucket)
        self._run_id = run_id
        self._attempt = attempt
        self._clock = clock
        self._fsync = fsync
        self._seal_bytes = seal_bytes
        self._seal_interval_s = seal_interval_s
        self._segments: list[str] = []
        self._index = RequestIndex()
        self._writer: SegmentWriter | None = None
        self._sequence = 0
        self._synced_at_s = clock()
        self._is_closed = False
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int], Exchange] = OrderedDict()
        self._cached_bytes = 0
        self._buffer = b""
        self._buffer_name = ""
        self._buffer_offset = 0
        self._spool: Spool | None = None
        self._uploads: Uploads | None = None
        if isinstance(store, LocalStore):
            self._files = store
        else:
            self._spool = Spool(store, self._folder, attempt, spool_folder)
            self._files = self._spool.files
            self._uploads = Uploads(self._files, store)

    @classmethod
    def open(
        cls,
        store: Store,
        fingerprint: str,
        bucket: int,
        *,
        run_id: str,
        attempt: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        fsync: Fsync = "never",
        seal_bytes: int = SEAL_BYTES,
        seal_interval_s: float = SEAL_INTERVAL_S,
        wait_s: float | None = None,
        on_corrupt: Literal["raise", "skip"] = "raise",
        spool_folder: str | None = None,
        background: bool = True,
    ) -> "BucketJournal":
        """Takes the bucket's lease, waiting up to `wait_s` for an older attempt, and reads what all attempts wrote.

        A torn tail is cut off and listed in `damage`. A frame whose bits changed is never served: JournalCorrupt, or
        with `skip` it is listed and its requests count as never asked. `attempt` is used by no other attempt. `clock`
        gives seconds since the epoch. On a remote store segments are written below a local `spool_folder`, and a thread
        uploads them; without `background`, calls of `tick` do.
        """
        folder = folder_of(fingerprint, bucket)
        owner = f"{run_id or 'run'} attempt {attempt}"
        lease = Lease.acquire(
            store, folder, owner=owner, clock=clock, sleep=sleep, wait_s=wait_s, background=background
        )
        journal: BucketJournal | None = None
        try:
            journal = cls(
                store,
                fingerprint,
                bucket,
                lease,
                run_id=run_id,
                attempt=attempt,
                clock=clock,
                fsync=fsync,
                seal_bytes=seal_bytes,
                seal_interval_s=seal_interval_s,
                spool_folder=spool_folder,
            )
            journal._read_all(on_corrupt)
        except BaseException:
            with contextlib.suppress(StateError):
                journal._let_go() if journal is not None else lease.release()
            raise
        if background and journal._uploads is not None:
            journal._uploads.start(journal.tick, min(1.0, seal_interval_s / 4))
        return journal

    def lookup(self, ids: Sequence[str]) -> list[Entry | None]:
        """The exchange that counts for each request, in order; None where there is none."""
        with self._lock:
            return self._index.lookup(ids)

    def claim(self, ids: Sequence[str]) -> None:
        """Notes that rows have taken the usage of these requests: a later row with the same request costs nothing."""
        with self._lock:
            self._index.claim(ids)

    def read(self, entry: Entry) -> Exchange:
        """The exchange behind an entry, its checksum verified anew: JournalCorrupt where it does not match."""
        key = (entry.segment, entry.offset)
        cached = self._cache.get(key)
        if cached is None:
            cached = self._read(self._segments[entry.segment], entry.offset)
            self._remember(key, cached)
        return cached

    def append(self, *exchanges: Exchange) -> None:
        """Writes the exchanges at once; when it returns, a kill of this process loses nothing of them.

        A power cut may, by `fsync`, and on a remote store the loss of the node, what is not uploaded. StateError where
        they cannot be written or forced to the disk. LeaseLost where another attempt has taken over: they are written
        all the same, so that the other one's successor finds them.
        """
        if not exchanges:
            return
        with self._lock:
            self._append(exchanges)
        self.lease.check()
        if self._uploads is not None:
            self._uploads.check()

    def is_held(self) -> bool:
        """False once another attempt has taken the bucket over; cheap enough to ask before each call."""
        return self.lease.is_held()

    def tick(self) -> None:
        """Does what is due on a remote store: seals by time, uploads, renews the lease. A thread calls it already."""
        self.lease.tick()
        if self._uploads is None:
            return
        with self._lock:
            writer = self._writer
            if writer is not None and self._clock() - writer.started_at_s >= self._seal_interval_s:
                self._seal()
        self._uploads.run()

    def flush(self) -> None:
        """Seals the segment that is being written and, on a remote store, uploads it. StateError where that fails."""
        with self._lock:
            self._seal()
        if self._uploads is not None:
            self._uploads.run()
            self._uploads.check(is_last=True)

    def close(self) -> None:
        """Seals, uploads, and lets the next attempt in; a second call does nothing. StateError where that fails."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._uploads is not None:
                self._uploads.stop()
            self.flush()
            if self._spool is not None:
                self._spool.discard()
        finally:
            self._let_go()

    def entries(self) -> Iterator[Summary]:
        """All intact exchanges of the bucket, in the order of their segments, without bodies."""
        for name in list(self._segments):
            for frame in read_segment(name, self._files.read(name)).exchanges:
                yield summarize(frame.payload)

    def totals(self, run_id: str | None = None) -> JournalTotals:
        """The sums over the bucket, or over what one run added to it."""
        sums = Sums(run_id)
        for name in list(self._segments):
            sums.add_segment(read_segment(name, data := self._files.read(name)), len(data))
        return sums.end_bucket().totals()

    def _append(self, exchanges: Sequence[Exchange]) -> None:
        if self._is_closed:
            raise StateError(f"the journal of {self._folder} is closed")
        writer = self._writer or self._begin()
        frames = [encode(exchange, writer.seed) for exchange in exchanges]
        try:
            offset = writer.append(frames)
        except StateError:
            if writer.is_broken:  # whole frames and a torn tail may be left: it stays the last of its segment
                self._writer = None
                with contextlib.suppress(StateError):
                    writer.close()
            raise
        for exchange, data in zip(exchanges, frames, strict=True):
            writer.note(exchange)
            self._note(exchange, ids_of(data, len(exchange.request_ids)), offset)
            offset += len(data)
        now_s = self._clock()
        if self._fsync == "always" or (self._fsync == "interval" and now_s - self._synced_at_s >= FSYNC_INTERVAL_S):
            writer.sync()
            self._synced_at_s = now_s
        is_due = self._uploads is not None and now_s - writer.started_at_s >= self._seal_interval_s
        if writer.size >= self._seal_bytes or is_due:
            self._seal()

    def _note(self, exchange: Exchange, binary_ids: bytes, offset: int) -> None:
        value = pack_value(
            len(self._segments) - 1,
            offset,
            is_final=exchange.is_final,
            is_answered=exchange.is_answered,
            unknown_outcomes=int(exchange.is_unknown_outcome),
        )
        self._index.add(binary_ids, value)

    def _begin(self) -> SegmentWriter:
        name = segment_name(self._folder, self.lease.number, self._attempt, self._sequence)
        self._sequence += 1  # a segment that failed half-way keeps its name
        self._writer = SegmentWriter.create(
            self._files, name, self._fingerprint, self._bucket, self._attempt, self._run_id, self._clock()
        )
        self._segments.append(name)
        return self._writer

    def _seal(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.seal(sync=self._fsync != "never")
        finally:
            if self._uploads is not None:  # even without its seal it holds all exchanges
                self._uploads.add(writer.name)

    def _read_all(self, on_corrupt: Literal["raise", "skip"]) -> None:
        if self._spool is not None:
            self._spool.recover()
        names = [name for name, _, _ in self._store.list(self._folder) if name.endswith(SUFFIX)]
        for name in names:
            data = self._store.read(name)
            segment = read_segment(name, data)
            corrupt = [damage for damage in segment.damage if damage.kind == "corrupt"]
            if corrupt and on_corrupt == "raise":
                raise JournalCorrupt(
                    f"{self._store.root}/{corrupt[0]}; nothing of them is served. Remove that file to ask its "
                    f"{len(segment.exchanges)} intact exchanges and the damaged ones again, or start afresh"
                )
            self.damage += segment.damage
            self._segments.append(name)
            for frame in segment.exchanges:
                summary = summarize(frame.payload)
                value = pack_value(
                    len(self._segments) - 1,
                    frame.offset,
                    is_final=summary.is_final,
                    is_answered=summary.is_answered,
                    unknown_outcomes=int(summary.is_unknown_outcome),
                )
                self._index.add(summary.request_ids, value)
            if self._uploads is not None:
                self._uploads.keep(name, data)
            elif not segment.is_sealed:
                repair(self._files, segment)

    def _read(self, name: str, offset: int) -> Exchange:
        seed = seed_of_segment(name)
        try:
            start = self._fetch(name, offset, HEAD.size)
            length, payload = frame_at(self._buffer, start, seed)
            if payload is None:
                start = self._fetch(name, offset, length)
                _, payload = frame_at(self._buffer, start, seed)
            if payload is None:
                raise JournalCorrupt("the file ends within the frame")
            return decode(payload)
        except JournalCorrupt as exc:
            raise JournalCorrupt(f"{self._store.root}/{name} at offset {offset}: {exc}") from exc

    def _fetch(self, name: str, offset: int, length: int) -> int:
        """Brings `length` bytes from `offset` on into the buffer, or all that there are; where they start in it."""
        start = offset - self._buffer_offset
        is_same = name == self._buffer_name
        if not is_same or start < 0 or start + length > len(self._buffer):
            is_next = is_same and 0 <= start <= len(self._buffer)
            ahead = _READ_AHEAD_BYTES if is_next else _READ_BYTES
            self._buffer = self._files.read_range(name, offset, max(length, ahead))
            self._buffer_name, self._buffer_offset, start = name, offset, 0
        return start

    def _remember(self, key: tuple[int, int], exchange: Exchange) -> None:
        self._cache[key] = exchange
        self._cached_bytes += _size_of(exchange)
        while self._cached_bytes > _CACHE_BYTES:
            self._cached_bytes -= _size_of(self._cache.popitem(last=False)[1])

    def _let_go(self) -> None:
        self._is_closed = True
        try:
            self.lease.release()
        finally:
            if self._spool is not None:
                self._spool.release()


def _size_of(exchange: Exchange) -> int:
    body = exchange.response.body if exchange.response is not None else b""
    return 1000 + 113 * len(exchange.request_ids) + len(body)  # objects and ids as Python holds them
