"""Where a request goes, and the head that it goes with, as HTTP/1.1 writes them (RFC 9110, 9112). Pure."""

import re
import string
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from pipeline.errors import ConnectFailed

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")  # neither a line's end nor another control can get into a head
_HOST = re.compile(r"[0-9A-Za-z._~%:-]+")
_PORTS = {"http": 80, "https": 443}
# The transport writes these itself: a second length or host would make one request two.
_FRAMING = {"host", "content-length", "transfer-encoding", "connection"}


class Origin(NamedTuple):
    """Whom to connect to; connections to one may be used for another request to it."""

    scheme: str
    host: str
    port: int


class Target(NamedTuple):
    """A parsed URL: whom to connect to, and what to ask there."""

    origin: Origin
    host_header: str
    path: str  # with the query


def target_of(url: str) -> Target:
    """The parts of an http(s) URL. ConnectFailed where it is none; its text does not repeat the URL."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port
    except ValueError:  # UnicodeError is one
        raise cannot_be_built() from None
    if parts.scheme not in _PORTS or "@" in parts.netloc or not _HOST.fullmatch(host):
        raise cannot_be_built()
    shown = f"[{host}]" if ":" in host else host
    default = _PORTS[parts.scheme]
    try:
        path = quote(parts.path or "/", safe=string.punctuation)
        query = quote(parts.query, safe=string.punctuation)
    except UnicodeError:  # a lone surrogate
        raise cannot_be_built() from None
    return Target(
        origin=Origin(parts.scheme, host, default if port is None else port),
        host_header=shown if port in (None, default) else f"{shown}:{port}",
        path=f"{path}?{query}" if query else path,
    )


def head_of(target: Target, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a POST without its length and its end. Of equal names the last one is sent.

    ConnectFailed where a header cannot be sent; its text does not repeat it, since it may be a credential.
    """
    lines = {"host": target.host_header, "accept": "*/*"}
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in _FRAMING:
            raise cannot_be_built()
        lines[name.lower()] = value
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}".encode("ascii")


def cannot_be_built() -> ConnectFailed:
    """A request that cannot be written down; nothing was sent."""
    return ConnectFailed("the request cannot be built")
