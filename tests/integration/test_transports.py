"""All transports against the simulator and against a plain socket: bounded, timed, without redirects, fully translated."""

import asyncio
import gzip
import random
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import orjson
import pytest
from pyreqwest import exceptions as pyreqwest

from pipeline.errors import (
    ConfigError,
    ConnectFailed,
    ConnectionBroken,
    DeadlineExceeded,
    ResponseTooLarge,
    TransportError,
)
from pipeline.records import HttpRequest, HttpResponse
from pipeline.simulator import Handle, Simulator, SimulatorSettings, marker
from pipeline.transports import Transport, TransportSpec, open_transport
from pipeline.transports import httpx as our_httpx
from pipeline.transports import reqwest as our_reqwest
from tests.integration.sockets import swallowing

KINDS = ("httptools", "reqwest", "httpx")
MIB = 2**20
SPEC = TransportSpec(timeout_s=10.0, connect_timeout_s=1.0, max_response_bytes=MIB)


@pytest.fixture(scope="module")
def sim():
    with Simulator(SimulatorSettings(hang_s=30.0, drip_bytes=8, drip_interval_s=0.05)) as sim:
        yield sim


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


def run(kind: str, use: Callable[[Transport], Awaitable[HttpResponse]], spec: TransportSpec = SPEC) -> HttpResponse:
    async def main() -> HttpResponse:
        transport = open_transport(kind, spec)
        try:
            return await use(transport)
        finally:
            await transport.close()

    return asyncio.run(asyncio.wait_for(main(), 20))


def chat(sim: Handle, text: str) -> HttpRequest:
    body = {"model": "canned-chat", "messages": [{"role": "user", "content": text}]}
    return HttpRequest(f"{sim.base_url}/chat/completions", orjson.dumps(body))


def ask(kind: str, sim: Handle, text: str, spec: TransportSpec = SPEC) -> HttpResponse:
    return run(kind, lambda transport: transport.send(chat(sim, text), {}), spec)


def serve_once(kind: str, answer: bytes, spec: TransportSpec = SPEC) -> tuple[HttpResponse, list[bytes]]:
    """The response to one request whose answer is these bytes, and what the server read on each connection."""
    heard: list[bytes] = []

    async def main() -> HttpResponse:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = open_transport(kind, spec)
        try:
            return await transport.send(
                HttpRequest(f"http://127.0.0.1:{port}/x?y=1", b"{}"), {"authorization": "Bearer s"}
            )
        finally:
            await transport.close()
            server.close()

    return asyncio.run(asyncio.wait_for(main(), 20)), heard


# --- what comes back


def test_an_answer_comes_back_whole(kind, sim):
    response = ask(kind, sim, "Hello")
    assert response.status == 200
    assert orjson.loads(response.body)["choices"][0]["message"]["content"] == "A fixed answer, for measurements."
    assert response.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("fault", ["rate_429", "error_500", "bad_request", "unauthorized_401", "empty_body"])
def test_every_status_is_an_answer_not_an_exception(kind, sim, fault):
    expected = {"rate_429": 429, "error_500": 500, "bad_request": 400, "unauthorized_401": 401, "empty_body": 200}
    assert ask(kind, sim, marker(fault)).status == expected[fault]


def test_only_the_headers_that_are_read_are_kept(kind):
    head = [
        b"HTTP/1.1 429 Too Many Requests",
        b"Content-Length: 2",
        b"Retry-After: 7",
        b"Retry-After-Ms: 7000",
        b"X-RateLimit-Remaining-Tokens: 5",
        b"Anthropic-RateLimit-Requests-Limit: 6",
        b"X-Request-ID: r",
        b"X-Should-Retry: true",
        b"Set-Cookie: secret=1",
        b"Server: y",
    ]
    response, _ = serve_once(kind, b"\r\n".join([*head, b"", b"{}"]))
    assert response == HttpResponse(
        429,
        b"{}",
        {
            "retry-after": "7",
            "retry-after-ms": "7000",
            "x-ratelimit-remaining-tokens": "5",
            "anthropic-ratelimit-requests-limit": "6",
            "x-request-id": "r",
            "x-should-retry": "true",
        },
    )


def test_what_is_sent_is_what_was_built(kind):
    spec = TransportSpec(timeout_s=10.0, user_agent="ours")
    _, (heard,) = serve_once(kind, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", spec)
    first, *lines = heard.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    assert first == "POST /x?y=1 HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == "2"
    assert headers["authorization"] == "Bearer s"
    assert headers["user-agent"] == "ours"
    assert headers["accept-encoding"] == "gzip"
    assert set(headers) - {"accept", "connection", "host"} == {
        "content-type",
        "content-length",
        "authorization",
        "user-agent",
        "accept-encoding",
    }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(kind, status):
    # a redirect would take the credential to another host
    head = f"HTTP/1.1 {status} Moved\r\nContent-Length: 0\r\nLocation: /elsewhere\r\n\r\n"
    response, heard = serve_once(kind, head.encode())
    assert response.status == status
    assert len(heard) == 1


def test_a_gzip_answer_is_unpacked(kind):
    body = gzip.compress(b'{"a": 1}' * 1_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    assert serve_once(kind, head.encode() + body)[0].body == b'{"a": 1}' * 1_000


@pytest.mark.parametrize("cut", [1, 40, -9, -1])
def test_a_gzip_answer_that_is_cut_is_no_answer(kind, cut):
    body = gzip.compress(random.Random(0).randbytes(200))[:cut]
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    with pytest.raises(ConnectionBroken):
        serve_once(kind, head.encode() + body)


# --- bounds


@pytest.mark.parametrize(("size", "is_whole"), [(MIB - 1, True), (MIB, True), (MIB + 1, False)])
def test_the_largest_answer_is_exact(kind, size, is_whole):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    if is_whole:
        assert len(serve_once(kind, answer)[0].body) == size
    else:
        with pytest.raises(ResponseTooLarge, match="larger than 1,048,576 bytes"):
            serve_once(kind, answer)


CUT_BODIES = textwrap.dedent("""
    import asyncio, resource, sys
    from pipeline.errors import ResponseTooLarge
    from pipeline.records import HttpRequest
    from pipeline.transports import TransportSpec, open_transport

    async def main(kind, url, *bodies):
        transport = open_transport(kind, TransportSpec(timeout_s=20.0, max_response_bytes=2**20))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for body in bodies:
            try:
                await transport.send(HttpRequest(url, body.encode()), {})
                sys.exit("not cut")
            except ResponseTooLarge:
                pass
        await transport.close()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

    asyncio.run(main(*sys.argv[1:]))
""")


def cut_bodies(kind: str, sim: Handle) -> subprocess.CompletedProcess[str]:
    bodies = [chat(sim, marker(fault)) for fault in ("huge_body", "gzip_bomb")]
    return subprocess.run(
        [sys.executable, "-c", CUT_BODIES, kind, bodies[0].url, *(body.body.decode() for body in bodies)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_huge_and_bomb_bodies_are_cut_with_flat_memory(kind, sim):
    done = cut_bodies(kind, sim)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40 * 1024  # KiB; the bodies are 64 and 256 MiB


@pytest.mark.long
def test_a_process_that_cut_bodies_exits_cleanly(kind, sim):
    """Without the grace at exit, pyreqwest's thread aborts 2 or 3 of 100 such processes."""
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: cut_bodies(kind, sim), range(200)))
    assert [(each.returncode, each.stderr) for each in done if each.returncode] == []


# --- time


@pytest.mark.parametrize("fault", ["hang", "slow_drip"])
def test_the_deadline_counts_for_the_whole_exchange(kind, sim, fault):
    started_s = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="no whole answer in time"):
        ask(kind, sim, marker(fault), TransportSpec(timeout_s=0.3))
    assert 0.25 <= time.monotonic() - started_s < 3.0


def test_a_silent_peer_ends_at_the_read_timeout(kind, sim):
    started_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        ask(kind, sim, marker("hang"), TransportSpec(timeout_s=30.0, read_timeout_s=0.2))
    assert time.monotonic() - started_s < 3.0


def test_a_connection_that_is_never_made_is_not_an_unknown_outcome(kind):
    with swallowing() as (host, port):
        url = f"http://{host}:{port}/x"
        with pytest.raises(ConnectFailed, match="in time"):
            run(
                kind,
                lambda transport: transport.send(HttpRequest(url, b"{}"), {}),
                TransportSpec(connect_timeout_s=0.2),
            )


# --- breaks


def test_a_refused_connection(kind):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        with pytest.raises(ConnectFailed, match="no connection"):
            run(kind, lambda transport: transport.send(HttpRequest(url, b"{}"), {}))


@pytest.mark.parametrize("fault", ["reset", "truncated"])
def test_a_break_after_sending_is_an_unknown_outcome(kind, sim, fault):
    with pytest.raises(ConnectionBroken):
        ask(kind, sim, marker(fault))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"what?\r\n\r\n"])
def test_what_is_no_http_is_an_unknown_outcome(kind, answer):
    with pytest.raises(ConnectionBroken):
        serve_once(kind, answer)


@pytest.mark.parametrize(
    "url", ["not a url", "http://", "ftp://127.0.0.1/", "http://[::1", "http://\ud800/"], ids=ascii
)
def test_a_request_that_cannot_be_built_was_not_sent(kind, url):
    with pytest.raises(ConnectFailed, match="the request cannot be built"):
        run(kind, lambda transport: transport.send(HttpRequest(url, b"{}"), {}))


def test_no_exception_names_the_url_or_the_credential(kind):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/private?sig=hidden"
        with pytest.raises(TransportError) as caught:
            run(kind, lambda transport: transport.send(HttpRequest(url, b"{}"), {"authorization": "Bearer hidden"}))
    assert "hidden" not in str(caught.value)
    assert "private" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_cancelled_call_returns_at_once_and_its_connection_ends_by_the_deadline(kind, sim):
    # pyreqwest lets go of the call, not of the connection: only the deadline ends that one
    sim.reset_bill()
    took_s = []

    async def use(transport: Transport) -> HttpResponse:
        task = asyncio.ensure_future(transport.send(chat(sim, marker("hang")), {}))
        while not sim.bill().in_flight:  # noqa: ASYNC110 - the simulator does not tell
            await asyncio.sleep(0.01)
        started_s = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took_s.append(time.monotonic() - started_s)
        while sim.bill().in_flight:  # noqa: ASYNC110 - the simulator does not tell
            await asyncio.sleep(0.02)
        return HttpResponse(0, b"")

    run(kind, use, TransportSpec(timeout_s=1.0))
    assert took_s[0] < 0.5
    assert sim.bill().unknown == 1


def test_an_unknown_kind_is_named_with_what_is_allowed():
    with pytest.raises(ConfigError, match="'curl': unknown; known: httptools, reqwest, httpx"):
        open_transport("curl", SPEC)


# --- the tables, complete

NOT_SENT, UNKNOWN, LATE = ConnectFailed, ConnectionBroken, DeadlineExceeded

REQWEST = {
    "BuilderError": NOT_SENT,
    "ConnectError": UNKNOWN,  # NOT_SENT by its cause alone, tested below
    "ConnectTimeoutError": LATE,
    "PoolTimeoutError": NOT_SENT,
    "ReadTimeoutError": LATE,
    "RequestTimeoutError": LATE,
    "WriteTimeoutError": LATE,
    "BodyDecodeError": UNKNOWN,
    "ClientClosedError": UNKNOWN,
    "DecodeError": UNKNOWN,
    "DetailedPyreqwestError": UNKNOWN,
    "JSONDecodeError": UNKNOWN,
    "NetworkError": UNKNOWN,
    "PyreqwestError": UNKNOWN,
    "ReadError": UNKNOWN,
    "RedirectError": UNKNOWN,
    "RequestError": UNKNOWN,
    "RequestPanicError": UNKNOWN,
    "StatusError": UNKNOWN,
    "TransportError": UNKNOWN,
    "WriteError": UNKNOWN,
}
HTTPX = {
    "ConnectError": NOT_SENT,
    "ConnectTimeout": NOT_SENT,
    "LocalProtocolError": NOT_SENT,
    "PoolTimeout": NOT_SENT,
    "ProxyError": NOT_SENT,
    "UnsupportedProtocol": NOT_SENT,
    "ReadTimeout": LATE,
    "TimeoutException": LATE,
    "WriteTimeout": LATE,
    "CloseError": UNKNOWN,
    "DecodingError": UNKNOWN,
    "HTTPError": UNKNOWN,
    "HTTPStatusError": UNKNOWN,
    "NetworkError": UNKNOWN,
    "ProtocolError": UNKNOWN,
    "ReadError": UNKNOWN,
    "RemoteProtocolError": UNKNOWN,
    "RequestError": UNKNOWN,
    "TooManyRedirects": UNKNOWN,
    "TransportError": UNKNOWN,
    "WriteError": UNKNOWN,
}
# Raised by no call that `send` makes: it reads each stream once, within its response, and no cookies.
HTTPX_NEVER = {
    "CookieConflict",
    "RequestNotRead",
    "ResponseNotRead",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "InvalidURL",  # caught by name
}


def public_exceptions(module) -> set[str]:
    names = [name for name in vars(module) if not name.startswith("_")]
    return {
        name
        for name in names
        if isinstance(getattr(module, name), type)
        and issubclass(getattr(module, name), Exception)
        and getattr(module, name).__module__.split(".")[0] == module.__name__.split(".")[0]
    }


def test_the_tables_name_every_public_exception():
    assert set(REQWEST) == public_exceptions(pyreqwest)
    assert set(HTTPX) | HTTPX_NEVER == public_exceptions(httpx)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [(our_reqwest, getattr(pyreqwest, name), expected) for name, expected in REQWEST.items()]
    + [(our_httpx, getattr(httpx, name), expected) for name, expected in HTTPX.items()],
)
def test_every_foreign_exception_becomes_ours(ours, theirs, expected):
    found = ours.translated(theirs.__new__(theirs))
    assert type(found) is expected
    assert str(found)


@pytest.mark.parametrize("name", ["ConnectError", "ConnectTimeoutError"])
@pytest.mark.parametrize(("stage", "is_sent"), [("Connect", False), ("SendRequest", True)])
def test_pyreqwest_says_by_the_cause_whether_anything_was_sent(name, stage, is_sent):
    causes = [{"message": "error sending request"}, {"message": f"client error ({stage})"}, {"message": "why"}]
    found = our_reqwest.translated(getattr(pyreqwest, name)("connection error", {"causes": causes}))
    assert isinstance(found, ConnectFailed) is not is_sent
    assert str(found).endswith(": why")
