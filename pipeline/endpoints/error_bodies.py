"""What an error body says, whatever its shape: message, provider codes, and how long to wait. Pure.

Source of the shapes: wire_formats 3.1. A message that is itself an error body (Databricks relaying a provider) is read
too, and counts as more specific than what is around it.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from pipeline.endpoints.bodies import from_body

_MAX_RELAYS = 3
_MAX_TEXT_CHARS = 16_384
# Databricks writes `CODE: message`, as a whole body and inside a message.
_PREFIXED = re.compile(r"\s*([A-Z][A-Z_]{2,60}):\s*(.*)", re.S)
_CODE = re.compile(r"[A-Za-z][\w.\-]{0,99}")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error as the server told it."""

    message: str = ""
    codes: tuple[str, ...] = ()  # innermost and most specific first; never a status such as 429 or "429"
    has_code: bool = False  # one of them stands in a `code` field, so the message need not be interpreted
    status: int | None = None  # the HTTP status that the body itself names
    retry_after: Any = None  # as found, in seconds
    request_id: str = ""


def read_error(body: bytes) -> ErrorBody:
    """The error in a body that carries no result; an empty one where the body says nothing."""
    try:
        value = from_body(body)
    except ValueError:
        return _from_text(body[: 4 * _MAX_TEXT_CHARS].decode("utf-8", "replace"), relays=0)
    return _from_json(value, relays=0)


def stated_error(answer: Any) -> ErrorBody | None:
    """The error that a JSON answer states in place of a result, None where it states none."""
    if not isinstance(answer, dict):
        return None
    if answer.get("error") or answer.get("error_code") or answer.get("object") == "error":
        return _from_json(answer, relays=0)
    return None


def _from_json(value: Any, relays: int) -> ErrorBody:
    if isinstance(value, list) and value:  # Gemini wraps the object in a list
        value = value[0]
    if isinstance(value, str):
        return _from_text(value, relays)
    if not isinstance(value, dict):
        return ErrorBody()
    inner = value.get("error")
    fields = {**value, **inner} if isinstance(inner, dict) else value
    message = _message(fields, inner)
    error = ErrorBody(
        message=message,
        codes=_codes(fields, inner),
        has_code=any(_is_code(fields.get(name)) for name in ("code", "errorCode")),
        status=_status(fields),
        retry_after=fields.get("retry_after"),
        request_id=_request_id(fields.get("details")),
    )
    return _with_relayed(error, message, relays)


def _with_relayed(error: ErrorBody, message: str, relays: int) -> ErrorBody:
    """The error enriched by the one inside its message, if there is one."""
    prefixed = _PREFIXED.match(message)
    if relays >= _MAX_RELAYS or not (prefixed or message.lstrip().startswith(("{", "["))):
        return error
    inner = _from_text(message, relays + 1)
    return replace(
        error,
        message=inner.message or message,
        codes=inner.codes + error.codes,
        has_code=inner.has_code or error.has_code,
        retry_after=error.retry_after if inner.retry_after is None else inner.retry_after,
        request_id=error.request_id or inner.request_id,
    )


def _from_text(text: str, relays: int) -> ErrorBody:
    text = text[:_MAX_TEXT_CHARS].strip()
    if text.startswith("<"):
        return ErrorBody(message=page_text(text))
    if relays and text.startswith(("{", "[")):
        try:
            value = from_body(text.encode("utf-8", "replace"))
        except ValueError:
            return ErrorBody(message=text)
        return _from_json(value, relays)
    if prefixed := _PREFIXED.match(text):
        error = ErrorBody(message=text, codes=(prefixed[1],))
        return _with_relayed(error, prefixed[2], max(relays, 1))
    return ErrorBody(message=text)


def page_text(text: str) -> str:
    """What an HTML page says in its first `<pre>`, else in its `<title>`; "an HTML page" without either."""
    lowered = text.lower()
    for tag in ("pre", "title"):
        # searched, not matched: a regular expression is quadratic on a hostile page
        start = lowered.find(f"<{tag}")
        opened = lowered.find(">", start)
        end = lowered.find(f"</{tag}", opened)
        if 0 <= start < opened < end and (found := html.unescape(text[opened + 1 : end]).strip()):
            return found
    return "an HTML page"


def _message(fields: Mapping[str, Any], inner: Any) -> str:
    candidates = (fields.get("message"), fields.get("error_description"), inner, fields.get("detail"))
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip():
            return candidate
    if isinstance(detail := fields.get("detail"), list):  # FastAPI: `input` beside `msg` would echo the prompt
        reasons = [item.get("msg") for item in detail[:5] if isinstance(item, dict)]
        return "; ".join(reason for reason in reasons if isinstance(reason, str))
    return ""


def _codes(fields: Mapping[str, Any], inner: Any) -> tuple[str, ...]:
    innermost = fields.get("innererror")
    candidates = (
        innermost.get("code") if isinstance(innermost, dict) else None,
        fields.get("code"),
        fields.get("errorCode"),
        fields.get("type"),
        fields.get("error_type"),
        fields.get("error_code"),
        fields.get("status"),
        inner,
    )
    return tuple(dict.fromkeys(candidate for candidate in candidates if _is_code(candidate)))


def _is_code(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


def _status(fields: Mapping[str, Any]) -> int | None:
    """A status that stands where a code should be: vLLM 429, LiteLLM and Azure "429", SCIM "404"."""
    for name in ("code", "status", "status_code"):
        value = fields.get(name)
        if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
            value = int(value)
        if type(value) is int and 400 <= value <= 599:
            return value
    return None


def _request_id(details: Any) -> str:
    for detail in details if isinstance(details, list) else [details]:
        if isinstance(detail, dict) and isinstance(found := detail.get("request_id"), str):
            return found[:100]
    return ""
