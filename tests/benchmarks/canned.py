"""An embeddings server whose answers cost next to nothing: canned vectors, raw HTTP/1.1, in a process of its own.

The simulator shares the cores with what is measured; this one takes as little of them as an answer of that size can.
A text's vector is that of `pipeline.simulator.vectors.canned_vector`, so a table can be checked against it.
"""

import asyncio
import re
import subprocess
import sys
from types import TracebackType
from typing import Any

import orjson

from pipeline.loop import new_event_loop
from pipeline.simulator.vectors import canned_index, encoded_pool

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Canned(asyncio.Protocol):
    """One connection; a client that pipelines gets its answers in order only where latency is 0."""

    def __init__(self, dimensions: int, latency_s: float) -> None:
        self._dimensions = dimensions
        self._latency_s = latency_s
        self._buffer = bytearray()
        self._needed = 0  # bytes of the whole request, 0 while its head is unknown
        self._body_at = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # uvloop's is no subclass of asyncio's

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            if not self._needed:
                end = self._buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                found = _LENGTH.search(self._buffer, 0, end)
                self._body_at = end + 4
                self._needed = self._body_at + (int(found[1]) if found else 0)
            if len(self._buffer) < self._needed:
                return
            body = bytes(self._buffer[self._body_at : self._needed])
            del self._buffer[: self._needed]
            self._needed = 0
            asyncio.get_running_loop().call_later(self._latency_s, self._answer, body)

    def _answer(self, body: bytes) -> None:
        if self._transport.is_closing():
            return
        asked = orjson.loads(body)
        texts = asked["input"]
        pool = encoded_pool(self._dimensions, 0, self._dimensions, asked.get("encoding_format") == "base64")
        parts = []
        for index, text in enumerate(texts):
            head = b'%b{"object":"embedding","index":%d,"embedding":' % (b"," if index else b"", index)
            parts += (head, pool[canned_index(text)], b"}")
        tokens = sum(map(len, texts)) // 4
        parts.append(
            b'],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
            % (orjson.dumps(asked["model"]), tokens, tokens)
        )
        parts.insert(0, b'{"object":"list","data":[')
        length = sum(map(len, parts))
        parts.insert(0, b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % length)
        self._transport.writelines(parts)


class CannedServer:
    """`with CannedServer(1024, 0.02) as server:` serves at `server.base_url` until the block ends."""

    def __init__(self, dimensions: int = 1024, latency_s: float = 0.02) -> None:
        self._arguments = [str(dimensions), str(latency_s)]

    def __enter__(self) -> "CannedServer":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.canned", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.base_url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"
        self.pid = self._process.pid
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closing its standard input tells it to end."""
        self._process.communicate(timeout=10)


async def _serve(dimensions: int, latency_s: float) -> None:
    loop = asyncio.get_running_loop()
    for is_base64 in (True, False):
        encoded_pool(dimensions, 0, dimensions, is_base64)
    server = await loop.create_server(lambda: Canned(dimensions, latency_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    new_event_loop().run_until_complete(_serve(int(sys.argv[1]), float(sys.argv[2])))
