"""From a host's name to a connected socket: one lookup for all that ask, its addresses tried a little apart.

A door to aiohappyeyeballs (RFC 8305): one address that swallows packets must not stop a job while another would answer.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Sequence

from aiohappyeyeballs import AddrInfoType, start_connection

_KNOWN_S = 10.0  # a window opens hundreds of connections at once, and a resolver may take half a second for each lookup
_APART_S = 0.25
_KEEPALIVE_S = 30  # notices dead peers during long generations

_Place = tuple[str, int]


class Dialer:
    """Connects to hosts; lives on the loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lookups: dict[_Place, asyncio.Task[Sequence[AddrInfoType]]] = {}
        self._connected = 0

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connected socket. OSError where no address answers; no time limit of its own."""
        addresses = await self._addresses((host, port))
        # a name with several addresses spreads its connections over them
        first = self._connected % len(addresses)
        self._connected += 1
        try:
            peer = await start_connection(
                [*addresses[first:], *addresses[:first]], happy_eyeballs_delay=_APART_S, interleave=0
            )
        except RuntimeError as exc:  # uvloop's for some sockets
            raise OSError(str(exc)) from None
        _keep_alive(peer)
        return peer

    async def _addresses(self, place: _Place) -> Sequence[AddrInfoType]:
        lookup = self._lookups.get(place)
        if lookup is None:
            lookup = self._lookups[place] = self._loop.create_task(self._look_up(*place))
            lookup.add_done_callback(lambda done: self._looked_up(place, done))
        # who stops waiting does not stop it: the next one would begin behind a resolver that is still busy with this one
        return await asyncio.shield(lookup)

    async def _look_up(self, host: str, port: int) -> Sequence[AddrInfoType]:
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if not found:
            raise OSError("the host has no address")
        return found

    def _looked_up(self, place: _Place, lookup: "asyncio.Task[Sequence[AddrInfoType]]") -> None:
        if lookup.cancelled() or lookup.exception() is not None:
            self._lookups.pop(place, None)
        else:
            self._loop.call_later(_KNOWN_S, self._lookups.pop, place, None)


def reason(exc: OSError) -> str:
    """Why there is no connection, without the address: the caller knows the endpoint's name for it."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed ({exc.reason or 'the peer speaks something else'})"
    if isinstance(exc, socket.gaierror) and exc.strerror:
        return exc.strerror
    return os.strerror(exc.errno) if exc.errno else "none of the host's addresses answers"


def _keep_alive(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer may have gone already; the exchange will tell
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
            if hasattr(socket, name):  # Linux, and others as they please
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE_S)
