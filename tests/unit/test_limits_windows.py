"""One limit: laws that hold for any sequence of calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits import Limit
from pipeline.limits.windows import PacedWindow
from tests.virtual.quota_simulation import worst

CALLS = st.lists(st.tuples(st.integers(1, 60), st.floats(0, 3), st.floats(0, 0.5)), min_size=1, max_size=150)


@given(CALLS, st.sampled_from([(100, 1.0), (300, 60.0), (5_000, 3_600.0)]))
def test_no_window_is_above_the_limit_however_late_the_slots_are_used(
    calls: list[tuple[int, float, float]], shape: tuple[int, float]
) -> None:
    amount, window_s = shape
    window = PacedWindow(Limit("any", "requests", amount, window_s))
    now_s, used = 50.0, []
    for cost, pause_s, late in calls:
        now_s += pause_s
        at_s = window.next_s(cost, now_s)
        window.charge(cost, at_s)
        used.append((at_s + late * 2 * window.limit.lateness_s, float(cost)))
    assert worst(sorted(used), window_s) <= amount + 1e-6


@given(CALLS)
def test_what_comes_back_is_never_more_than_what_was_charged(calls: list[tuple[int, float, float]]) -> None:
    window = PacedWindow(Limit("any", "tokens", 300, 60.0))
    now_s = 0.0
    for cost, pause_s, share in calls:
        now_s += pause_s
        at_s = window.next_s(cost, now_s)
        window.charge(cost, at_s)
        window.credit(cost * share * 4, at_s - share)
        assert window.used(now_s) >= -1e-6


def test_steady_calls_use_nearly_all_of_it() -> None:
    window = PacedWindow(Limit("requests_per_minute", "requests", 1_000, 60.0))
    now_s, starts = 0.0, 0
    while now_s < 300.0:
        now_s = window.next_s(1, now_s)
        window.charge(1, now_s)
        starts += 1
    assert 0.98 * 5_000 <= starts <= 5_000


def test_what_was_reserved_and_came_back_makes_room() -> None:
    window = PacedWindow(Limit("output_tokens_per_minute", "output_tokens", 1_000, 60.0))
    window.charge(1_000, 0.0, paced=10)
    assert window.next_s(500, 1.0) > 60.0
    window.credit(900, 0.0)
    assert window.next_s(500, 1.0) == 1.0


def test_an_answer_longer_than_charged_is_charged_after_all() -> None:
    window = PacedWindow(Limit("output_tokens_per_minute", "output_tokens", 1_000, 60.0))
    window.charge(0, 10.0, paced=0)
    window.credit(-800, 10.0)
    assert window.used(11.0) == 800
    assert window.next_s(300, 11.0) == pytest.approx(70.75, abs=0.3)
