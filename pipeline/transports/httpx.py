"""The only door to httpx: for people who need its ecosystem; slower than reqwest by far past 64 connections."""

import asyncio
from collections.abc import Mapping

import httpx as foreign

from pipeline.errors import (
    ConnectFailed,
    ConnectionBroken,
    DeadlineExceeded,
    TransportError,
)
from pipeline.records import HttpRequest, HttpResponse
from pipeline.transports.bodies import BoundedBody
from pipeline.transports.spec import TransportSpec, kept_headers
from pipeline.transports.tls import tls_context

TRANSLATION: tuple[tuple[type[Exception], type[TransportError], str], ...] = (
    (foreign.ConnectTimeout, ConnectFailed, "no connection in time"),
    (foreign.PoolTimeout, ConnectFailed, "no free connection in time"),
    (foreign.ConnectError, ConnectFailed, "no connection"),
    (foreign.UnsupportedProtocol, ConnectFailed, "the request cannot be built"),
    (foreign.LocalProtocolError, ConnectFailed, "the request cannot be built"),
    (foreign.ProxyError, ConnectFailed, "no connection through the proxy"),
    (foreign.TimeoutException, DeadlineExceeded, "no whole answer in time"),
    (foreign.NetworkError, ConnectionBroken, "the connection broke"),
    (foreign.RemoteProtocolError, ConnectionBroken, "the answer was cut off or is not HTTP"),
    (foreign.HTTPError, ConnectionBroken, "the exchange failed"),
)


class HttpxTransport:
    """One client, one pool; lives on the loop that made it."""

    def __init__(self, client: foreign.AsyncClient, spec: TransportSpec) -> None:
        self._client = client
        self._spec = spec

    async def send(self, request: HttpRequest, auth_headers: Mapping[str, str]) -> HttpResponse:
        """See `Transport.send`."""
        headers = {**dict(request.headers), **auth_headers}
        try:
            async with (
                asyncio.timeout(self._spec.timeout_s),  # httpx itself has no total deadline
                self._client.stream("POST", request.url, content=request.body, headers=headers) as response,
            ):
                is_gzip = response.headers.get("content-encoding", "").lower() == "gzip"
                body = BoundedBody(self._spec.max_response_bytes, is_gzip)
                async for chunk in response.aiter_raw():
                    body.add(chunk)
                return HttpResponse(response.status_code, body.whole(), kept_headers(response.headers.items()))
        except TimeoutError:
            raise DeadlineExceeded("no whole answer in time") from None
        except (foreign.InvalidURL, UnicodeError):  # its text could hold the header
            raise ConnectFailed("the request cannot be built") from None
        except foreign.HTTPError as exc:
            raise translated(exc) from None

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.aclose()


def translated(exc: Exception) -> TransportError:
    """Our exception for a foreign one. Its text names no URL and no header."""
    for theirs, ours, text in TRANSLATION:
        if isinstance(exc, theirs):
            return ours(f"{text}: {str(exc)[:200]}" if str(exc) else text)
    return ConnectionBroken(f"the exchange failed ({type(exc).__name__})")


def open_httpx(spec: TransportSpec) -> HttpxTransport:
    """Builds the client; nothing is connected yet."""
    client = foreign.AsyncClient(
        timeout=foreign.Timeout(spec.read_timeout_s or spec.timeout_s, connect=spec.connect_timeout_s, pool=None),
        limits=foreign.Limits(max_connections=spec.in_flight, max_keepalive_connections=spec.in_flight),
        follow_redirects=False,
        headers={"user-agent": spec.user_agent, "accept-encoding": "gzip"},
        verify=tls_context(spec.ca_bundle),
        transport=None,
    )
    return HttpxTransport(client, spec)
