"""Which rows a run asks: those that have not landed, whose prompt inputs changed, or that landed with an error."""

from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from pipeline.config import JobFile
from pipeline.errors import ConfigError, SourceError
from pipeline.prompts import PromptSpec
from pipeline.rendering import IdentifyTask
from pipeline.sinks import Mode, Sink
from pipeline.spark import measure, quoted, repeated_keys, without_landed

RetryErrors = Literal["transient", "all"]

_ASKED = "__request_id"


@dataclass(frozen=True, slots=True)
class Pending:
    """The rows to ask, lazily, and how they land."""

    frame: DataFrame
    rows: int
    rows_source: int
    mode: Mode


def pending_rows(
    spark: SparkSession,
    job: JobFile,
    source: DataFrame,
    sink: Sink,
    prompt: PromptSpec,
    retry_errors: RetryErrors | None,
) -> Pending:
    """Counts what is pending without a call. Raises SourceError for a key that is not unique."""
    key = job.source.key
    size = measure(source, key)
    if size.distinct_keys is not None and size.distinct_keys < size.rows:
        raise SourceError(
            f"[source] key = {list(key)} is not unique: {size.rows:,} rows have {size.distinct_keys:,} keys, for example "
            f"{'; '.join(repeated_keys(source, key))}. Add columns to the key, or choose one row per key in a query."
        )
    landed = sink.landed(spark)
    frame, mode = source, job.job.mode
    if retry_errors is not None:
        _require_key_and_delta(job, "--retry-errors")
        frame, mode = (_failed(source, landed, job, retry_errors) if landed is not None else source.limit(0)), "merge"
    elif job.source.changed:
        frame, mode = (_changed(source, landed, job, prompt) if landed is not None else source), "merge"
    elif landed is not None and key and mode == "append":
        frame = without_landed(source, landed, key)
    rows = size.rows if frame is source else measure(frame, ()).rows
    return Pending(frame, rows, size.rows, mode)


def _failed(source: DataFrame, landed: DataFrame, job: JobFile, which: RetryErrors) -> DataFrame:
    """Source rows whose landed row is an error; by default one that may go away."""
    prefix = job.sink.prefix
    is_failed = F.col(f"{prefix}error").isNotNull()
    if which == "transient":
        is_failed = is_failed & F.col(f"{prefix}error.retryable")
    keys = _keys(landed.where(is_failed), job.source.key)
    return source.join(keys, on=_same_key(source, keys, job.source.key), how="left_semi")


def _changed(source: DataFrame, landed: DataFrame, job: JobFile, prompt: PromptSpec) -> DataFrame:
    """Source rows that are new, or would now ask something else than what their landed row was asked."""
    key = job.source.key
    asked = source.mapInArrow(
        IdentifyTask(prompt, _ASKED), StructType([*source.schema.fields, StructField(_ASKED, StringType())])
    )
    keys = _keys(landed, key, F.col(f"{job.sink.prefix}request_id").alias("__landed_request"))
    joined = asked.join(keys, on=_same_key(asked, keys, key), how="left")
    return joined.where(~F.col("__landed_request").eqNullSafe(F.col(_ASKED))).select(
        *[F.col(quoted(name)) for name in source.columns]
    )


def _keys(landed: DataFrame, key: tuple[str, ...], *more: Column) -> DataFrame:
    return landed.select(*[F.col(quoted(name)).alias(f"__landed_{i}") for i, name in enumerate(key)], *more)


def _same_key(source: DataFrame, keys: DataFrame, key: tuple[str, ...]) -> Column:
    condition = F.lit(True)
    for i, name in enumerate(key):
        condition = condition & source[quoted(name)].eqNullSafe(keys[f"__landed_{i}"])
    return condition


def _require_key_and_delta(job: JobFile, option: str) -> None:
    if job.embedding.long_text == "chunk" and job.embedding.chunks == "rows":
        raise ConfigError(
            f'{option} replaces rows by key, and a key has a row per part here: [embedding] chunks = "rows"'
        )
    if not job.source.key or job.sink.format != "delta":
        raise ConfigError(f'{option} replaces rows by key: it needs [source] key and [sink] format = "delta"')
