"""HTTP/1.1 between a socket and the application, one request of a connection after the other. A door to httptools.

No framework: the double must outrun what it measures, and with aiohttp a request took 207 us of CPU here, 117 of its client.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from pipeline.simulator.heads import head
from pipeline.simulator.wire import JSON, Reply

_log = logging.getLogger(__name__)

# A head that is not whole after so many bytes is refused with 431.
_MAX_HEAD = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientLeft(ConnectionError):
    """Nobody is there any more to read the answer, or the request will never be whole."""


class Exchange:
    """One request and the way back to who sent it. Header names are in lower case, the first of a name counts."""

    __slots__ = ("_arrived", "_connection", "_parts", "_size", "headers", "is_whole", "method", "path", "stays_open")

    def __init__(self, connection: "Connection", method: str, path: str, headers: dict[bytes, bytes]) -> None:
        self.method = method
        self.path = path  # as it stands in the request line
        self.headers = headers
        self.stays_open = True
        self.is_whole = False  # all of its body has come
        self._connection = connection
        self._parts: list[bytes] | None = []  # None: of no use any more
        self._size = 0
        self._arrived: asyncio.Future[None] | None = None

    # -- in

    async def body(self, most: int) -> bytes | None:
        """The body once it is whole, None where it is longer than `most` bytes. Raises ClientLeft."""
        while not self.is_whole:
            # the parser has seen to it that a length is a number
            if max(self._size, int(self.headers.get(b"content-length", b"0"))) > most:
                break
            if self.is_abandoned:
                raise ClientLeft
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        parts, self._parts = self._parts, None
        return b"".join(parts or ()) if self._size <= most and self.is_whole else None

    @property
    def is_abandoned(self) -> bool:
        """The client has closed its connection, or we have."""
        return self._connection.transport is None or self._connection.transport.is_closing()

    @property
    def is_from_here(self) -> bool:
        """The client is on this machine."""
        transport = self._connection.transport
        return transport is not None and transport.get_extra_info("peername")[0] in ("127.0.0.1", "::1")

    def add(self, part: bytes) -> None:
        """More of the body has come."""
        self._size += len(part)
        if self._parts is not None:
            self._parts.append(part)
            self.wake()

    def end(self) -> None:
        """The body is whole."""
        self.is_whole = True
        self.wake()

    def forget(self) -> None:
        """It is answered: what is still to come of the body is of no use."""
        self._parts = None

    def wake(self) -> None:
        """Something about it has changed."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    # -- out

    def send(self, reply: Reply) -> None:
        """A whole answer in one write; to nobody where the client has left."""
        if not self.is_abandoned:
            first = head(reply.status, reply.headers, len(reply.body), self.stays_open)
            self._connection.transport.writelines((first, b"" if self.method == "HEAD" else reply.body))

    def begin(self, length: int, *headers: tuple[str, str]) -> None:
        """The head of an answer whose body comes by `write`. Raises ClientLeft."""
        if self.is_abandoned:
            raise ClientLeft
        self._connection.transport.write(head(200, (JSON, *headers), length, self.stays_open))

    async def write(self, part: bytes) -> None:
        """A part of the body, once the ones before it have gone out. Raises ClientLeft."""
        if self.is_abandoned:
            raise ClientLeft
        self._connection.transport.write(part)
        await self._connection.drain()

    def close(self) -> None:
        """End the connection after what was written."""
        if self._connection.transport is not None:
            self._connection.transport.close()

    def reset(self) -> None:
        """End the connection with RST, as a crashed peer does."""
        if (transport := self._connection.transport) is not None:
            peer = transport.get_extra_info("socket")
            # linger on, for zero seconds: the kernel sends RST instead of FIN
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

    async def left(self, most_s: float) -> None:
        """Return when the client has left, after `most_s` seconds at the latest."""
        if not self.is_abandoned:
            await asyncio.wait([self._connection.lost], timeout=most_s)


Handler = Callable[[Exchange], Awaitable[Reply | None]]


class Connection(asyncio.Protocol):
    """Serves what comes over one connection. `handler` gives the reply, or None where it has answered by itself."""

    def __init__(self, handler: Handler, opened: set["Connection"]) -> None:
        self._handler = handler
        self._opened = opened
        self._parser = HttpRequestParser(self)
        self._path = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_size = 0  # bytes of the head so far, -1 while a body is read
        self._coming: Exchange | None = None
        self._waiting: deque[Exchange] = deque()  # more than one where a client does not wait for answers
        self._is_paused = False
        self._serving: asyncio.Task[None] | None = None
        self._may_write: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] | None = None
        self.transport: Any = None  # uvloop's is no subclass of asyncio's; None once the connection is gone

    # -- of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = transport
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the functions below."""
        if self._head_size >= 0:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "this server speaks HTTP/1.1 only")
        except HttpParserError as exc:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is no HTTP request: {exc}")
        else:
            if self._coming is None and self._head_size > _MAX_HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head of more than {_MAX_HEAD:,} bytes")

    def pause_writing(self) -> None:
        """The client does not take what is sent as fast as it is written."""
        self._may_write = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._may_write is not None and not self._may_write.done():
            self._may_write.set_result(None)
        self._may_write = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait."""
        self.transport = None
        self._opened.discard(self)
        self._waiting.clear()
        self.resume_writing()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        if self._coming is not None:
            self._coming.wake()

    # -- of httptools

    def on_message_begin(self) -> None:
        """A request follows."""
        self._path = b""
        self._headers = {}

    def on_url(self, part: bytes) -> None:
        """Its path, maybe in parts."""
        self._path += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of its head."""
        self._headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        """It is served from now on, so that it counts while its body comes."""
        self._head_size = -1
        headers = self._headers
        method, path = self._parser.get_method().decode("latin-1"), self._path.decode("latin-1")
        exchange = self._coming = Exchange(self, method, path, headers)
        if self._parser.should_upgrade():  # the parser stops here
            return
        exchange.stays_open = self._parser.should_keep_alive()
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(_CONTINUE)
        self._waiting.append(exchange)
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        elif not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def on_body(self, part: bytes) -> None:
        """A part of its body."""
        assert self._coming is not None
        self._coming.add(part)

    def on_message_complete(self) -> None:
        """It is whole."""
        assert self._coming is not None
        self._coming.end()
        self._coming = None
        self._head_size = 0

    # -- ours

    async def _serve(self) -> None:
        """Answers what has come, in order."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if self._is_paused and not self._waiting and self.transport is not None:
                self._is_paused = False
                self.transport.resume_reading()
            try:
                reply = await self._handler(exchange)
            except ClientLeft:
                reply = None
            except Exception:  # noqa: BLE001 - a client must not wait for ever for what failed here
                _log.exception("a request was not answered: %s %s", exchange.method, exchange.path)
                reply = Reply(500, b'{"error":{"message":"the simulator failed, see its log"}}')
            exchange.forget()
            if reply is not None:
                exchange.send(reply)
                await self.drain()
            if not exchange.stays_open:
                exchange.close()
        self._serving = None

    async def drain(self) -> None:
        """Return when what was written has gone out, or nobody is there to take it."""
        if self._may_write is not None:
            await self._may_write

    @property
    def lost(self) -> "asyncio.Future[None]":
        """Done when the connection is gone."""
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
            if self.transport is None:
                self._lost.set_result(None)
        return self._lost

    def end(self) -> None:
        """Close it now, whatever it is busy with."""
        if self._serving is not None:
            self._serving.cancel()
        if self.transport is not None:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        if self.transport is not None and not self.transport.is_closing():
            body = b'{"error":{"message":"%b"}}' % why.encode("ascii", "replace").replace(b'"', b"'")
            self.transport.write(head(status, (JSON,), len(body), False) + body)
            self.transport.close()
