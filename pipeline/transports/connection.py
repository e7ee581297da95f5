"""One HTTP/1.1 connection as a client has it: one exchange at a time, read by llhttp, bounded. A door to httptools."""

import asyncio
import functools
import select
from collections.abc import Callable
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from pipeline.errors import ConnectionBroken, TransportError
from pipeline.records import HttpResponse
from pipeline.transports.bodies import BoundedBody, too_large
from pipeline.transports.spec import kept_name

_MAX_HEAD = 64 * 1024  # bytes; servers' own bounds are 8 to 64 KiB
_FRAMING = ("content-length", "content-encoding", "transfer-encoding")
_WITHOUT_BODY = (204, 304)
_LARGE_REQUEST = 64 * 1024  # bytes
# What other clients forgive. None of it lets an answer run into another: a connection is left where an end is in doubt.
_LENIENCIES = {
    "lenient_spaces_after_chunk_size": True,
    "lenient_optional_cr_before_lf": True,
    "lenient_chunked_length": True,
}


class Connection(asyncio.Protocol):
    """Asks and reads. `on_free` is told when an answer is whole and another request may follow it."""

    def __init__(self, max_bytes: int, on_free: Callable[["Connection"], None]) -> None:
        self._max_bytes = max_bytes
        self._on_free = on_free
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**_LENIENCIES)
        self._answer: asyncio.Future[HttpResponse] | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: BoundedBody | None = None  # once the head is there
        self._ends_with_connection = False  # neither a length nor chunks say where the body ends
        self._is_whole = False
        self._is_spoiled = False  # more came than was asked for
        self._sent = self._received = 0  # bytes of this exchange
        self._most = 2 * max_bytes + _MAX_HEAD  # a body in chunks, their sizes and what follows them
        self.deadline_s = 0.0  # of the running exchange, by the loop's clock
        self.last_s = 0.0  # when something was last sent or received
        self.transport: Any = None  # uvloop's is no subclass of asyncio's
        self._arrivals: Any = None  # tells what lies in the socket unread

    def ask(self, data: bytes, now_s: float, deadline_s: float) -> "asyncio.Future[HttpResponse]":
        """Sends a whole request. The future fails with a TransportError; `abandon` where nobody waits for it any more."""
        self._headers = {}
        self._body = None
        self._ends_with_connection = self._is_whole = False
        self._received = 0
        self._sent = len(data)
        self.deadline_s, self.last_s = deadline_s, now_s
        self._answer = answer = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return answer

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent, once there is no answer to wait for."""
        return not self._is_spoiled and self.transport is not None and not self.transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Nothing waits in the socket. What does is a farewell, or was sent unasked: it must not pass for the next answer."""
        return self._arrivals is None or not self._arrivals.poll(0)

    @property
    def is_asking(self) -> bool:
        """Whether an answer is waited for."""
        return self._answer is not None

    def end(self, exc: TransportError | None = None) -> None:
        """Ends the connection, and the exchange with `exc`: what still comes belongs to nobody."""
        answer, self._answer = self._answer, None
        self._body = None
        self._is_spoiled = True
        if self.transport is not None:
            self.transport.abort()
        if answer is not None and not answer.done():
            answer.set_exception(exc or ConnectionBroken("the connection was closed"))

    def abandon(self, answer: "asyncio.Future[HttpResponse]") -> None:
        """Nobody waits for this answer any more: the peer is told by the end of the connection.

        Nothing happens where it has come already: then the connection may be in use again.
        """
        if self._answer is answer:
            self.end()

    # -- of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self.transport = transport
        peer = transport.get_extra_info("socket")
        if peer is not None and hasattr(select, "poll"):  # not on Windows
            self._arrivals = select.poll()
            self._arrivals.register(peer.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the functions below."""
        if self._answer is None:  # a farewell, or an answer to nothing
            self.end()
            return
        self.last_s = asyncio.get_running_loop().time()
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserUpgrade, HttpParserError) as exc:
            if self._is_whole:  # what is wrong came behind it
                self._is_spoiled = True
            else:
                why = "changes the protocol" if isinstance(exc, HttpParserUpgrade) else f"is not HTTP: {str(exc)[:200]}"
                self.end(ConnectionBroken(f"the answer {why}"))
        if self._is_whole:
            self._finish()
        elif self._body is None and self._received > _MAX_HEAD:
            self.end(ConnectionBroken(f"the answer's head is larger than {_MAX_HEAD:,} bytes"))
        elif self._received > self._most:
            self.end(too_large(self._max_bytes))

    def eof_received(self) -> None:
        """The peer will send no more; `connection_lost` would wait until it had read what we send."""
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has closed, or the network."""
        self._lose(exc)
        if hasattr(self, "_parser"):
            del self._parser  # it holds us as we hold it: both would wait for the garbage collector

    def _lose(self, exc: Exception | None) -> None:
        if self._answer is None:
            return
        if exc is None and self._ends_with_connection and self._body is not None:
            self._is_spoiled = True
            self._finish()
        else:
            reason = f": {str(exc)[:200]}" if exc is not None and str(exc) else ""
            self.end(ConnectionBroken(("the connection broke" if exc else "the answer was cut off") + reason))

    # -- of httptools

    def on_message_begin(self) -> None:
        """An answer begins; after a whole one it belongs to no request."""
        if self._is_whole:
            self._is_spoiled = True
        else:
            self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of its head. What follows the body in chunks is not read."""
        if self._body is None and (known := _known(name)) is not None:
            self._headers[known] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Its head is whole; an interim one (1xx) is passed over."""
        status = self._parser.get_status_code()
        if self._is_whole or status // 100 == 1:
            return
        self._status = status
        length = self._headers.pop("content-length", None)
        is_chunked = self._headers.pop("transfer-encoding", None) is not None
        self._ends_with_connection = length is None and not is_chunked
        self._body = BoundedBody(self._max_bytes, self._headers.pop("content-encoding", "").lower() == "gzip")
        if length is None or status in _WITHOUT_BODY:
            return
        if is_chunked:  # the chunks count (RFC 9112, 6.3), and nothing else of such a peer
            self._is_spoiled = True
        elif int(length) > self._max_bytes:
            self.end(too_large(self._max_bytes))

    def on_body(self, part: bytes) -> None:
        """A part of its body."""
        if self._answer is None or self._is_whole or self._body is None:
            return
        try:
            self._body.add(part)
        except TransportError as exc:
            self.end(exc)

    def on_message_complete(self) -> None:
        """It is whole."""
        if self._body is not None and self._answer is not None and not self._is_whole:
            self._is_whole = True
            self._is_spoiled |= not self._parser.should_keep_alive()

    def _finish(self) -> None:
        answer, self._answer = self._answer, None
        body, self._body = self._body, None  # an idle connection keeps no answer
        assert answer is not None
        assert body is not None
        if self.is_open and not self._may_be_unread():
            self._on_free(self)
        else:
            self.end()
        if answer.done():
            return
        try:
            answer.set_result(HttpResponse(self._status, body.whole(), self._headers))
        except TransportError as exc:  # the gzip was cut off
            answer.set_exception(exc)

    def _may_be_unread(self) -> bool:
        """Whether the answer came before all of the request was read: the next one would wait behind the rest.

        Over TLS the buffer's size says nothing of what is encrypted already, so a refused large request counts as unread.
        """
        is_refused_early = self._status >= 400 and self._sent > _LARGE_REQUEST
        return is_refused_early or bool(self.transport.get_write_buffer_size())


@functools.lru_cache(maxsize=256)  # an endpoint sends the same names with every answer
def _known(name: bytes) -> str | None:
    """The name in lower case where somebody reads it."""
    lower = name.decode("latin-1").lower()
    return lower if lower in _FRAMING else kept_name(lower)
