"""Faults of the connection and of how the bytes arrive: reset, hang, truncated, dripping, too many."""

import asyncio
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web

from pipeline.simulator.bill import Result
from pipeline.simulator.settings import SimulatorSettings

_CHUNK = 64 * 1024
_WATCH_S = 0.05  # how often a hanging call looks whether its client has left


@dataclass(frozen=True, slots=True)
class Break:
    """Sends `body`, the good answer, in its own way. Without `is_billed` no answer is made, and `body` is empty."""

    send: Callable[[web.BaseRequest, bytes, SimulatorSettings], Awaitable[web.StreamResponse]]
    result: Result
    is_billed: bool


def reset_connection(request: web.BaseRequest) -> None:
    """End the connection with RST, as a crashed peer does."""
    if request.transport is not None:
        transport = request.transport
        peer = transport.get_extra_info("socket")
        # linger on, for zero seconds: the kernel sends RST instead of FIN
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def reset(request: web.BaseRequest, body: bytes, settings: SimulatorSettings) -> web.StreamResponse:
    """No answer at all."""
    reset_connection(request)
    return web.Response()


async def hang(request: web.BaseRequest, body: bytes, settings: SimulatorSettings) -> web.StreamResponse:
    """Nothing until the client leaves or `hang_s` have passed; then the connection ends."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + settings.hang_s
    # aiohttp tells nobody that a client left, other than by cancelling every handler
    while request.transport is not None and loop.time() < end_s:  # noqa: ASYNC110
        await asyncio.sleep(min(_WATCH_S, max(0.0, end_s - loop.time())))
    reset_connection(request)
    return web.Response()


async def truncated(request: web.BaseRequest, body: bytes, settings: SimulatorSettings) -> web.StreamResponse:
    """Half of the promised bytes, then the end of the connection."""
    response = await _begin(request, len(body))
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def slow_drip(request: web.BaseRequest, body: bytes, settings: SimulatorSettings) -> web.StreamResponse:
    """The whole answer, `drip_bytes` every `drip_interval_s`."""
    response = await _begin(request, len(body))
    for start in range(0, len(body), settings.drip_bytes):
        await asyncio.sleep(settings.drip_interval_s)
        await response.write(body[start : start + settings.drip_bytes])
    return response


async def huge_body(request: web.BaseRequest, body: bytes, settings: SimulatorSettings) -> web.StreamResponse:
    """`huge_body_bytes` of JSON that never gets to the point."""
    response = await _begin(request, settings.huge_body_bytes)
    left = settings.huge_body_bytes
    await response.write(b'{"choices":"'[:left])
    left -= min(left, 12)
    chunk = b"x" * _CHUNK
    while left > 0:
        await response.write(chunk[:left])
        left -= _CHUNK
    return response


async def gzip_bomb(request: web.BaseRequest, body: bytes, settings: SimulatorSettings) -> web.StreamResponse:
    """A small gzip body that inflates to `bomb_bytes`."""
    packed = await asyncio.to_thread(bomb, settings.bomb_bytes)
    response = await _begin(request, len(packed), ("Content-Encoding", "gzip"))
    await response.write(packed)
    return response


@lru_cache(maxsize=2)
def bomb(size: int) -> bytes:
    """Gzip of `size` spaces, about a thousandth of that, made in small pieces."""
    packer = zlib.compressobj(level=6, wbits=31)
    chunk = b" " * (16 * _CHUNK)
    packed = [packer.compress(chunk[: min(len(chunk), size - start)]) for start in range(0, size, len(chunk))]
    return b"".join((*packed, packer.flush()))


async def _begin(request: web.BaseRequest, length: int, *headers: tuple[str, str]) -> web.StreamResponse:
    fixed = (("Content-Type", "application/json"), ("Content-Length", str(length)), *headers)
    response = web.StreamResponse(headers=dict(fixed))
    await response.prepare(request)
    return response


BREAKS: Mapping[str, Break] = {
    "reset": Break(reset, "unknown", is_billed=False),
    "hang": Break(hang, "unknown", is_billed=False),
    "truncated": Break(truncated, "useless", is_billed=True),
    "huge_body": Break(huge_body, "useless", is_billed=True),
    "gzip_bomb": Break(gzip_bomb, "useless", is_billed=True),
    "slow_drip": Break(slow_drip, "answer", is_billed=True),
}
