"""The listening side: sockets, connections, an orderly end. The only door to the event loop."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from pipeline.simulator.admin import administer
from pipeline.simulator.app import App
from pipeline.simulator.calls import route
from pipeline.simulator.connection import Connection, Exchange
from pipeline.simulator.settings import SimulatorSettings
from pipeline.simulator.wire import Reply

if sys.platform != "win32":
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop

_BACKLOG = 4096


class Server:
    """Serves on `port`, and on `control_port` too, which answers during an outage that refuses connections."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._app = App(settings)  # on the loop: quotas begin with its clock
        self._host = settings.host
        self._listening: asyncio.Server | None = None
        self._control: asyncio.Server | None = None
        self._next_change: asyncio.TimerHandle | None = None
        self._changing = asyncio.Lock()
        self._change: asyncio.Task[None] | None = None
        self._place: socket.socket | None = None
        self._opened: set[Connection] = set()
        self.port = settings.port
        self.control_port = 0

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        try:
            await self._listen()
            self._control = await asyncio.get_running_loop().create_server(self._connection, "127.0.0.1", 0)
        except OSError:
            await self.stop()
            raise
        self.control_port = self._control.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close all connections, busy ones too."""
        if self._next_change is not None:
            self._next_change.cancel()
        if self._change is not None:
            self._change.cancel()
        for server in (self._listening, self._control, self._place):
            if server is not None:
                server.close()
        for connection in tuple(self._opened):
            connection.end()
        await asyncio.sleep(0)  # what was cancelled ends on the loop

    def _connection(self) -> Connection:
        return Connection(self._handle, self._opened)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        if self._place is None and sys.platform == "linux":
            # bound for good and never listening: during an outage nobody else's port 0 becomes this port. Linux lets
            # two sockets have one address as long as only one of them listens, others do not
            self._place = _bound(self._host, self.port)
            self.port = self._place.getsockname()[1]
        bound = _bound(self._host, self.port)
        self.port = bound.getsockname()[1]
        self._listening = await loop.create_server(self._connection, sock=bound, backlog=_BACKLOG)

    async def _handle(self, exchange: Exchange) -> Reply | None:
        if exchange.method == "POST" and (where := route(exchange.path)):
            return await self._app.infer(exchange, where)
        reply = await administer(self._app, exchange)
        await self._follow_outage()
        return reply

    async def _follow_outage(self) -> None:
        """Listen or not, now and at the outage's next change by itself."""
        loop = asyncio.get_running_loop()
        async with self._changing:  # an order and the clock may want the same change at the same moment
            if self._next_change is not None:
                self._next_change.cancel()
            if (at_s := self._app.outage.next_change_s(loop.time())) is not None:
                self._next_change = loop.call_at(at_s, self._begin_change)
            is_refusing = self._app.outage.at(loop.time()) == "refuse"
            if is_refusing and self._listening is not None:
                self._listening.close()
                self._listening = None
            elif not is_refusing and self._listening is None:
                await self._listen()

    def _begin_change(self) -> None:
        self._change = asyncio.ensure_future(self._follow_outage())


def _bound(host: str, port: int) -> socket.socket:
    """A socket at the first address of the host that can be had. Raises OSError."""
    why: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        found, why = [], error
    for family, kind, protocol, _, address in found:
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            return bound
        except OSError as error:
            bound.close()
            why = error
    assert why is not None
    raise OSError(why.errno, f"cannot listen on {host}:{port}: {str(why.strerror).lower()}")


async def serve_until(
    settings: SimulatorSettings,
    on_ready: Callable[[Server], None],
    stopped: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Serve until `stopped()` returns. Raises OSError where the port is taken."""
    server = Server(settings)
    await server.start()
    try:
        on_ready(server)
        await stopped()
    finally:
        await server.stop()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on a loop of its own."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


def serve(settings: SimulatorSettings, on_ready: Callable[[int], None]) -> None:
    """Serve in this thread until SIGINT or SIGTERM; `on_ready` gets the port."""

    async def until_signal() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()

    collect_less_often()
    run(serve_until(settings, lambda server: on_ready(server.port), until_signal))


def collect_less_often() -> None:
    """For a process that does nothing else: looking for cycles among thousands of open calls took a quarter of it."""
    gc.freeze()
    gc.set_threshold(10_000)
