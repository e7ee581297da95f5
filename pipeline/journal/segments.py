"""A segment: one append-only file of frames that one attempt at a bucket wrote; names, reading, writing, sealing."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import StateError
from pipeline.journal.frames import Damage, Frame, Kind, frame, header_of, kind_of, pack, scan, seed_of, summarize
from pipeline.journal.spend import Spend
from pipeline.records import Exchange
from pipeline.storage import AppendFile, LocalStore

VERSION = 1
SUFFIX = ".seg"
ROOT = "journal"


@dataclass(frozen=True, slots=True)
class SegmentDamage:
    """Bytes of a segment that hold no intact frame; they are never served.

    `torn`: the tail that a killed writer left. `corrupt`: bits changed after they were written.
    """

    segment: str
    offset: int
    length: int
    kind: Literal["torn", "corrupt"]

    def __str__(self) -> str:
        if self.kind == "torn":
            return f"{self.segment}: {self.length} bytes of an unfinished frame from offset {self.offset} on"
        return f"{self.segment}: {self.length} bytes at offset {self.offset} do not match their checksum"


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment holds. `intact_bytes` is where a torn tail starts, or the whole size."""

    name: str
    exchanges: list[Frame]
    damage: list[SegmentDamage]
    is_sealed: bool
    intact_bytes: int


def folder_of(fingerprint: str, bucket: int) -> str:
    """Where a bucket's segments are."""
    return f"{ROOT}/{fingerprint}/{bucket:06d}"


def segment_name(folder: str, number: int, attempt: str, sequence: int) -> str:
    """Sorts as it was written: by the attempt's fencing number, then by its own sequence."""
    return f"{folder}/{number:06d}-{attempt}-{sequence:06d}{SUFFIX}"


def seed_of_segment(name: str) -> int:
    """Where the checksums of a segment start."""
    return seed_of(name.rsplit("/", 1)[-1])


def read_segment(name: str, data: bytes) -> Segment:
    """The segment's exchanges and its damage. StateError where it belongs to another version or another bucket."""
    exchanges: list[Frame] = []
    damage: list[Damage] = []
    sealed_exchanges: int | None = None
    for found in scan(data, seed_of_segment(name)):
        if isinstance(found, Damage):
            damage.append(found)
            continue
        kind = kind_of(found.payload)
        if kind == Kind.EXCHANGE:
            exchanges.append(found)
        elif kind == Kind.OPENING:
            _check_opening(name, header_of(found.payload))
        elif kind == Kind.SEAL:
            sealed_exchanges = header_of(found.payload)["exchanges"]
    is_sealed = sealed_exchanges is not None
    if not damage and is_sealed and sealed_exchanges != len(exchanges):
        damage.append(Damage(0, len(data), "corrupt"))
    return Segment(
        name,
        exchanges,
        # a sealed segment was whole once: nothing in it can be an unfinished write
        [SegmentDamage(name, d.offset, d.length, "corrupt" if is_sealed else d.kind) for d in damage],
        is_sealed,
        damage[-1].offset if damage and damage[-1].kind == "torn" else len(data),
    )


def _check_opening(name: str, header: dict[str, Any]) -> None:
    if header.get("version") != VERSION:
        raise StateError(
            f"{name} was written by another version of this package (journal version {header.get('version')}, "
            f"this one reads {VERSION}): use that version, or start afresh"
        )
    place = f"{header.get('fingerprint')}/{header.get('bucket'):06d}"
    if not name.startswith(f"{ROOT}/{place}/"):
        raise StateError(f"{name} belongs to {ROOT}/{place}: it was moved here from another journal; remove it")


class SegmentWriter:
    """A segment being written."""

    def __init__(self, file: AppendFile, name: str, exchanges: int, started_at_s: float) -> None:
        self.name = name
        self.seed = seed_of_segment(name)
        self.started_at_s = started_at_s
        self.exchanges = exchanges
        self.spends = defaultdict[str, Spend](Spend)  # by run; a segment has one, but nobody relies on it
        self._file = file

    @classmethod
    def create(
        cls, files: LocalStore, name: str, fingerprint: str, bucket: int, attempt: str, run_id: str, now_s: float
    ) -> "SegmentWriter":
        """A new segment with its opening frame."""
        writer = cls(files.create(name), name, 0, now_s)
        opening = {
            "version": VERSION,
            "fingerprint": fingerprint,
            "bucket": bucket,
            "attempt": attempt,
            "run_id": run_id,
            "opened_at_s": now_s,
        }
        try:
            writer._file.append(frame(pack(Kind.OPENING, opening), writer.seed))
        except StateError:
            writer._file.close()
            raise
        return writer

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._file.size

    @property
    def is_broken(self) -> bool:
        """Nothing more may be appended; see `AppendFile`."""
        return self._file.is_broken

    def append(self, frames: Sequence[bytes]) -> int:
        """Appends the frames of exchanges, all or none unless the file is broken after it; the offset of the first."""
        offset = self._file.size
        self._file.append(frames[0] if len(frames) == 1 else b"".join(frames))
        self.exchanges += len(frames)
        return offset

    def note(self, exchange: Exchange) -> None:
        """Adds an appended exchange to the sums that the seal will carry."""
        self.spends[exchange.run_id].add(exchange)

    def sync(self) -> None:
        """Forces the segment to the disk."""
        self._file.sync()

    def seal(self, *, sync: bool) -> None:
        """Writes the last frame and closes; from then on all damage counts as corruption."""
        try:
            spends = {run_id: spend.to_json() for run_id, spend in self.spends.items()}
            seal = {"exchanges": self.exchanges, "spends": spends}
            self._file.append(frame(pack(Kind.SEAL, seal), self.seed))
            if sync:
                self._file.sync()
        finally:
            self._file.close()

    def close(self) -> None:
        """Lets go of the file, unsealed."""
        self._file.close()


def repair(files: LocalStore, segment: Segment) -> None:
    """Cuts the torn tail of a dead attempt's segment and seals it. Only for the holder of the bucket's lease."""
    spends = spends_of(segment)
    file = files.append_to(segment.name, segment.intact_bytes)
    writer = SegmentWriter(file, segment.name, len(segment.exchanges), 0.0)
    writer.spends.update(spends)
    writer.seal(sync=False)


def spends_of(segment: Segment) -> dict[str, Spend]:
    """The sums over the intact exchanges of a segment, by run."""
    spends = defaultdict[str, Spend](Spend)
    for found in segment.exchanges:
        summary = summarize(found.payload)
        spends[summary.run_id].add(summary)
    return spends
