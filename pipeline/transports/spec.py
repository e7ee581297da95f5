"""What every transport is told, and what all of them keep of an answer's headers. Pure."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

_KEPT = ("content-type", "date", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry")
_KEPT_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")


@dataclass(frozen=True, slots=True)
class TransportSpec:
    """Bounds of one exchange. `max_response_bytes` bounds the decoded body."""

    timeout_s: float = 120.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float | None = None
    max_response_bytes: int = 16 * 2**20
    in_flight: int = 256
    ca_bundle: str | None = None
    user_agent: str = "spark-ai-query"


def kept_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers that retry, quota and tracing read; names in lower case. Cookies and the rest are dropped."""
    kept: dict[str, str] = {}
    for name, value in headers:
        if (lower := kept_name(name)) is not None:
            kept[lower] = value
    return kept


@functools.lru_cache(maxsize=256)  # an endpoint sends the same names with every answer
def kept_name(name: str) -> str | None:
    """The name in lower case, None where nobody reads that header."""
    lower = name.lower()
    return lower if lower in _KEPT or lower.startswith(_KEPT_PREFIXES) else None
