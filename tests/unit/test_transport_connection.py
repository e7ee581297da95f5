"""One connection's reading of answers: however they are framed and cut, bounded, and never more than was asked for."""

import asyncio
import gc
import gzip
import random
import tracemalloc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConnectionBroken, DeadlineExceeded, ResponseTooLarge, TransportError
from pipeline.records import HttpResponse
from pipeline.transports.bodies import BoundedBody
from pipeline.transports.connection import Connection

MOST = 4096
BODY = b'{"a": 1}'


class Wire:
    """What asyncio gives a protocol, without a socket."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.unsent = 0
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> None:
        """Nothing lies below."""


class Peer:
    """One connection, and what became of its exchanges."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.free: list[Connection] = []
        self.connection = Connection(MOST, self.free.append)
        self.connection.connection_made(self.wire)  # type: ignore[arg-type]

    def exchange(self, *parts: bytes, end: Any = "open") -> HttpResponse | Exception | None:
        """The answer, or the error, after these parts came in; `end`: the connection's, None for an orderly one."""
        answer = self.connection.ask(b"request", 0.0, 1.0)
        for part in parts:
            self.connection.data_received(part)
        if end != "open":
            self.connection.connection_lost(end)
        if not answer.done():
            return None
        return answer.exception() or answer.result()  # type: ignore[return-value]

    @property
    def may_be_used_again(self) -> bool:
        return self.free[-1:] == [self.connection] and self.connection.is_open


def on_a_loop(use):
    """asyncio's futures want a loop; nothing waits on it."""

    async def main():
        return use()

    return asyncio.run(main())


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""])


SIZED = head(b"Content-Type: application/json", b"Content-Length: 8") + BODY
CHUNKED = head(b"Transfer-Encoding: chunked") + b"3\r\n" + BODY[:3] + b"\r\n5;x=y\r\n" + BODY[3:] + b"\r\n0\r\n"
PACKED = gzip.compress(BODY[:5]) + gzip.compress(BODY[5:])  # two members are one text
SWITCHING = head(b"Upgrade: websocket", b"Connection: upgrade", status=b"101 Switching Protocols")
FRAMED = {
    "length": SIZED,
    "chunks": CHUNKED + b"\r\n",
    "chunks and trailers": CHUNKED + b"Retry-After: 9\r\n\r\n",
    "chunks padded with spaces": CHUNKED.replace(b"3\r\n", b"3  \r\n", 1) + b"\r\n",
    "lines without carriage returns": b"HTTP/1.1 200 OK\nContent-Length: 8\n\n" + BODY,
    "gzip": head(b"content-encoding: GZIP", b"content-length: %d" % len(PACKED)) + PACKED,
    "gzip in chunks": head(b"Content-Encoding: gzip", b"Transfer-Encoding: chunked")
    + b"%x\r\n" % len(PACKED)
    + PACKED
    + b"\r\n0\r\n\r\n",
    "interim answers first": head(status=b"100 Continue") + head(b"Link: x", status=b"103 Early Hints") + SIZED,
    "connection kept by name": head(b"Connection: keep-alive", b"Content-Length: 8") + BODY,
}


@pytest.mark.parametrize("framing", FRAMED)
def test_an_answer_is_whole_however_it_is_cut_and_the_connection_serves_again(framing):
    def use():
        answer = FRAMED[framing]
        peer = Peer()
        cuts = [[answer[:at], answer[at:]] for at in range(1, len(answer))]
        for parts in [[answer], [answer[i : i + 1] for i in range(len(answer))], *cuts]:
            response = peer.exchange(*parts)
            assert isinstance(response, HttpResponse), (framing, parts, response)
            assert (response.status, response.body) == (200, BODY)
            assert "retry-after" not in response.headers  # a trailer is no header
            assert peer.may_be_used_again
            peer.free.clear()
        assert not peer.wire.is_aborted

    on_a_loop(use)


def test_an_answer_that_ends_with_its_connection_is_whole_then():
    def use():
        peer = Peer()
        answer = peer.exchange(head() + BODY[:2], BODY[2:], end=None)
        assert answer == HttpResponse(200, BODY, {})
        assert not peer.free
        assert isinstance(Peer().exchange(head() + BODY, end=ConnectionResetError()), ConnectionBroken)

    on_a_loop(use)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_head(status):
    def use():
        peer = Peer()
        assert peer.exchange(head(status=b"%d x" % status)) == HttpResponse(status, b"", {})
        assert peer.may_be_used_again

    on_a_loop(use)


@pytest.mark.parametrize("end", [None, ConnectionResetError("reset by peer")])
def test_an_answer_that_is_cut_off_is_an_unknown_outcome(end):
    def use():
        for answer in (SIZED, CHUNKED + b"\r\n"):
            for size in range(len(answer)):
                found = Peer().exchange(answer[:size], end=end)
                assert isinstance(found, ConnectionBroken), (answer[:size], found)

    on_a_loop(use)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01\x02\x00",  # TLS on a plain port
        b"220 mail.example ESMTP\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        head(b"Content-Length: -1"),
        head(b"Content-Length: 8", b"Content-Length: 9") + BODY,
        head(b"Content-Length: 99999999999999999999") + BODY,
        head(b"Transfer-Encoding: chunked") + b"zz\r\n",
        SWITCHING,
        b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n",
    ],
)
def test_what_is_no_http_is_an_unknown_outcome_and_ends_the_connection(answer):
    def use():
        peer = Peer()
        assert isinstance(peer.exchange(answer, end=ConnectionResetError()), ConnectionBroken)
        assert peer.wire.is_aborted
        assert not peer.free

    on_a_loop(use)


def test_a_head_has_a_bound():
    def use():
        peer = Peer()
        line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
        found = peer.exchange(b"HTTP/1.1 200 OK\r\n", *[line] * 70)
        assert isinstance(found, ConnectionBroken)
        assert "head is larger than 65,536 bytes" in str(found)
        assert peer.wire.is_aborted

    on_a_loop(use)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([head(b"Content-Length: 4097")], id="announced"),
        pytest.param([head(), b"x" * 4000, b"x" * 97], id="until the end"),
        pytest.param([head(b"Transfer-Encoding: chunked"), b"1001\r\n" + b"x" * 4097], id="chunked"),
        pytest.param(
            [head(b"Transfer-Encoding: chunked"), *[b"1;" + b"e" * 500 + b"\r\nx\r\n"] * 160], id="chunks' names"
        ),
        pytest.param([head(b"Content-Encoding: gzip"), gzip.compress(b"x" * 10**6)], id="bomb"),
    ],
)
def test_a_body_has_a_bound_on_the_wire_and_unpacked(answer):
    def use():
        peer = Peer()
        found = peer.exchange(*answer)
        assert isinstance(found, ResponseTooLarge)
        assert str(found) == "the answer is larger than 4,096 bytes"
        assert peer.wire.is_aborted
        assert not peer.free

    on_a_loop(use)


def test_a_body_of_tiny_parts_takes_little_more_than_its_bytes():
    """An object for each part of two bytes would take twenty times as much."""
    size = 200_000
    tracemalloc.start()
    try:
        body = BoundedBody(size, is_gzip=False)
        for _ in range(size // 2):
            body.add(bytes(2))
        assert len(body.whole()) == size
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()


def test_the_largest_body_is_whole():
    def use():
        answer = head(b"Content-Length: 4096") + b"x" * 4096
        assert Peer().exchange(answer) == HttpResponse(200, b"x" * 4096, {})

    on_a_loop(use)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(SIZED + SIZED, id="a second answer"),
        pytest.param(SIZED + b"!", id="a byte more"),
        pytest.param(SIZED + SWITCHING, id="a change of the protocol"),
        pytest.param(CHUNKED.replace(b"chunked\r\n", b"chunked\r\nContent-Length: 3\r\n") + b"\r\n", id="two lengths"),
        pytest.param(head(b"Connection: close", b"Content-Length: 8") + BODY, id="the peer says that it closes"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\n" + BODY, id="HTTP/1.0"),
    ],
)
def test_a_connection_that_cannot_be_trusted_further_is_not_used_again(answer):
    def use():
        peer = Peer()
        response = peer.exchange(answer)
        assert isinstance(response, HttpResponse)
        assert response.body == BODY
        assert not peer.free
        assert peer.wire.is_aborted

    on_a_loop(use)


@pytest.mark.parametrize(("request_bytes", "unsent", "is_free"), [(10, 0, True), (10, 1, False), (100_000, 0, False)])
def test_an_answer_before_the_request_was_read_ends_the_connection(request_bytes, unsent, is_free):
    """Over TLS nothing tells what the peer has read; of a large request that is refused it is taken for unread."""

    def use():
        peer = Peer()
        peer.wire.unsent = unsent
        answer = peer.connection.ask(b"x" * request_bytes, 0.0, 1.0)
        peer.connection.data_received(head(b"Content-Length: 0", status=b"413 Too Large"))
        assert answer.result().status == 413
        assert bool(peer.free) is is_free

    on_a_loop(use)


def test_a_half_closed_peer_has_said_all_that_it_will_say():
    """asyncio tells of the connection's end only when what we send has gone out, which may be never."""

    def use():
        refused = Peer()
        answer = refused.connection.ask(b"request", 0.0, 1.0)
        refused.connection.data_received(head(status=b"413 Too Large") + BODY)
        refused.connection.eof_received()
        assert answer.result().status == 413
        silent = Peer()
        answer = silent.connection.ask(b"request", 0.0, 1.0)
        silent.connection.eof_received()
        silent.connection.connection_lost(None)
        assert isinstance(answer.exception(), ConnectionBroken)

    on_a_loop(use)


def test_a_long_lived_connection_counts_each_answer_for_itself():
    def use():
        peer = Peer()
        answer = head(b"Content-Length: 4096") + b"x" * 4096
        for _ in range(40):  # far more than one answer may have
            assert isinstance(peer.exchange(answer), HttpResponse)
            assert peer.may_be_used_again

    on_a_loop(use)


def test_nothing_keeps_an_answer_or_a_connection_that_is_done_with():
    """Hundreds of idle connections with an answer of megabytes each, or ended ones until the collector comes, add up."""

    def use():
        gc.disable()
        try:
            peer = Peer()
            peer.exchange(head(b"Content-Length: 4096"), b"x" * 4096)
            assert peer.connection._body is None
            peer.free.clear()
            gone = weakref.ref(peer.connection)
            peer.connection.end()
            peer.connection.connection_lost(None)
            del peer
            assert gone() is None
        finally:
            gc.enable()

    on_a_loop(use)


def test_what_comes_unasked_ends_the_connection():
    def use():
        peer = Peer()
        peer.exchange(SIZED)
        peer.connection.data_received(head(status=b"408 Request Timeout"))
        assert not peer.connection.is_open

    on_a_loop(use)


def test_a_peer_that_closes_an_idle_connection_troubles_nobody():
    def use():
        peer = Peer()
        peer.exchange(SIZED)
        peer.wire.abort()
        peer.connection.connection_lost(None)
        assert not peer.connection.is_open

    on_a_loop(use)


def test_a_late_answer_to_a_given_up_exchange_reaches_nobody():
    def use():
        peer = Peer()
        answer = peer.connection.ask(b"request", 0.0, 1.0)
        peer.connection.end(DeadlineExceeded("late"))
        peer.connection.data_received(SIZED)
        peer.connection.connection_lost(None)
        assert isinstance(answer.exception(), DeadlineExceeded)
        assert not peer.free

    on_a_loop(use)


def test_an_abandoned_exchange_ends_its_connection():
    def use():
        peer = Peer()
        peer.connection.abandon(peer.connection.ask(b"request", 0.0, 1.0))
        assert peer.wire.is_aborted

    on_a_loop(use)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_abandoning_an_answer_that_has_come_leaves_the_next_exchange_alone(is_cancelled):
    """A task may be cancelled after its answer came and before it ran on; the connection may be somebody else's by then."""

    def use():
        peer = Peer()
        first = peer.connection.ask(b"request", 0.0, 1.0)
        if is_cancelled:
            first.cancel()
        peer.connection.data_received(SIZED)
        second = peer.connection.ask(b"request", 0.0, 1.0)
        peer.connection.abandon(first)
        peer.connection.data_received(SIZED)
        assert second.result().body == BODY

    on_a_loop(use)


@given(st.integers(0, 2**32))
def test_no_bytes_raise_anything_but_what_is_listed(seed):
    """Good answers with bytes changed, dropped, doubled and cut anywhere; a fourth of them pure noise."""

    def use():
        rng = random.Random(seed)
        answer = bytearray(rng.choice(list(FRAMED.values())) if rng.random() < 0.75 else rng.randbytes(200))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(answer))
            answer[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
            answer = answer or bytearray(b"x")
        cuts = sorted(rng.randrange(len(answer) + 1) for _ in range(rng.randrange(5)))
        parts = [bytes(answer[a:b]) for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
        found = Peer().exchange(*(part for part in parts if part), end=rng.choice([None, OSError("gone")]))
        assert isinstance(found, HttpResponse | TransportError), (parts, found)
        if isinstance(found, HttpResponse):
            assert 200 <= found.status <= 999
            assert len(found.body) <= MOST

    on_a_loop(use)
