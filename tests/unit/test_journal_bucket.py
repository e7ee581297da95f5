import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from pipeline.errors import ErrorCode, JournalCorrupt, StateError
from pipeline.journal import BucketJournal, Entry, Summary
from tests.unit.journals import (
    FINGERPRINT,
    QuietOps,
    crash,
    exchange,
    held,
    local_store,
    open_bucket,
    request_id,
    segments,
)


@pytest.fixture
def store(tmp_path):
    return local_store(tmp_path)


def entry_of(journal: BucketJournal, number: int) -> Entry:
    (entry,) = journal.lookup([request_id(number)])
    assert entry is not None
    return entry


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def test_an_appended_exchange_is_found_at_once_and_by_the_next_attempt(store):
    journal = open_bucket(store)
    assert journal.lookup([request_id(1)]) == [None]
    journal.append(exchange(1))
    journal.append(exchange(2, 3, 4, body=b"x" * 40_000))
    assert journal.read(entry_of(journal, 1)) == exchange(1)
    journal.close()
    again = open_bucket(store, "a2")
    for number in (2, 3, 4):
        assert again.read(entry_of(again, number)) == exchange(2, 3, 4, body=b"x" * 40_000)
    assert again.read(entry_of(again, 1)) == exchange(1)
    assert again.lookup([request_id(5)]) == [None]
    again.close()


def test_the_entry_says_how_the_request_stands(store):
    journal = open_bucket(store)
    journal.append(exchange(1))
    journal.append(exchange(2, status=400))
    journal.append(exchange(3, status=503))
    journal.append(exchange(4, error=ErrorCode.UNKNOWN_OUTCOME))
    journal.append(exchange(4, error=ErrorCode.DEADLINE_EXCEEDED))
    journal.append(exchange(4, status=429))
    journal.append(exchange(5, error=ErrorCode.UNKNOWN_OUTCOME))
    journal.append(exchange(5))

    def states(journal: BucketJournal) -> list[tuple[bool, bool, bool, int]]:
        entries = [entry_of(journal, n) for n in range(1, 6)]
        return [(e.is_final, e.is_answered, e.is_failed, e.unknown_outcomes) for e in entries]

    expected = [
        (True, True, False, 0),
        (True, False, True, 0),
        (False, False, True, 0),
        (False, False, True, 2),
        (True, True, False, 1),
    ]
    assert states(journal) == expected
    journal.close()
    again = open_bucket(store, "a2")
    assert states(again) == expected
    answer = again.read(entry_of(again, 4)).response
    assert answer is not None
    assert answer.status == 429
    again.close()


def test_a_killed_process_loses_nothing_that_was_appended(store):
    journal = open_bucket(store)
    for number in range(50):
        journal.append(exchange(number))
    crash(journal)
    again = open_bucket(store, "a2")
    assert held(again, range(60)) == list(range(50))
    assert again.damage == []
    again.close()


def test_a_replay_writes_no_segment(store, tmp_path):
    journal = open_bucket(store)
    journal.append(exchange(1))
    journal.close()
    before = segments(tmp_path)
    again = open_bucket(store, "a2")
    assert held(again, range(3)) == [1]
    again.close()
    assert segments(tmp_path) == before


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.long)])
def test_a_cut_at_every_byte_gives_the_exact_prefix_and_the_journal_goes_on(store, tmp_path, step):
    journal = open_bucket(store)
    ends = [0]
    for number in range(4):
        journal.append(exchange(number))
        ends.append(segments(tmp_path)[0].stat().st_size)
    crash(journal)
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    opening = 16 + int.from_bytes(data[4:8], "little")
    borders = {0, opening, *ends[1:]}
    for cut in range(0, len(data) + 1, step):
        for old in segments(tmp_path):
            old.unlink()
        path.write_bytes(data[:cut])
        torn = cut - max(border for border in borders if border <= cut)
        journal = open_bucket(store, f"cut{cut}")
        complete = sum(end <= cut for end in ends[1:])
        assert held(journal, range(6)) == list(range(complete))
        assert sum(damage.length for damage in journal.damage) == torn
        assert {damage.kind for damage in journal.damage} <= {"torn"}
        journal.append(exchange(5))
        crash(journal)
        again = open_bucket(store, f"again{cut}")
        assert held(again, range(6)) == [*range(complete), 5]
        assert again.damage == []
        again.close()


def test_a_recovered_segment_is_sealed_so_that_a_later_flip_is_no_torn_tail(store, tmp_path):
    journal = open_bucket(store)
    journal.append(exchange(1))
    size = segments(tmp_path)[0].stat().st_size
    crash(journal)
    open_bucket(store, "a2").close()
    flip(segments(tmp_path)[0], size - 1)
    with pytest.raises(JournalCorrupt, match=r"000001-a1-000000\.seg"):
        open_bucket(store, "a3")


def test_a_flipped_bit_stops_the_journal_or_is_listed_and_never_served(store, tmp_path):
    journal = open_bucket(store)
    sizes = []
    for number in range(3):
        journal.append(exchange(number))
        sizes.append(segments(tmp_path)[0].stat().st_size)
    journal.close()
    (path,) = segments(tmp_path)
    flip(path, sizes[0] + 100)
    with pytest.raises(JournalCorrupt, match=rf"{path}.*offset {sizes[0]} .*checksum"):
        open_bucket(store, "a2")
    again = open_bucket(store, "a3", on_corrupt="skip")
    assert held(again, range(3)) == [0, 2]
    (damage,) = again.damage
    assert (damage.kind, damage.offset, damage.length) == ("corrupt", sizes[0], sizes[1] - sizes[0])
    assert str(damage).endswith("do not match their checksum")
    again.append(exchange(1, body=b"bought again"))
    again.close()


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.long)])
def test_every_flipped_bit_of_a_segment_is_reported_when_the_journal_is_opened(store, tmp_path, step):
    journal = open_bucket(store)
    journal.append(exchange(1))
    journal.append(exchange(2))
    journal.close()
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    for offset in range(0, len(data), step):
        path.write_bytes(data)
        flip(path, offset)
        journal = open_bucket(store, f"flip{offset}", on_corrupt="skip")
        assert sum(damage.length for damage in journal.damage) > 0
        for entry in journal.lookup([request_id(1), request_id(2)]):
            assert entry is None or journal.read(entry) in (exchange(1), exchange(2))
        journal.close()


def test_a_bit_that_flips_after_opening_is_found_when_the_exchange_is_read(store, tmp_path):
    journal = open_bucket(store)
    journal.append(exchange(1))
    entry = entry_of(journal, 1)
    flip(segments(tmp_path)[0], entry.offset + 60)
    with pytest.raises(JournalCorrupt, match=f"offset {entry.offset}"):
        journal.read(entry)
    crash(journal)


def test_a_file_that_shrank_after_opening_is_found_when_the_exchange_is_read(store, tmp_path):
    journal = open_bucket(store)
    journal.append(exchange(1))
    entry = entry_of(journal, 1)
    os.truncate(segments(tmp_path)[0], entry.offset + 60)
    with pytest.raises(JournalCorrupt, match="ends within"):
        journal.read(entry)
    crash(journal)


def test_exchanges_are_read_in_any_order_and_any_size(store):
    journal = open_bucket(store, seal_bytes=200_000)
    bodies = {n: hashlib.sha256(str(n).encode()).digest() * (n * 37 % 2000) for n in range(120)}
    for number, body in bodies.items():
        journal.append(exchange(number, body=body))
    for order in (range(120), reversed(range(120)), sorted(range(120), key=lambda n: n * 7 % 120)):
        for number in order:
            answer = journal.read(entry_of(journal, number)).response
            assert answer is not None
            assert answer.body == bodies[number]
    journal.close()


def test_full_segments_are_sealed(store, tmp_path):
    journal = open_bucket(store, seal_bytes=2_000)
    for number in range(20):
        journal.append(exchange(number, body=b"x" * 600))
    journal.close()
    assert len(segments(tmp_path)) == 7
    again = open_bucket(store, "a2")
    assert held(again, range(25)) == list(range(20))
    again.close()


def test_a_segment_moved_from_another_bucket_is_refused(store, tmp_path):
    journal = open_bucket(store)
    journal.append(exchange(1))
    journal.close()
    other = BucketJournal.open(store, FINGERPRINT, 8, run_id="run-1", attempt="a1")
    other.close()
    shutil.copy(segments(tmp_path)[0], tmp_path / f"journal/{FINGERPRINT}/000008/")
    with pytest.raises(StateError, match=r"belongs to journal/f+/000007"):
        BucketJournal.open(store, FINGERPRINT, 8, run_id="run-1", attempt="a2")


def test_an_append_that_does_not_fit_is_taken_back_and_the_next_one_works(tmp_path):
    class FullOnce(QuietOps):
        is_full = False

        def write(self, fd, data):
            if not self.is_full:
                return os.write(fd, data)
            if len(data) > 100:
                return os.write(fd, memoryview(data)[:100])
            raise OSError(errno.ENOSPC, "full")

    ops = FullOnce()
    journal = open_bucket(local_store(tmp_path, ops))
    journal.append(exchange(1))
    ops.is_full = True
    with pytest.raises(StateError, match=r"000001-a1-000000\.seg.*ENOSPC"):
        journal.append(exchange(2, body=b"x" * 150 + b"y" * 100))
    assert journal.lookup([request_id(2)]) == [None]
    ops.is_full = False
    journal.append(exchange(3))
    crash(journal)
    again = open_bucket(local_store(tmp_path), "a2")
    assert held(again, range(5)) == [1, 3]
    assert again.damage == []
    again.close()


def test_after_an_append_that_cannot_be_taken_back_a_new_segment_begins(tmp_path):
    class Broken(QuietOps):
        is_broken = False

        def write(self, fd, data):
            if self.is_broken:
                os.write(fd, memoryview(data)[:50])
                raise OSError(errno.EIO, "broken")
            return os.write(fd, data)

        def truncate(self, fd, size):
            if self.is_broken:
                raise OSError(errno.EIO, "broken")
            super().truncate(fd, size)

    ops = Broken()
    journal = open_bucket(local_store(tmp_path, ops))
    journal.append(exchange(1))
    ops.is_broken = True
    with pytest.raises(StateError, match="EIO"):
        journal.append(exchange(2))
    ops.is_broken = False
    journal.append(exchange(3))
    assert held(journal, range(5)) == [1, 3]
    journal.close()
    assert len(segments(tmp_path)) == 2
    again = open_bucket(local_store(tmp_path), "a2")
    assert held(again, range(5)) == [1, 3]
    assert [(damage.kind, damage.length) for damage in again.damage] == [("torn", 50)]
    again.close()


@pytest.mark.parametrize(("fsync", "syncs"), [("never", 0), ("interval", 2), ("always", 10)])
def test_the_disk_is_forced_by_policy(tmp_path, fsync, syncs):
    class Counting(QuietOps):
        syncs = 0

        def sync(self, fd):
            self.syncs += 1

    ops, now = Counting(), [1_000.0]
    journal = open_bucket(local_store(tmp_path, ops), fsync=fsync, clock=lambda: now[0])
    before = ops.syncs
    for number in range(10):
        now[0] += 0.3
        journal.append(exchange(number))
    assert ops.syncs - before == syncs
    journal.close()
    assert ops.syncs - before == syncs + (fsync != "never")


def test_a_closed_journal_takes_nothing_and_closes_again(store):
    journal = open_bucket(store)
    journal.append(exchange(1))
    journal.close()
    journal.close()
    with pytest.raises(StateError, match="closed"):
        journal.append(exchange(2))


def test_entries_are_all_exchanges_in_order(store):
    journal = open_bucket(store, seal_bytes=600)
    for number in (3, 1, 2, 1):
        journal.append(exchange(number, status=503))
    journal.flush()
    journal.append(exchange(1))
    found = list(journal.entries())
    assert all(isinstance(summary, Summary) for summary in found)
    assert [s.request_ids.hex() for s in found] == [request_id(n) for n in (3, 1, 2, 1, 1)]
    totals = journal.totals()
    assert (totals.exchanges, totals.answered, totals.failed, totals.requests) == (5, 1, 4, 3)
    journal.close()
