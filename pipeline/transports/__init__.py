"""HTTP libraries behind one seam of one method; one file per library."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from pipeline.errors import ConfigError
from pipeline.records import HttpRequest, HttpResponse
from pipeline.transports.httptools import open_httptools
from pipeline.transports.httpx import open_httpx
from pipeline.transports.local import open_local
from pipeline.transports.reqwest import open_reqwest
from pipeline.transports.spec import TransportSpec

__all__ = ["Transport", "TransportKind", "TransportSpec", "open_transport"]

TransportKind = Literal["httptools", "reqwest", "httpx", "local"]


class Transport(Protocol):
    """Sends one request and reads the whole answer, bounded in time and size; follows no redirect."""

    async def send(self, request: HttpRequest, auth_headers: Mapping[str, str]) -> HttpResponse:
        """The answer, whatever its status. Raises only `TransportError`s."""
        ...

    async def close(self) -> None:
        """Closes every connection."""
        ...


_KINDS: dict[str, Callable[[TransportSpec], Transport]] = {
    "httptools": open_httptools,
    "reqwest": open_reqwest,
    "httpx": open_httpx,
    "local": open_local,
}


def open_transport(kind: str, spec: TransportSpec) -> Transport:
    """A transport for the running event loop; it must not outlive that loop."""
    try:
        opener = _KINDS[kind]
    except KeyError:
        raise ConfigError(f"[endpoint] transport = {kind!r}: unknown; known: {', '.join(_KINDS)}") from None
    return opener(spec)
