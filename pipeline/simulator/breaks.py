"""Faults of the connection and of how the bytes arrive: reset, hang, truncated, dripping, too many."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pipeline.simulator.bill import Result
from pipeline.simulator.connection import Exchange
from pipeline.simulator.settings import SimulatorSettings

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Break:
    """Sends `body`, the good answer, in its own way; may raise ClientLeft.

    Without `is_billed` no answer is made, and `body` is empty.
    """

    send: Callable[[Exchange, bytes, SimulatorSettings], Awaitable[None]]
    result: Result
    is_billed: bool


async def reset(exchange: Exchange, body: bytes, settings: SimulatorSettings) -> None:
    """No answer at all."""
    exchange.reset()


async def hang(exchange: Exchange, body: bytes, settings: SimulatorSettings) -> None:
    """Nothing until the client leaves or `hang_s` have passed; then the connection ends."""
    await exchange.left(settings.hang_s)
    exchange.reset()


async def truncated(exchange: Exchange, body: bytes, settings: SimulatorSettings) -> None:
    """Half of the promised bytes, then the end of the connection."""
    exchange.begin(len(body))
    await exchange.write(body[: len(body) // 2])
    exchange.close()


async def slow_drip(exchange: Exchange, body: bytes, settings: SimulatorSettings) -> None:
    """The whole answer, `drip_bytes` every `drip_interval_s`."""
    exchange.begin(len(body))
    for start in range(0, len(body), settings.drip_bytes):
        await asyncio.sleep(settings.drip_interval_s)
        await exchange.write(body[start : start + settings.drip_bytes])


async def huge_body(exchange: Exchange, body: bytes, settings: SimulatorSettings) -> None:
    """`huge_body_bytes` of JSON that never gets to the point."""
    exchange.begin(settings.huge_body_bytes)
    left = settings.huge_body_bytes
    await exchange.write(b'{"choices":"'[:left])
    left -= min(left, 12)
    chunk = b"x" * _CHUNK
    while left > 0:
        await exchange.write(chunk[:left])
        left -= _CHUNK


async def gzip_bomb(exchange: Exchange, body: bytes, settings: SimulatorSettings) -> None:
    """A small gzip body that inflates to `bomb_bytes`."""
    packed = await asyncio.to_thread(bomb, settings.bomb_bytes)
    exchange.begin(len(packed), ("Content-Encoding", "gzip"))
    await exchange.write(packed)


@lru_cache(maxsize=2)
def bomb(size: int) -> bytes:
    """Gzip of `size` spaces, about a thousandth of that, made in small pieces."""
    packer = zlib.compressobj(level=6, wbits=31)
    chunk = b" " * (16 * _CHUNK)
    packed = [packer.compress(chunk[: min(len(chunk), size - start)]) for start in range(0, size, len(chunk))]
    return b"".join((*packed, packer.flush()))


BREAKS: Mapping[str, Break] = {
    "reset": Break(reset, "unknown", is_billed=False),
    "hang": Break(hang, "unknown", is_billed=False),
    "truncated": Break(truncated, "useless", is_billed=True),
    "huge_body": Break(huge_body, "useless", is_billed=True),
    "gzip_bomb": Break(gzip_bomb, "useless", is_billed=True),
    "slow_drip": Break(slow_drip, "answer", is_billed=True),
}
