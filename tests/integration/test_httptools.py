"""What the default transport does beside its answers: which connections it keeps, whom it trusts, when it lets go."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trustme

from pipeline.errors import ConnectFailed, ConnectionBroken, DeadlineExceeded
from pipeline.loop import new_event_loop
from pipeline.records import HttpRequest
from pipeline.transports import Transport, TransportSpec, open_transport
from pipeline.transports import httptools as ours
from pipeline.transports.tls import tls_context
from tests.integration.sockets import swallowing

SPEC = TransportSpec(timeout_s=5.0, connect_timeout_s=2.0)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers every request on a port; counts connections and requests, and how connections ended."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.port = 0
        self.is_silent = False
        self.part_s = 0.0  # between the bytes of a body
        self.heads: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.requests_of_connection: list[int] = []
        self.ended_at: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        number = len(self.writers)
        self.writers.append(writer)
        self.requests_of_connection.append(0)
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.requests_of_connection[number] += 1
                self.heads.append(head)
                if not self.is_silent:
                    await self._send(writer)
        self.ended_at.append(time.monotonic())

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        if not self.part_s:
            writer.write(self._answer)
            return
        head, end, body = self._answer.partition(b"\r\n\r\n")
        for part in [head + end, *(body[i : i + 1] for i in range(len(body)))]:
            writer.write(part)
            await asyncio.sleep(self.part_s)


def against_a_server(
    use: Callable[[Server], Awaitable[None]],
    answer: bytes = ANSWER,
    tls: ssl.SSLContext | None = None,
    on_loop: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
) -> None:
    async def main() -> None:
        server = Server(answer)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
        server.port = listener.sockets[0].getsockname()[1]
        try:
            await use(server)
        finally:
            listener.close()
            for writer in server.writers:
                writer.transport.abort()
            await asyncio.sleep(0)

    loop = on_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 20))
    finally:
        loop.close()


async def ask(transport: Transport, port: int, scheme: str = "http", host: str = "127.0.0.1") -> int:
    return (await transport.send(HttpRequest(f"{scheme}://{host}:{port}/x", b"{}"), {})).status


@pytest.mark.parametrize("on_loop", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_connections_are_used_again_and_never_shared_at_the_same_time(on_loop):
    async def use(server: Server) -> None:
        transport = open_transport("httptools", SPEC)
        for _ in range(3):
            assert await asyncio.gather(*[ask(transport, server.port) for _ in range(4)]) == [200] * 4
        assert server.requests_of_connection == [3] * 4
        assert await ask(transport, server.port) == 200
        assert sorted(server.requests_of_connection) == [3, 3, 3, 4]
        await transport.close()

    against_a_server(use, on_loop=on_loop)


def test_a_connection_that_is_used_again_at_once_keeps_to_its_deadline():
    """Its first user's task has not run on when the second one sends: that must not take the second from the watch."""

    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=0.4))
        assert await ask(transport, server.port) == 200
        server.is_silent = True
        calls = [asyncio.ensure_future(ask(transport, server.port)) for _ in range(3)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in found] == [DeadlineExceeded] * 3
        await transport.close()

    against_a_server(use)


def test_a_closed_transport_lets_nobody_wait():
    async def use(server: Server) -> None:
        transport = open_transport("httptools", SPEC)
        server.is_silent = True
        call = asyncio.ensure_future(ask(transport, server.port))
        while server.requests_of_connection != [1]:  # noqa: ASYNC110 - the server's side is a list
            await asyncio.sleep(0.01)
        await transport.close()
        with pytest.raises(ConnectionBroken):
            await call

    against_a_server(use)


def test_hosts_and_ports_do_not_share_connections():
    """A connection that was used for the wrong place would take the credential there."""

    async def use(server: Server) -> None:
        transport = open_transport("httptools", SPEC)
        await ask(transport, server.port)
        await ask(transport, server.port, host="localhost")
        assert server.requests_of_connection == [1, 1]
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectFailed):
                await ask(transport, unused.getsockname()[1])
        with pytest.raises(ConnectFailed):  # it speaks no TLS
            await ask(transport, server.port, "https")
        assert sum(server.requests_of_connection) == 2
        await transport.close()

    against_a_server(use)


def test_a_request_goes_with_its_own_headers_and_the_credential_of_the_moment():
    async def use(server: Server) -> None:
        transport = open_transport("httptools", SPEC)
        url = f"http://127.0.0.1:{server.port}/x"
        for headers, token in [((("x-a", "1"),), "old"), ((("x-a", "1"),), "new"), ((("x-a", "2"),), "new")]:
            await transport.send(HttpRequest(url, b"{}", headers), {"authorization": token})
        for number in range(2 * ours._MOST_ROUTES):  # tokens are renewed for as long as a worker lives
            await transport.send(HttpRequest(url, b"{}"), {"authorization": str(number)})
        assert len(transport._routes) <= ours._MOST_ROUTES
        await transport.close()
        sent = [(b"x-a: 1" in head, head.partition(b"authorization: ")[2].split(b"\r")[0]) for head in server.heads[:4]]
        assert sent == [(True, b"old"), (True, b"new"), (False, b"new"), (False, b"0")]

    against_a_server(use)


@pytest.mark.parametrize("waiting", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", ANSWER])
@pytest.mark.parametrize("on_loop", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_what_waits_in_an_idle_connection_is_not_the_next_answer(on_loop, waiting):
    """A loop that is busy has not read a farewell that has come."""

    async def use(server: Server) -> None:
        transport = open_transport("httptools", SPEC)
        assert await ask(transport, server.port) == 200
        writer = server.writers[0]
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as peer:
            peer.send(waiting) if waiting else peer.shutdown(socket.SHUT_WR)
        time.sleep(0.05)  # noqa: ASYNC251 - the loop is busy
        assert await ask(transport, server.port) == 200
        assert server.requests_of_connection == [1, 1]
        await transport.close()

    against_a_server(use, on_loop=on_loop)


def test_deadlines_are_watched_again_after_a_time_without_any(monkeypatch):
    monkeypatch.setattr(ours, "_IDLE_S", 0.05)

    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=0.3))
        await ask(transport, server.port)
        while transport._sweep is not None:  # noqa: ASYNC110 - nothing is open any more
            await asyncio.sleep(0.02)
        assert not transport._open
        assert not any(transport._idle.values())
        server.is_silent = True
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await ask(transport, server.port)
        assert 0.29 <= time.monotonic() - started_s < 0.5
        await transport.close()
        assert transport._sweep is None

    against_a_server(use)


def test_an_answer_that_flows_is_not_quiet():
    """The whole takes longer than the time that may pass between two parts of it."""

    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=5.0, read_timeout_s=0.3))
        server.part_s = 0.15
        assert await ask(transport, server.port) == 200
        server.part_s = 0.6
        with pytest.raises(DeadlineExceeded):
            await ask(transport, server.port)
        await transport.close()

    against_a_server(use, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde")


def test_a_call_that_connects_while_its_transport_closes_is_not_sent(server_tls, ca_bundle):
    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=5.0, ca_bundle=ca_bundle))
        call = asyncio.ensure_future(ask(transport, server.port, "https", "localhost"))
        await asyncio.sleep(0)
        await transport.close()
        with pytest.raises(ConnectFailed):
            await call
        assert sum(server.requests_of_connection) == 0
        assert transport._sweep is None

    against_a_server(use, tls=server_tls)


class Addresses:
    """A resolver that answers after a while, and counts how often it is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *addresses: tuple[str, int], after_s: float = 0.0) -> None:
        self._loop = loop
        self._addresses = addresses
        self._after_s = after_s
        self.asked = 0

    async def getaddrinfo(self, host: str, port: int, **options: object) -> list[object]:
        self.asked += 1
        await asyncio.sleep(self._after_s)
        if not self._addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self._addresses]

    def __getattr__(self, name: str) -> object:
        return getattr(self._loop, name)


def resolving(transport: Transport, *addresses: tuple[str, int], after_s: float = 0.0) -> Addresses:
    """From now on the transport's host names mean these addresses."""
    found = Addresses(asyncio.get_running_loop(), *addresses, after_s=after_s)
    transport._dialer._loop = found  # type: ignore[attr-defined]
    return found


def test_an_address_that_swallows_packets_does_not_hide_the_next_one():
    async def use(server: Server) -> None:
        with swallowing() as dead:
            transport = open_transport("httptools", TransportSpec(timeout_s=5.0, connect_timeout_s=2.0))
            resolving(transport, dead, ("127.0.0.1", server.port))
            for _ in range(2):  # the second connection would begin with the second address
                found = await asyncio.gather(*[ask(transport, server.port, host="two.example") for _ in range(2)])
                assert found == [200, 200]
            await transport.close()

    against_a_server(use)


def test_many_calls_share_one_lookup_and_one_that_fails_is_asked_again():
    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=5.0, connect_timeout_s=1.0))
        good = resolving(transport, ("127.0.0.1", server.port), after_s=0.2)
        calls = [asyncio.ensure_future(ask(transport, server.port, host="one.example")) for _ in range(50)]
        await asyncio.sleep(0.05)
        calls.pop(0).cancel()  # who stops waiting does not stop the lookup
        assert await asyncio.gather(*calls) == [200] * 49
        assert good.asked == 1
        bad = resolving(transport, after_s=0.0)
        for _ in range(2):
            with pytest.raises(ConnectFailed, match="no connection: Name or service not known"):
                await ask(transport, server.port, host="none.example")
        assert bad.asked == 2
        await transport.close()

    against_a_server(use)


def test_connecting_ends_with_the_whole_call_at_the_latest():
    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=0.2, connect_timeout_s=30.0))
        resolving(transport, ("127.0.0.1", server.port), after_s=20.0)
        started_s = time.monotonic()
        with pytest.raises(ConnectFailed, match="in time"):
            await ask(transport, server.port, host="slow.example")
        assert time.monotonic() - started_s < 2.0
        await transport.close()

    against_a_server(use)


def test_an_idle_connection_is_closed_before_its_server_would(monkeypatch):
    monkeypatch.setattr(ours, "_IDLE_S", 0.1)

    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=0.5))
        await ask(transport, server.port)
        while not server.ended_at:  # noqa: ASYNC110 - the server's side is a list
            await asyncio.sleep(0.02)
        await ask(transport, server.port)
        assert server.requests_of_connection == [1, 1]
        await transport.close()

    against_a_server(use)


def test_an_idle_connection_is_not_used_past_its_time(monkeypatch):
    monkeypatch.setattr(ours, "_IDLE_S", 0.0)

    async def use(server: Server) -> None:
        transport = open_transport("httptools", SPEC)
        await ask(transport, server.port)
        await ask(transport, server.port)
        assert server.requests_of_connection == [1, 1]
        await transport.close()

    against_a_server(use)


def test_a_connection_that_its_server_closed_is_not_used_again():
    async def use(server: Server) -> None:
        transport = open_transport("httptools", SPEC)
        for _ in range(3):
            assert await ask(transport, server.port) == 200
        assert server.requests_of_connection == [1, 1, 1]
        await transport.close()

    against_a_server(use, answer=ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))


def test_a_cancelled_call_ends_its_connection_at_once():
    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=60.0))
        call = asyncio.ensure_future(ask(transport, server.port))
        while server.requests_of_connection != [1]:  # noqa: ASYNC110 - the server's side is a list
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while not server.ended_at:  # noqa: ASYNC110 - the server's side is a list
            await asyncio.sleep(0.01)
        await transport.close()

    against_a_server(use, answer=b"")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def ca_bundle(authority: trustme.CA, tmp_path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.mark.parametrize("kind", ["httptools", "reqwest", "httpx"])
def test_tls_trusts_the_named_authority_and_nobody_else(kind, server_tls, ca_bundle):
    async def use(server: Server) -> None:
        trusting = open_transport(kind, TransportSpec(timeout_s=5.0, ca_bundle=ca_bundle))
        for _ in range(2):
            assert await ask(trusting, server.port, "https", "localhost") == 200
        assert server.requests_of_connection == [2]
        with pytest.raises(ConnectFailed):  # the certificate names localhost
            await ask(trusting, server.port, "https", "127.0.0.1")
        await trusting.close()
        wary = open_transport(kind, SPEC)
        with pytest.raises(ConnectFailed, match=r"(?i)certificate|issuer"):
            await ask(wary, server.port, "https", "localhost")
        await wary.close()
        assert sum(server.requests_of_connection) == 2

    against_a_server(use, tls=server_tls)


def test_a_bundle_adds_to_the_public_authorities(ca_bundle):
    assert tls_context(ca_bundle).cert_store_stats()["x509_ca"] > tls_context(None).cert_store_stats()["x509_ca"] > 50


def test_tls_trusts_what_the_machine_trusts(server_tls, ca_bundle, monkeypatch):
    """A company's own root is often installed on its machines and named nowhere."""
    monkeypatch.setenv("SSL_CERT_FILE", ca_bundle)
    tls_context.cache_clear()

    async def use(server: Server) -> None:
        transport = open_transport("httptools", SPEC)
        assert await ask(transport, server.port, "https", "localhost") == 200
        await transport.close()

    try:
        against_a_server(use, tls=server_tls)
    finally:
        tls_context.cache_clear()


def test_a_server_that_speaks_no_tls_was_not_asked():
    async def use(server: Server) -> None:
        transport = open_transport("httptools", TransportSpec(timeout_s=1.0))
        with pytest.raises(ConnectFailed):
            await ask(transport, server.port, "https")
        await transport.close()
        assert sum(server.requests_of_connection) == 0

    against_a_server(use)


def test_a_bundle_that_is_missing_is_an_error_at_once(tmp_path):
    async def main() -> None:
        open_transport("httptools", TransportSpec(ca_bundle=str(tmp_path / "none.pem")))

    with pytest.raises(OSError):
        asyncio.run(main())


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
def test_what_the_environment_sends_through_a_proxy_goes_through_it(monkeypatch, variable):
    """A proxy gets the whole URL in the first line; what NO_PROXY names does not come to it."""
    lines: list[bytes] = []

    async def main() -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            lines.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
            writer.write(ANSWER)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        transport = open_transport("httptools", SPEC)
        response = await transport.send(HttpRequest("http://endpoint.invalid/v1/x", b"{}"), {})
        assert response.body == b"{}"
        assert await ask(transport, port) == 200  # a server like another, this time
        await transport.close()
        server.close()

    asyncio.run(asyncio.wait_for(main(), 20))
    assert lines == [b"POST http://endpoint.invalid/v1/x HTTP/1.1", b"POST /x HTTP/1.1"]
