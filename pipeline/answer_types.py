"""From `returnType` and `responseFormat` to the type of the answer: what is sent for it, T, and how it is read."""

import json
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import ArrayType, DataType, DoubleType, FloatType, StringType, StructType

from pipeline.arguments import constant
from pipeline.catalog import NamedEndpoint
from pipeline.conditions import AiFunctionError
from pipeline.readings import Reading
from pipeline.records import Task
from pipeline.result_types import has_map, to_json_schema


def answer_type(
    endpoint: NamedEndpoint, asked: DataType | None, response_format: str | None
) -> tuple[dict[str, Any], DataType, Reading]:
    """What is sent for the format, T, and how the answer is read."""
    if endpoint.task is Task.EMBEDDING:
        return {}, _vector_type(endpoint, asked, response_format), "vector"
    if response_format is None:
        return {}, *_typed(asked, "text")
    text = response_format.strip()
    if not text.startswith("{"):
        if asked is not None:
            raise AiFunctionError(
                "AI_FUNCTION_COMPILATION_ERROR",
                "a `responseFormat` in DDL is the type already: leave `returnType` out.",
            )
        return _ddl_format(text)
    described = _json_format(text)
    if described["type"] == "text":
        return {}, *_typed(asked, "text")
    sent = {"response_format": described}
    return sent, *_typed(asked, "json_object" if described["type"] == "json_object" else "json")


def to_type(function: str, name: str, value: Any) -> DataType | None:
    """A type from its DDL. Raises AiFunctionError."""
    if value is None or isinstance(value, DataType):
        return value
    ddl = constant(function, {name: value}, name, str)
    try:
        return _parsed(ddl)
    except (PySparkException, Py4JJavaError, ValueError):
        raise AiFunctionError(
            "INVALID_SCHEMA.PARSE_ERROR", f"The parameter `{name}` of `{function}` is not a valid schema: {ddl[:200]}."
        ) from None


def to_arrow(kind: DataType) -> pa.DataType:
    """The Arrow type of a Spark type. Raises AiFunctionError for one that no answer can be read as."""
    try:
        return to_arrow_type(kind, timezone="UTC")
    except PySparkException:
        raise AiFunctionError(
            "INVALID_SCHEMA", f"an answer cannot be read as {kind.simpleString().upper()[:200]}."
        ) from None


def _typed(asked: DataType | None, otherwise: Reading) -> tuple[DataType, Reading]:
    if asked is None or isinstance(asked, StringType):
        return StringType(), otherwise
    return asked, "typed"


def _vector_type(endpoint: NamedEndpoint, asked: DataType | None, response_format: str | None) -> DataType:
    if response_format is not None:
        raise AiFunctionError(
            "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT", f"the endpoint {endpoint.name} answers with vectors only."
        )
    if asked is None:
        return ArrayType(FloatType())
    if isinstance(asked, ArrayType) and isinstance(asked.elementType, FloatType | DoubleType):
        return asked
    raise AiFunctionError(
        "AI_FUNCTION_COMPILATION_ERROR",
        f"the endpoint {endpoint.name} answers with vectors: `returnType` is ARRAY<FLOAT> or ARRAY<DOUBLE>.",
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
    return dict(described)


def _ddl_format(text: str) -> tuple[dict[str, Any], DataType, Reading]:
    condition = "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING"
    try:
        kind = _parsed(text)
    except (PySparkException, Py4JJavaError, ValueError):
        raise AiFunctionError(condition, f"`responseFormat` is neither JSON nor a schema: {text[:200]}.") from None
    if not isinstance(kind, StructType) or not kind.fields or not text.lower().startswith("struct"):
        raise AiFunctionError(condition, "`responseFormat` in DDL must be a STRUCT.")
    name = "answer"
    if len(kind.fields) == 1 and isinstance(kind.fields[0].dataType, StructType):
        # one field that holds a struct names the schema; T is what it holds
        name, kind = kind.fields[0].name, kind.fields[0].dataType
    return schema_format(name, kind), kind, "typed"


def schema_format(name: str, kind: DataType) -> dict[str, Any]:
    """The body's `response_format` that asks for this type."""
    arrow = to_arrow(kind)
    try:
        schema = to_json_schema(arrow)
    except ValueError as exc:
        raise AiFunctionError("AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING", f"{exc}.") from None
    inner = {"name": name, "strict": not has_map(arrow), "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def _parsed(ddl: str) -> DataType:
    """Spark logs a stack trace for DDL that it cannot parse; the caller says it in a sentence."""
    log = PySparkLogger.getLogger("SQLQueryContextLogger")
    was_disabled, log.disabled = log.disabled, True
    try:
        return DataType.fromDDL(ddl)
    finally:
        log.disabled = was_disabled
