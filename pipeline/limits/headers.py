"""What an answer's headers say about the provider's own count of our quota. Pure.

Other users share it, so what is left by the provider's count outranks what we think is left.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from pipeline.limits.amounts import Cost

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)?")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
# OpenAI and Azure; Anthropic: (how a header is called, what it counts).
_OPENAI = ("x-ratelimit-{what}-{kind}", ("requests", "tokens"))
_ANTHROPIC = ("anthropic-ratelimit-{kind}-{what}", ("requests", "tokens", "input-tokens", "output-tokens"))
_PREFIXES = ("x-ratelimit-remaining-", "anthropic-ratelimit-")
# Whatever a header says, so long nothing is sent at most: then the next answer says anew.
LONGEST_PAUSE_S = 60.0


def pause_s(headers: Mapping[str, str], cost: Cost, sharers: int, now_s: float) -> float:
    """Seconds until the provider's buckets hold a call of this cost for each of `sharers`; 0 where they do or are silent.

    `reset` is when the bucket is full again, so it refills at (limit - remaining) / reset. `now_s` is seconds since the
    epoch: Anthropic's is a moment, not a duration. A clock that is off by some seconds changes little, the wait is a
    part of them. Values of 0 or below for limit or reset, and a negative rest, mean "unknown" (wire_formats 3.4).
    """
    if not any([name.startswith(_PREFIXES) for name in headers]):  # noqa: C419 - of each answer, and a list is faster
        return 0.0
    longest_s = 0.0
    for pattern, kinds in (_OPENAI, _ANTHROPIC):
        for kind in kinds:
            left, limit = (_number(headers, pattern.format(kind=kind, what=what)) for what in ("remaining", "limit"))
            reset_s = reset_in_s(headers.get(pattern.format(kind=kind, what="reset"), ""), now_s)
            if left is None or limit is None or reset_s is None or not 0 <= left < limit or reset_s <= 0:
                continue
            needed = min(limit, _need(kind, cost) * sharers)
            if left < needed:
                longest_s = max(longest_s, (needed - left) * reset_s / (limit - left))
    return min(longest_s, LONGEST_PAUSE_S)


def _need(kind: str, cost: Cost) -> int:
    """What one more call takes of a bucket; at least 1, where nothing is estimated."""
    amounts = {
        "requests": 1,
        "tokens": cost.larger_tokens or cost.tokens,
        "input-tokens": cost.input_tokens,
        "output-tokens": cost.output_tokens,
    }
    return max(1, amounts[kind])


def reset_in_s(text: str, now_s: float) -> float | None:
    """Seconds until a reset that is given as a duration or as an RFC 3339 moment; None where it is neither."""
    seconds = duration_s(text)
    if seconds is not None:
        return seconds
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
    except (ValueError, OverflowError):
        return None


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


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return None
