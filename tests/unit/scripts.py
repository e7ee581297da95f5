"""The window against a transport that answers as told, in virtual time."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from pipeline.batching import PackLimits
from pipeline.engine import Window, WindowSettings
from pipeline.errors import ErrorCode, TransportError, Verdict
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

    def append(self, *exchanges: Exchange) -> None:
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
