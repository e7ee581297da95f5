"""HTTP/1.1 on the worker's own event loop: no second thread, no lock to hand over.

The engine takes half of the CPU per request that it takes with reqwest; README's decisions have the figures.
What is behind a proxy goes by reqwest, which speaks to proxies.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple
from urllib.request import getproxies, proxy_bypass

from pipeline.errors import ConnectFailed, DeadlineExceeded
from pipeline.records import HttpRequest, HttpResponse
from pipeline.transports.connection import Connection
from pipeline.transports.dialing import Dialer, reason
from pipeline.transports.reqwest import ReqwestTransport, open_reqwest
from pipeline.transports.spec import TransportSpec
from pipeline.transports.targets import Origin, cannot_be_built, head_of, target_of
from pipeline.transports.tls import tls_context

_IDLE_S = 4.0  # most servers wait longer (uvicorn 5 s), so that few requests meet a closing door
_TICK_S = 0.25  # how late a deadline may be noticed, at most
_MOST_ROUTES = 64


class _Route(NamedTuple):
    """Where requests of one URL with the same headers go, and what each of them begins with."""

    origin: Origin
    head: bytes
    is_proxied: bool


class HttptoolsTransport:
    """A pool of connections per host; lives on the loop that made it."""

    def __init__(self, spec: TransportSpec) -> None:
        self._spec = spec
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Origin, list[Connection]] = {}  # the last used ones at the end
        self._open: set[Connection] = set()
        self._routes: dict[object, _Route] = {}
        self._dialer = Dialer()
        self._is_closed = False
        self._proxied: ReqwestTransport | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._tick_s = min(_TICK_S, spec.timeout_s / 10, (spec.read_timeout_s or spec.timeout_s) / 10)

    async def send(self, request: HttpRequest, auth_headers: Mapping[str, str]) -> HttpResponse:
        """See `Transport.send`. A cancelled call ends its connection, so that the peer can stop."""
        now_s = self._loop.time()
        deadline_s = now_s + self._spec.timeout_s
        route = self._route(request, auth_headers)
        if route.is_proxied:
            self._proxied = self._proxied or open_reqwest(self._spec)
            return await self._proxied.send(request, auth_headers)
        connection = self._idle_connection(route.origin, now_s)
        if connection is None:
            connection = await self._connect(route.origin)
            now_s = self._loop.time()
        body = request.body
        answer = connection.ask(b"%bcontent-length: %d\r\n\r\n%b" % (route.head, len(body), body), now_s, deadline_s)
        try:
            return await answer
        except asyncio.CancelledError:
            connection.abandon(answer)
            raise

    async def close(self) -> None:
        """Closes every connection, and each that is on its way once it is there."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in self._open:
            connection.end()
        self._open.clear()
        self._idle.clear()
        if self._proxied is not None:
            await self._proxied.close()

    def _route(self, request: HttpRequest, auth_headers: Mapping[str, str]) -> _Route:
        """Written once for all requests that differ in their body alone. Raises ConnectFailed."""
        key = (request.url, request.headers, *auth_headers.items())
        route = self._routes.get(key)
        if route is None:
            target = target_of(request.url)
            own = (("user-agent", self._spec.user_agent), ("accept-encoding", "gzip"))
            head = head_of(target, (*own, *request.headers, *auth_headers.items()))
            route = _Route(target.origin, head, _is_proxied(target.origin))
            if len(self._routes) >= _MOST_ROUTES:  # tokens are renewed
                self._routes.clear()
            self._routes[key] = route
        return route

    def _idle_connection(self, origin: Origin, now_s: float) -> Connection | None:
        """The one that was used last, if it is still good."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_open and now_s - connection.last_s < _IDLE_S and connection.is_quiet:
                return connection
            connection.end()
        return None

    async def _connect(self, origin: Origin) -> Connection:
        """A new connection. ConnectFailed where there is none: nothing was sent."""
        idle = self._idle.setdefault(origin, [])
        is_tls = origin.scheme == "https"
        try:
            async with asyncio.timeout(min(self._spec.connect_timeout_s, self._spec.timeout_s)):
                peer = await self._dialer.connect(origin.host, origin.port)
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._spec.max_response_bytes, idle.append),
                    sock=peer,
                    ssl=tls_context(self._spec.ca_bundle) if is_tls else None,
                    server_hostname=origin.host if is_tls else None,
                )
        except TimeoutError:
            raise ConnectFailed("no connection in time") from None
        except OSError as exc:  # refused, unknown host, a certificate that is not trusted
            raise ConnectFailed(f"no connection: {reason(exc)}") from None
        except ValueError:  # UnicodeError is one: a host that no resolver takes
            raise cannot_be_built() from None
        if self._is_closed:
            connection.end()
        if not connection.is_open:
            raise ConnectFailed("no connection: it was closed at once")
        self._open.add(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._tick_s, self._on_tick)
        return connection

    def _on_tick(self) -> None:
        """Ends what is late. One timer for all: a timer for each request costs more than the request's own parsing."""
        now_s = self._loop.time()
        quiet_s = self._spec.read_timeout_s or float("inf")
        for connection in list(self._open):
            if connection.is_asking:
                if now_s >= connection.deadline_s or now_s - connection.last_s >= quiet_s:
                    connection.end(DeadlineExceeded("no whole answer in time"))
            elif now_s - connection.last_s >= _IDLE_S or not connection.is_open:
                connection.end()
                self._open.discard(connection)
        for idle in self._idle.values():
            idle[:] = [connection for connection in idle if connection.is_open]
        self._sweep = self._loop.call_later(self._tick_s, self._on_tick) if self._open else None


def open_httptools(spec: TransportSpec) -> HttptoolsTransport:
    """For the running loop; nothing is connected yet. OSError where `ca_bundle` cannot be read."""
    if spec.ca_bundle is not None:
        tls_context(spec.ca_bundle)
    return HttptoolsTransport(spec)


def _is_proxied(origin: Origin) -> bool:
    """Whether the environment, or the system, names a proxy for it."""
    proxies = getproxies()
    return bool(proxies.get(origin.scheme) or proxies.get("all")) and not proxy_bypass(origin.host)
