"""`ai_query` as a column function, and how Spark runs every AI function: as one arrow UDF over a plan."""

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark import TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type
from pyspark.sql.types import DataType
from pyspark.sql.utils import is_remote

from pipeline.answer_types import unreadable
from pipeline.arguments import not_constant
from pipeline.calls import Place, local_path, plan_ai_query
from pipeline.catalog import Catalog, open_catalog
from pipeline.column_plan import ColumnPlan
from pipeline.column_worker import run_columns
from pipeline.query_failure import pack, unless_failed
from pipeline.readings import result_type
from pipeline.response_cache import fingerprint
from pipeline.session import without_query_log
from pipeline.siblings import Call
from pipeline.templates import SHIPPED, Templates

CONF = "pipeline.ai."  # of the settings in spark.conf
_DRIVER = uuid.uuid4().hex
# Spark's Python worker holds results back until this many bytes are there, and learns only by writing that nobody
# reads any more. With 64 KiB, thousands of rows were asked after a LIMIT was satisfied; with the least allowed, the
# window. Results are written in large pieces anyway.
_BUFFER = ("spark.sql.execution.pandas.udf.buffer.size", "4")


@dataclass(slots=True)
class _Registered:
    """What `register` was told, for the functions of this driver."""

    catalog: Catalog = field(default_factory=Catalog)
    templates: Templates = field(default_factory=lambda: SHIPPED)
    models: dict[str, str] = field(default_factory=dict)  # of the calls that were made, by their journal's fingerprint
    remote_slots: int = 1  # of a Spark Connect server, which only `register` asks


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
        "returnType": _arrow(return_type) if isinstance(return_type, DataType) else return_type,
        "failOnError": fail_on_error,
        "modelParameters": dict(model_parameters) if isinstance(model_parameters, Mapping) else model_parameters,
        "responseFormat": json.dumps(response_format) if isinstance(response_format, Mapping) else response_format,
        "details": details,
    }
    require_constants("ai_query", values)
    let_output_flow()
    columns = [as_column(request)] + ([as_column(files)] if files is not None else [])
    rows = {"request": None} | ({"files": None} if files is not None else {})
    return to_udf(plan_ai_query(place(), values, rows))(*columns)


def invoke(
    call: Call,
    arguments: Sequence[Any],
    apply: Callable[[Any, Sequence[Any]], Any],
    parse_json: Callable[[Any], Any] = F.parse_json,
) -> Any:
    """The call over its arguments; `apply` gives a UDF its arguments, as columns or as expressions.

    `parse_json` makes a VARIANT of what the UDF gives, in the same form.
    """
    if isinstance(call, ColumnPlan):
        answer = apply(to_udf(call), arguments)
        return parse_json(answer) if call.result.is_variant else answer
    if call.each is not None:
        arguments = [apply(to_udf(call.each), [argument]) for argument in arguments]
    compute = call.compute

    def finish(*arrays: pa.Array) -> pa.Array:
        return compute(*arrays)

    finish.__name__ = call.function
    return apply(F.arrow_udf(finish, from_arrow_type(call.kind)), arguments)


def to_udf(plan: ColumnPlan) -> Callable[..., Column]:
    """The UDF of a call."""
    registered.models[fingerprint(plan.question)] = plan.endpoint.name
    udf: Callable[..., Column] = calling_udf(plan.function, partial(run_columns, plan=plan), result_type(plan.result))
    return udf


def calling_udf(name: str, run: Callable[..., Iterator[pa.Array]], kind: pa.DataType) -> Any:
    """The one kind of UDF that calls; nondeterministic, so that the optimizer neither repeats nor moves it.

    `run` takes the batches, and as `folder` where the tasks of the query meet.
    """
    packed = pack(run)
    driver = _DRIVER

    def work(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        # travels by value: what it names is all that a worker loads before it knows that there is something to ask
        context = TaskContext.get()
        assert context is not None
        execution = context.getLocalProperty("spark.sql.execution.id") or f"stage{context.stageId()}"
        # one execution of the query in one executor, whose workers have one parent
        return unless_failed(f"{driver}-{os.getppid()}-{execution}", packed, batches)

    work.__name__ = name
    udf: Any = F.arrow_udf(work, from_arrow_type(kind))
    return udf.asNondeterministic()


def let_output_flow(spark: SparkSession | None = None) -> None:
    """Makes Spark take results, and the end of a query reach the workers, at once; a value of the user's stays."""
    session = spark or SparkSession.getActiveSession()
    name, size = _BUFFER
    if session is not None and session.conf.get(name, None) in (None, "65536"):
        session.conf.set(name, size)


def place() -> Place:
    """What the active session says about its calls, over what `register` was told. Raises ConfigError."""
    path = setting("endpoints")
    spark = SparkSession.getActiveSession()
    return Place(
        catalog=open_catalog(path) if path is not None else registered.catalog,
        read_type=_read_type,
        templates=registered.templates,
        slots=slots(),
        default_endpoint=setting("default_endpoint"),
        default_embedding_endpoint=setting("default_embedding_endpoint"),
        cache_path=local_path(setting("cache")),
        zone=str(spark.conf.get("spark.sql.session.timeZone")) if spark is not None else "UTC",
    )


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
    if spark is None:
        return 1
    if is_remote():
        return registered.remote_slots
    return max(1, int(spark.sparkContext.defaultParallelism))


def as_column(value: Column | str) -> Column:
    """A column, or the one of that name."""
    return F.col(value) if isinstance(value, str) else value


def require_constants(function: str, values: Mapping[str, Any]) -> None:
    """What must be known when a call is written is no column. Raises AiFunctionError."""
    for name, value in values.items():
        if _has_column(value):
            raise not_constant(function, name)


def _has_column(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_column, value.values()))
    return isinstance(value, Column) or (isinstance(value, list | tuple) and any(map(_has_column, value)))


def _read_type(ddl: str) -> pa.DataType:
    try:
        with without_query_log():
            kind = DataType.fromDDL(ddl)
    except (PySparkException, Py4JJavaError) as exc:
        raise ValueError(ddl) from exc
    return _arrow(kind)


def _arrow(kind: DataType) -> pa.DataType:
    if "variant" in kind.simpleString():
        raise unreadable("variant", "read it as STRING and wrap the call in parse_json")
    try:
        return to_arrow_type(kind, timezone="UTC")
    except PySparkException:
        raise unreadable(kind.simpleString()) from None
