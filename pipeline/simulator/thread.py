"""The simulator inside this process, on a thread with its own event loop: for tests and the quick start."""

import asyncio
from concurrent.futures import Future
from threading import Thread
from types import TracebackType

from pipeline.simulator.handle import Handle
from pipeline.simulator.server import Server, run, serve_until
from pipeline.simulator.settings import SimulatorSettings


class Simulator:
    """`with Simulator(settings) as sim:` serves until the block ends. Shares this process's GIL."""

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self._settings = settings or SimulatorSettings()

    def __enter__(self) -> Handle:
        """Start, and wait until it listens. Raises OSError where the port is taken, ValueError for wrong faults."""
        self._ready: Future[Handle] = Future()
        self._thread = Thread(target=self._serve, name="simulator", daemon=True)
        self._thread.start()
        self._handle = self._ready.result()
        return self._handle

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and wait."""
        self._handle.freeze()
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _serve(self) -> None:
        try:
            run(serve_until(self._settings, self._announce, self._wait))
        except BaseException as exc:
            if self._ready.done():
                raise
            self._ready.set_exception(exc)

    def _announce(self, server: Server) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._ready.set_result(Handle(self._settings.host, server.port, server.control_port))

    async def _wait(self) -> None:
        await self._ended.wait()
