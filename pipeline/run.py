"""The story of a job, on one page."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipeline import columns, landed, plans
from pipeline.board import Board
from pipeline.config import EMBEDDED, JobFile
from pipeline.errors import PipelineError, SourceError
from pipeline.guard import guard
from pipeline.journal import journal_totals
from pipeline.prompts import prompt_columns
from pipeline.report import Report
from pipeline.runs import RunBook, RunRecord
from pipeline.simulator import SimulatorProcess
from pipeline.sinks import RunKey, Sink, open_sink
from pipeline.spark import (
    answered,
    bucket_count,
    bucketed,
    first_line,
    measure,
    read_source,
    repeated_keys,
    require_columns,
    slots,
    without_landed,
)
from pipeline.storage import Store, open_store
from pipeline.task import BucketTask

Watch = Callable[[Board, int], AbstractContextManager[None]]


@contextlib.contextmanager
def unwatched(board: Board, rows: int) -> Iterator[None]:
    """Nobody looks on."""
    yield


@dataclass(frozen=True, slots=True)
class _Pending:
    """The rows that this run asks, and what is known of them."""

    frame: DataFrame
    schema: StructType
    rows: int
    rows_source: int


def run_job(job: JobFile, spark: SparkSession, *, run_id: str | None = None, watch: Watch = unwatched) -> Report:
    """Reads the source, asks for the rows that have not landed, lands them in one action, and says how it went.

    Raises ConfigError, SourceError, SinkError or StateError before anything is sent. Afterwards nothing raises: the
    report's status is `landed`, `partial` (stopped; what was finished landed) or `failed` (nothing landed).
    """
    started_at_s = time.time()
    report = Report(
        job.job.name, run_id or "", mode=job.job.mode, task=str(job.request.task), started_at_s=started_at_s
    )
    report.notes.extend([*job.warnings, *guard(spark)])
    with ExitStack() as stack:
        base_url = stack.enter_context(_base_url(job))
        state = open_store(_absolute(job.state_path))
        spec = plans.prompt_spec(job)
        fingerprint = plans.fingerprint(job)
        sink = open_sink(plans.sink_spec(job, state_path=_absolute(job.state_path)))
        source = read_source(spark, plans.source_spec(job))
        require_columns(source, prompt_columns(spec), "[request] prompt")
        columns.check_collisions(source.columns, job.request.task, job.sink.prefix)
        schema = plans.result_struct(source.schema, job)
        sink.prepare(spark, schema, job.job.mode)

        stack.enter_context(plans.job_lease(state, run_id))
        book = RunBook(state)
        record = book.begin(run_id, fingerprint, lambda other: sink.has_landed(spark, _key(job, other)))
        report.run_id, report.fingerprint = record.run_id, fingerprint
        report.source, report.sink, report.state = (
            str(plans.source_spec(job)),
            str(plans.sink_spec(job)),
            job.state_path,
        )
        report.endpoint = f"{job.endpoint.name} ({job.endpoint.api})"
        if record.status == "landed":
            report.status = "already_landed"
            report.notes.append(f"run {record.run_id} has landed before; nothing was read or sent")
            return report

        pending = _pending(spark, job, source, sink)
        report.rows_source, report.rows_skipped = pending.rows_source, pending.rows_source - pending.rows
        if pending.rows == 0 and job.job.mode != "overwrite":
            book.end(record, "abandoned")
            report.status = "nothing_to_do"
            report.duration_s = time.time() - started_at_s
            return report
        _answer_and_land(spark, job, base_url, state, sink, record, pending, report, watch)
        _account(state, fingerprint, record, report)
        landed.read_back(spark, sink, job, record.run_id, report)
        book.end(record, {"landed": "landed", "partial": "partial"}.get(report.status, "failed"))  # type: ignore[arg-type]
        report.duration_s = time.time() - started_at_s
        landed.record_run(spark, job, report, record.sequence)
    return report


def _answer_and_land(
    spark: SparkSession,
    job: JobFile,
    base_url: str,
    state: Store,
    sink: Sink,
    record: RunRecord,
    pending: _Pending,
    report: Report,
    watch: Watch,
) -> None:
    names = prompt_columns(plans.prompt_spec(job))
    buckets = plans.buckets_of_birth(
        state,
        record.fingerprint,
        job.job.buckets or min(bucket_count(pending.rows, slots(spark)), job.limits.in_flight),
    )
    workers = min(buckets, slots(spark))
    if workers > job.limits.in_flight:
        report.notes.append(
            f"[limits] in_flight = {job.limits.in_flight} is less than the {workers} tasks that run at once, each of "
            f"which sends one call at a time; use fewer cores, or a new [state] path"
        )
    plan = plans.worker_plan(job, base_url, record.run_id, workers)
    if not sink.is_direct(job.job.mode) and job.job.mode == "overwrite":
        plan = replace(plan, on_unfinished="raise")
    board = Board(state, record.run_id)
    board.clear()
    task = BucketTask(plan, _absolute(job.state_path), record.fingerprint, job.state.fsync)
    frame = answered(bucketed(pending.frame, names, buckets), task, pending.schema, job.request.task, job.sink.prefix)
    calling_since_s = time.time()
    try:
        with watch(board, pending.rows):
            sink.land(spark, frame, job.job.mode, _key(job, record))
        has_landed = True
    except (PySparkException, PipelineError) as exc:
        has_landed = sink.has_landed(spark, _key(job, record))
        if not has_landed:
            report.stopped = _reason(exc)
    report.calling_s = time.time() - calling_since_s
    total = board.total()
    report.rows_replayed = total.rows_replayed
    report.rows_not_attempted = total.rows_not_attempted
    if total.stopped:
        report.stopped, report.stopped_code = (
            plans.explain_stop(total.stopped_code, total.stopped, job),
            total.stopped_code,
        )
    report.status = ("partial" if total.rows_not_attempted or total.stopped else "landed") if has_landed else "failed"


def _pending(spark: SparkSession, job: JobFile, source: DataFrame, sink: Sink) -> _Pending:
    key = job.source.key
    size = measure(source, key)
    if size.distinct_keys is not None and size.distinct_keys < size.rows:
        raise SourceError(
            f"[source] key = {list(key)} is not unique: {size.rows:,} rows have {size.distinct_keys:,} keys, for example "
            f"{'; '.join(repeated_keys(source, key))}. Add columns to the key, or choose one row per key in a query."
        )
    existing = sink.landed(spark) if key and job.job.mode == "append" else None
    if existing is None:
        return _Pending(source, source.schema, size.rows, size.rows)
    frame = without_landed(source, existing, key)
    return _Pending(frame, source.schema, measure(frame, ()).rows, size.rows)


def _account(state: Store, fingerprint: str, record: RunRecord, report: Report) -> None:
    """Spend is a sum over the journal: Spark's accumulators miss what a killed attempt bought."""
    totals = journal_totals(state, fingerprint, run_id=record.run_id)
    report.requests_sent = totals.sent
    report.requests_answered = totals.answered
    report.requests_unknown = totals.unknown
    report.input_tokens = totals.input_tokens
    report.output_tokens = totals.output_tokens


@contextlib.contextmanager
def _base_url(job: JobFile) -> Iterator[str]:
    if job.endpoint.base_url != EMBEDDED:
        yield job.endpoint.base_url
        return
    with SimulatorProcess() as simulator:
        yield simulator.base_url if job.endpoint.api == "openai" else simulator.host_url


def _key(job: JobFile, record: RunRecord) -> RunKey:
    # one application per job and fingerprint: a changed prompt never competes with the numbers of the old one
    return RunKey(f"{job.job.name}/{record.fingerprint[:16]}", record.sequence, record.run_id)


def _absolute(path: str) -> str:
    """Workers may run in another folder than the driver."""
    return path if "://" in path else os.path.abspath(path)


def _reason(exc: Exception) -> str:
    """The sentence behind a failed Spark action: the worker's own exception where there is one."""
    for line in reversed(str(exc).splitlines()):
        if line.strip().startswith("pipeline.errors."):
            return line.strip().removeprefix("pipeline.errors.")
    return f"{type(exc).__name__}: {first_line(exc)}"
