"""The one event loop of a worker process, on a thread of its own, and the transports that live on it.

Spark reuses Python workers for many tasks. A client belongs to the loop that made it, so loop and clients live as long
as the process, never as long as a task.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

from pipeline.transports import Transport, TransportSpec, open_transport

try:
    import uvloop
except ImportError:  # Windows
    uvloop = None

T = TypeVar("T")


class LoopThread:
    """An event loop that runs until the process ends or `close` is called."""

    def __init__(self) -> None:
        self._loop = new_event_loop()
        self._transports: dict[tuple[str, TransportSpec], Transport] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="pipeline-loop", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[object, object, T]) -> T:
        """Runs a coroutine on the loop and waits for its result; never from the loop itself."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Runs a function on the loop soon; does not wait."""
        self._loop.call_soon_threadsafe(function, *args)

    async def transport(self, kind: str, spec: TransportSpec) -> Transport:
        """The process's transport for this description; made on first use, on the loop."""
        key = (kind, spec)
        if key not in self._transports:
            self._transports[key] = open_transport(kind, spec)
        return self._transports[key]

    def close(self) -> None:
        """Closes every transport and ends the thread."""

        async def close_all() -> None:
            for transport in self._transports.values():
                await transport.close()
            self._transports.clear()

        self.call(close_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it exists (1.2-1.7 times the requests per second), the standard loop elsewhere."""
    if uvloop is None:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


_process_loop: tuple[int, LoopThread] | None = None


def process_loop() -> LoopThread:
    """The loop of this process. A forked child makes its own: threads do not survive a fork."""
    global _process_loop
    if _process_loop is None or _process_loop[0] != os.getpid():
        _process_loop = (os.getpid(), LoopThread())
    return _process_loop[1]
