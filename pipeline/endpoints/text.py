"""Texts made fit: answers for tables, provider messages for people, without keys and without the prompt. Pure."""

import re
from collections.abc import Iterator, Mapping
from json import dumps
from typing import Any

from pipeline.records import Batch

MAX_MESSAGE_CHARS = 500
MAX_LABEL_CHARS = 200
# A provider may echo a whole prompt in front of what it has to say; more is not looked at.
_MAX_READ_CHARS = 16_384
_MIN_ECHO_CHARS = 20

_SURROGATES = re.compile("[\ud800-\udfff]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# controls, line separators, and the marks that reorder or hide text on a screen
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+")
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(bearer) (?=\S*\d|\S{20})[^\s\"',;]{6,}"), r"\1 ***"),
    (re.compile(r"(?i)\b(basic) [A-Za-z0-9+/]{16,}=*"), r"\1 ***"),
    (re.compile(r"\b(?:sk|pk|rk|xai)[-_][\w*.\-]{6,}|\b(?:gsk|hf|ghp)_[\w*]{6,}"), "***"),
    (re.compile(r"\b(?:dapi|dkea|dose|AKIA|AIza)[\w*\-]{8,}"), "***"),
    (re.compile(r"\beyJ[\w\-]{8,}(?:\.[\w\-]*)*"), "***"),
    (re.compile(r"(?i)\b((?:api|access|subscription)[-_]?(?:key|token)|sig|password|secret)=[^&\s\"']+"), r"\1=***"),
    # a long run of base64 or hex close behind the word; no hyphen and a digit in it, so that names stay readable
    (
        re.compile(
            r"(?i)(key|token|secret|password|credential)\b(\W{1,4}(?:\w{1,12}\W{1,4}){0,3}?)"
            r"(?=[\w+/=*]*\d)[\w+/=*]{20,}[\w+/=*.\-]*"
        ),
        r"\1\2***",
    ),
    (re.compile(r"//[^/\s@:]{1,100}:[^/\s@]{1,200}@"), "//***@"),
)


def without_surrogates(text: str) -> str:
    """The text with each lone surrogate as U+FFFD, so that it has a UTF-8 form."""
    return _SURROGATES.sub("\ufffd", text)


def storable(text: str) -> str:
    """The text with NUL and lone surrogates as U+FFFD: every table format takes it."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def label(value: Any) -> str | None:
    """A short name that a server gave (a model, a finish reason), on one line; None where it is no text."""
    if not isinstance(value, str) or not value:
        return None
    if len(value) <= MAX_LABEL_CHARS and value.isprintable():
        return value
    return one_line(value)[:MAX_LABEL_CHARS] or None


def one_line(text: str) -> str:
    """The text with every run of white space and control characters as one space."""
    return " ".join(_INVISIBLE.sub(" ", text).split())


def message_text(message: str, batch: Batch) -> str:
    """A provider's message as it may be stored: one line, at most 500 characters, keys masked, the prompt left out."""
    line = one_line(message[:_MAX_READ_CHARS])
    for text in _inputs(batch):
        line = _without_echo(line, text)
    for pattern, mask in _SECRETS:
        line = pattern.sub(mask, line)
    return line if len(line) <= MAX_MESSAGE_CHARS else line[: MAX_MESSAGE_CHARS - 1] + "…"


def _inputs(batch: Batch) -> Iterator[str]:
    for request in batch.requests:
        if request.text is not None:
            yield request.text
        for message in request.messages or ():
            yield from _strings(message.get("content"))


def _strings(content: Any) -> Iterator[str]:
    """The texts of a message's content: a string, or a list of parts with a text or an image inside."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _strings(value)


def _without_echo(line: str, text: str) -> str:
    """The line with every run that repeats the beginning of the text, also one cut short, as `<input>`."""
    start = text[:_MAX_READ_CHARS]
    for form in dict.fromkeys(
        (one_line(start), one_line(dumps(start)[1:-1]), one_line(dumps(start, ensure_ascii=False)[1:-1]))
    ):
        head = form[:_MIN_ECHO_CHARS]
        if len(head) < _MIN_ECHO_CHARS:
            continue
        position = line.find(head)
        while position >= 0:
            end = position + _common_length(line[position:], form)
            line = f"{line[:position]}<input>{line[end:]}"
            position = line.find(head, position + len("<input>"))
    return line


def _common_length(left: str, right: str) -> int:
    """How many characters both begin with."""
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return position
    return min(len(left), len(right))
