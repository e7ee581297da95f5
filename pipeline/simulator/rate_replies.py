"""How a quota speaks: the 429 bodies of each provider, and the headers that show what is left. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from math import ceil, isinf

import orjson

from pipeline.records import Api
from pipeline.simulator.admission import Kind, Limit, Refusal429
from pipeline.simulator.quotas import Quotas
from pipeline.simulator.wire import JSON, Headers, Reply, databricks_error, openai_error

_SHORT = {  # limit -> OpenAI's words for it
    "requests_per_second": "requests per second (RPS)",
    "requests_per_minute": "requests per min (RPM)",
    "requests_per_hour": "requests per hour (RPH)",
    "input_tokens_per_minute": "input tokens per min (ITPM)",
    "output_tokens_per_minute": "output tokens per min (OTPM)",
    "tokens_per_minute": "tokens per min (TPM)",
}


# What each header counts together; Anthropic tells the two kinds of tokens apart.
_COUNTED: Mapping[str, tuple[Kind, ...]] = {"requests": ("requests",), "tokens": ("tokens", "input", "output")}
_COUNTED_APART: Mapping[str, tuple[Kind, ...]] = {
    "requests": ("requests",),
    "tokens": ("tokens",),
    "input-tokens": ("input",),
    "output-tokens": ("output",),
}


def refused(
    api: Api, refusal: Refusal429, quotas: Quotas, limits: list[Limit], now_s: float, wall_s: float = 0.0
) -> Reply:
    """The 429 of a call that did not fit, in the caller's shape (wire_formats 3.1)."""
    headers = rate_headers(quotas, limits, now_s, wall_s)
    if quotas.headers != "none" and not isinf(refusal.wait_s):
        # whole seconds, at least one: "0" would invite a hot loop
        headers = (*headers, ("Retry-After", str(max(1, ceil(refusal.wait_s)))))
        if quotas.headers == "azure":
            headers = (*headers, ("retry-after-ms", str(ceil(refusal.wait_s * 1000))))
    if api == "databricks":
        return _databricks(refusal, quotas, headers, now_s)
    return _openai(refusal, headers, now_s)


def _openai(refusal: Refusal429, headers: Headers, now_s: float) -> Reply:
    limit = refusal.limit
    words, requested = _SHORT[limit.name], ceil(refusal.cost)
    kind = "requests" if limit.kind == "requests" else "tokens"
    if isinf(refusal.wait_s):
        message = f"Request too large for the model on {words}: Limit {limit.quota:.0f}, Requested {requested}."
    else:
        used = limit.quota - limit.free(now_s)
        message = (
            f"Rate limit reached for the model on {words}: Limit {limit.quota:.0f}, Used {used:.0f},"
            f" Requested {requested}. Please try again in {go_duration(refusal.wait_s)}."
        )
    return openai_error(429, kind, "rate_limit_exceeded", message, *headers)


def _databricks(refusal: Refusal429, quotas: Quotas, headers: Headers, now_s: float) -> Reply:
    limit = refusal.limit
    words = limit.name.replace("_", " ")
    if quotas.databricks_body == "seen":
        message = f"Exceeded workspace {words} rate limit for this endpoint. Please retry later."
        return databricks_error(429, "REQUEST_LIMIT_EXCEEDED", message, *headers)
    described = {
        "message": f"Rate limit exceeded: {words}",
        "type": "rate_limit_exceeded",
        "code": 429,
        "limit_type": limit.name,
        "limit": limit.quota,
        "current": limit.quota - limit.free(now_s) + refusal.cost,
        "retry_after": None if isinf(refusal.wait_s) else round(refusal.wait_s, 3),
    }
    return Reply(429, orjson.dumps({"error": described}), (JSON, *headers))


def rate_headers(quotas: Quotas, limits: list[Limit], now_s: float, wall_s: float = 0.0) -> Headers:
    """What is left, of each kind by the limit that has least; none unless OpenAI, Azure or Anthropic is played.

    `reset` is the time until the limit is entirely free again, not the wait of the next call (wire_formats 3.4);
    Anthropic's is that moment, and `wall_s` the present one, in seconds since the epoch.
    """
    if quotas.headers not in ("openai", "azure", "anthropic"):
        return ()
    headers: list[tuple[str, str]] = []
    for name, covered in (_COUNTED_APART if quotas.headers == "anthropic" else _COUNTED).items():
        some = [limit for limit in limits if limit.kind in covered]
        if not some:
            continue
        tightest = min(some, key=lambda limit: limit.free(now_s) / limit.quota)
        said = {
            "limit": f"{tightest.quota:.0f}",
            "remaining": str(int(tightest.free(now_s))),
            "reset": _reset(quotas, tightest.full_again_s(now_s), wall_s),
        }
        pattern = "anthropic-ratelimit-{name}-{what}" if quotas.headers == "anthropic" else "x-ratelimit-{what}-{name}"
        headers += [(pattern.format(name=name, what=what), value) for what, value in said.items()]
    return tuple(headers)


def _reset(quotas: Quotas, reset_s: float, wall_s: float) -> str:
    if quotas.headers == "openai":
        return go_duration(reset_s)
    if quotas.headers == "azure":
        return str(ceil(reset_s))
    return f"{datetime.fromtimestamp(ceil(wall_s + reset_s), UTC):%Y-%m-%dT%H:%M:%SZ}"


def go_duration(seconds: float) -> str:
    """As Go prints it: `12ms`, `1s`, `6m0s`."""
    milliseconds = ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest_ms = divmod(milliseconds, 60_000)
    return (f"{minutes}m" if minutes else "") + f"{rest_ms / 1000:g}s"
