"""A streaming source, worked off batch by batch until nothing is left: exactly once per batch."""

from dataclasses import replace

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline import plans
from pipeline.errors import PipelineError, SourceError
from pipeline.landing import Opened, land, reason_of
from pipeline.pending import pending_rows
from pipeline.report import Report
from pipeline.sinks import RunKey
from pipeline.spark import quoted, read_source

_CHANGE_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")


def land_batches(opened: Opened, report: Report, *, run_id: str) -> None:
    """Lands every batch that the source has now, then ends.

    Spark numbers the batches in its checkpoint under the state; the number is the landing's sequence, so a batch that
    landed and could not say so is skipped unevaluated. A batch lands whole: what a stopped one had been answered waits
    in the journal.
    """
    job, spark = opened.job, opened.spark
    application = f"{job.job.name}/{opened.journal[:16]}/stream"
    batch_reports: list[Report] = []

    def land_batch(frame: DataFrame, number: int) -> None:
        part = Report(job.job.name, f"stream-{opened.journal[:8]}-{number:08d}")
        batch_reports.append(part)
        key = RunKey(application, number + 1, part.run_id)
        if opened.sink.has_landed(spark, key):
            part.status = "already_landed"
            return
        rows = _latest_changes(frame, job.source.key) if job.source.change_feed else frame
        pending = pending_rows(spark, job, rows, opened.sink, plans.prompt_spec(job), None)
        part.rows_source, part.rows_skipped = pending.rows_source, pending.rows_source - pending.rows
        if pending.rows == 0:
            part.status = "nothing_to_do"
            return
        land(opened, key, pending, part, lands_whole=True)
        if part.status != "landed":
            raise SourceError(part.stopped or "the batch did not land")

    try:
        query = (
            _streamed(opened)
            .writeStream.trigger(availableNow=True)
            .option("checkpointLocation", f"{opened.state_path}/streams/{opened.journal[:16]}")
            .queryName(f"{job.job.name} {run_id}")
            .foreachBatch(land_batch)
            .start()
        )
        query.awaitTermination()
    except (PySparkException, PipelineError) as exc:
        if not any(part.stopped for part in batch_reports):
            report.stopped = reason_of(exc)
    _add_up(batch_reports, report)


def _streamed(opened: Opened) -> DataFrame:
    """The source as a stream; the static read has checked it already."""
    spec = plans.source_spec(opened.job)
    reader = opened.spark.readStream.format(spec.format).options(**dict(spec.options))
    if spec.format == "csv" and "header" not in dict(spec.options):
        reader = reader.option("header", "true")
    if spec.format in ("parquet", "csv", "json"):
        reader = reader.schema(read_source(opened.spark, replace(spec, where=None, select=None)).schema)
    if opened.job.source.change_feed:
        # without a starting version the table as it is comes first: it may be older than its feed, or vacuumed
        reader = reader.option("readChangeFeed", "true")
    frame = reader.table(spec.table) if spec.table is not None else reader.load(spec.path)
    if spec.where is not None:
        frame = frame.where(spec.where)
    if spec.select is not None:
        kept = [*spec.select, *(_CHANGE_COLUMNS if opened.job.source.change_feed else ())]
        frame = frame.select(*[F.col(quoted(name)) for name in kept])
    return frame


def _latest_changes(frame: DataFrame, key: tuple[str, ...]) -> DataFrame:
    """The newest state of each key in a batch of a change feed; deletions ask nothing."""
    newest = Window.partitionBy(*[F.col(quoted(name)) for name in key]).orderBy(F.desc("_commit_version"))
    return (
        frame.where(F.col("_change_type") != "update_preimage")
        .withColumn("__newest", F.row_number().over(newest))
        .where((F.col("__newest") == 1) & (F.col("_change_type") != "delete"))
        .drop("__newest", *_CHANGE_COLUMNS)
    )


def _add_up(parts: list[Report], report: Report) -> None:
    for part in parts:
        report.rows_source += part.rows_source
        report.rows_skipped += part.rows_skipped
        report.rows_replayed += part.rows_replayed
        report.add_vectors(part.vector_sum, part.vectors_summed)
        report.rows_not_attempted += part.rows_not_attempted
        report.calling_s += part.calling_s
        report.stopped = report.stopped or part.stopped
        report.stopped_code = report.stopped_code or part.stopped_code
        report.notes.extend(part.notes)
    report.run_ids = [part.run_id for part in parts if part.status in ("landed", "failed")]
    landed = [part for part in parts if part.status == "landed"]
    if any(part.status == "failed" for part in parts) or report.stopped:
        report.status = "partial" if landed else "failed"
    else:
        report.status = "landed" if landed else "nothing_to_do"
