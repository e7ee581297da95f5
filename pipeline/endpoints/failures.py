"""Failures: what an answer without a result means, how long to wait, and what may be told about it. Pure."""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.endpoints.error_bodies import ErrorBody, page_text, read_error, stated_error
from pipeline.endpoints.text import message_text, one_line
from pipeline.errors import ErrorCode, Verdict, classify, is_listed
from pipeline.records import NO_USAGE, Batch, Failure, HttpResponse, Usage

# Words decide only where no provider code does. Source: wire_formats 3.5.
_CONTEXT_PHRASES = re.compile(
    r"maximum context length"
    r"|longer than the (?:model's context length|maximum model length)"
    r"|requested \d+ output tokens and your prompt contains"
    r"|`inputs` tokens \+ `max_new_tokens` must be"
    r"|exceeds the available context size"
    r"|exceeds the maximum number of tokens allowed"
    r"|prompt is too long"
    r"|input is too long for requested model"
    r"|prompt contains \d+ tokens.{0,200}too large for model",
    re.I | re.S,
)
_CONTEXT_STATUSES = frozenset({400, 413, 422})
# Azure says "Please retry after 20 seconds", OpenAI "Please try again in 1.2s".
_WAIT_PHRASE = re.compile(
    r"\b(?:retry after|try again (?:in|after)) (\d{1,9}(?:\.\d{1,9})?) ?(ms|s|sec|seconds?)\b", re.I
)


def is_success(response: HttpResponse) -> bool:
    """Whether the status promises a result."""
    return 200 <= response.status < 300


def refused(batch: Batch, response: HttpResponse) -> Failure:
    """The failure that an answer with an error status stands for."""
    return _judged(batch, response, read_error(response.body), NO_USAGE)


def unusable(
    batch: Batch,
    response: HttpResponse,
    why: str,
    *,
    answer: Any = None,
    code: ErrorCode = ErrorCode.INVALID_RESPONSE,
    usage: Usage = NO_USAGE,
) -> Failure:
    """The failure that a 200 without a usable result stands for: the error it states, else one more try.

    `answer` is its JSON value where it has one; `why` tells what is wrong with it.
    """
    if error := stated_error(answer):
        return _judged(batch, response, error, usage)
    if answer is None and response.body[:256].lstrip()[:1] == b"<":
        page = page_text(response.body[:16_384].decode("utf-8", "replace"))
        why = f"a web page instead of JSON, perhaps a login: {page}"
    elif answer is None and not response.body:
        why = "the body is empty"
    return Failure(
        verdict=_as_told(Verdict.RETRY, response.headers.get("x-should-retry")),
        code=code,
        message=message_text(f"HTTP {response.status}: {why}", batch),
        status=response.status,
        usage=usage,
    )


def retry_after_s(headers: Mapping[str, str], error: ErrorBody, now_s: float | None) -> float | None:
    """Seconds that the server asks to wait, 0 where that moment has passed, None where it does not say.

    First of: `retry-after-ms`, `retry-after` (seconds or date), `retry_after` in the body, words in the message.
    `now_s` is seconds since the epoch by the server's own clock; without it a date says nothing.
    """
    for seconds in (
        _seconds(headers.get("retry-after-ms"), scale=1e-3),
        _seconds(headers.get("retry-after")),
        _seconds_until(headers.get("retry-after"), now_s),
        _seconds(error.retry_after),
        _seconds_in_words(error.message),
    ):
        if seconds is not None:
            return seconds
    return None


def _judged(batch: Batch, response: HttpResponse, error: ErrorBody, usage: Usage) -> Failure:
    # an error that travels under a 200 may name its own status
    status = error.status or response.status if is_success(response) else response.status
    verdict, code = classify(status, _decisive_code(status, error))
    message = message_text(error.message, batch) or next(iter(error.codes), "")
    if error.request_id:
        message = f"{message[:350]} (request {one_line(error.request_id)})"
    return Failure(
        verdict=_as_told(verdict, response.headers.get("x-should-retry")),
        code=code,
        message=message or f"HTTP {response.status} without an explanation",
        status=response.status,
        retry_after_s=retry_after_s(response.headers, error, _date_s(response.headers.get("date"))),
        usage=usage,
        asks_gently="slow_down" in error.codes,
    )


def _decisive_code(status: int, error: ErrorBody) -> str | None:
    """The provider code to classify by: the first that the table lists, else what only the words tell."""
    if status == 429 and "request too large" in error.message.lower():
        return "request_too_large"  # comes as rate_limit_exceeded, yet never fits (wire_formats 3.2)
    for code in error.codes:
        if is_listed(code):
            return code
    is_silent = not error.has_code and (status in _CONTEXT_STATUSES or status < 300)
    if is_silent and _CONTEXT_PHRASES.search(error.message):
        return "context_length_exceeded"
    return None


def _as_told(verdict: Verdict, should_retry: str | None) -> Verdict:
    """The verdict after `x-should-retry`; a stop stays a stop."""
    told = (should_retry or "").strip().lower()
    if told == "false" and verdict is Verdict.RETRY:
        return Verdict.REJECT
    if told == "true" and verdict in (Verdict.REJECT, Verdict.SPLIT):
        return Verdict.RETRY
    return verdict


def _seconds(value: Any, scale: float = 1.0) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value) * scale
    except (ValueError, OverflowError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _seconds_until(date: str | None, now_s: float | None) -> float | None:
    then_s = _date_s(date)
    return None if then_s is None or now_s is None else max(then_s - now_s, 0.0)


def _date_s(date: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date."""
    if not date:
        return None
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _seconds_in_words(message: str) -> float | None:
    found = _WAIT_PHRASE.search(message)
    if not found:
        return None
    return float(found[1]) * (1e-3 if found[2].lower() == "ms" else 1.0)
