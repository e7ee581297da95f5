"""From `returnType` and `responseFormat` to what is sent, the type of the answer and how it is read. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.arguments import constant
from pipeline.conditions import AiFunctionError
from pipeline.json_schemas import check_schema
from pipeline.readings import Reading
from pipeline.records import Task
from pipeline.result_types import has_map, to_json_schema

# The type of a DDL text. Raises ValueError for text that is no type, `unreadable` for one that Arrow has no form of.
ReadType = Callable[[str], pa.DataType]


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """`sent` goes into the body, `kind` is T."""

    kind: pa.DataType
    reading: Reading
    sent: dict[str, Any]
    schema: str | None = None  # that an answer must keep, as JSON


def answer_format(
    task: Task, endpoint_name: str, asked: pa.DataType | None, response_format: str | None, read_type: ReadType
) -> AnswerFormat:
    """The format of a call to this endpoint; `asked` is the `returnType`. Raises AiFunctionError."""
    if task is Task.EMBEDDING:
        return AnswerFormat(_vector_type(endpoint_name, asked, response_format), "vector", {})
    if task is Task.CUSTOM:
        return _custom_type(endpoint_name, asked, response_format)
    if response_format is None:
        return _typed(asked, "text", {})
    if task is Task.COMPLETION:
        raise AiFunctionError(
            "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT",
            f"the endpoint {endpoint_name} completes texts and takes no `responseFormat`: use `returnType`.",
        )
    text = response_format.strip()
    if not text.startswith("{"):
        if asked is not None:
            raise AiFunctionError(
                "AI_FUNCTION_COMPILATION_ERROR",
                "a `responseFormat` in DDL is the type already: leave `returnType` out.",
            )
        return _ddl_format(text, read_type)
    described = _json_format(text)
    if described["type"] == "text":
        return _typed(asked, "text", {})
    if described["type"] == "json_object":
        return _typed(asked, "json_object", {"response_format": described})
    schema = json.dumps(described["json_schema"]["schema"])
    return _typed(asked, "json", {"response_format": described}, schema)


def asked_type(function: str, name: str, value: Any, read_type: ReadType) -> pa.DataType | None:
    """The type that a parameter states, in DDL or as it is. Raises AiFunctionError."""
    if value is None or isinstance(value, pa.DataType):
        return value
    ddl = constant(function, {name: value}, name, str)
    try:
        return read_type(ddl)
    except ValueError:
        raise AiFunctionError(
            "INVALID_SCHEMA.PARSE_ERROR", f"The parameter `{name}` of `{function}` is not a valid schema: {ddl[:200]}."
        ) from None


def unreadable(ddl: str, advice: str = "") -> AiFunctionError:
    """The error of a type that no answer can be read as."""
    return AiFunctionError(
        "INVALID_SCHEMA", f"an answer cannot be read as {ddl.upper()[:200]}{advice and f': {advice}'}."
    )


def schema_format(name: str, kind: pa.DataType) -> dict[str, Any]:
    """The body's `response_format` that asks for this type. Raises AiFunctionError."""
    try:
        schema = to_json_schema(kind)
    except ValueError as exc:
        raise AiFunctionError("AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING", f"{exc}.") from None
    inner = {"name": name, "strict": not has_map(kind), "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def object_format(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The body's `response_format` that asks for an object of exactly these fields."""
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
    inner = {"name": name, "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def _typed(
    asked: pa.DataType | None, otherwise: Reading, sent: dict[str, Any], schema: str | None = None
) -> AnswerFormat:
    if asked is None or asked == pa.string():
        return AnswerFormat(pa.string(), otherwise, sent, schema)
    return AnswerFormat(asked, "typed", sent, schema)


def _custom_type(endpoint_name: str, asked: pa.DataType | None, response_format: str | None) -> AnswerFormat:
    if response_format is not None:
        raise AiFunctionError(
            "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT",
            f"the endpoint {endpoint_name} serves a custom model and takes no `responseFormat`: use `returnType`.",
        )
    if asked is None:
        raise AiFunctionError(
            "AI_FUNCTION_COMPILATION_ERROR",
            f"the endpoint {endpoint_name} serves a custom model whose schema is not known: give `returnType`.",
        )
    return AnswerFormat(asked, "text" if asked == pa.string() else "typed", {})


def _vector_type(endpoint_name: str, asked: pa.DataType | None, response_format: str | None) -> pa.DataType:
    if response_format is not None:
        raise AiFunctionError(
            "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT", f"the endpoint {endpoint_name} answers with vectors only."
        )
    if asked is None:
        return pa.list_(pa.float32())
    if pa.types.is_list(asked) and asked.value_type in (pa.float32(), pa.float64()):
        return asked
    raise AiFunctionError(
        "AI_FUNCTION_COMPILATION_ERROR",
        f"the endpoint {endpoint_name} answers with vectors: `returnType` is ARRAY<FLOAT> or ARRAY<DOUBLE>.",
    )


def _json_format(text: str) -> dict[str, Any]:
    condition = "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING"
    try:
        described = json.loads(text)
    except (ValueError, RecursionError):
        raise AiFunctionError(condition, "`responseFormat` is not JSON.") from None
    kind = described.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise AiFunctionError(condition, "the `type` of `responseFormat` must be text, json_object or json_schema.")
    inner = described.get("json_schema")
    if kind == "json_schema" and not (isinstance(inner, dict) and isinstance(inner.get("schema"), dict)):
        raise AiFunctionError(condition, "`responseFormat` of type json_schema needs `json_schema` with a `schema`.")
    if kind == "json_schema":
        try:
            check_schema(inner["schema"])
        except ValueError as exc:
            raise AiFunctionError(condition, f"{exc}.") from None
    return dict(described)


def _ddl_format(text: str, read_type: ReadType) -> AnswerFormat:
    condition = "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING"
    try:
        kind = read_type(text)
    except ValueError:
        raise AiFunctionError(condition, f"`responseFormat` is neither JSON nor a schema: {text[:200]}.") from None
    if not pa.types.is_struct(kind) or not kind.num_fields or not text.lower().startswith("struct"):
        raise AiFunctionError(condition, "`responseFormat` in DDL must be a STRUCT.")
    name = "answer"
    if kind.num_fields == 1 and pa.types.is_struct(kind.field(0).type):
        # one field that holds a struct names the schema; T is what it holds
        name, kind = kind.field(0).name, kind.field(0).type
    return AnswerFormat(kind, "typed", schema_format(name, kind))
