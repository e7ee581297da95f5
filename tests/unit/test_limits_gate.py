"""Every reason to wait: concurrency, a dead endpoint, the retry budget, what headers say, permits."""

import math
from datetime import UTC, datetime

import pytest

from pipeline.errors import ErrorCode
from pipeline.limits import Budget, Cost, Gate, GateSettings, Limit, StaticShare, Ticket
from pipeline.limits.breaker import MOST_FAILURES, Breaker
from pipeline.limits.gate import LONGEST_HOLD_S, REFUSED_IN_A_ROW
from pipeline.limits.headers import LONGEST_PAUSE_S, duration_s, pause_s
from pipeline.limits.retry_budget import RetryBudget
from tests.cases import cases

CALL = Cost(1, 100, 50)


def let(gate: Gate, now_s: float, in_flight: int = 0, *, is_retry: bool = False) -> Ticket:
    ticket = gate.admit(CALL, in_flight, now_s, is_retry=is_retry)
    assert isinstance(ticket, Ticket), f"must wait {ticket}"
    return ticket


def test_the_number_in_flight_is_the_first_limit() -> None:
    gate = Gate(GateSettings(in_flight=2))
    let(gate, 0.0, 0)
    let(gate, 0.0, 1)
    assert gate.admit(CALL, 2, 0.0) == math.inf


def down(gate: Gate, now_s: float) -> None:
    for _ in range(MOST_FAILURES):
        gate.ended(let(gate, now_s), ErrorCode.CONNECT_FAILED, now_s, others=5)


def test_a_dead_endpoint_gets_one_probe_at_a_time_until_one_succeeds() -> None:
    gate = Gate(GateSettings(in_flight=64, outage_limit_s=900.0))
    down(gate, 10.0)
    assert gate.is_open
    waits = []
    now_s = 10.0
    while now_s < 40.0:
        wait_s = gate.admit(CALL, 0, now_s)
        if isinstance(wait_s, Ticket):
            assert wait_s.is_probe
            assert gate.admit(CALL, 1, now_s) == math.inf, "one is on its way"
            gate.ended(wait_s, ErrorCode.CONNECT_FAILED, now_s)
        else:
            waits.append(wait_s)
            now_s += wait_s
    assert waits[:5] == pytest.approx([0.5, 0.5, 1.0, 2.0, 4.0])
    assert max(waits) == 5.0
    assert gate.ended(let(gate, 60.0), None, 60.0) == pytest.approx(50.0), "the rows that waited are not to blame"
    assert not gate.is_open
    assert gate.in_flight_limit == 32, "half of what worked before, doubling from there"


def test_an_outage_without_end_stops_the_job_and_says_why() -> None:
    gate = Gate(GateSettings(outage_limit_s=60.0))
    down(gate, 100.0)
    assert gate.stop_reason(159.0) is None
    assert "outage_limit_s" in (gate.stop_reason(161.0) or "")


@cases("code", [ErrorCode.RATE_LIMITED, ErrorCode.BAD_REQUEST, None])
def test_an_endpoint_that_answers_is_not_down(code: ErrorCode | None) -> None:
    gate = Gate(GateSettings(in_flight=64, outage_limit_s=900.0))
    for now_s in range(100):
        ticket = gate.admit(CALL, 0, float(now_s))
        assert isinstance(ticket, Ticket)
        gate.ended(ticket, code, float(now_s), others=50)
    assert not gate.is_down


def test_three_failures_are_enough_when_nothing_else_is_left() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(1.0, others=0)
    assert breaker.is_open
    many = Breaker()
    for _ in range(3):
        many.failed(1.0, others=5)
    assert many.is_suspect
    assert not many.is_open


def test_answers_to_older_calls_do_not_hide_an_outage() -> None:
    """What was on its way is still answered, one each 5 ms, and each answer makes room for another call that fails."""
    gate = Gate(GateSettings(in_flight=64, outage_limit_s=900.0))
    older = [let(gate, 0.0) for _ in range(40)]
    failed = 0
    for step, ticket in enumerate(older):
        now_s = 10.0 + 0.005 * step
        gate.ended(ticket, None, now_s, others=39 - step)
        while isinstance(new := gate.admit(CALL, 39 - step, now_s), Ticket) and 39 - step > 0:
            gate.ended(new, ErrorCode.OVERLOADED, now_s, others=39 - step)
            failed += 1
    assert failed <= 10
    assert gate.is_down


def test_where_every_third_call_fails_at_once_nobody_suspects_an_outage() -> None:
    gate = Gate(GateSettings(in_flight=64, outage_limit_s=900.0))
    waiting: list[tuple[float, Ticket]] = []
    held = 0
    for step in range(3_000):
        now_s = 0.002 * step
        while waiting and waiting[0][0] <= now_s:
            gate.ended(waiting.pop(0)[1], None, now_s, others=len(waiting))
        ticket = gate.admit(CALL, len(waiting), now_s)
        if not isinstance(ticket, Ticket):
            held += len(waiting) < 60
        elif step % 3:
            waiting.append((now_s + 0.1, ticket))
        else:
            gate.ended(ticket, ErrorCode.SERVER_ERROR, now_s, others=len(waiting))
    assert held <= 150, "a twentieth of 3,000"


def test_an_endpoint_that_fails_most_calls_gets_few_retries() -> None:
    gate = Gate(GateSettings(in_flight=64, outage_limit_s=900.0))
    retried = 0
    for call in range(400):
        now_s = call * 0.01
        is_failure = call % 5 != 0
        gate.ended(let(gate, now_s), ErrorCode.SERVER_ERROR if is_failure else None, now_s, others=5)
        ticket = gate.admit(CALL, 0, now_s, is_retry=True)
        if isinstance(ticket, Ticket):
            retried += 1
            gate.ended(ticket, ErrorCode.SERVER_ERROR if is_failure else None, now_s, others=5)
    assert retried <= 20 + 0.1 * 400 + 10 * 4.0, "until it is known, a tenth of first attempts, ten a second"
    assert gate.view(4.0).retries_held > 100


def test_below_that_the_backoff_alone_paces_retries() -> None:
    gate = Gate(GateSettings(in_flight=64, outage_limit_s=900.0))
    for call in range(400):
        gate.ended(let(gate, 1.0), ErrorCode.SERVER_ERROR if call % 3 == 0 else None, 1.0, others=5)
        let(gate, 1.0, is_retry=True)
    assert gate.view(1.0).retries_held == 0


def test_the_retry_budget_is_a_tenth_of_first_attempts_and_probes() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.first_attempt()
    taken = 0
    while budget.take(5.0) == 0.0:
        taken += 1
    assert taken == 10
    assert budget.take(5.0) == pytest.approx(0.1)
    assert budget.take(5.1) == 0.0


@cases(
    ("text", "seconds"),
    [("6m0s", 360.0), ("12ms", 0.012), ("1s", 1.0), ("1h2m3.5s", 3723.5), ("20", 20.0), ("", None), ("soon", None)],
)
def test_durations_are_gos_or_plain_seconds(text: str, seconds: float | None) -> None:
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


def limits(kind: str, limit: object, left: object, reset: str) -> dict[str, str]:
    values = {"limit": str(limit), "remaining": str(left), "reset": reset}
    return {f"x-ratelimit-{what}-{kind}": value for what, value in values.items()}


def anthropic(kind: str, limit: object, left: object, reset: str) -> dict[str, str]:
    values = {"limit": str(limit), "remaining": str(left), "reset": reset}
    return {f"anthropic-ratelimit-{kind}-{what}": value for what, value in values.items()}


NOW_S = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()
IN_A_MINUTE = "2026-11-21T12:01:00Z"


@cases(
    ("headers", "sharers", "expected"),
    [
        pytest.param({}, 1, 0.0, id="silent"),
        pytest.param(limits("requests", 60, 59, "1s"), 1, 0.0, id="enough"),
        pytest.param(limits("requests", 60, 0, "60s"), 1, 1.0, id="one request takes a second to come back"),
        pytest.param(limits("requests", 60, 1, "59s"), 4, 3.0, id="four workers need four"),
        pytest.param(limits("tokens", 6_000, 50, "59.5s"), 1, 1.0, id="tokens of this call"),
        pytest.param(limits("requests", -1, -1, "0"), 1, 0.0, id="Azure's unknown"),
        pytest.param(limits("requests", "many", 0, "1s"), 1, 0.0, id="no number"),
        pytest.param(limits("requests", 10, 0, "9000h"), 1, LONGEST_PAUSE_S, id="nobody waits for ever"),
        pytest.param(anthropic("requests", 60, 59, IN_A_MINUTE), 1, 0.0, id="Anthropic: enough"),
        pytest.param(anthropic("requests", 60, 0, IN_A_MINUTE), 1, 1.0, id="Anthropic: one request"),
        pytest.param(anthropic("tokens", 9_000, 0, IN_A_MINUTE), 1, 1.0, id="Anthropic: tokens of both kinds"),
        pytest.param(anthropic("input-tokens", 6_000, 0, IN_A_MINUTE), 1, 1.0, id="Anthropic: input"),
        pytest.param(anthropic("output-tokens", 3_000, 0, IN_A_MINUTE), 2, 2.0, id="Anthropic: output, two workers"),
        pytest.param(
            anthropic("requests", 60, 0, IN_A_MINUTE) | anthropic("input-tokens", 2_000, 0, IN_A_MINUTE),
            *(1, 3.0),
            id="Anthropic: the longest",
        ),
        pytest.param(anthropic("requests", 60, 0, "2026-11-21T13:01:00+01:00"), 1, 1.0, id="another time zone"),
        pytest.param(anthropic("requests", 60, 0, "2026-11-21T11:59:00Z"), 1, 0.0, id="a moment that has passed"),
        pytest.param(anthropic("requests", 60, 0, "tomorrow"), 1, 0.0, id="no moment"),
    ],
)
def test_what_the_provider_has_left_is_respected(headers: dict[str, str], sharers: int, expected: float) -> None:
    assert pause_s(headers, CALL, sharers, NOW_S) == pytest.approx(expected)


def test_headers_pause_the_whole_window() -> None:
    gate = Gate(GateSettings(in_flight=8))
    gate.ended(let(gate, 0.0), None, 1.0, headers=limits("requests", 60, 0, "60s"))
    assert gate.admit(CALL, 0, 1.0) == pytest.approx(1.0)
    let(gate, 2.01)


def test_a_moment_in_a_header_is_compared_with_the_wall_clock() -> None:
    gate = Gate(GateSettings(in_flight=8))
    gate.ended(let(gate, 0.0), None, 1.0, headers=anthropic("requests", 60, 0, IN_A_MINUTE), wall_s=NOW_S)
    assert gate.admit(CALL, 0, 1.0) == pytest.approx(1.0)


def refuse(gate: Gate, now_s: float, times: int, retry_after_s: float | None) -> None:
    for _ in range(times):
        ticket = Ticket(-1, now_s)  # of an older epoch: AIMD is not asked here
        gate.ended(ticket, ErrorCode.RATE_LIMITED, now_s, others=5, retry_after_s=retry_after_s)


def test_a_quota_that_is_used_up_holds_every_call_back() -> None:
    gate = Gate(GateSettings(in_flight=64))
    refuse(gate, 1.0, REFUSED_IN_A_ROW - 1, 30.0)
    let(gate, 1.0)
    refuse(gate, 1.0, 1, 30.0)
    assert gate.admit(CALL, 0, 2.0) == pytest.approx(29.0)
    refuse(gate, 2.0, 1, 5.0)
    assert gate.admit(CALL, 0, 2.0) == pytest.approx(5.0), "somebody may come sooner"
    refuse(gate, 2.0, 1, 30.0)
    assert gate.admit(CALL, 0, 2.0) == pytest.approx(5.0)
    let(gate, 7.01)
    refuse(gate, 8.0, 1, 3_600.0)
    assert gate.admit(CALL, 0, 8.0) == LONGEST_HOLD_S


@cases("retry_after_s", [None, 0.0])
def test_rate_limits_that_name_no_wait_hold_nothing_back(retry_after_s: float | None) -> None:
    gate = Gate(GateSettings(in_flight=64))
    refuse(gate, 1.0, 3 * REFUSED_IN_A_ROW, retry_after_s)
    assert isinstance(gate.admit(CALL, 0, 1.0), Ticket)


def test_rate_limits_among_answers_hold_nothing_back() -> None:
    gate = Gate(GateSettings(in_flight=64))
    for _ in range(50):
        refuse(gate, 1.0, REFUSED_IN_A_ROW - 1, 30.0)
        gate.ended(Ticket(-1, 1.0), None, 1.0, others=5)
        assert isinstance(gate.admit(CALL, 0, 1.0), Ticket)


def test_a_static_share_is_paced_and_never_above_its_part() -> None:
    share = StaticShare((Limit("requests_per_minute", "requests", 600, 60.0),), 8, workers=4)
    starts = []
    now_s = 0.0
    while now_s < 180.0:
        wait_s = share.take(CALL, now_s)
        if wait_s == 0.0:
            starts.append(now_s)
        now_s += max(wait_s, 1e-6)
    for start_s in starts:
        assert sum(start_s <= other < start_s + 60.0 for other in starts) <= 150
    assert len(starts) >= 0.97 * 3 * 150


def test_a_static_budget_is_spent_and_no_more() -> None:
    gate = Gate(GateSettings(in_flight=8), StaticShare((), 8, budget=Budget(max_tokens=400)))
    tickets = [let(gate, 0.0), let(gate, 0.0)]
    assert gate.admit(CALL, 2, 0.0) == math.inf
    assert gate.stop_reason(0.0) is None, "what comes back may be enough"
    for ticket in tickets:
        gate.ended(ticket, None, 1.0, used=Cost(1, 100, 0))
    let(gate, 1.0)
    assert gate.admit(CALL, 1, 1.0) == math.inf
    gate.ended(tickets[0], None, 2.0, used=CALL)
    assert gate.admit(CALL, 0, 2.0) == math.inf
    assert "max_tokens" in (gate.stop_reason(2.0) or "")
