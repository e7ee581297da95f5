"""Accounting: what was sent, answered and used, as sums over a journal; and the removal of old journals."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby

from pipeline.errors import StateError
from pipeline.journal.frames import summarize
from pipeline.journal.index import RequestIndex, pack_value
from pipeline.journal.lease import is_alive
from pipeline.journal.segments import ROOT, SUFFIX, Segment, SegmentDamage, read_segment, seed_of_segment, spends_of
from pipeline.journal.spend import SEAL_READ_BYTES, Spend, sealed_spends
from pipeline.storage import Store, StoredFile


@dataclass(frozen=True, slots=True)
class JournalTotals:
    """Sums over exchanges; `sent` is `answered` + `failed` + `unknown`. Times in seconds since the epoch."""

    exchanges: int = 0
    sent: int = 0  # all but those that found no connection
    answered: int = 0  # status 200, and no further call needed
    failed: int = 0  # an error came back, or an answer that was not accepted
    unknown: int = 0  # sent, without a whole answer: perhaps billed
    requests: int = 0  # distinct
    requests_answered: int = 0
    rows_answered: int = 0  # with repetitions: above `requests_answered` something was bought twice
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    most_input_tokens: int = 0  # of one exchange
    most_output_tokens: int = 0
    segments: int = 0
    segment_bytes: int = 0
    oldest_s: float | None = None
    newest_s: float | None = None
    damage: tuple[SegmentDamage, ...] = ()


@dataclass(frozen=True, slots=True)
class PrunedJournal:
    """A journal that was removed."""

    fingerprint: str
    segments: int
    segment_bytes: int


class Sums:
    """Adds up segments, bucket by bucket: a request is in one bucket only, so distinct ones need no larger memory."""

    def __init__(self, run_id: str | None = None) -> None:
        self._run_id = run_id
        self._index = RequestIndex()
        self._spend = Spend()
        self._counts = dict.fromkeys(("requests", "requests_answered", "segments", "segment_bytes"), 0)
        self._damage: list[SegmentDamage] = []

    def add_segment(self, segment: Segment, size: int) -> None:
        """One segment of `size` bytes of the present bucket."""
        self._count(size)
        self._damage += segment.damage
        for frame in segment.exchanges:
            summary = summarize(frame.payload)
            if self._run_id is None or summary.run_id == self._run_id:
                self._spend.add(summary)
                rank = {"is_final": summary.is_final, "is_answered": summary.is_answered}
                self._index.add(summary.request_ids, pack_value(0, 0, **rank, unknown_outcomes=0))

    def add_spends(self, spends: Mapping[str, Spend], size: int) -> None:
        """A segment of which only the sums by run are known."""
        self._count(size)
        for run_id, spend in spends.items():
            if self._run_id is None or run_id == self._run_id:
                self._spend.merge(spend)

    def end_bucket(self) -> "Sums":
        """All segments of the present bucket are in."""
        requests, answered = self._index.counts()
        self._counts["requests"] += requests
        self._counts["requests_answered"] += answered
        self._index = RequestIndex()
        return self

    def totals(self) -> JournalTotals:
        """The sums so far."""
        return JournalTotals(**self._counts, **asdict(self._spend), damage=tuple(self._damage))

    def _count(self, size: int) -> None:
        self._counts["segments"] += 1
        self._counts["segment_bytes"] += size


def journal_spend(store: Store, fingerprint: str, *, run_id: str | None = None) -> JournalTotals:
    """`journal_totals` without `requests`, `requests_answered` and `damage`, from the ends of the segments alone.

    Only a segment without a seal, which a killed writer left, is read whole.
    """
    sums = Sums(run_id)
    for file in _segments(store, f"{ROOT}/{fingerprint}"):
        start = max(0, file.size - SEAL_READ_BYTES)
        try:
            tail = store.read_range(file.name, start, SEAL_READ_BYTES)
            spends = sealed_spends(tail, seed_of_segment(file.name))
            if spends is None:
                spends = spends_of(read_segment(file.name, store.read(file.name)))
        except StateError:
            if store.find(file.name) is None:  # pruned meanwhile
                continue
            raise
        sums.add_spends(spends, file.size)
    return sums.totals()


def journal_totals(store: Store, fingerprint: str, *, run_id: str | None = None) -> JournalTotals:
    """The sums over all buckets of a journal, or over what one run added. Works while others write; repairs nothing.

    Damaged frames are not in the sums; they are listed in `damage`.
    """
    sums = Sums(run_id)
    for _, files in groupby(_segments(store, f"{ROOT}/{fingerprint}"), lambda file: file.name.rsplit("/", 1)[0]):
        for file in files:
            data = store.find(file.name)
            if data is not None:  # pruned meanwhile
                sums.add_segment(read_segment(file.name, data), len(data))
        sums.end_bucket()
    return sums.totals()


def fingerprints(store: Store) -> list[str]:
    """Of all journals in a state folder."""
    return sorted({file.name.split("/")[1] for file in _segments(store, ROOT)})


def prune(store: Store, older_than_s: float, now_s: float) -> list[PrunedJournal]:
    """Removes the journals in which nothing was written for `older_than_s` and on which nobody works; gives those."""
    pruned = []
    for fingerprint in fingerprints(store):
        folder = f"{ROOT}/{fingerprint}"
        files = _segments(store, folder)
        buckets = {file.name.rsplit("/", 1)[0] for file in files}
        newest_s = max((file.changed_at_s or _newest_s(store, file.name) for file in files), default=now_s)
        if now_s - newest_s > older_than_s and not any(is_alive(store, bucket, now_s) for bucket in buckets):
            store.delete_tree(folder)
            pruned.append(PrunedJournal(fingerprint, len(files), sum(file.size for file in files)))
    return pruned


def _segments(store: Store, folder: str) -> list[StoredFile]:
    return [file for file in store.list(folder) if file.name.endswith(SUFFIX)]


def _newest_s(store: Store, name: str) -> float:
    """By what is in the segment, where the file system does not say."""
    sums = Sums()
    sums.add_segment(read_segment(name, store.read(name)), 0)
    return sums.totals().newest_s or 0.0
