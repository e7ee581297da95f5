"""Answers the pending rows and lands them, in the one action that calls."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipeline import plans
from pipeline.board import Board
from pipeline.calibrations import add_calibration, load_calibration
from pipeline.canary import DriftGate
from pipeline.config import JobFile
from pipeline.errors import PipelineError
from pipeline.journal import journal_spend
from pipeline.leasing import Leasing, leased
from pipeline.limits import QuotaView
from pipeline.part_files import PartWriter
from pipeline.pending import Pending, RetryErrors
from pipeline.progress import Progress
from pipeline.prompts import prompt_columns
from pipeline.records import Task
from pipeline.report import Report
from pipeline.sinks import Mode, RunKey, Sink
from pipeline.spark import answered, bucketed, first_line, is_plain, local_frame, slots, written
from pipeline.storage import Store
from pipeline.task import BucketTask

# The last line of a Python traceback inside Spark's error text.
_RAISED = re.compile(r"^(?:[a-z_][\w.]*\.)?([A-Z]\w+): (.+)$", re.MULTILINE)

# What a Spark action ends with; a stream's batch is landed below pyspark's translation.
FAILURES = (PySparkException, Py4JJavaError, PipelineError)

Watch = Callable[[Board, int], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Opened:
    """A job with everything that it needs open."""

    job: JobFile
    spark: SparkSession
    base_url: str
    state: Store
    state_path: str
    sink: Sink
    journal: str  # name of the journal: the fingerprint, or that of a fresh start
    watch: Watch
    retry_errors: RetryErrors | None = None
    gate: DriftGate | None = None


def land(opened: Opened, key: RunKey, pending: Pending, report: Report, *, lands_whole: bool = False) -> None:
    """Lands what is pending and says in the report how it went. Raises nothing that a run can end with.

    `lands_whole`: rows that were not attempted make the whole landing fail; what was answered stays in the journal.
    """
    job, spark = opened.job, opened.spark
    buckets = plans.buckets(job, opened.state, opened.journal, pending.rows, slots(spark))
    workers = min(buckets, slots(spark))
    if workers > job.limits.in_flight:
        report.notes.append(
            f"[limits] in_flight = {job.limits.in_flight} is less than the {workers} tasks that run at once, each of "
            "which sends one call at a time; use fewer cores, or a new [state] path"
        )
    totals = journal_spend(opened.state, opened.journal) if plans.has_budget(job) else None
    quota = plans.quota_spec(job, workers, totals)
    with leased(spark, quota, is_static=job.limits.shared == "static", buckets=buckets) as leasing:
        ended = _called(opened, key, pending, report, leasing, buckets, lands_whole=lands_whole)
    if ended is None:
        report.status = "failed"
        return
    has_landed, total = ended
    add_calibration(opened.state, endpoint_key(job), total.calibration)
    if total.journal_damage:
        report.notes.append(
            f"{total.journal_damage:,} damaged journal frames were found and not served; their rows were asked again. "
            "python -m jobs.journal shows where"
        )
    report.add_vectors(total.vector_sum, total.vectors_summed)
    report.rows_replayed += total.rows_replayed
    report.rows_not_attempted += total.rows_not_attempted
    if total.stopped:
        report.stopped, report.stopped_code = (
            plans.explain_stop(total.stopped_code, total.stopped, job),
            total.stopped_code,
        )
    is_partial = bool(total.rows_not_attempted or total.stopped)
    report.status = ("partial" if is_partial else "landed") if has_landed else "failed"


def _called(
    opened: Opened, key: RunKey, pending: Pending, report: Report, leasing: Leasing, buckets: int, *, lands_whole: bool
) -> tuple[bool, Progress] | None:
    """Whether the rows have landed, and where the partitions stood at the end; None where the drift gate refused."""
    job = opened.job
    plan = plans.worker_plan(job, opened.base_url, key.run_id, leasing.quota, leasing.link)
    plan = replace(plan, calibration=load_calibration(opened.state, endpoint_key(job)))
    if opened.retry_errors is not None:
        plan = replace(plan, retry_failed=opened.retry_errors, asks_unknown_again=True)
    if lands_whole or pending.mode == "overwrite":
        plan = replace(plan, on_unfinished="raise")
    if opened.gate is not None and (refusal := opened.gate.refusal(plan)) is not None:
        report.stopped = refusal
        return None
    board = Board(opened.state, key.run_id)
    board.clear()
    board.limits_used = leasing.used
    task = BucketTask(plan, opened.state_path, opened.journal, job.state.fsync)
    names = prompt_columns(plan.prompt)
    rows = bucketed(pending.frame, names, buckets)
    results = plans.result_struct(pending.frame.schema, job)
    calling_since_s = time.time()
    try:
        with opened.watch(board, pending.rows):
            _land_rows(opened, key, pending.mode, rows, task, results)
        has_landed = True
    except FAILURES as exc:
        report.stopped = reason_of(exc)
        has_landed = _has_landed(opened, key, report)
    report.calling_s += time.time() - calling_since_s
    total = board.total()
    report.notes.extend(_quota_notes(leasing, total.quota))
    return has_landed, total


def _quota_notes(leasing: Leasing, view: QuotaView) -> Iterator[str]:
    """What a person should know of how the quota was kept."""
    if leasing.why_static:
        yield f"static shares: no quota server on the driver ({leasing.why_static})"
    if view.unleased:
        yield (
            f"static shares: {view.unleased:,} of the tasks could not reach the quota server at {leasing.link}; each "
            "used its equal part of the limits"
        )
    if view.outages:
        yield (
            f"the endpoint was down {view.outages:,} times as the tasks saw it; {view.probes:,} probes looked for it, and "
            "no row paid for it with an attempt"
        )
    if view.retries_held:
        yield f"{view.retries:,} retries; the retry budget (10 % of first attempts) held them back {view.retries_held:,} times"


def _has_landed(opened: Opened, key: RunKey, report: Report) -> bool:
    """Whether the rows are there although the landing failed: a commit may succeed and its acknowledgement be lost."""
    try:
        has_landed = opened.sink.has_landed(opened.spark, key)
    except FAILURES as exc:
        report.notes.append(f"whether this run has landed could not be read ({reason_of(exc)}); a rerun finds out")
        report.is_settled = False
        return False
    if has_landed:
        report.stopped = ""
    return has_landed


def endpoint_key(job: JobFile) -> str:
    """What a calibration of token estimates belongs to: the model counts, whatever its address."""
    return f"{job.endpoint.api}/{job.endpoint.name}"


def _land_rows(opened: Opened, key: RunKey, mode: Mode, rows: DataFrame, task: BucketTask, results: StructType) -> None:
    """The action that calls. The tasks write their rows themselves where sink and types allow it."""
    spark, sink, prefix = opened.spark, opened.sink, opened.job.sink.prefix
    stage = sink.open_stage(spark, results, mode, key) if is_plain(results) else None
    if stage is None:
        sink.land(spark, answered(rows, task, results), mode, key)
        return
    kept = StructType([field for field in results.fields if field.name not in stage.left_out])
    vectors = f"{prefix}response" if opened.job.request.task is Task.EMBEDDING else None
    codec = str(spark.conf.get("spark.sql.parquet.compression.codec"))
    writer = PartWriter(task, stage.folder, kept.json(), vectors, stage.left_out, codec)
    try:
        files = [row["file"] for row in written(rows, writer).collect()]
    except BaseException:  # what tasks that ended well have written is in the journal, too
        stage.remove()
        raise
    if not files:  # no row was finished: Spark writes an empty table with its columns
        sink.land(spark, local_frame(spark, [], results), mode, key)
        return
    sink.publish(spark, stage.folder, files, mode, key)


def absolute(path: str) -> str:
    """Workers may run in another folder than the driver."""
    return path if "://" in path else os.path.abspath(path)


def reason_of(exc: Exception) -> str:
    """The sentence behind a failed Spark action: the worker's own exception where there is one."""
    text = str(exc)
    if isinstance(exc, Py4JJavaError):
        cause: Any = exc.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        text = str(cause.getMessage())
        if "Traceback" not in text:
            return f"{cause.getClass().getSimpleName()}: {text}".split("\n")[0][:500]
    raised = _RAISED.findall(text)
    if raised:
        return f"{raised[-1][0]}: {raised[-1][1]}"[:500]
    return f"{type(exc).__name__}: {first_line(exc)}"
