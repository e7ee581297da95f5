"""From the argument columns of a function call to requests: NULL asks nothing, images travel in the message. Pure."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

from pipeline.conditions import AiFunctionError
from pipeline.errors import ErrorCode
from pipeline.identity import Identifier, canonical
from pipeline.messages import Messages, checked_messages
from pipeline.prompts import PromptSpec, Renderer
from pipeline.records import Request, RowError, Task

_IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
)


@dataclass(frozen=True, slots=True)
class QuestionSpec:
    """What is asked of each row; travels to executors.

    `columns` name the arrays: `request` and perhaps `files` for `ai_query`, or what the `template` reads beside the
    constant `values`. `identity` is all else that changes an answer.
    """

    task: Task
    columns: tuple[str, ...] = ("request",)
    identity: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    is_blank_null: bool = False  # a blank asks nothing, as NULL does
    max_request_bytes: int = 4_000_000


class Questions:
    """Made once per partition; `read` is called for every piece of input."""

    def __init__(self, spec: QuestionSpec) -> None:
        self._spec = spec
        self._identify = Identifier(canonical(spec.task, spec.identity), spec.max_request_bytes)
        self._renderer: Renderer | None = None
        if spec.template is not None:
            self._renderer = Renderer(
                PromptSpec(
                    spec.task,
                    template=spec.template,
                    system=spec.system,
                    identity=spec.identity,
                    max_request_bytes=spec.max_request_bytes,
                )
            )

    def read(self, arrays: Sequence[pa.Array]) -> list[Request | RowError | None]:
        """One request per row, why there is none, or None for a row that asks nothing."""
        columns = [_values(array) for array in arrays]
        return [self._one(row) for row in zip(*columns, strict=True)]

    def _one(self, row: tuple[Any, ...]) -> Request | RowError | None:
        if row[0] is None or (self._renderer is not None and None in row):
            return None
        if any(value is _UNREADABLE for value in row):
            return RowError(ErrorCode.INVALID_INPUT, "an argument holds bytes that are no UTF-8")
        if self._spec.task is Task.CUSTOM:
            return self._record(row[0])
        if isinstance(row[0], str) and not row[0].strip():
            return None if self._spec.is_blank_null else RowError(ErrorCode.EMPTY_INPUT, "the request is blank")
        if self._renderer is not None:
            if not all(isinstance(value, str) for value in row):
                raise AiFunctionError(
                    "DATATYPE_MISMATCH", f"{_and(self._spec.columns)} must be a STRING; of a VARIANT, give to_json."
                )
            named = dict(zip(self._spec.columns, row, strict=True))
            return self._renderer.render({**self._spec.values, **named})
        if self._spec.task is not Task.CHAT:
            text = row[0]
            if not isinstance(text, str):
                raise mismatch(self._spec.task, self._spec.columns[0])
            return self._identify.of_text(text)
        messages = _messages(row[0], self._spec.columns[0])
        if isinstance(messages, RowError):
            return messages
        if len(row) > 1 and row[1] is not None:
            with_files = _with_images(messages, row[1])
            if isinstance(with_files, RowError):
                return with_files
            messages = with_files
        return self._identify.of_messages(messages)

    def _record(self, value: Any) -> Request | RowError:
        """For a custom model: the value as JSON; numbers that JSON does not know are null."""
        try:
            return self._identify.of_text(orjson.dumps(value, default=_plain).decode())
        except TypeError:
            return RowError(ErrorCode.INVALID_INPUT, "the record has a value that JSON has no form for")


def mismatch(task: Task, name: str = "request") -> AiFunctionError:
    """The error of a question of another type."""
    allowed = "a STRING"
    if task is Task.CHAT:
        allowed += ", a STRUCT<role: STRING, content: STRING> or an ARRAY of it"
    return AiFunctionError("DATATYPE_MISMATCH", f"`{name}` must be {allowed}; of a VARIANT, give to_json.")


def image_kind(data: bytes) -> str | None:
    """The subtype of an image's media type by its first bytes; None for anything else."""
    for start, kind in _IMAGES:
        if data.startswith(start):
            return kind
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _and(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


class _Unreadable:
    """Stands for a value that Python cannot hold."""


_UNREADABLE = _Unreadable()


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError


def _values(array: pa.Array) -> list[Any]:
    try:
        return list(array.to_pylist())
    except ValueError:
        if len(array) == 1:
            return [_UNREADABLE]
        half = len(array) // 2
        return _values(array.slice(0, half)) + _values(array.slice(half))


def _messages(value: Any, name: str) -> Messages | RowError:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    given = value if isinstance(value, list) else [value]
    if not all(
        message is None or (isinstance(message, dict) and {"role", "content"} <= message.keys()) for message in given
    ):
        raise mismatch(Task.CHAT, name)
    messages = checked_messages(given, is_text_only=True)
    if isinstance(messages, RowError):
        return messages
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _with_images(messages: Messages, files: Any) -> Messages | RowError:
    """The images in the last message, behind its text."""
    parts: list[Any] = [{"type": "text", "text": messages[-1]["content"]}]
    for number, data in enumerate(files if isinstance(files, list) else [files], 1):
        if data is None:
            continue
        if not isinstance(data, bytes):
            raise AiFunctionError("DATATYPE_MISMATCH", "`files` must be BINARY or an ARRAY<BINARY>.")
        kind = image_kind(data)
        if kind is None:
            return RowError(ErrorCode.INVALID_INPUT, f"file {number} is no JPEG, PNG, GIF or WebP image")
        url = f"data:image/{kind};base64,{b64encode(data).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    if len(parts) == 1:
        return messages
    return [*messages[:-1], {**messages[-1], "content": parts}]
