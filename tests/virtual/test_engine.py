"""The window in virtual time, thousands of rows long: outages, limits that drop, any mixture of answers."""

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from pipeline.errors import ConnectFailed, ConnectionBroken, DeadlineExceeded, ErrorCode, TransportError
from pipeline.records import HttpRequest, HttpResponse
from pipeline.retry import RetrySettings
from tests.unit.scripts import OK, Script, play


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
