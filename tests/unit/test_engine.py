"""The window in virtual time: what is sent when, and how every row ends."""

import asyncio
from collections import Counter

import pytest

from pipeline.batching import PackLimits
from pipeline.engine import Window, WindowSettings
from pipeline.errors import ConnectFailed, ConnectionBroken, DeadlineExceeded, ErrorCode
from pipeline.records import Exchange, HttpRequest, HttpResponse, Outcome, Usage
from pipeline.retry import RetrySettings
from tests.cases import cases
from tests.unit.scripts import OK, Notes, PlainEndpoint, Script, play, requests
from tests.virtual_time import run_virtual


def test_the_window_is_full_and_never_more() -> None:
    script = Script()
    outcomes, took, _ = play(script, [f"t{i}" for i in range(40)], in_flight=8)
    assert len(outcomes) == 40
    assert script.peak == 8
    assert took == pytest.approx(5.0, abs=0.1)  # 40 rows, 1 s each, 8 at a time


def test_a_row_that_waits_holds_no_slot() -> None:
    limited = HttpResponse(429, b"", {"retry-after": "30"})
    script = Script({"slow": [limited, OK]})
    outcomes, took, _ = play(script, ["slow", *[f"t{i}" for i in range(20)]], in_flight=1)
    assert outcomes["slow"].error is None
    assert outcomes["slow"].attempts == 2
    assert took == pytest.approx(32.0, abs=3.5)  # the others went on meanwhile
    assert script.sent.index("t19") < len(script.sent) - 1


def test_a_rate_limit_uses_up_no_attempt_but_has_a_deadline() -> None:
    limited = HttpResponse(429, b"", {"retry-after": "10"})
    script = Script({"a": [limited]})
    outcomes, took, _ = play(script, ["a"], retry=RetrySettings(max_attempts=2, deadline_s=100))
    assert outcomes["a"].error is not None
    assert outcomes["a"].error.code is ErrorCode.RATE_LIMITED
    assert len(script.sent) > 5
    assert took <= 100


def test_server_errors_use_up_attempts() -> None:
    script = Script({"a": [HttpResponse(500, b"")]})
    outcomes, _, window = play(script, ["a", "b"], retry=RetrySettings(max_attempts=3))
    assert outcomes["a"].error is not None
    assert outcomes["a"].error.code is ErrorCode.SERVER_ERROR
    assert outcomes["a"].attempts == 3
    assert outcomes["b"].error is None
    assert window.tally.sent == 4


def test_an_unknown_outcome_is_resent_once_only() -> None:
    script = Script({"a": [ConnectionBroken("cut")], "b": [DeadlineExceeded("late")]})
    outcomes, _, _ = play(script, ["a", "b"], retry=RetrySettings(max_attempts=9, max_unknown_resends=1))
    assert {text: o.error.code for text, o in outcomes.items() if o.error} == {
        "a": ErrorCode.UNKNOWN_OUTCOME,
        "b": ErrorCode.DEADLINE_EXCEEDED,
    }
    assert Counter(script.sent) == {"a": 2, "b": 2}


def test_no_resend_of_an_unknown_outcome_when_forbidden() -> None:
    script = Script({"a": [ConnectionBroken("cut"), OK]})
    outcomes, _, _ = play(script, ["a"], retry=RetrySettings(max_unknown_resends=0))
    assert outcomes["a"].error is not None
    assert script.sent == ["a"]


def test_a_stop_leaves_the_rest_unattempted_and_finishes_what_is_in_flight() -> None:
    script = Script({"t1": [HttpResponse(401, b"")]})
    outcomes, _, window = play(script, [f"t{i}" for i in range(20)], in_flight=4)
    codes = Counter(o.error.code if o.error else None for o in outcomes.values())
    assert window.stopped is not None
    assert codes[None] == 3  # t0, t2, t3 were in flight beside t1
    assert codes[ErrorCode.NOT_ATTEMPTED] == 17
    assert len(script.sent) == 4


def test_an_endpoint_that_never_answers_stops_the_job() -> None:
    script = Script({"*": [ConnectFailed("refused")]}, latency_s=0.0)
    outcomes, _, window = play(script, [f"t{i}" for i in range(50)], in_flight=4)
    assert {o.error.code for o in outcomes.values() if o.error} == {ErrorCode.NOT_ATTEMPTED}
    assert window.stopped is not None
    assert window.stopped.code is ErrorCode.CONNECT_FAILED


def test_a_connection_lost_later_costs_rows_not_the_job() -> None:
    script = Script({"b": [ConnectFailed("refused")]})
    outcomes, _, window = play(script, ["a", "b"], retry=RetrySettings(max_attempts=2))
    assert outcomes["b"].error is not None
    assert window.stopped is None


@cases("bad", range(16))
def test_one_bad_row_in_a_batch_costs_logarithmically_many_calls(bad: int) -> None:
    class Picky(Script):
        async def send(self, request: HttpRequest, auth_headers: object) -> HttpResponse:
            await super().send(request, auth_headers)
            return HttpResponse(400, b"") if f"t{bad}" in request.body.decode().split("|") else OK

    script = Picky()
    outcomes, _, _ = play(script, [f"t{i}" for i in range(16)], pack=PackLimits(max_rows=16))
    assert [text for text, o in outcomes.items() if o.error] == [f"t{bad}"]
    assert len(script.sent) <= 2 * 4 + 1


def test_a_rate_limited_batch_is_never_fanned_out() -> None:
    limited = HttpResponse(429, b"", {"retry-after": "1"})
    script = Script({"a|b|c": [limited, limited, OK]})
    outcomes, _, _ = play(script, ["a", "b", "c"], pack=PackLimits(max_rows=8))
    assert script.sent == ["a|b|c"] * 3
    assert all(o.error is None for o in outcomes.values())


def test_every_exchange_is_logged_before_its_outcome_is_used() -> None:
    log = Notes()
    script = Script({"a": [HttpResponse(500, b""), ConnectionBroken("cut"), OK]})
    outcomes, _, _ = play(script, ["a"], log=log)
    assert outcomes["a"].error is None
    assert [(e.attempt, e.is_final, e.transport_error) for e in log.exchanges] == [
        (1, False, None),
        (2, False, ErrorCode.UNKNOWN_OUTCOME),
        (3, True, None),
    ]


def test_what_comes_back_together_is_journaled_in_one_write_before_its_slots_are_free() -> None:
    script = Script()

    class Writes(Notes):
        def append(self, *exchanges: Exchange) -> None:
            assert len(script.sent) == len(self.exchanges) + 4  # nothing was sent in the place of what is not written
            sizes.append(len(exchanges))
            super().append(*exchanges)

    sizes: list[int] = []
    log = Writes()
    _, took_s, _ = play(script, [f"t{i}" for i in range(12)], in_flight=4, log=log)
    assert sizes == [4, 4, 4]
    assert took_s == 3.0
    assert script.peak == 4


def test_what_came_back_before_the_window_is_given_up_is_journaled(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Notes()

    async def main() -> None:
        window = Window(
            PlainEndpoint(), Script(), WindowSettings(in_flight=3), log=log, on_finished=lambda outcomes: None
        )
        with monkeypatch.context() as patched:
            patched.setattr(window, "_settle", lambda: None)  # the turn of the loop does not come
            window.submit(requests("a", "b", "c", "d"))
            await asyncio.sleep(2.0)
        assert not log.exchanges
        await window.cancel()

    run_virtual(main())
    assert {exchange.request_ids for exchange in log.exchanges} == {("id-a",), ("id-b",), ("id-c",)}


def test_a_log_that_cannot_be_written_stops_sending() -> None:
    class Full(Notes):
        def append(self, *exchanges: Exchange) -> None:
            raise OSError(28, "no space left")

    script = Script()
    outcomes, _, window = play(script, [f"t{i}" for i in range(30)], in_flight=2, log=Full())
    assert isinstance(window.crashed, OSError)
    assert {o.error.code for o in outcomes.values() if o.error} == {ErrorCode.NOT_ATTEMPTED}
    assert len(script.sent) == 2


@cases("count", [1, 2, 3, 7, 128])
def test_split_usage_sums_to_the_whole(count: int) -> None:
    parts = Usage(1001, 5, None, 0, 17).split(count)
    assert sum(part.input_tokens or 0 for part in parts) == 1001
    assert sum(part.output_tokens or 0 for part in parts) == 5
    assert all(part.total_tokens is None for part in parts)


def test_a_started_batch_waits_while_no_slot_is_free_and_goes_soon_where_one_is() -> None:
    async def main() -> list[int]:
        script = Script()
        outcomes: list[Outcome] = []
        settings = WindowSettings(in_flight=1, pack=PackLimits(150))
        window = Window(PlainEndpoint(), script, settings, on_finished=outcomes.extend)
        for part in range(4):  # as a row thread hands rows over, slower than the linger and faster than calls
            window.submit(requests(*[f"t{part}-{row}" for row in range(100)]))
            await asyncio.sleep(0.1)
        await asyncio.sleep(10.0)  # never flushed
        await window.cancel()
        assert len(outcomes) == 400
        return [len(body.split("|")) for body in script.sent]

    assert run_virtual(main()) == [100, 150, 150]


def test_rows_that_break_the_server_do_not_hold_up_the_end_of_a_job() -> None:
    script = Script({f"t{i}": [HttpResponse(500, b"")] for i in range(5)})
    outcomes, took, _ = play(script, [f"t{i}" for i in range(100)], in_flight=8)
    assert sum(o.error is not None for o in outcomes.values()) == 5
    assert took < 60
