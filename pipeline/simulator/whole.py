"""An aiohttp response that goes out in one write: its head is one formatted string, its body one piece."""

from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from pipeline.simulator.wire import Reply


class WholeResponse(web.StreamResponse):
    """A finished Reply. Costs half of `web.Response`, which builds, checks and joins its headers each time."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status=reply.status)
        self._reply = reply
        self._stays_open = True

    @property
    def keep_alive(self) -> bool:
        """As the client asked, once sent."""
        return self._stays_open

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything. Raises ConnectionResetError where the client has left."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        reply = self._reply
        self._stays_open = bool(request.keep_alive)
        end = b"" if self._stays_open else b"Connection: close\r\n"
        transport.write(
            b"%bContent-Length: %d\r\n%b\r\n%b" % (_head(reply.status, reply.headers), len(reply.body), end, reply.body)
        )
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


@lru_cache(maxsize=256)
def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"  # 529
    lines = [f"HTTP/1.1 {status} {reason}", "Server: simulator", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
