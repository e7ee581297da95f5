"""What every AI function is made of: an endpoint by name, a plan, a type, and one arrow UDF."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType, StructField, StructType
from pyspark.sql.utils import is_remote

from pipeline.catalog import Catalog, NamedEndpoint, open_catalog
from pipeline.column_plan import ColumnPlan
from pipeline.column_worker import run_columns
from pipeline.conditions import AiFunctionError
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.errors import ConfigError
from pipeline.query_failure import pack, unless_failed
from pipeline.questions import QuestionSpec
from pipeline.readings import ResultSpec
from pipeline.records import Task

CONF = "pipeline.ai."  # of the settings in spark.conf
# Spark's Python worker holds results back until this many bytes are there, and learns only by writing that nobody
# reads any more. With 64 KiB, thousands of rows were asked after a LIMIT was satisfied; with the least allowed, the
# window. Results are written in large pieces anyway.
_BUFFER = ("spark.sql.execution.pandas.udf.buffer.size", "4")
_DRIVER = uuid.uuid4().hex
DETAILS = (
    "STRUCT<usage: STRUCT<input_tokens: BIGINT, output_tokens: BIGINT, total_tokens: BIGINT, cached_input_tokens: BIGINT, "
    "reasoning_tokens: BIGINT>, finish_reason: STRING, model: STRING, attempts: INT, request_id: STRING>"
)


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
    packed = pack(partial(run_columns, plan=call.plan))
    driver = _DRIVER

    def work(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        # travels by value: what it names is all that a worker loads before it knows that there is something to ask
        context = TaskContext.get()
        assert context is not None
        execution = context.getLocalProperty("spark.sql.execution.id") or f"stage{context.stageId()}"
        # one execution of the query in one executor, whose workers have one parent
        return unless_failed(f"{driver}-{os.getppid()}-{execution}", packed, batches)

    work.__name__ = call.plan.function
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


def as_column(value: Column | str) -> Column:
    """A column, or the one of that name."""
    return F.col(value) if isinstance(value, str) else value


def _catalog() -> Catalog:
    path = setting("endpoints")
    return open_catalog(path) if path is not None else registered.catalog


def _enveloped(kind: DataType, result: ResultSpec) -> DataType:
    if not result.is_struct:
        return kind
    fields = [StructField("result", kind), StructField("errorMessage", StringType())]
    details = DataType.fromDDL(DETAILS) if result.has_details else StructType([])
    assert isinstance(details, StructType)
    return StructType([*fields, *details.fields])
