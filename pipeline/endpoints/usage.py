"""Token counts of an answer, in every provider's names, and their share per request. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.records import NO_USAGE, Usage

# Beyond this a JSON number is no longer exact, and no call has so many tokens.
_MAX_COUNT = 2**53


def read_usage(answer: Any) -> Usage:
    """The usage that an answer reports; None where it says nothing or nothing credible.

    Shapes: OpenAI chat and embeddings, OpenAI Responses, Anthropic, and Claude behind Databricks, whose
    `prompt_tokens` exclude the cached part: it is added back (wire_formats 1.5).
    """
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return NO_USAGE
    stated_input = _first(usage, "prompt_tokens", "input_tokens")
    output = _first(usage, "completion_tokens", "output_tokens")
    total = _count(usage.get("total_tokens"))
    cached = _detail(usage, "cached_tokens", "prompt_tokens_details", "input_tokens_details")
    uncounted = 0
    if cached is None and ("cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage):
        cached = _count(usage.get("cache_read_input_tokens"))
        uncounted = (cached or 0) + (_count(usage.get("cache_creation_input_tokens")) or 0)
    if stated_input is not None and uncounted:
        if total is not None and total == stated_input + (output or 0):
            total += uncounted
        stated_input += uncounted
    return Usage(
        input_tokens=stated_input,
        output_tokens=output,
        total_tokens=total,
        cached_input_tokens=cached,
        reasoning_tokens=_detail(usage, "reasoning_tokens", "completion_tokens_details", "output_tokens_details"),
    )


def distribute(usage: Usage, weights: Sequence[int]) -> list[Usage]:
    """The usage of a call as one share per weight; every counter's shares sum to the counter exactly."""
    if usage == NO_USAGE:
        return [NO_USAGE] * len(weights)
    fair = [max(weight, 0) for weight in weights]
    if not any(fair):
        fair = [1] * len(weights)
    counters = (
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.cached_input_tokens,
        usage.reasoning_tokens,
    )
    shares = {counter: _largest_remainder(counter, fair) for counter in set(counters) if counter is not None}
    absent: list[int | None] = [None] * len(weights)
    columns = [absent if counter is None else shares[counter] for counter in counters]
    return [Usage(*row) for row in zip(*columns, strict=True)]


def _largest_remainder(count: int, weights: Sequence[int]) -> list[int | None]:
    whole = sum(weights)
    shares: list[int | None] = [count * weight // whole for weight in weights]
    remainders = [count * weight % whole for weight in weights]
    missing = sum(remainders) // whole
    for position in sorted(range(len(weights)), key=lambda at: -remainders[at])[:missing]:
        shares[position] = (shares[position] or 0) + 1
    return shares


def _first(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        count = _count(usage.get(name))
        if count is not None:
            return count
    return None


def _detail(usage: Mapping[str, Any], counter: str, *names: str) -> int | None:
    for name in names:
        details = usage.get(name)
        if isinstance(details, dict) and (count := _count(details.get(counter))) is not None:
            return count
    return None


def _count(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None
