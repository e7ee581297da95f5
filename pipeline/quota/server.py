"""The driver's quota server: a connection per worker, on a thread of its own. A frame's only effect is in the book."""

import asyncio
import itertools
import logging
import secrets
import threading
import time
from types import TracebackType
from typing import Any

from pipeline.limits import LimitUse, QuotaBook, QuotaSpec, to_ask
from pipeline.limits.leases import to_credits
from pipeline.quota.frames import (
    ASK,
    BYE,
    FRAME_BYTES,
    GRANT,
    KEY_BYTES,
    NONCE_BYTES,
    NUDGE,
    BadFrame,
    Channel,
    read_frame,
    with_length,
)
from pipeline.quota.link import QuotaLink

FIRST_FRAME_S = 5.0
IDLE_S = 60.0  # a worker that lives asks every two seconds
MOST_CONNECTIONS = 4096
START_S = 10.0
STOP_S = 10.0

log = logging.getLogger(__name__)


class QuotaServer:
    """`with QuotaServer(spec, host) as server:` serves until the block ends. Raises OSError where it cannot listen.

    `host` is the address to listen on; all of them at once are refused.
    """

    def __init__(self, spec: QuotaSpec, host: str, *, port: int = 0, key: bytes | None = None) -> None:
        if host in ("", "0.0.0.0", "::"):  # noqa: S104 - refused, not used
            raise OSError("the quota server listens on one address, never on all of them")
        self._host = host
        self._key = key or secrets.token_bytes(KEY_BYTES)
        # with a key of before it takes the place of a server that is gone, and whose grants may still be in use
        self._book = QuotaBook(spec, time.monotonic(), is_restart=key is not None)
        self._numbers = itertools.count()
        self._talks: dict[int, tuple[asyncio.StreamWriter, Channel]] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="quota-server", daemon=True)
        self._server: asyncio.Server | None = None
        self.port = port
        self.refused = 0  # frames and connections
        self.came = 0  # workers

    def __enter__(self) -> "QuotaServer":
        """Listens."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(START_S)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends; workers go on with what they were granted, then with their static share."""
        try:
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(STOP_S)
        except TimeoutError:  # a run that has landed must not fail for it
            log.warning("quota server: did not end within %.0f s; its thread is left behind", STOP_S)
            return
        self._end()

    def link(self, host: str) -> QuotaLink:
        """What a worker needs; `host` is this machine as workers see it."""
        return QuotaLink(host, self.port, self._key)

    def used(self) -> list[LimitUse]:
        """How much of each limit and cap is used now; for display, from any thread."""
        with self._lock:
            book, now_s = self._book, time.monotonic()
            limits = [LimitUse(w.limit.name, w.used(now_s), w.limit.amount) for w in book.windows]
            caps = [LimitUse(name, book.spent.of(meter), most) for name, meter, most in book.spec.budget.caps]
        return limits + caps

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._host, self.port, limit=2 * FRAME_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        number = next(self._numbers)
        try:
            if len(self._connections) > MOST_CONNECTIONS:
                raise BadFrame("too many connections")
            await self._converse(number, reader, writer)
        except (BadFrame, TimeoutError) as exc:
            self._refuse(str(exc) or "silence")
        except (EOFError, OSError):  # whoever called has gone
            log.debug("a connection of the quota server ended")
        except asyncio.CancelledError:  # the server ends
            log.debug("the quota server ends a connection")
        finally:
            self._left(number)
            writer.close()
            self._connections.discard(task)

    async def _converse(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        writer.write(with_length(nonce))
        async with asyncio.timeout(FIRST_FRAME_S):
            theirs = await read_frame(reader)
            if len(theirs) != NONCE_BYTES:
                raise BadFrame("no nonce")
            channel = Channel(self._key, nonce + theirs, b"d")
            frame = await read_frame(reader)
        while (reply := self._act(number, channel.open(frame), writer, channel)) is not None:
            writer.write(with_length(channel.seal([GRANT, reply])))
            async with asyncio.timeout(IDLE_S):
                await writer.drain()
                frame = await read_frame(reader)

    def _act(self, number: int, value: Any, writer: asyncio.StreamWriter, channel: Channel) -> list[Any] | None:
        """The grant to a question, None to a farewell. What is signed and says nothing sensible is refused, too."""
        if not isinstance(value, list) or len(value) != 2 or value[0] not in (ASK, BYE):
            raise BadFrame("neither a question nor a farewell")
        now_s = time.monotonic()
        try:
            if value[0] == BYE:
                credits = to_credits(value[1])
                with self._lock:
                    if self._talks.pop(number, None) is not None:
                        self._book.leave(number, credits, now_s)
                self._nudge(number)
                return None
            ask = to_ask(value[1])
        except ValueError as exc:
            raise BadFrame(str(exc)) from exc
        with self._lock:
            if is_new := number not in self._talks:
                self._talks[number] = (writer, channel)
                self._book.join(number, now_s)
                self.came += 1
            grant = self._book.ask(number, ask, now_s)
        if is_new:
            self._nudge(number)
        return grant.to_wire()

    def _left(self, number: int) -> None:
        with self._lock:
            is_known = self._talks.pop(number, None) is not None
            if is_known:
                self._book.leave(number, (), time.monotonic())
        if is_known:
            self._nudge(number)

    def _nudge(self, number: int) -> None:
        """Somebody came or went: the others ask at once what that means for them."""
        for other, (writer, channel) in list(self._talks.items()):
            if other != number and not writer.is_closing():
                writer.write(with_length(channel.seal([NUDGE, 0])))

    def _refuse(self, why: str) -> None:
        self.refused += 1
        if self.refused == 1:
            log.warning("quota server: refused a frame (%s); further ones are counted, not logged", why)
