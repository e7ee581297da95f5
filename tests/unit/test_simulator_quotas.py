"""The simulator's quotas as providers enforce them: gates, admission, credit-back, bodies and headers."""

import json
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits import Cost
from pipeline.limits.headers import pause_s
from pipeline.simulator.admission import Admission, LimitUse, Refusal429, Ticket
from pipeline.simulator.outage import span
from pipeline.simulator.quotas import Quotas
from pipeline.simulator.rate_replies import go_duration, rate_headers, refused
from pipeline.simulator.windows import Bucket, Charge, Window
from tests.cases import cases

arrivals = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 12)), max_size=60)
# in 1/1024 s: sums and differences are exact, so that test and window agree on what is ten seconds ago
exact_arrivals = st.lists(
    st.tuples(st.integers(0, 20 * 1024).map(lambda ticks: ticks / 1024), st.integers(1, 12)), max_size=60
)


@given(exact_arrivals)
def test_a_window_never_holds_more_than_its_quota_and_its_wait_is_the_shortest_that_works(steps):
    window, now_s, admitted = Window(12, 10.0), 0.0, []
    for step_s, cost in steps:
        now_s += step_s
        wait_s = window.wait_s(cost, now_s)
        used = sum(amount for at_s, amount in admitted if at_s > now_s - 10)
        assert (wait_s == 0) == (used + cost <= 12)
        assert window.free(now_s) == 12 - used
        if wait_s:
            after_s = now_s + wait_s
            assert sum(amount for at_s, amount in admitted if at_s > after_s - 10 + 1e-9) + cost <= 12
            continue
        window.take(Charge(now_s, cost))
        admitted.append((now_s, cost))


@given(arrivals)
def test_a_bucket_admits_no_more_than_its_rate_and_capacity(steps):
    bucket, now_s, admitted = Bucket(12, 2.0, 0.0), 0.0, 0
    for step_s, cost in steps:
        now_s += step_s / 10
        wait_s = bucket.wait_s(cost, now_s)
        if wait_s == 0:
            bucket.take(Charge(now_s, cost))
            admitted += cost
            assert admitted <= 12 + 2 * now_s + 1e-9
        else:
            now_s += wait_s
            assert bucket.wait_s(cost, now_s) == pytest.approx(0, abs=1e-9)


def test_what_alone_is_larger_than_a_gate_never_fits():
    assert Window(10, 60).wait_s(11, 0) == inf
    assert Bucket(10, 1, 0).wait_s(11, 0) == inf


def test_a_credit_frees_the_window_at_once_and_nothing_after_the_charge_has_left_it():
    window = Window(100, 60)
    charge = Charge(0.0, 100)
    window.take(charge)
    window.credit(charge, 70, 1.0)
    charge.amount = 30
    assert window.free(1.0) == 70
    late = Window(100, 60)
    gone = Charge(0.0, 100)
    late.take(gone)
    late.credit(gone, 70, 61.0)
    late.take(Charge(61.0, 100))
    assert late.free(61.0) == 0


def admits(admission: Admission, input_tokens: int, max_tokens: int | None, now_s: float = 0.0) -> bool:
    return isinstance(admission.admit(input_tokens, max_tokens, now_s), Ticket)


def settled(admission: Admission, ticket: Ticket | Refusal429, output_tokens: int, now_s: float) -> None:
    assert isinstance(ticket, Ticket)
    ticket.output_tokens = output_tokens
    admission.settle(ticket, now_s)


def test_databricks_reserves_max_tokens_and_credits_back_when_the_call_ends():
    admission = Admission(Quotas(output_tokens_per_minute=1000), 0.0)
    first = admission.admit(5, 900, 0.0)
    assert not admits(admission, 5, 900)
    settled(admission, first, 50, 1.0)
    assert admits(admission, 5, 900, 1.0)
    assert admission.use()["output_tokens_per_minute"].per_second == (50.0, 900.0)


def test_a_call_without_max_tokens_reserves_the_default_and_is_charged_what_it_made_beyond():
    admission = Admission(Quotas(output_tokens_per_minute=1000, default_reserve_tokens=600), 0.0)
    first = admission.admit(5, None, 0.0)
    assert not admits(admission, 5, None)
    settled(admission, first, 800, 1.0)
    assert admission.use()["output_tokens_per_minute"].per_second == (600.0, 200.0)


def test_openai_charges_the_larger_of_both_and_gives_nothing_back():
    admission = Admission(Quotas(tokens_per_minute=1000, reserve="larger"), 0.0)
    settled(admission, admission.admit(100, 600, 0.0), 10, 0.5)
    assert not admits(admission, 100, 600)
    assert admits(admission, 400, 100)


def test_anthropic_charges_output_when_it_is_made():
    admission = Admission(Quotas(output_tokens_per_minute=1000, reserve="none"), 0.0)
    first, second = admission.admit(5, 900, 0.0), admission.admit(5, 900, 0.0)
    settled(admission, first, 900, 1.0)
    settled(admission, second, 900, 1.0)  # made all the same: over the quota, and then nobody comes in
    refusal = admission.admit(5, 900, 2.0)
    assert isinstance(refusal, Refusal429)
    assert refusal.wait_s == 59.0


def test_embeddings_reserve_no_output():
    assert admits(Admission(Quotas(output_tokens_per_minute=1), 0.0), 5, 0)


def test_a_call_is_charged_to_all_limits_or_to_none():
    admission = Admission(Quotas(requests_per_minute=2, input_tokens_per_minute=10), 0.0)
    assert admits(admission, 8, 0)
    assert not admits(admission, 8, 0)  # costs no request
    assert admits(admission, 2, 0)
    assert admission.use()["requests_per_minute"].refused == 0
    assert admission.use()["input_tokens_per_minute"].refused == 1


@cases(("refused_count", "admitted"), [(False, True), (True, False)])
def test_refused_calls_count_where_the_provider_counts_them(refused_count, admitted):
    admission = Admission(Quotas(requests_per_minute=3, input_tokens_per_minute=10, refused_count=refused_count), 0.0)
    assert admits(admission, 9, 0)
    for _ in range(3):
        assert not admits(admission, 9, 0)
    assert admits(admission, 1, 0) is admitted


@cases(
    ("quotas", "at_once"),
    [
        (Quotas(requests_per_minute=60), 60),
        (Quotas(requests_per_minute=60, slice_s=1), 1),
        (Quotas(requests_per_minute=60, slice_s=10), 10),
        (Quotas(requests_per_minute=60, enforce="bucket", burst_s=5), 5),
        (Quotas(requests_per_minute=60, enforce="both", burst_s=5), 5),
        (Quotas(requests_per_second=7), 7),
        (Quotas(requests_per_hour=9), 9),
    ],
)
def test_how_many_calls_come_in_at_once(quotas, at_once):
    admission = Admission(quotas, 0.0)
    assert sum(admits(admission, 1, 0) for _ in range(100)) == at_once


@cases("enforce", ["window", "bucket", "both"])
def test_a_patient_client_uses_all_of_the_quota(enforce):
    # one call every 0.1 s is the quota itself
    admission = Admission(Quotas(requests_per_minute=600, enforce=enforce, burst_s=2), 0.0)
    assert sum(admits(admission, 1, 0, number / 10 + 0.001) for number in range(1200)) >= 1199
    use = admission.use()["requests_per_minute"]
    assert use.windows() == [pytest.approx(1, abs=0.002)] * 2
    assert use.utilisation(10, 110) == pytest.approx(1, abs=0.002)


def test_utilisation_leaves_the_unfinished_second_out_and_survives_json():
    use = LimitUse(600, 60, 3, (10.0, 10.0, 5.0, 1.0))
    assert use.utilisation() == pytest.approx(25 / 30)
    assert use.utilisation(0, 2) == 1
    assert LimitUse.from_json(json.loads(json.dumps(use.to_json()))) == use
    assert LimitUse(600, 60, 0, ()).utilisation() == 0


def test_a_burst_of_random_calls_never_takes_more_than_any_limit():
    random = Random(11)
    quotas = Quotas(requests_per_minute=50, input_tokens_per_minute=900, output_tokens_per_minute=700, slice_s=10)
    admission, now_s, taken = Admission(quotas, 0.0), 0.0, []
    for _ in range(2000):
        now_s += random.expovariate(3)
        input_tokens, max_tokens = random.randint(1, 60), random.randint(1, 60)
        ticket = admission.admit(input_tokens, max_tokens, now_s)
        if isinstance(ticket, Ticket):
            taken.append((now_s, 1, input_tokens, max_tokens))
    for end_s, *_ in taken:
        for length_s in (10, 60):
            within = [entry for entry in taken if end_s - length_s < entry[0] <= end_s]
            sums = [sum(column) for column in list(zip(*within, strict=True))[1:]]
            assert all(total <= quota * length_s / 60 for total, quota in zip(sums, (50, 900, 700), strict=True))


def refusal_of(quotas: Quotas, cost: int = 8) -> tuple[Admission, Refusal429]:
    admission = Admission(quotas, 0.0)
    assert admits(admission, 8, 0)
    refusal = admission.admit(cost, 0, 0.5)
    assert isinstance(refusal, Refusal429)
    return admission, refusal


def test_openai_says_limit_used_requested_and_when():
    quotas = Quotas(tokens_per_minute=10, headers="openai")
    admission, refusal = refusal_of(quotas)
    reply = refused("openai", refusal, quotas, admission.limits, 0.5)
    headers, error = dict(reply.headers), json.loads(reply.body)["error"]
    assert (reply.status, error["type"], error["code"]) == (429, "tokens", "rate_limit_exceeded")
    assert "Limit 10, Used 8, Requested 8. Please try again in 59.5s." in error["message"]
    assert headers["Retry-After"] == "60"
    assert headers["x-ratelimit-limit-tokens"] == "10"
    assert headers["x-ratelimit-remaining-tokens"] == "2"
    assert headers["x-ratelimit-reset-tokens"] == "59.5s"
    assert "x-ratelimit-limit-requests" not in headers


def test_a_request_that_no_wait_helps_says_so_and_promises_nothing():
    quotas = Quotas(tokens_per_minute=10)
    admission, refusal = refusal_of(quotas, cost=11)
    reply = refused("openai", refusal, quotas, admission.limits, 0.5)
    assert json.loads(reply.body)["error"]["message"].startswith("Request too large")
    assert "Retry-After" not in dict(reply.headers)


@cases("body", ["documented", "seen"])
def test_databricks_has_two_bodies(body):
    quotas = Quotas(input_tokens_per_minute=10, databricks_body=body, headers="none")
    admission, refusal = refusal_of(quotas)
    reply = refused("databricks", refusal, quotas, admission.limits, 0.5)
    document = json.loads(reply.body)
    assert [name for name, _ in reply.headers] == ["Content-Type"]
    if body == "seen":
        assert document["error_code"] == "REQUEST_LIMIT_EXCEEDED"
        assert "input tokens per minute" in document["message"]
    else:
        error = document["error"]
        assert (error["limit_type"], error["limit"], error["current"]) == ("input_tokens_per_minute", 10, 16)
        assert error["retry_after"] == 59.5


def test_azure_speaks_in_whole_seconds_and_milliseconds():
    quotas = Quotas(requests_per_minute=1, headers="azure")
    admission, refusal = refusal_of(quotas)
    headers = dict(refused("openai", refusal, quotas, admission.limits, 0.5).headers)
    assert (headers["retry-after-ms"], headers["x-ratelimit-reset-requests"]) == ("59500", "60")


def test_anthropic_tells_the_kinds_of_tokens_apart_and_names_the_moment():
    quotas = Quotas(
        requests_per_minute=10, input_tokens_per_minute=60, output_tokens_per_minute=90, headers="anthropic"
    )
    admission = Admission(quotas, 0.0)
    assert admits(admission, 60, 0)
    noon_s = 1_795_262_400.0
    headers = dict(rate_headers(quotas, admission.limits, 0.5, noon_s + 0.5))
    assert headers["anthropic-ratelimit-requests-remaining"] == "9"
    assert headers["anthropic-ratelimit-input-tokens-limit"] == "60"
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "0"
    assert headers["anthropic-ratelimit-input-tokens-reset"] == "2026-11-21T12:01:00Z"
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "90"
    assert "anthropic-ratelimit-tokens-limit" not in headers
    # and the client understands it: a full bucket comes back within the minute, so thirty tokens within half of it
    assert pause_s(headers, Cost(1, 30), 1, noon_s) == 30.0


def test_the_tightest_limit_of_a_kind_is_shown():
    quotas = Quotas(requests_per_minute=100, requests_per_second=2, headers="openai")
    admission = Admission(quotas, 0.0)
    assert admits(admission, 1, 0)
    assert dict(rate_headers(quotas, admission.limits, 0.0))["x-ratelimit-limit-requests"] == "2"


@cases(("seconds", "said"), [(0, "0ms"), (0.012, "12ms"), (1, "1s"), (1.5, "1.5s"), (360, "6m0s"), (61.25, "1m1.25s")])
def test_durations_read_as_go_prints_them(seconds, said):
    assert go_duration(seconds) == said


@cases(
    ("changes", "part"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute must be positive"),
        ({"tokens_per_minute": inf}, "tokens_per_minute must be positive"),
        ({"requests_per_minute": "many"}, "a quota is a number"),
        ({"reserve": "all"}, "reserve is one of max_tokens, larger, none"),
        ({"slice_s": 60}, "slice_s must lie between"),
        ({"burst_s": 0}, "burst_s must be positive"),
        ({"default_reserve_tokens": -1}, "default_reserve_tokens must not be negative"),
        ({"refused_count": 1.0}, "refused_count is true or false"),
        ({"rpm": 3}, "unknown quota settings"),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused(changes, part):
    with pytest.raises(ValueError, match=part):
        Quotas().with_changes(changes)


def test_an_outage_has_a_beginning_and_an_end():
    outage = span("refuse", after_s=5, for_s=60, now_s=100.0)
    assert [outage.at(now_s) for now_s in (100, 104.9, 105, 164.9, 165)] == ["none", "none", "refuse", "refuse", "none"]
    assert [outage.next_change_s(now_s) for now_s in (100, 105, 165)] == [105, 165, None]
    assert span("reset", 0, None, 100.0).at(1e9) == "reset"
    with pytest.raises(ValueError, match="for_s"):
        span("reset", 0, 0, 100.0)
