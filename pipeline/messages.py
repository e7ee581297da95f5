"""Message lists: what one must look like, and its bytes. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.errors import ErrorCode
from pipeline.records import RowError

Messages = list[Mapping[str, Any]]


def checked_messages(value: Any, *, is_text_only: bool = False) -> Messages | RowError:
    """The messages of a list of objects with a role and a content, or what is wrong with it.

    `is_text_only`: the content is a string, else parts are taken as they are. Other keys stay.
    """
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        return RowError(ErrorCode.INVALID_INPUT, "the messages are not an array of {role, content}")
    if not value:
        return RowError(ErrorCode.EMPTY_INPUT, "no messages")
    for message in value:
        if not isinstance(message.get("role"), str) or "content" not in message:
            return RowError(ErrorCode.INVALID_INPUT, "a message has no role or no content")
        if is_text_only and not isinstance(message["content"], str):
            return RowError(ErrorCode.INVALID_INPUT, "the content of a message is null or no string")
    return value


def encoded_messages(messages: Messages) -> bytes:
    """JSON of a message list; texts that are no valid Unicode are told apart, not refused."""
    try:
        return orjson.dumps(messages)
    except TypeError:
        return repr(messages).encode("utf-8", "surrogatepass")
