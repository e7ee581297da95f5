import os
from dataclasses import replace

import pytest

from pipeline.errors import ErrorCode
from pipeline.journal import BucketJournal, fingerprints, journal_spend, journal_totals, prune
from pipeline.journal.segments import seed_of_segment
from pipeline.journal.spend import SEAL_READ_BYTES, sealed_spends
from pipeline.journal.totals import JournalTotals
from pipeline.records import Exchange
from pipeline.storage import Store, open_store
from tests.unit.journals import FINGERPRINT, crash, exchange, local_store, open_bucket


@pytest.fixture(params=["local", "remote"])
def store(request, tmp_path) -> Store:
    return open_store(str(tmp_path / "state") if request.param == "local" else f"memory://{tmp_path.name}/state")


def write(store: Store, fingerprint: str, bucket: int, *exchanges: Exchange) -> None:
    journal = BucketJournal.open(store, fingerprint, bucket, run_id="run-1", attempt="a1", background=False)
    for each in exchanges:
        journal.append(each)
    journal.close()


def test_sums_are_over_all_buckets(store):
    write(
        store,
        "f1",
        0,
        exchange(1, sent_at_s=500.0),
        exchange(2, status=429),
        exchange(2, status=503),
        exchange(2, error=ErrorCode.UNKNOWN_OUTCOME),
        exchange(2, sent_at_s=900.0),
        exchange(3, status=400),
        exchange(4, error=ErrorCode.CONNECT_FAILED),
    )
    write(store, "f1", 1, exchange(11, 12, 13, sent_at_s=700.0))
    write(store, "other", 0, exchange(1))
    totals = journal_totals(store, "f1")
    size = sum(f.size for f in store.list("journal/f1") if f.name.endswith(".seg"))
    assert totals == JournalTotals(
        exchanges=8,
        sent=7,
        answered=3,
        failed=3,
        unknown=1,
        requests=7,
        requests_answered=5,
        rows_answered=5,
        input_tokens=30,
        output_tokens=60,
        total_tokens=90,
        most_input_tokens=10,
        most_output_tokens=20,
        segments=2,
        segment_bytes=size,
        oldest_s=500.0,
        newest_s=1_000.25,
    )
    assert totals.sent == totals.answered + totals.failed + totals.unknown
    assert fingerprints(store) == ["f1", "other"]


def test_what_was_bought_twice_shows_in_the_rows_answered(store):
    write(store, "f1", 0, exchange(1, 2), exchange(2, 3))
    totals = journal_totals(store, "f1")
    assert (totals.answered, totals.requests_answered, totals.rows_answered) == (2, 3, 4)


def test_a_run_counts_what_it_added(store):
    write(store, "f1", 0, exchange(1), exchange(2), exchange(2, run_id="run-2", status=500))
    one, two = (journal_totals(store, "f1", run_id=run) for run in ("run-1", "run-2"))
    assert (one.exchanges, one.answered, one.requests, one.input_tokens) == (2, 2, 2, 20)
    assert (two.exchanges, two.answered, two.failed, two.requests, two.input_tokens) == (1, 0, 1, 1, 0)
    assert journal_totals(store, "f1", run_id="run-3").oldest_s is None


def test_the_seals_alone_give_the_same_spend(store, monkeypatch):
    write(store, "f1", 0, *(exchange(n, sent_at_s=float(n)) for n in range(1, 60)), exchange(2, run_id="run-2"))
    write(
        store, "f1", 1, exchange(90, status=429), exchange(91, error=ErrorCode.DEADLINE_EXCEEDED),
        exchange(92, error=ErrorCode.CONNECT_FAILED), exchange(93, 94, 95, sent_at_s=5_000.0),
    )  # fmt: skip
    whole = {run: journal_totals(store, "f1", run_id=run) for run in (None, "run-1", "run-2", "run-3")}
    monkeypatch.setattr(type(store), "read", lambda *_: pytest.fail("a sealed segment was read whole"))
    for run, totals in whole.items():
        assert journal_spend(store, "f1", run_id=run) == replace(totals, requests=0, requests_answered=0), run


def test_a_killed_writers_segment_is_read_whole_and_sealed_by_the_next_one(tmp_path):
    store = local_store(tmp_path)
    journal = open_bucket(store, "a1")
    for number in range(5):
        journal.append(exchange(number))
    crash(journal)
    (path,) = tmp_path.rglob("*.seg")
    with path.open("ab") as file:
        file.write(b"half a frame")
    assert journal_spend(store, FINGERPRINT).answered == 5
    open_bucket(store, "a2").close()
    assert sealed_spends(path.read_bytes()[-SEAL_READ_BYTES:], seed_of_segment(path.name)) is not None
    assert journal_spend(store, FINGERPRINT).answered == journal_totals(store, FINGERPRINT).answered == 5


@pytest.mark.parametrize("back", [1, 5, 30, 60, 90])
def test_a_seal_that_changed_is_not_believed(tmp_path, back):
    store = open_store(str(tmp_path))
    write(store, "f1", 0, exchange(1), exchange(2))
    path = next(tmp_path.glob("journal/f1/*/*.seg"))
    data = bytearray(path.read_bytes())
    data[-back] ^= 1
    path.write_bytes(data)
    assert sealed_spends(bytes(data[-SEAL_READ_BYTES:]), seed_of_segment(path.name)) is None
    assert journal_spend(store, "f1").answered == 2


def test_an_absent_journal_has_no_sums(store):
    assert journal_totals(store, "none") == journal_spend(store, "none") == JournalTotals()
    assert fingerprints(store) == []
    assert prune(store, 0.0, 1e12) == []


def test_sums_are_taken_while_an_attempt_writes(tmp_path):
    store = open_store(str(tmp_path))
    journal = BucketJournal.open(store, "f1", 0, run_id="run-1", attempt="a1")
    journal.append(exchange(1))
    with open(next(tmp_path.glob("journal/f1/*/*.seg")), "ab") as file:
        file.write(b"half a frame")
    totals = journal_totals(store, "f1")
    assert (totals.answered, [(d.kind, d.length) for d in totals.damage]) == (1, [("torn", 12)])
    assert next(tmp_path.glob("journal/f1/*/*.seg")).read_bytes().endswith(b"half a frame")
    journal.close()


def test_a_damaged_frame_is_reported_and_not_in_the_sums(tmp_path):
    store = open_store(str(tmp_path))
    write(store, "f1", 0, exchange(1), exchange(2))
    path = next(tmp_path.glob("journal/f1/*/*.seg"))
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    totals = journal_totals(store, "f1")
    assert (totals.answered, [d.kind for d in totals.damage]) == (1, ["corrupt"])


def test_old_journals_are_removed_and_said_to_be(store, tmp_path):
    write(store, "old", 0, exchange(1, sent_at_s=1_000.0))
    write(store, "old", 1, exchange(2, sent_at_s=1_000.0))
    write(store, "new", 0, exchange(3, sent_at_s=9_000.0))
    for file in tmp_path.glob("state/journal/*/*/*.seg"):
        time_s = 1_000 if "old" in file.parts else 9_000
        os.utime(file, (time_s, time_s))
    store.write_atomic("runs/1.json", b"{}")
    size = journal_totals(store, "old").segment_bytes
    assert prune(store, 8_500.0, 9_500.0) == []
    (pruned,) = prune(store, 3_600.0, 9_500.0)
    assert (pruned.fingerprint, pruned.segments, pruned.segment_bytes) == ("old", 2, size)
    assert fingerprints(store) == ["new"]
    assert store.exists("runs/1.json")


def test_a_journal_at_work_is_not_removed(tmp_path):
    store = open_store(str(tmp_path))
    journal = BucketJournal.open(store, "f1", 0, run_id="run-1", attempt="a1")
    journal.append(exchange(1))
    assert prune(store, 0.0, 1e12) == []
    journal.close()
    assert [p.fingerprint for p in prune(store, 0.0, 1e12)] == ["f1"]
