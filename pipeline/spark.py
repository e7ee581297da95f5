"""The door to Spark for jobs: source, key checks, pending rows, buckets, and the one transform that calls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    MapType,
    NumericType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from pipeline.errors import ConfigError, SourceError
from pipeline.part_files import MANIFEST
from pipeline.pieces import BUCKET_COLUMN

# A bucket is one task and one part of the journal: large enough to amortise a window's ramp, small enough to retry.
ROWS_PER_BUCKET = 50_000
BUCKETS_AT_MOST = 10_000
_PLAIN = (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Which rows are read, as the job file says."""

    format: str
    path: str | None = None
    table: str | None = None
    query: str | None = None
    key: tuple[str, ...] = ()
    where: str | None = None
    limit: int | None = None
    select: tuple[str, ...] | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """What a person calls it."""
        return self.path or self.table or "the source query"


def read_source(spark: SparkSession, spec: SourceSpec) -> DataFrame:
    """The source rows, filtered, limited and narrowed; lazily. Raises SourceError with what to change.

    With a key a limit takes the first rows in key order, so that a rerun takes the same ones.
    """
    try:
        frame = _loaded(spark, spec)
        if spec.where is not None:
            frame = frame.where(spec.where)
        _require(frame, spec.key, "[source] key")
        if spec.select is not None:
            _require(frame, spec.select, "[source] select")
        if spec.limit is not None:
            frame = (frame.orderBy(*[_column(name) for name in spec.key]) if spec.key else frame).limit(spec.limit)
        if spec.select is not None:
            frame = frame.select(*[_column(name) for name in spec.select])
        frame.schema  # noqa: B018 - resolves the plan now, so that a mistake is found here
        return frame
    except AnalysisException as exc:
        raise SourceError(f"[source] {spec}: {first_line(exc)}") from exc


def require_classic(spark: SparkSession) -> None:
    """Raises ConfigError over Spark Connect: a job reads what only the driver knows, and serves quota to its workers."""
    if not hasattr(spark, "_jsparkSession"):
        raise ConfigError(
            "a job needs a classic Spark session: run it with python -m jobs.run or spark-submit; over Spark Connect the "
            "functions work (ai_query and its siblings, see docs/)"
        )


def require_columns(frame: DataFrame, names: Sequence[str], where: str) -> None:
    """Raises SourceError for a column that the prompt reads and the source does not have; templates know capitals."""
    known = {name.lower(): name for name in frame.columns}
    for name in names:
        if name not in frame.columns and (other := known.get(name.lower())) is not None:
            raise SourceError(f"{where}: the source has no column {name}, but {other}; templates tell capitals apart")
    _require(frame, names, where)


@dataclass(frozen=True, slots=True)
class SourceSize:
    """Counted once, without a call."""

    rows: int
    distinct_keys: int | None


def measure(frame: DataFrame, key: Sequence[str]) -> SourceSize:
    """How many rows, and how many distinct keys."""
    try:
        if not key:
            return SourceSize(frame.count(), None)
        per_key = frame.groupBy(*[_column(name) for name in key]).agg(F.count(F.lit(1)).alias("n"))
        row = per_key.agg(F.coalesce(F.sum("n"), F.lit(0)).alias("rows"), F.count(F.lit(1)).alias("keys")).first()
        assert row is not None
        return SourceSize(int(row["rows"]), int(row["keys"]))
    except PySparkException as exc:
        raise SourceError(f"the source cannot be read: {first_line(exc)}") from exc


def repeated_keys(frame: DataFrame, key: Sequence[str], most: int = 3) -> list[str]:
    """Some keys that occur more than once, as text."""
    per_key = frame.groupBy(*[_column(name) for name in key]).agg(F.count(F.lit(1)).alias("n")).where("n > 1")
    return [
        ", ".join(f"{name} = {row[name]!r}" for name in key) + f" ({row['n']} rows)"
        for row in per_key.orderBy(F.desc("n")).limit(most).collect()
    ]


def without_landed(source: DataFrame, landed: DataFrame, key: Sequence[str]) -> DataFrame:
    """The source rows whose key is not landed; null equals null."""
    keys = landed.select(*[_column(name).alias(f"__landed_{i}") for i, name in enumerate(key)])
    condition = F.lit(True)
    for i, name in enumerate(key):
        condition = condition & source[quoted(name)].eqNullSafe(keys[f"__landed_{i}"])
    return source.join(keys, on=condition, how="left_anti")


def bucket_count(rows: int, slots: int) -> int:
    """Buckets for a new journal: every slot busy, about `ROWS_PER_BUCKET` rows each. From rows, never from bytes."""
    wanted = max(slots, -(-rows // ROWS_PER_BUCKET))
    rounded = -(-wanted // slots) * slots  # a last wave of tasks that leaves slots idle costs a whole wave
    return max(1, min(rounded, BUCKETS_AT_MOST))


def bucketed(frame: DataFrame, names: Sequence[str], buckets: int) -> DataFrame:
    """One partition per bucket; rows with equal prompt inputs share one. Adds `BUCKET_COLUMN`."""
    values = [_column(name) for name in names] or [F.lit(0)]
    bucket = F.pmod(F.xxhash64(*values), F.lit(buckets)).cast("int")
    return frame.withColumn(BUCKET_COLUMN, bucket).repartitionById(buckets, BUCKET_COLUMN)


def answered(
    frame: DataFrame,
    work: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    results: StructType,
) -> DataFrame:
    """The transform that calls; `results` are all columns. Lazily: exactly one action may run it."""
    return frame.mapInArrow(work, results)


def written(frame: DataFrame, work: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]) -> DataFrame:
    """The same where the tasks write their rows themselves: names and rows of the files. One action may run it."""
    return frame.mapInArrow(work, MANIFEST)


def is_plain(kind: DataType) -> bool:
    """Whether Arrow writes a type into Parquet as Spark reads it back."""
    if isinstance(kind, StructType):
        return bool(kind.fields) and all(is_plain(field.dataType) for field in kind.fields)
    if isinstance(kind, ArrayType):
        return is_plain(kind.elementType)
    if isinstance(kind, MapType):
        return is_plain(kind.keyType) and is_plain(kind.valueType)
    return isinstance(kind, _PLAIN)


def slots(spark: SparkSession) -> int:
    """Tasks that run at once."""
    return max(1, int(spark.sparkContext.defaultParallelism))


def local_frame(spark: SparkSession, rows: Sequence[Mapping[str, Any]], schema: StructType) -> DataFrame:
    """A frame of the driver's own rows. From a list, Spark would start Python workers to convert it, seconds at first."""
    plain = [dict(row) for row in rows]
    try:
        table = pa.Table.from_pylist(plain, schema=to_arrow_schema(schema, timezone="UTC"))
        return spark.createDataFrame(table, schema)
    except ValueError:  # text that is no UTF-8, or an unlimited maxRecordsPerBatch, which Spark passes on as 0
        return spark.createDataFrame(plain, schema)


def first_line(exc: BaseException) -> str:
    """The sentence of a Spark error, without plan and stack."""
    text = str(exc).strip().split("\n")[0]
    return text.split("; line ")[0][:500]


def _loaded(spark: SparkSession, spec: SourceSpec) -> DataFrame:
    if spec.format == "table":
        assert spec.table is not None
        return spark.read.table(spec.table)
    if spec.format == "query":
        assert spec.query is not None
        return spark.sql(spec.query)
    reader = spark.read.format(spec.format).options(**dict(spec.options))
    if spec.format == "csv" and "header" not in dict(spec.options):
        reader = reader.option("header", "true")
    return reader.load(spec.path)


def _require(frame: DataFrame, names: Sequence[str], where: str) -> None:
    known = {name.lower() for name in frame.columns}
    missing = [name for name in names if name.lower() not in known]
    if missing:
        raise SourceError(
            f"{where}: the source has no column {', '.join(missing)}; it has {', '.join(sorted(frame.columns))}"
        )


def _column(name: str) -> Column:
    return F.col(quoted(name))


def quoted(name: str) -> str:
    """A column name as Spark's parser takes it."""
    return "`" + name.replace("`", "``") + "`"
