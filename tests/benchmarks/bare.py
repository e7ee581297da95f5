"""The least that sends the same requests over the same transport: what every figure is compared with."""

import asyncio
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.engine import Window, WindowSettings
from pipeline.loop import new_event_loop
from pipeline.prompts import PromptSpec, Renderer
from pipeline.records import HttpRequest, Outcome, Request, Task
from pipeline.retry import Attempts
from pipeline.transports import TransportSpec, open_transport


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one measured loop."""

    rows: int
    wall_s: float
    cpu_s: float

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.wall_s

    @property
    def cpu_us(self) -> float:
        """CPU of this process per row, microseconds."""
        return self.cpu_s / self.rows * 1e6


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def chat_requests(rows: int) -> list[Request]:
    renderer = Renderer(PromptSpec(Task.CHAT, template="Summarise in one sentence: {{ doc }}"))
    requests = [renderer.render({"doc": f"Row {i}: a text of ordinary length that says little."}) for i in range(rows)]
    return [request for request in requests if isinstance(request, Request)]


def bare_loop(base_url: str, rows: int, in_flight: int) -> Speed:
    """`in_flight` coroutines that post and parse, nothing else: no retry, no journal, no usage, no errors."""
    bodies = [
        orjson.dumps({"messages": list(request.messages or ()), "max_tokens": 60, "model": "canned-chat"})
        for request in chat_requests(rows)
    ]

    async def main() -> Speed:
        transport = open_transport("httptools", TransportSpec(in_flight=in_flight))
        todo = iter(bodies)

        async def sender() -> None:
            for body in todo:
                response = await transport.send(HttpRequest(f"{base_url}/chat/completions", body), {})
                orjson.loads(response.body)["choices"][0]["message"]["content"]

        started, used = time.perf_counter(), cpu_s()
        await asyncio.gather(*[sender() for _ in range(in_flight)])
        speed = Speed(rows, time.perf_counter() - started, cpu_s() - used)
        await transport.close()
        return speed

    return _run(main)


def engine_loop(base_url: str, rows: int, in_flight: int) -> Speed:
    """The same requests through the window: retries, outcomes, usage, tally."""
    requests = [(request, Attempts()) for request in chat_requests(rows)]

    async def main() -> Speed:
        endpoint = open_endpoint(EndpointSpec(Task.CHAT, "canned-chat", "openai", base_url, {"max_tokens": 60}))
        transport = open_transport("httptools", TransportSpec(in_flight=in_flight))
        done = asyncio.Event()
        finished: list[Outcome] = []

        def take(outcomes: Sequence[Outcome]) -> None:
            finished.extend(outcomes)
            if len(finished) == rows:
                done.set()

        window = Window(endpoint, transport, WindowSettings(in_flight=in_flight), on_finished=take)
        started, used = time.perf_counter(), cpu_s()
        window.submit(requests)
        await done.wait()
        speed = Speed(rows, time.perf_counter() - started, cpu_s() - used)
        assert all(outcome.error is None for outcome in finished)
        await window.cancel()
        await transport.close()
        return speed

    return _run(main)


def _run(main: Callable[[], object]) -> Speed:
    loop = new_event_loop()
    try:
        return loop.run_until_complete(main())  # type: ignore[arg-type,return-value]
    finally:
        loop.close()
