"""What an answer's headers say about the provider's own count of our quota. Pure.

Other users share it, so what is left by the provider's count outranks what we think is left.
"""

import re
from collections.abc import Mapping

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)?")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_NEED = (("requests", 1.0), ("tokens", None))


def pause_s(headers: Mapping[str, str], tokens: int, sharers: int) -> float:
    """Seconds until the provider's bucket holds a call of `tokens` for each of `sharers`; 0 where it does or is silent.

    `reset` is the time until the bucket is full again, so it refills at (limit - remaining) / reset.
    Values of 0 or below for limit or reset, and a negative rest, mean "unknown" (wire_formats 3.4).
    """
    longest_s = 0.0
    for kind, each in _NEED:
        left, limit = _number(headers, "remaining", kind), _number(headers, "limit", kind)
        reset_s = duration_s(headers.get(f"x-ratelimit-reset-{kind}", ""))
        if left is None or limit is None or reset_s is None or left < 0 or limit <= 0 or reset_s <= 0 or left >= limit:
            continue
        needed = min(limit, (tokens if each is None else each) * sharers)
        if left < needed:
            longest_s = max(longest_s, (needed - left) * reset_s / (limit - left))
    return longest_s


def duration_s(text: str) -> float | None:
    """Seconds of a Go-style duration (`6m0s`, `12ms`) or of plain seconds; None where it is neither."""
    position = 0
    seconds = 0.0
    text = text.strip()
    while position < len(text):
        found = _DURATION.match(text, position)
        if found is None:
            return None
        seconds += float(found[1]) * _SECONDS[found[2]]
        position = found.end()
    return seconds if text else None


def _number(headers: Mapping[str, str], what: str, kind: str) -> float | None:
    try:
        return float(headers[f"x-ratelimit-{what}-{kind}"])
    except (KeyError, ValueError):
        return None
