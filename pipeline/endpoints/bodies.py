"""JSON bodies: to bytes whatever the inputs hold, and from bytes without trust. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.endpoints.text import without_surrogates

_BOM = b"\xef\xbb\xbf"
# Every escape of a JSON string, whole pairs first, so that only a lone half matches group 1.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.S
)


def to_body(value: Mapping[str, Any]) -> bytes:
    """The value as JSON. Lone surrogates, which UTF-8 cannot carry, become U+FFFD.

    TypeError: a value that JSON has no form for.
    """
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:
        return orjson.dumps(_carriable(value))


def from_body(body: bytes) -> Any:
    """The JSON value of an answer; its texts hold no lone surrogates. ValueError for anything else.

    Refused: NaN and infinities, invalid UTF-8, more than 1,024 levels of nesting.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        repaired = _ESCAPE.sub(_pair_or_mark, body.removeprefix(_BOM))
        if repaired == body:
            raise ValueError(str(exc)) from exc
    return orjson.loads(repaired)


def from_lenient_body(body: bytes) -> Any:
    """The same for an answer that spells NaN and infinities, which JSON does not know; they come as None.

    Several times slower. ValueError for anything else that is no JSON.
    """
    try:
        return json.loads(_ESCAPE.sub(_pair_or_mark, body.removeprefix(_BOM)).decode(), parse_constant=_no_number)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def _no_number(spelled: str) -> None:
    """NaN, Infinity or -Infinity."""


def _pair_or_mark(match: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if match[1] else match[0]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _carriable(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, Mapping):
        return {_carriable(key): _carriable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_carriable(item) for item in value]
    return value
