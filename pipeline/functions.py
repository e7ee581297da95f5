"""`ai_query` as a column function, and what every AI function is made of: a plan, a type, and one arrow UDF."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import ArrayType, DataType, DoubleType, FloatType, StringType, StructField, StructType
from pyspark.sql.utils import is_remote

from pipeline.arguments import Parameter, constant, wrong_type
from pipeline.catalog import Catalog, NamedEndpoint, open_catalog
from pipeline.column_worker import ColumnPlan, run_columns
from pipeline.conditions import AiFunctionError
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.errors import ConfigError
from pipeline.model_parameters import checked
from pipeline.questions import QuestionSpec, mismatch
from pipeline.readings import Reading, ResultSpec
from pipeline.records import Task
from pipeline.result_types import has_map, to_json_schema

CONF = "pipeline.ai."  # of the settings in spark.conf
# Spark's Python worker holds results back until this many bytes are there, and learns only by writing that nobody
# reads any more. With 64 KiB, thousands of rows were asked after a LIMIT was satisfied; with the least allowed, the
# window. Results are written in large pieces anyway.
_BUFFER = ("spark.sql.execution.pandas.udf.buffer.size", "4")
DETAILS = (
    "STRUCT<usage: STRUCT<input_tokens: BIGINT, output_tokens: BIGINT, total_tokens: BIGINT, cached_input_tokens: BIGINT, "
    "reasoning_tokens: BIGINT>, finish_reason: STRING, model: STRING, attempts: INT, request_id: STRING>"
)
AI_QUERY = (
    Parameter("endpoint", is_required=True),
    Parameter("request", is_constant=False, is_required=True),
    Parameter("returnType"),
    Parameter("failOnError"),
    Parameter("modelParameters"),
    Parameter("responseFormat"),
    Parameter("files", is_constant=False),
    Parameter("details"),
)


# Types as Spark writes them.
_TEXT = re.compile(r"void|string.*|(var)?char\(\d+\)")
_MESSAGES = re.compile(r"(array<)?struct<(?=.*\brole:string)(?=.*\bcontent:string)")


@dataclass(frozen=True, slots=True)
class Planned:
    """A call that was checked: what its worker does, and the Spark type it returns."""

    plan: ColumnPlan
    kind: DataType


@dataclass(slots=True)
class _Registered:
    """What `register` was told, for the functions of this driver."""

    catalog: Catalog = field(default_factory=Catalog)


registered = _Registered()


def ai_query(
    endpoint: str,
    request: Column | str,
    return_type: str | DataType | None = None,
    *,
    fail_on_error: bool = True,
    model_parameters: Mapping[str, Any] | None = None,
    response_format: str | Mapping[str, Any] | None = None,
    files: Column | str | None = None,
    details: bool = False,
) -> Column:
    """One question per row to a named endpoint; NULL asks nothing and gives NULL.

    `request` is a column (or its name) of STRING, STRUCT<role, content> or an ARRAY of it; `files` of BINARY images or
    an ARRAY of them. The column is STRING for chat, ARRAY<FLOAT> for embeddings, `return_type` or the struct of
    `response_format` where given; without `fail_on_error`, or with `details`, that is `result` in
    STRUCT<result, errorMessage, ...>. Raises AiFunctionError for a call that is wrong; a row that fails fails the
    query, or is its `errorMessage`.
    """
    values = {
        "endpoint": endpoint,
        "returnType": return_type,
        "failOnError": fail_on_error,
        "modelParameters": dict(model_parameters) if model_parameters is not None else None,
        "responseFormat": json.dumps(response_format) if isinstance(response_format, Mapping) else response_format,
        "details": details,
    }
    let_output_flow()
    columns = [as_column(request)] + ([as_column(files)] if files is not None else [])
    rows = {"request": None} | ({"files": None} if files is not None else {})
    return to_udf(plan_ai_query(values, rows))(*columns)


def plan_ai_query(values: Mapping[str, Any], rows: Mapping[str, str | None]) -> Planned:
    """The call with these constants, by the names of the SQL parameters. Raises AiFunctionError.

    `rows` are the row arguments that were given, with their type as Spark writes it where it is known.
    """
    name = "ai_query"
    has_files = "files" in rows
    endpoint = find_endpoint(constant(name, values, "endpoint", str, ""))
    parameters = checked(constant(name, values, "modelParameters", dict, {}), endpoint.task)
    sent, kind, reading = _result(
        endpoint, to_type(name, "returnType", values.get("returnType")), constant(name, values, "responseFormat", str)
    )
    if has_files and endpoint.task is Task.EMBEDDING:
        raise AiFunctionError("AI_FUNCTION_COMPILATION_ERROR", f"the endpoint {endpoint.name} takes no `files`.")
    _check_row_types(endpoint.task, rows)
    result = ResultSpec(
        _arrow(kind),
        reading,
        fails=constant(name, values, "failOnError", bool, True),
        has_details=constant(name, values, "details", bool, False),
    )
    question = QuestionSpec(endpoint.task, ("request", "files") if has_files else ("request",))
    return planned(name, endpoint, question, result, kind, {**parameters, **sent})


def planned(
    function: str,
    endpoint: NamedEndpoint,
    question: QuestionSpec,
    result: ResultSpec,
    kind: DataType,
    parameters: Mapping[str, Any],
) -> Planned:
    """The plan of a call; `kind` is T, `parameters` go over those of the endpoint."""
    sent = {**endpoint.parameters, **parameters}
    share = max(1, endpoint.in_flight // slots())
    identity = {"api": endpoint.api, "name": endpoint.model, "endpoint": endpoint.name, "parameters": sent}
    plan = ColumnPlan(
        function,
        endpoint.name,
        replace(question, identity=identity, max_request_bytes=endpoint.max_request_bytes),
        EndpointSpec(endpoint.task, endpoint.model, endpoint.api, endpoint.base_url, sent, endpoint.contract),
        result,
        WindowSettings(in_flight=share, pack=endpoint.pack, retry=endpoint.retry),
        endpoint.transport_kind,
        replace(endpoint.transport, in_flight=share),
        endpoint.credentials,
        _cache_path(),
    )
    return Planned(plan, _enveloped(kind, result))


def to_udf(call: Planned) -> Callable[..., Column]:
    """The one UDF that calls; nondeterministic, so that the optimizer neither repeats nor moves it."""
    plan = call.plan

    def work(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        return run_columns(batches, plan)

    work.__name__ = plan.function
    udf: Any = F.arrow_udf(work, call.kind)
    nondeterministic: Callable[..., Column] = udf.asNondeterministic()
    return nondeterministic


def let_output_flow(spark: SparkSession | None = None) -> None:
    """Makes Spark take results, and the end of a query reach the workers, at once; a value of the user's stays."""
    session = spark or SparkSession.getActiveSession()
    name, size = _BUFFER
    if session is not None and session.conf.get(name, None) in (None, "65536"):
        session.conf.set(name, size)


def find_endpoint(name: str) -> NamedEndpoint:
    """The endpoint of this name. Raises AiFunctionError that lists what is known."""
    try:
        return _catalog().find(name)
    except ConfigError as exc:
        raise AiFunctionError("AI_FUNCTION_COMPILATION_ERROR", f"{exc}.") from exc


def default_endpoint(task: Task) -> NamedEndpoint:
    """The endpoint of functions that name none: the session's, else the file's. Raises AiFunctionError."""
    key = "default_endpoint" if task is Task.CHAT else "default_embedding_endpoint"
    try:
        return _catalog().default(task, setting(key))
    except ConfigError as exc:
        raise AiFunctionError("AI_FUNCTION_COMPILATION_ERROR", f"{exc}.") from exc


def setting(key: str) -> str | None:
    """`pipeline.ai.<key>` of the active session."""
    spark = SparkSession.getActiveSession()
    return spark.conf.get(CONF + key, None) if spark is not None else None


def slots() -> int:
    """Tasks that run at once, among which an endpoint's limits are shared; `pipeline.ai.slots` overrides."""
    told = setting("slots")
    if told is not None:
        return max(1, int(told))
    spark = SparkSession.getActiveSession()
    if spark is None or is_remote():
        return 1
    return max(1, int(spark.sparkContext.defaultParallelism))


def _cache_path() -> str | None:
    """`pipeline.ai.cache`, so that a worker finds the folder from wherever it runs."""
    path = setting("cache")
    return os.path.abspath(path) if path and "://" not in path else path or None


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


def _check_row_types(task: Task, rows: Mapping[str, str | None]) -> None:
    request, files = rows.get("request"), rows.get("files")
    if request is not None and not _TEXT.fullmatch(request) and not (task is Task.CHAT and _MESSAGES.match(request)):
        raise mismatch(task)
    if files not in (None, "void", "binary", "array<binary>"):
        raise wrong_type("ai_query", "files", "a BINARY or an ARRAY<BINARY>")


def _catalog() -> Catalog:
    path = setting("endpoints")
    return open_catalog(path) if path is not None else registered.catalog


def _parsed(ddl: str) -> DataType:
    """Spark logs a stack trace for DDL that it cannot parse; the caller says it in a sentence."""
    log = PySparkLogger.getLogger("SQLQueryContextLogger")
    was_disabled, log.disabled = log.disabled, True
    try:
        return DataType.fromDDL(ddl)
    finally:
        log.disabled = was_disabled


def as_column(value: Column | str) -> Column:
    """A column, or the one of that name."""
    return F.col(value) if isinstance(value, str) else value


def _arrow(kind: DataType) -> pa.DataType:
    try:
        return to_arrow_type(kind, timezone="UTC")
    except PySparkException:
        raise AiFunctionError(
            "INVALID_SCHEMA", f"an answer cannot be read as {kind.simpleString().upper()[:200]}."
        ) from None


def _enveloped(kind: DataType, result: ResultSpec) -> DataType:
    if not result.is_struct:
        return kind
    fields = [StructField("result", kind), StructField("errorMessage", StringType())]
    details = DataType.fromDDL(DETAILS) if result.has_details else StructType([])
    assert isinstance(details, StructType)
    return StructType([*fields, *details.fields])


def _result(
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
    arrow = _arrow(kind)
    try:
        schema = to_json_schema(arrow)
    except ValueError as exc:
        raise AiFunctionError("AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING", f"{exc}.") from None
    inner = {"name": name, "strict": not has_map(arrow), "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}
