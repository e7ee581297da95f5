"""Where a run's partitions and its driver meet, and the numbers that tell one run from the next."""

from collections import Counter
from dataclasses import replace

import pytest

from pipeline.board import Board, BucketControl, added
from pipeline.engine import Tally
from pipeline.errors import StateError
from pipeline.progress import Progress
from pipeline.runs import RunBook, RunRecord
from tests.unit.journals import local_store


def progress(**changes) -> Progress:
    tally = Tally(sent=9, answered=6, failed=3, rate_limited=2, input_tokens=70, output_tokens=8)
    tally.errors = Counter(bad_request=2, refusal=1)
    return replace(Progress(rows_in=10, rows_done=9, rows_failed=3, rows_not_attempted=1, tally=tally), **changes)


@pytest.fixture
def store(tmp_path):
    return local_store(tmp_path)


@pytest.fixture
def board(store):
    return Board(store, "r1")


# --- the board


def test_an_empty_board_has_nothing_to_say(board):
    assert board.stop_reason() is None
    assert board.total() == Progress(is_finished=True)


def test_what_a_partition_publishes_comes_back_whole(board):
    said = progress(stopped="no credit", stopped_code="quota_exhausted", rows_replayed=4, is_finished=True)
    board.publish(3, said)
    assert board.total() == said


def test_the_total_is_the_sum_over_buckets_and_the_last_word_of_each(board):
    board.publish(0, progress(rows_in=99))
    board.publish(0, progress())
    BucketControl(board, 1).report(progress())
    total = board.total()
    assert (total.rows_in, total.rows_done, total.rows_failed, total.rows_not_attempted) == (20, 18, 6, 2)
    assert (total.tally.sent, total.tally.input_tokens, total.tally.output_tokens) == (18, 140, 16)
    assert (total.tally.answered, total.tally.failed, total.tally.rate_limited) == (12, 6, 4)
    assert total.tally.errors == {"bad_request": 4, "refusal": 2}


def test_the_total_follows_what_is_published_later(board):
    board.publish(0, progress(rows_done=1))
    assert board.total().rows_done == 1
    board.publish(0, progress(rows_done=2, is_finished=True))
    assert board.total().rows_done == 2
    assert board.total().rows_done == 2


def test_a_total_is_finished_only_where_all_are():
    assert added([progress(is_finished=True), progress(is_finished=True)]).is_finished
    assert not added([progress(is_finished=True), progress(is_finished=False)]).is_finished


def test_finished_partitions_have_nothing_in_flight():
    assert added([progress(in_flight=5), progress(in_flight=7, is_finished=True)]).in_flight == 5


def test_the_first_reason_to_stop_is_the_totals():
    parts = [progress(), progress(stopped="a", stopped_code="x"), progress(stopped="b", stopped_code="y")]
    total = added(parts)
    assert (total.stopped, total.stopped_code) == ("a", "x")


def test_a_stop_reaches_every_bucket_and_is_gone_after_clear(board, store):
    board.request_stop("interrupted – ^C")
    assert BucketControl(Board(store, "r1"), 5).stop_reason() == "interrupted – ^C"
    assert Board(store, "r2").stop_reason() is None
    board.publish(0, progress())
    board.clear()
    assert board.stop_reason() is None
    assert board.total().rows_in == 0


@pytest.mark.parametrize(
    ("code", "stops_all", "reason"),
    [
        ("authentication", True, "told"),
        ("not_attempted", True, "told"),
        ("internal", True, None),  # the task broke: Spark starts it again
        ("not_attempted", False, None),  # its own part of a budget
    ],
)
def test_what_stops_one_bucket_stops_all(board, code, stops_all, reason):
    control = BucketControl(board, 0, stops_all=stops_all)
    control.report(progress())
    assert board.stop_reason() is None
    control.report(progress(stopped="told", stopped_code=code))
    assert BucketControl(board, 1).stop_reason() == reason


def test_the_bucket_that_met_the_reason_is_the_totals():
    parts = [progress(stopped="a", stopped_code="not_attempted"), progress(stopped="a", stopped_code="authentication")]
    assert added(parts).stopped_code == added(reversed(parts)).stopped_code == "authentication"


# --- the run sequence


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


@pytest.fixture
def book(store):
    return RunBook(store, Clock())


def never(record: RunRecord) -> bool:
    return False


def test_numbers_grow_by_one_with_each_run_that_ended(book):
    numbers = []
    for status in ("landed", "failed", "partial", "landed"):
        record = book.begin(None, "f", never)
        numbers.append(record.sequence)
        book.end(record, status)
    assert numbers == [1, 2, 3, 4]
    assert [record.status for record in book.records()] == ["landed", "failed", "partial", "landed"]
    assert len({record.run_id for record in book.records()}) == 4


def test_a_run_without_a_name_is_named_by_number_and_time(book):
    assert book.begin(None, "f", never).run_id == "r0001-20231114T221321"


def test_a_run_that_died_is_continued_under_its_own_number_and_name(book):
    died = book.begin(None, "f", never)
    again = book.begin(None, "f", never)
    assert (again.sequence, again.run_id, again.status) == (died.sequence, died.run_id, "running")
    assert again.started_at_s > died.started_at_s
    assert len(book.records()) == 1


def test_a_run_that_died_is_continued_by_its_name_too(book):
    died = book.begin("nightly", "f", never)
    assert book.begin("nightly", "f", never).sequence == died.sequence


@pytest.mark.parametrize(("run_id", "fingerprint"), [("other", "f"), (None, "g")], ids=["another name", "another job"])
def test_another_run_abandons_the_one_that_died(book, run_id, fingerprint):
    book.begin("nightly", "f", never)
    record = book.begin(run_id, fingerprint, never)
    assert record.sequence == 2
    assert [known.status for known in book.records()] == ["abandoned", "running"]


def test_a_run_that_landed_is_not_run_again(book):
    first = book.begin("nightly", "f", never)
    book.end(first, "landed")
    again = book.begin("nightly", "f", never)
    assert (again.status, again.sequence) == ("landed", 1)
    assert len(book.records()) == 1


def test_a_run_that_died_after_its_commit_counts_as_landed(book):
    died = book.begin("nightly", "f", never)
    asked = []
    again = book.begin("nightly", "f", lambda record: asked.append(record) or True)
    assert asked == [died]
    assert again.status == "landed"
    assert book.records()[0].status == "landed"


def test_after_an_unnamed_run_died_behind_its_commit_the_next_has_a_new_number(book):
    book.begin(None, "f", never)
    assert book.begin(None, "f", lambda record: True).sequence == 2


def test_the_table_is_asked_about_no_run_that_has_ended(book):
    book.end(book.begin(None, "f", never), "failed")

    def asked(record: RunRecord) -> bool:
        raise AssertionError(record)

    assert book.begin(None, "f", asked).sequence == 2


def test_what_is_added_to_a_part_has_a_name_of_its_own(book):
    first = book.begin("nightly", "f", never)
    book.end(first, "partial")
    assert book.begin("nightly", "f", never).run_id == "nightly-2"


def test_a_run_that_failed_keeps_its_name_for_the_next(book):
    book.end(book.begin("nightly", "f", never), "failed")
    record = book.begin("nightly", "f", never)
    assert (record.run_id, record.sequence) == ("nightly", 2)


def test_two_drivers_never_get_the_same_number(store, book):
    class Late(RunBook):
        def records(self) -> list[RunRecord]:
            return []  # read before the other one wrote

    book.begin(None, "f", never)
    with pytest.raises(StateError, match="another driver"):
        Late(store, Clock()).begin(None, "f", never)


def test_progress_files_of_a_run_are_no_runs(book, store):
    record = book.begin("nightly", "f", never)
    Board(store, "nightly").publish(0, progress())
    assert book.records() == [record]


def test_numbers_sort_as_numbers(book, store):
    for _ in range(11):
        book.end(book.begin(None, "f", never), "landed")
    assert [record.sequence for record in book.records()] == list(range(1, 12))
