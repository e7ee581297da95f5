"""When the next attempt comes, and when there is none. No test sleeps: time and chance are arguments."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ErrorCode, Verdict
from pipeline.records import Failure
from pipeline.retry import RETRY_AFTER_JITTER, Attempts, RetryPolicy, RetrySettings
from tests.cases import cases

SETTINGS = RetrySettings(max_attempts=5, base_s=0.5, max_wait_s=60.0, deadline_s=900.0)
NOW = 1_000.0


def failure(code: ErrorCode = ErrorCode.SERVER_ERROR, retry_after_s: float | None = None) -> Failure:
    return Failure(Verdict.RETRY, code, "no", 500, retry_after_s)


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


def after(*codes: ErrorCode, now_s: float = NOW) -> Attempts:
    attempts = Attempts()
    for code in codes:
        attempts = attempts.after(code, now_s)
    return attempts


def wait_s(attempts: Attempts, given_failure: Failure, *, settings=SETTINGS, uniform=longest, now_s=NOW):
    return RetryPolicy(settings, uniform).wait_s(attempts, given_failure, now_s)


def test_an_attempt_counts_by_its_kind():
    attempts = after(
        ErrorCode.RATE_LIMITED,
        ErrorCode.SERVER_ERROR,
        ErrorCode.UNKNOWN_OUTCOME,
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.INVALID_RESPONSE,
        ErrorCode.WRONG_COUNT,
        ErrorCode.CONNECT_FAILED,
    )
    assert attempts == Attempts(sent=7, counted=6, rate_limited=1, unknown=2, unusable=2, first_at_s=NOW)


def test_the_first_attempt_sets_the_time_that_the_deadline_counts_from():
    assert Attempts().after(ErrorCode.SERVER_ERROR, 5.0).after(ErrorCode.SERVER_ERROR, 9.0).first_at_s == 5.0


@cases(("failures", "ceiling_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0)])
def test_the_wait_is_anything_up_to_a_ceiling_that_doubles(failures, ceiling_s):
    attempts = after(*[ErrorCode.SERVER_ERROR] * failures)
    assert wait_s(attempts, failure()) == ceiling_s
    assert wait_s(attempts, failure(), uniform=shortest) == 0.0


def test_the_ceiling_ends_at_the_longest_wait():
    settings = replace(SETTINGS, max_attempts=50)
    assert wait_s(after(*[ErrorCode.SERVER_ERROR] * 40), failure(), settings=settings) == 60.0


@cases("most", [1, 2, 5])
def test_attempts_end_at_the_most_allowed(most):
    settings = replace(SETTINGS, max_attempts=most)
    given_up = [
        wait_s(after(*[ErrorCode.SERVER_ERROR] * count), failure(), settings=settings) is None
        for count in (1, 2, 3, 4, 5)
    ]
    assert given_up == [count >= most for count in (1, 2, 3, 4, 5)]


def test_rate_limits_use_up_no_attempt():
    attempts = after(*[ErrorCode.RATE_LIMITED] * 500)
    assert wait_s(attempts, failure(ErrorCode.RATE_LIMITED)) == 60.0
    assert wait_s(attempts.after(ErrorCode.SERVER_ERROR, NOW), failure()) == 0.5


@cases(
    ("codes", "setting"),
    [
        ((ErrorCode.UNKNOWN_OUTCOME, ErrorCode.DEADLINE_EXCEEDED), "max_unknown_resends"),
        ((ErrorCode.INVALID_RESPONSE, ErrorCode.WRONG_COUNT), "max_invalid_resends"),
    ],
)
@cases("most", [0, 1, 2])
def test_what_may_be_bought_twice_is_resent_less_often(codes, setting, most):
    settings = replace(SETTINGS, max_attempts=9, **{setting: most})
    for count in range(1, 5):
        attempts = after(*[codes[i % 2] for i in range(count)])
        assert (wait_s(attempts, failure(codes[0]), settings=settings) is None) == (count > most)


def test_unknown_outcomes_of_earlier_runs_count():
    attempts = Attempts(unknown=1).after(ErrorCode.UNKNOWN_OUTCOME, NOW)
    assert wait_s(attempts, failure(ErrorCode.UNKNOWN_OUTCOME)) is None


@cases("asked_s", [0.5, 1.0, 20.0, 600.0])
def test_what_the_endpoint_asks_for_is_kept_within_a_tenth(asked_s):
    attempts = after(ErrorCode.RATE_LIMITED)
    limited = failure(ErrorCode.RATE_LIMITED, asked_s)
    assert wait_s(attempts, limited, uniform=shortest) == asked_s
    assert wait_s(attempts, limited) == pytest.approx(asked_s * (1 + RETRY_AFTER_JITTER))


def test_at_once_again_and_again_is_no_hot_loop():
    attempts = after(*[ErrorCode.RATE_LIMITED] * 5)
    assert wait_s(attempts, failure(ErrorCode.RATE_LIMITED, 0.0)) == 8.0


def test_a_short_wait_that_was_asked_for_is_never_undercut():
    assert wait_s(after(ErrorCode.RATE_LIMITED), failure(ErrorCode.RATE_LIMITED, 0.2), uniform=shortest) == 0.2


def test_past_the_deadline_there_is_no_attempt():
    attempts = after(ErrorCode.RATE_LIMITED)
    limited = failure(ErrorCode.RATE_LIMITED)
    assert wait_s(attempts, limited, now_s=NOW + 899.0) is not None
    assert wait_s(attempts, limited, now_s=NOW + 900.0) is None


def test_a_wait_that_would_end_past_the_deadline_is_not_begun():
    attempts = after(ErrorCode.RATE_LIMITED)
    assert wait_s(attempts, failure(ErrorCode.RATE_LIMITED, 899.0), uniform=shortest) == 899.0
    assert wait_s(attempts, failure(ErrorCode.RATE_LIMITED, 901.0), uniform=shortest) is None


def test_a_clock_that_is_set_back_extends_nothing_below_zero():
    assert wait_s(after(ErrorCode.SERVER_ERROR), failure(), now_s=NOW - 3_600.0) == 0.5


@given(
    codes=st.lists(st.sampled_from([code for code in ErrorCode if code is not ErrorCode.NOT_ATTEMPTED]), min_size=1),
    asked_s=st.none() | st.floats(0.0, 1e6),
    share=st.floats(0.0, 1.0),
    elapsed_s=st.floats(0.0, 2_000.0),
)
def test_a_wait_is_finite_not_negative_and_ends_before_the_deadline(codes, asked_s, share, elapsed_s):
    found = wait_s(
        after(*codes),
        failure(codes[-1], asked_s),
        uniform=lambda low, high: low + share * (high - low),
        now_s=NOW + elapsed_s,
    )
    assert found is None or 0.0 <= found <= SETTINGS.deadline_s - elapsed_s
    assert found is None or asked_s is None or found >= asked_s
    assert found is None or sum(code is not ErrorCode.RATE_LIMITED for code in codes) < SETTINGS.max_attempts
