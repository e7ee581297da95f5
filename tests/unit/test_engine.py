"""The window in virtual time: what is sent when, and how every row ends."""

import asyncio
import math
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pipeline.batching import PackLimits
from pipeline.engine import Window, WindowSettings
from pipeline.errors import ConnectFailed, ConnectionBroken, DeadlineExceeded, ErrorCode, TransportError, Verdict
from pipeline.records import Batch, Exchange, Failure, HttpRequest, HttpResponse, Outcome, Request, Usage
from pipeline.retry import Attempts, RetrySettings
from tests.virtual_time import run_virtual

OK = HttpResponse(200, b"")


class PlainEndpoint:
    """Answers with the request's own text; the status decides all else."""

    def build(self, batch: Batch) -> HttpRequest:
        return HttpRequest("http://x", "|".join(r.text or "" for r in batch.requests).encode())

    def parse(self, batch: Batch, response: HttpResponse) -> list[Outcome] | Failure:
        if response.status == 200:
            return [Outcome(r.request_id, response=r.text, usage=Usage(1, 1, 2)) for r in batch.requests]
        after = response.headers.get("retry-after")
        verdict, code = {
            429: (Verdict.RETRY, ErrorCode.RATE_LIMITED),
            500: (Verdict.RETRY, ErrorCode.SERVER_ERROR),
            400: (Verdict.SPLIT, ErrorCode.BAD_REQUEST),
            401: (Verdict.STOP, ErrorCode.AUTHENTICATION),
            422: (Verdict.REJECT, ErrorCode.BAD_REQUEST),
        }[response.status]
        return Failure(verdict, code, "no", response.status, float(after) if after else None)


@dataclass
class Script:
    """A transport that answers as told: a list of answers per text, the last one repeated; latency in seconds."""

    answers: dict[str, list[HttpResponse | TransportError]] = field(default_factory=dict)
    latency_s: float = 1.0
    sent: list[str] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0

    async def send(self, request: HttpRequest, auth_headers: object) -> HttpResponse:
        text = request.body.decode()
        self.sent.append(text)
        self.sent_at.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self.in_flight -= 1
        plan = self.answers.get(text) or self.answers.get("*") or [OK]
        answer = plan[min(Counter(self.sent)[text], len(plan)) - 1]
        if isinstance(answer, TransportError):
            raise answer
        return answer

    async def close(self) -> None: ...


@dataclass
class Notes:
    exchanges: list[Exchange] = field(default_factory=list)

    def append_all(self, exchanges: Sequence[Exchange]) -> None:
        self.exchanges.extend(exchanges)


def requests(*texts: str) -> list[tuple[Request, Attempts]]:
    return [(Request(f"id-{text}", text=text), Attempts()) for text in texts]


def play(
    script: Script,
    texts: list[str],
    *,
    in_flight: int = 4,
    pack: PackLimits | None = None,
    retry: RetrySettings | None = None,
    seed: int = 0,
    log: Notes | None = None,
) -> tuple[dict[str, Outcome], float, Window]:
    """Outcomes by text, seconds taken, and the window."""

    async def main() -> tuple[dict[str, Outcome], float, Window]:
        outcomes: list[Outcome] = []
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        started = loop.time()

        def finished(some: list[Outcome]) -> None:
            outcomes.extend(some)
            if len(outcomes) >= len(texts):
                done.set()

        window = Window(
            PlainEndpoint(),
            script,
            WindowSettings(
                in_flight=in_flight, pack=pack or PackLimits(), retry=retry or RetrySettings(outage_limit_s=900)
            ),
            log=log,
            on_finished=finished,
            clock=loop.time,
            uniform=random.Random(seed).uniform,
        )
        window.submit(requests(*texts))
        window.flush()
        await done.wait()
        took = loop.time() - started
        await window.cancel()
        assert len(outcomes) == len(texts), "a row ended twice"
        return {o.request_id.removeprefix("id-"): o for o in outcomes}, took, window

    return run_virtual(main())


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


@pytest.mark.parametrize("bad", range(16))
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
        def append_all(self, exchanges: Sequence[Exchange]) -> None:
            assert len(script.sent) == len(self.exchanges) + 4  # nothing was sent in the place of what is not written
            sizes.append(len(exchanges))
            super().append_all(exchanges)

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
        def append_all(self, exchanges: Sequence[Exchange]) -> None:
            raise OSError(28, "no space left")

    script = Script()
    outcomes, _, window = play(script, [f"t{i}" for i in range(30)], in_flight=2, log=Full())
    assert isinstance(window.crashed, OSError)
    assert {o.error.code for o in outcomes.values() if o.error} == {ErrorCode.NOT_ATTEMPTED}
    assert len(script.sent) == 2


@pytest.mark.parametrize("seed", [*range(60), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(60, 400))])
def test_every_row_ends_once_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    texts = [f"t{i}" for i in range(rng.randint(1, 60))]
    menu: list[HttpResponse | TransportError] = [
        OK,
        OK,
        HttpResponse(429, b"", {"retry-after": str(rng.choice([0, 1, 7]))}),
        HttpResponse(429, b""),
        HttpResponse(500, b""),
        HttpResponse(422, b""),
        ConnectionBroken("cut"),
        DeadlineExceeded("late"),
    ]
    script = Script({text: [rng.choice(menu) for _ in range(rng.randint(1, 5))] for text in texts})
    script.latency_s = rng.choice([0.0, 0.1, 3.0])
    outcomes, took, _ = play(script, texts, in_flight=rng.randint(1, 10), retry=RetrySettings(deadline_s=60), seed=seed)
    assert set(outcomes) == set(texts), f"seed {seed}"
    assert all((o.error is None) != (o.response is None) for o in outcomes.values()), f"seed {seed}"
    assert took < 3600, f"seed {seed}"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 128])
def test_split_usage_sums_to_the_whole(count: int) -> None:
    parts = Usage(1001, 5, None, 0, 17).split(count)
    assert sum(part.input_tokens or 0 for part in parts) == 1001
    assert sum(part.output_tokens or 0 for part in parts) == 5
    assert all(part.total_tokens is None for part in parts)


@dataclass
class Outage(Script):
    """From `from_s` for `lasts_s` every call ends as `answer` says, at once."""

    from_s: float = 10.0
    lasts_s: float = 60.0
    answer: HttpResponse | TransportError = field(default_factory=lambda: ConnectFailed("refused"))
    began_s: float | None = None

    async def send(self, request: HttpRequest, auth_headers: object) -> HttpResponse:
        now_s = asyncio.get_running_loop().time()
        self.began_s = now_s if self.began_s is None else self.began_s
        if self.from_s <= now_s - self.began_s < self.from_s + self.lasts_s:
            self.sent.append(request.body.decode())
            self.sent_at.append(now_s)
            if isinstance(self.answer, TransportError):
                raise self.answer
            return self.answer
        return await super().send(request, auth_headers)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("answer", [ConnectFailed("refused"), HttpResponse(500, b""), ConnectionBroken("cut")])
def test_an_outage_costs_no_row_few_attempts_and_no_time_after_it(
    answer: HttpResponse | TransportError, seed: int
) -> None:
    in_flight, rows = 32, 1_200
    script = Outage(answer=answer)
    outcomes, took, window = play(script, [f"t{i}" for i in range(rows)], in_flight=in_flight, seed=seed)
    assert {o.error for o in outcomes.values()} == {None}
    began_s = script.began_s or 0.0
    during = [at_s for at_s in script.sent_at if 10.0 <= at_s - began_s < 70.0]
    probes = window.gate.view(0.0).probes
    assert 10 <= probes <= 20
    assert len(during) <= 1.1 * in_flight + probes
    assert took <= rows / in_flight + 60.0 + 10.0, "full rate within ten seconds of its return"


def test_an_outage_without_end_stops_the_job_and_costs_no_row() -> None:
    script = Outage(lasts_s=1e9)
    outcomes, took, window = play(
        script, [f"t{i}" for i in range(2_000)], in_flight=32, retry=RetrySettings(outage_limit_s=300.0)
    )
    assert {o.error.code for o in outcomes.values() if o.error} == {ErrorCode.NOT_ATTEMPTED}
    assert "outage_limit_s" in (window.stopped.message if window.stopped else "")
    assert 310 <= took <= 320


def test_an_endpoint_that_never_was_there_is_given_up_after_one_rows_attempts() -> None:
    script = Outage(from_s=0.0, lasts_s=1e9)
    outcomes, took, window = play(script, [f"t{i}" for i in range(400)], in_flight=32)
    assert {o.error.code for o in outcomes.values() if o.error} == {ErrorCode.NOT_ATTEMPTED}
    assert "no connection was ever made" in (window.stopped.message if window.stopped else "")
    assert len(script.sent) <= 32 + 2 * 5
    assert took <= 30.0


@pytest.mark.parametrize("answer", [ConnectionBroken("cut"), DeadlineExceeded("late"), HttpResponse(500, b"")])
def test_a_task_that_starts_during_an_outage_parks_its_rows_too(answer: HttpResponse | TransportError) -> None:
    script = Outage(from_s=0.0, answer=answer)
    outcomes, took, window = play(script, [f"t{i}" for i in range(400)], in_flight=32)
    assert {o.error for o in outcomes.values()} == {None}
    probes = window.gate.view(0.0).probes
    assert len([at_s for at_s in script.sent_at if at_s - (script.began_s or 0.0) < 60.0]) <= 1.1 * 32 + probes
    assert took <= 400 / 32 + 60.0 + 10.0


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


def test_a_fixed_share_of_rate_limits_does_not_collapse_the_window() -> None:
    class Grumpy(Script):
        async def send(self, request: HttpRequest, auth_headers: object) -> HttpResponse:
            if chance.random() < 0.1:
                self.sent_at.append(asyncio.get_running_loop().time())
                return HttpResponse(429, b"", {"retry-after": "1"})
            return await super().send(request, auth_headers)

    texts = [f"t{i}" for i in range(3_000)]
    for seed in range(3):
        chance = random.Random(seed)
        _, plain_s, _ = play(Script(latency_s=0.5), texts, in_flight=32, seed=seed)
        _, took_s, _ = play(Grumpy(latency_s=0.5), texts, in_flight=32, seed=seed)
        assert took_s <= 1.5 * plain_s, f"seed {seed}"


@pytest.mark.parametrize("seed", range(3))
def test_a_quota_that_is_used_up_is_not_called_on_and_on(seed: int) -> None:
    class Metered(Script):
        """600 calls in any minute; a refusal comes at once and says when there is room."""

        async def send(self, request: HttpRequest, auth_headers: object) -> HttpResponse:
            now_s = asyncio.get_running_loop().time()
            while self.admitted and self.admitted[0] <= now_s - 60:
                self.admitted.popleft()
            if len(self.admitted) >= 600:
                self.refused += 1
                await asyncio.sleep(0.02)
                return HttpResponse(429, b"", {"retry-after": str(math.ceil(self.admitted[0] + 60 - now_s))})
            self.admitted.append(now_s)
            return await super().send(request, auth_headers)

        refused = 0

        def __init__(self) -> None:
            super().__init__(latency_s=0.5)
            self.admitted: deque[float] = deque()

    script = Metered()
    outcomes, took, _ = play(script, [f"t{i}" for i in range(3_000)], in_flight=64, seed=seed)
    assert {o.error for o in outcomes.values()} == {None}
    assert took <= 1.1 * (4 * 60 + 600 / 64 * 0.5), f"seed {seed}: nearly all of the quota is used"
    assert script.refused <= 0.2 * 3_000, f"seed {seed}"


def test_an_endpoint_with_fewer_slots_than_we_may_use_is_kept_full() -> None:
    class Small(Script):
        async def send(self, request: HttpRequest, auth_headers: object) -> HttpResponse:
            if self.in_flight >= 20:
                self.refused += 1
                return HttpResponse(429, b"")
            return await super().send(request, auth_headers)

        refused = 0

    script = Small()
    outcomes, took, _ = play(script, [f"t{i}" for i in range(2_000)], in_flight=128)
    assert {o.error for o in outcomes.values()} == {None}
    assert took <= 2_000 / 20 / 0.9
    assert script.refused <= 0.25 * 2_000
