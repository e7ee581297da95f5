"""The only door to pyreqwest: Rust, its network runs outside the interpreter lock."""

import atexit
import functools
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pyreqwest import exceptions as foreign
from pyreqwest.client import Client, ClientBuilder

from pipeline.errors import (
    ConnectFailed,
    ConnectionBroken,
    DeadlineExceeded,
    ResponseTooLarge,
    TransportError,
)
from pipeline.records import HttpRequest, HttpResponse
from pipeline.transports.spec import TransportSpec, kept_headers

# pyreqwest calls everything that fails before the first byte of an answer a connect error, also a reset or a timeout
# after the request was sent. Only this cause, hyper's, says that nothing was sent; without it the outcome is unknown.
_NOT_CONNECTED = "client error (Connect)"
_BEFORE_ANSWER = (foreign.ConnectTimeoutError, foreign.ConnectError)

# pyreqwest's one thread lets go of cut-off bodies a moment after close() returned; if the interpreter is finalized at that
# moment, the process aborts (2-3 exits of 100 measured, 0 of 200 with 20 ms). It offers nothing to join.
_GRACE_AT_EXIT_S = 0.1

# Specific rows first: ConnectTimeoutError is a RequestTimeoutError, ConnectError a NetworkError.
TRANSLATION: tuple[tuple[type[Exception], type[TransportError], str], ...] = (
    (foreign.ConnectTimeoutError, ConnectFailed, "no connection in time"),
    (foreign.PoolTimeoutError, ConnectFailed, "no free connection in time"),
    (foreign.ConnectError, ConnectFailed, "no connection"),
    (foreign.RequestTimeoutError, DeadlineExceeded, "no whole answer in time"),
    (foreign.NetworkError, ConnectionBroken, "the connection broke"),
    (foreign.DecodeError, ConnectionBroken, "the answer was cut off or cannot be decoded"),
    (foreign.BuilderError, ConnectFailed, "the request cannot be built"),
    (foreign.RequestError, ConnectionBroken, "the exchange failed"),
)


class ReqwestTransport:
    """One client, one pool; lives on the loop that made it."""

    def __init__(self, client: Client, spec: TransportSpec) -> None:
        self._client = client
        self._max_bytes = spec.max_response_bytes

    async def send(self, request: HttpRequest, auth_headers: Mapping[str, str]) -> HttpResponse:
        """See `Transport.send`."""
        try:
            builder = self._client.post(request.url).body_bytes(request.body)
            for name, value in request.headers:
                builder = builder.header(name, value)
            for name, value in auth_headers.items():
                builder = builder.header(name, value, is_sensitive=True)
        except ValueError:  # its text could hold the header
            raise ConnectFailed("the request cannot be built") from None
        try:
            async with builder.build_streamed() as response:
                reader = response.body_reader
                parts: list[bytes] = []
                size = 0
                while (part := await reader.read(self._max_bytes - size + 1)) is not None:
                    parts.append(part.to_bytes())
                    size += len(part)
                    if size > self._max_bytes:
                        raise ResponseTooLarge(f"the answer is larger than {self._max_bytes:,} bytes")
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                return HttpResponse(response.status, body, kept_headers(response.headers.items()))
        except foreign.PyreqwestError as exc:
            raise translated(exc) from None

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.close()


def translated(exc: Exception) -> TransportError:
    """Our exception for a foreign one. Its text names no URL and no header."""
    causes = getattr(exc, "details", None) or {}
    reasons = [cause["message"] for cause in causes.get("causes") or []]
    reason = f": {reasons[-1][:200]}" if reasons else ""
    is_connected = not any(cause["message"] == _NOT_CONNECTED for cause in causes.get("causes") or [])
    for theirs, ours, text in TRANSLATION:
        if isinstance(exc, theirs) and not (is_connected and theirs in _BEFORE_ANSWER):
            return ours(text + reason)
    return ConnectionBroken(f"the exchange failed ({type(exc).__name__})")


@functools.cache
def _exit_after_grace() -> None:
    """Once per process. Workers of Spark leave by `os._exit` and do not wait."""
    atexit.register(time.sleep, _GRACE_AT_EXIT_S)


def open_reqwest(spec: TransportSpec) -> ReqwestTransport:
    """Builds the client; nothing is connected yet."""
    _exit_after_grace()
    builder = (
        ClientBuilder()
        .user_agent(spec.user_agent)
        .timeout(timedelta(seconds=spec.timeout_s))
        .connect_timeout(timedelta(seconds=spec.connect_timeout_s))
        .max_connections(None)  # the window is the bound
        .pool_max_idle_per_host(spec.in_flight)
        .tcp_keepalive(timedelta(seconds=30))  # notices dead peers during long generations
        .follow_redirects(False)
        .gzip(True)
        .brotli(False)
        .zstd(False)
        .deflate(False)
    )
    if spec.read_timeout_s is not None:
        builder = builder.read_timeout(timedelta(seconds=spec.read_timeout_s))
    if spec.ca_bundle is not None:
        builder = builder.add_root_certificate_pem(Path(spec.ca_bundle).read_bytes())
    return ReqwestTransport(builder.build(), spec)
