"""The book of the whole job's quota and its workers' leases, one question at a time; whole jobs are in tests/virtual."""

import pytest

from pipeline.limits import REFRESH_S, Ask, Budget, Cost, Credit, Grant, LeaseHolder, Limit, QuotaBook, QuotaSpec
from pipeline.limits.book import level
from pipeline.limits.holder import GROWS_AFTER_S
from tests.cases import cases


def test_slots_go_to_whoever_wants_them_and_are_never_given_twice() -> None:
    book = QuotaBook(QuotaSpec(in_flight=100, workers=2), 0.0)
    book.join(1, 0.0)
    assert book.ask(1, Ask(wants_in_flight=100), 0.0).in_flight == 50, "the other half is kept for the other worker"
    assert book.ask(1, Ask(wants_in_flight=100), 6.0).in_flight == 100, "which has not come"
    book.join(2, 7.0)
    assert book.ask(2, Ask(wants_in_flight=100), 7.0).in_flight == 0, "all are held"
    assert book.ask(1, Ask(in_flight=90, wants_in_flight=100), 8.0).in_flight == 50
    assert book.ask(2, Ask(wants_in_flight=100), 8.1).in_flight == 10, "40 are still on their way over there"
    assert book.ask(1, Ask(in_flight=50, wants_in_flight=100), 9.0).in_flight == 50
    assert book.ask(2, Ask(wants_in_flight=100), 9.1).in_flight == 50
    book.leave(1, (), 10.0)
    assert book.ask(2, Ask(in_flight=50, wants_in_flight=100), 10.1).in_flight == 100


@cases(
    ("wants", "whole", "expected"),
    [([10], 5, 5), ([10, 10], 10, 5), ([1, 100], 10, 9), ([1, 2, 100, 100], 23, 10), ([1, 1], 10, 10), ([], 7, 7)],
)
def test_the_level_gives_the_modest_what_they_want(wants: list[int], whole: int, expected: int) -> None:
    assert level(wants, whole) == expected


def test_a_budget_waits_for_calls_on_their_way_before_it_is_used_up() -> None:
    book = QuotaBook(QuotaSpec(budget=Budget(max_tokens=1_000), spent=Cost(3, 400, 100)), 0.0)
    book.join(1, 0.0)
    call = Cost(1, 100, 200)
    first = book.ask(1, Ask(demand=5, calls=(call,) * 5), 0.0)
    assert len(first.starts_in_s) == 1, "500 are left, and a second call might need 600"
    assert first.spent == 0
    waits = book.ask(1, Ask(in_flight=1, demand=4, calls=(call,) * 4), 1.0)
    assert (waits.starts_in_s, waits.spent) == ((), 0)
    assert waits.wait_s > 0
    used = Credit(1.0, call, Cost(1, 100, 20))
    more = book.ask(1, Ask(demand=4, calls=(call,) * 4, credits=(used,)), 2.0)
    assert len(more.starts_in_s) == 1
    done = book.ask(1, Ask(demand=3, calls=(call,) * 3, credits=(Credit(1.0, call, Cost(1, 100, 200)),)), 3.0)
    assert (done.starts_in_s, done.spent) == ((), 1)
    assert book.spent == Cost(5, 600, 320)


def test_a_call_above_the_whole_limit_starts_when_nothing_else_runs() -> None:
    spec = QuotaSpec(limits=(Limit("tokens_per_minute", "tokens", 1_000, 60.0),))
    book = QuotaBook(spec, 0.0)
    book.join(1, 0.0)
    assert book.ask(1, Ask(demand=1, calls=(Cost(1, 5_000, 0),)), 0.0).starts_in_s == (0.0,)
    late = book.ask(1, Ask(demand=1, calls=(Cost(1, 5_000, 0),)), 70.0)
    assert late.starts_in_s == ()
    assert 0 < late.wait_s < 400


@cases(("call_s", "most_s"), [(0.02, 0.3), (1.0, 2.6)])
def test_a_worker_that_comes_has_its_slots_soon_after_calls_of_others_have_ended(call_s: float, most_s: float) -> None:
    spec = QuotaSpec(in_flight=8, workers=2)
    book, holders = QuotaBook(spec, 0.0), [LeaseHolder(spec), LeaseHolder(spec)]
    ends_s: list[list[float]] = [[], []]  # of the calls of each

    def turn(number: int, now_s: float, *, is_nudged: bool = False) -> None:
        holder, calls = holders[number], ends_s[number]
        calls[:] = [end_s for end_s in calls if end_s > now_s]
        if is_nudged or holder.ask_in_s(now_s, 100) <= 0:
            ask = holder.ask(now_s, len(calls), 8, 100, ())
            holder.granted(ask, book.ask(number, ask, now_s), now_s)
        calls += [now_s + call_s] * (holder.in_flight - len(calls))

    book.join(0, 0.0)
    now_s = 0.0
    while now_s < 100.0:  # alone, and long after the start
        now_s += 0.01
        turn(0, now_s)
    assert len(ends_s[0]) == 8
    book.join(1, came_s := now_s)
    turn(1, now_s, is_nudged=True)
    turn(0, now_s, is_nudged=True)
    while holders[1].in_flight < 4:
        now_s += 0.01
        turn(0, now_s)
        turn(1, now_s)
        assert len(ends_s[0]) + len(ends_s[1]) <= 8
        assert now_s - came_s < most_s
    assert holders[0].in_flight == 4


def test_a_worker_that_asked_while_it_was_idle_asks_again_once_calls_wait() -> None:
    spec = QuotaSpec(in_flight=8, workers=2)
    book, holder = QuotaBook(spec, 0.0), LeaseHolder(spec)
    book.join(0, 0.0)
    ask = holder.ask(10.0, 0, 0, 0, ())
    holder.granted(ask, book.ask(0, ask, 10.0), 10.0)
    assert holder.in_flight == 0
    assert holder.ask_in_s(10.1, 0) == pytest.approx(REFRESH_S - 0.1)
    stirred: list[bool] = []
    holder.on_hungry = lambda: stirred.append(True)
    holder.lacks_slots()
    assert stirred
    assert holder.ask_in_s(10.1, 1) == 0
    ask = holder.ask(10.1, 0, 8, 100, ())
    holder.granted(ask, book.ask(0, ask, 10.1), 10.1)
    assert holder.in_flight == 8
    holder.lacks_slots()
    assert len(stirred) == 1, "with its fair part nobody presses for more"


def test_without_the_server_nobody_takes_slots_that_another_may_still_use() -> None:
    spec = QuotaSpec(in_flight=8, workers=2)
    idle, busy = LeaseHolder(spec), LeaseHolder(spec)
    for holder, slots in ((idle, 0), (busy, 8)):
        ask = holder.ask(0.0, 0, 8, 8, ())
        holder.granted(ask, Grant(in_flight=slots, share=2), 0.0)
    for now_s in (1.0, 3.0, 1.0 + GROWS_AFTER_S - 0.1):
        for holder in (idle, busy):
            holder.lost(now_s)
        assert (idle.in_flight, busy.in_flight) == (0, 4), "the busy one's calls end, its part is four"
    idle.lost(1.0 + GROWS_AFTER_S)
    assert idle.in_flight == 4


def test_who_never_found_the_server_has_its_part_at_once() -> None:
    holder = LeaseHolder(QuotaSpec(in_flight=8, workers=2))
    holder.lost(0.0)
    assert holder.in_flight == 4
