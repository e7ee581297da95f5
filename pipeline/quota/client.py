"""The worker's lease client: asks for what the window wants to start, and hands the grants to the holder."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.limits import Cost, LeaseHolder, to_grant
from pipeline.limits.leases import MOST_CALLS
from pipeline.quota.frames import (
    ASK,
    BYE,
    FRAME_BYTES,
    GRANT,
    NONCE_BYTES,
    NUDGE,
    BadFrame,
    Channel,
    read_frame,
    with_length,
)
from pipeline.quota.link import QuotaLink

CONNECT_S = 3.0
REPLY_S = 5.0
AGAIN_S = 0.5
# Questions are not asked more often than this, whatever the queue does.
SOONEST_S = 0.02

# Servers that this process could not reach: its later tasks do not wait for them.
_unreachable: set[QuotaLink] = set()


@dataclass(frozen=True, slots=True)
class Wants:
    """What a window would do if it might."""

    in_flight: int  # calls on their way
    slots: int  # calls that it could have on their way
    waiting: int  # calls that would start
    upcoming: Callable[[int], Sequence[Cost]]  # what the first of them cost


class LeaseClient:
    """Made and used on the worker's loop. Whatever happens to the server, nothing is raised for it."""

    def __init__(
        self, link: QuotaLink, holder: LeaseHolder, wants: Callable[[], Wants], on_change: Callable[[], None]
    ) -> None:
        self._link = link
        self._holder = holder
        self._wants = wants
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._stirred = asyncio.Event()
        self._is_nudged = False
        self._reply: asyncio.Future[Any] | None = None
        holder.on_hungry = self._stirred.set
        if link in _unreachable:
            holder.lost(self._loop.time())
        self._task = self._loop.create_task(self._run())

    async def close(self) -> None:
        """Gives back what is left, at once."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._converse()
            except (OSError, EOFError, TimeoutError, ValueError):  # BadFrame is a ValueError
                if not self._holder.was_leased:
                    _unreachable.add(self._link)
            self._holder.lost(self._loop.time())
            self._on_change()
            await asyncio.sleep(AGAIN_S)

    async def _converse(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(self._link.host, self._link.port, limit=2 * FRAME_BYTES)
            try:
                theirs = await read_frame(reader)
                ours = os.urandom(NONCE_BYTES)
                writer.write(with_length(ours))
                channel = Channel(self._link.key, theirs + ours, b"w")
            except BaseException:
                writer.close()
                raise
        listening = self._loop.create_task(self._listen(reader, channel))
        try:
            while not listening.done():
                if await self._is_due():
                    await self._ask(writer, channel)
            await listening  # raises why it ended
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, EOFError, ValueError):
                await listening
            with contextlib.suppress(OSError, BadFrame):
                credits = self._holder.last_credits(self._loop.time()) if self._task.cancelling() else ()
                writer.write(with_length(channel.seal([BYE, [credit.to_wire() for credit in credits]])))
            writer.close()

    async def _is_due(self) -> bool:
        """Whether to ask now; else False after a while, to look again."""
        wants = self._wants()
        due_s = 0.0 if self._is_nudged else self._holder.ask_in_s(self._loop.time(), wants.waiting)
        if due_s <= 0.0:
            return True
        self._stirred.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(due_s):
                await self._stirred.wait()
        return False

    async def _ask(self, writer: asyncio.StreamWriter, channel: Channel) -> None:
        self._is_nudged = False
        wants = self._wants()
        # those that were granted already come first: the holder leaves them out
        calls = wants.upcoming(3 * MOST_CALLS)
        ask = self._holder.ask(self._loop.time(), wants.in_flight, wants.slots, wants.waiting, calls)
        self._reply = self._loop.create_future()
        writer.write(with_length(channel.seal([ASK, ask.to_wire()])))
        async with asyncio.timeout(REPLY_S):
            grant = to_grant(await self._reply)
        self._holder.granted(ask, grant, self._loop.time())
        self._on_change()
        await asyncio.sleep(SOONEST_S)

    async def _listen(self, reader: asyncio.StreamReader, channel: Channel) -> None:
        try:
            while True:
                kind, value = channel.open(await read_frame(reader))
                if kind == NUDGE:
                    self._is_nudged = True
                    self._stirred.set()
                elif kind == GRANT and self._reply is not None and not self._reply.done():
                    self._reply.set_result(value)
        except (OSError, EOFError, ValueError) as exc:
            if self._reply is not None and not self._reply.done():
                self._reply.set_exception(ConnectionError(f"the quota server went away: {type(exc).__name__}"))
            raise
        finally:
            self._stirred.set()
