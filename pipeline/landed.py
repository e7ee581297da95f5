"""The second look: statistics of a run from the landed table, and its line in the runs table."""

from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from pipeline import plans
from pipeline.config import JobFile
from pipeline.errors import SinkError
from pipeline.records import Task
from pipeline.report import NormStatistics, Report, versions
from pipeline.sinks import RunKey, Sink, SinkSpec, open_sink
from pipeline.spark import local_frame

RUNS_SCHEMA = (
    "job string, run_id string, sequence bigint, status string, mode string, task string, endpoint string, "
    "fingerprint string, source string, sink string, started_at timestamp, duration_s double, calling_s double, "
    "rows_source bigint, rows_skipped bigint, rows_landed bigint, rows_failed bigint, rows_replayed bigint, "
    "rows_not_attempted bigint, requests_sent bigint, requests_answered bigint, requests_unknown bigint, "
    "input_tokens bigint, output_tokens bigint, cost double, cost_unknown double, currency string, errors map<string,bigint>, "
    "norms struct<vectors:bigint,dimensions:int,mean:double,lowest:double,highest:double,share_normalized:double,"
    "p1:double,p99:double,mean_vector:double>, "
    "stopped string, versions map<string,string>"
)


def landed_table(spark: SparkSession, job: JobFile) -> DataFrame:
    """The results of all runs of a job so far, lazily. Raises SinkError where nothing has landed."""
    spec = plans.sink_spec(job)
    table = open_sink(spec).landed(spark)
    if table is None:
        raise SinkError(f"[sink] {spec}: no results have landed there")
    return table


def read_back(spark: SparkSession, sink: Sink, job: JobFile, report: Report) -> None:
    """Counts rows, errors and norms of one run where they landed; never in a frame that calls."""
    table = sink.landed(spark)
    if table is None:
        return
    prefix = job.sink.prefix
    mine = table.where(F.col(f"{prefix}run_id").isin(report.run_ids or [report.run_id]))
    code = F.col(f"{prefix}error.code")
    counts = {
        row["code"]: int(row["rows"])
        for row in mine.groupBy(code.alias("code")).agg(F.count("*").alias("rows")).collect()
    }
    report.rows_landed = sum(counts.values())
    report.errors = {name: rows for name, rows in counts.items() if name is not None}
    report.rows_failed = sum(report.errors.values())
    if job.request.task is Task.EMBEDDING:
        report.norms = _norms(mine, prefix, report)


def record_run(spark: SparkSession, job: JobFile, report: Report, sequence: int) -> None:
    """Appends one row to the runs table beside the results, failures too."""
    spec = runs_spec(job)
    row = {
        **{name: getattr(report, name, None) for name in _runs_columns()},
        "cost": report.spend.cost if report.spend is not None else None,
        "cost_unknown": report.spend.unknown if report.spend is not None else None,
        "currency": report.spend.currency if report.spend is not None else None,
        "sequence": sequence,
        "started_at": datetime.fromtimestamp(report.started_at_s, UTC),
        "norms": None if report.norms is None else _norms_row(report.norms),
        "stopped": report.stopped or None,
        "versions": versions(),
    }
    frame = local_frame(spark, [row], StructType.fromDDL(RUNS_SCHEMA))
    sink = open_sink(spec)
    sink.land(spark, frame, "append", RunKey(f"{job.job.name}/runs", sequence, report.run_id))


def runs_spec(job: JobFile) -> SinkSpec:
    """The runs table: the name or path of the results with `_runs`."""
    path = f"{job.sink.path.rstrip('/')}_runs" if job.sink.path else None
    table = f"{job.sink.table}_runs" if job.sink.table else None
    return SinkSpec(job.sink.format, path=path, table=table, later=("cost", "cost_unknown", "currency"))


def _runs_columns() -> list[str]:
    return [part.strip().split(" ")[0] for part in RUNS_SCHEMA.split(", ")]


def _norms(mine: DataFrame, prefix: str, report: Report) -> NormStatistics | None:
    """From the columns beside the vectors: reading those back would take longer than landing them did."""
    norm = F.col(f"{prefix}norm")
    row: Any = (
        mine.where(F.col(f"{prefix}error").isNull())
        .agg(
            F.count("*").alias("vectors"),
            F.percentile_approx(norm, [0.01, 0.99], 10_000).alias("percentiles"),
            F.avg(norm).alias("mean"),
            F.min(norm).alias("lowest"),
            F.max(norm).alias("highest"),
            F.avg(F.col(f"{prefix}is_normalized").cast("double")).alias("share"),
        )
        .first()
    )
    if row is None or not row["vectors"] or row["mean"] is None:
        return None
    return NormStatistics(
        int(row["vectors"]),
        len(report.vector_sum) or None,
        row["mean"],
        row["lowest"],
        row["highest"],
        row["share"],
        p1=row["percentiles"][0],
        p99=row["percentiles"][1],
        mean_vector=report.mean_vector_norm,
    )


def _norms_row(norms: NormStatistics) -> dict[str, Any]:
    return {name: getattr(norms, name) for name in NormStatistics.__dataclass_fields__}
