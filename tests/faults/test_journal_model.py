"""Append, crash, reopen and lookup in any order, against a dictionary."""

import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.errors import ErrorCode
from pipeline.journal import BucketJournal
from pipeline.journal.frames import HEAD
from pipeline.journal.segments import read_segment
from pipeline.records import Exchange
from tests.unit.journals import crash, exchange, local_store, open_bucket, request_id

NUMBERS = range(12)
IDS = [request_id(number) for number in NUMBERS]


@dataclass
class Written:
    """One acknowledged exchange and where it ends."""

    exchange: Exchange
    path: Path
    end: int


class JournalModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.written: list[Written] = []
        self.attempt = 0
        self.journal: BucketJournal | None = None
        self.reopen()

    def segments(self) -> list[Path]:
        return sorted(self.root.rglob("*.seg"))

    @precondition(lambda self: self.journal is not None)
    @rule(
        numbers=st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4, unique=True),
        kind=st.sampled_from(["answered", "answered", "refused", "busy", "unknown"]),
        size=st.integers(0, 400),
        parts=st.integers(1, 4),
    )
    def append(self, numbers: list[int], kind: str, size: int, parts: int) -> None:
        status = {"answered": 200, "refused": 400, "busy": 503}.get(kind)
        error = ErrorCode.UNKNOWN_OUTCOME if kind == "unknown" else None
        attempt = len(self.written) + 1
        values = [  # of one turn: their requests may be the same
            exchange(
                *numbers[i % len(numbers) :], status=status, error=error, body=bytes(size + i), attempt=attempt + i
            )
            for i in range(parts)
        ]
        assert self.journal is not None
        before = {path: path.stat().st_size for path in self.segments()}
        self.journal.append(*values)
        (grown,) = [path for path in self.segments() if path.stat().st_size != before.get(path)]
        frames = read_segment(grown.relative_to(self.root).as_posix(), grown.read_bytes()).exchanges
        ends = [frame.offset + HEAD.size + len(frame.payload) for frame in frames]
        self.written += [Written(value, grown, end) for value, end in zip(values, ends[-parts:], strict=True)]

    @precondition(lambda self: self.journal is not None)
    @rule()
    def close(self) -> None:
        assert self.journal is not None
        self.journal.close()
        self.journal = None

    @precondition(lambda self: self.journal is not None)
    @rule(share=st.floats(0, 1), noise=st.binary(max_size=20))
    def crash(self, share: float, noise: bytes) -> None:
        """The process dies; with a power cut, a part of the segment that was being written is gone as well."""
        assert self.journal is not None
        writer = self.journal._writer
        crash(self.journal)
        self.journal = None
        if writer is None:
            return
        path = self.root / writer.name
        data = path.read_bytes()
        kept = data[: round(len(data) * share)]
        path.write_bytes(kept + noise)
        self.written = [w for w in self.written if w.path != path or w.end <= len(kept)]

    @precondition(lambda self: self.journal is None)
    @rule()
    def reopen(self) -> None:
        self.attempt += 1
        self.journal = open_bucket(local_store(self.root), f"a{self.attempt}", seal_bytes=1500)
        assert all(damage.kind == "torn" for damage in self.journal.damage)

    @precondition(lambda self: self.journal is not None)
    @invariant()
    def agrees_with_the_dictionary(self) -> None:
        assert self.journal is not None
        exchanges: defaultdict[str, list[Exchange]] = defaultdict(list)
        for written in self.written:
            for each in written.exchange.request_ids:
                exchanges[each].append(written.exchange)
        for each, entry in zip(IDS, self.journal.lookup(IDS), strict=True):
            mine = exchanges[each]
            expected = max(mine, key=lambda e: (finality(e), e.attempt), default=None)
            if expected is None or entry is None:
                assert expected is None
                assert entry is None
                continue
            assert self.journal.read(entry) == expected
            assert entry.is_answered == (finality(expected) == 2)
            assert entry.is_final == expected.is_final
            assert entry.unknown_outcomes == sum(e.is_unknown_outcome for e in mine)
        assert self.journal.totals().exchanges == len(self.written)

    def teardown(self) -> None:
        if self.journal is not None:
            self.journal.close()
        shutil.rmtree(self.root)


def finality(value: Exchange) -> int:
    """2 for answered, 1 for refused for good, 0 for whatever may be asked again."""
    if not value.is_final:
        return 0
    return 2 if value.response is not None and value.response.status == 200 else 1


TestJournal = JournalModel.TestCase
TestJournal.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
