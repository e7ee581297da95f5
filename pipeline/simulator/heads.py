"""The head of an HTTP answer as bytes. Pure."""

from functools import lru_cache
from http import HTTPStatus

from pipeline.simulator.wire import Headers


def head(status: int, headers: Headers, length: int, stays_open: bool) -> bytes:
    """Status line and headers, with the blank line after them."""
    end = b"" if stays_open else b"Connection: close\r\n"
    return b"%bContent-Length: %d\r\n%b\r\n" % (_lines(status, headers), length, end)


@lru_cache(maxsize=256)
def _lines(status: int, headers: Headers) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"  # 529
    lines = [f"HTTP/1.1 {status} {reason}", "Server: simulator", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
