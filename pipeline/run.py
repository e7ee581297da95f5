"""The story of a job, on one page."""

import contextlib
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack

from pyspark.sql import SparkSession

from pipeline import columns, embedding_plans, landed, plans, stream
from pipeline.board import Board
from pipeline.canary import DriftGate
from pipeline.config import JobFile
from pipeline.errors import ConfigError
from pipeline.guard import guard
from pipeline.journal import journal_spend
from pipeline.landing import FAILURES, Opened, Watch, absolute, land, reason_of
from pipeline.pending import RetryErrors, pending_rows
from pipeline.prices import Price
from pipeline.prompts import prompt_columns
from pipeline.records import Task
from pipeline.report import Report
from pipeline.runs import RunBook, RunRecord, Status
from pipeline.search import note_job
from pipeline.servers import served
from pipeline.sinks import RunKey, open_sink
from pipeline.spark import read_source, require_classic, require_columns
from pipeline.storage import Store, open_store

_BOOKED: dict[str, Status] = {"landed": "landed", "partial": "partial", "nothing_to_do": "abandoned"}

_RUN_ID = re.compile(r"[A-Za-z0-9._=-]{1,128}")


@contextlib.contextmanager
def unwatched(board: Board, rows: int) -> Iterator[None]:
    """Nobody looks on."""
    yield


def run_job(
    job: JobFile,
    spark: SparkSession,
    *,
    run_id: str | None = None,
    fresh: bool = False,
    retry_errors: RetryErrors | None = None,
    watch: Watch = unwatched,
) -> Report:
    """Reads the source, asks for the rows that are pending, lands them in one action, and says how it went.

    `fresh` ignores what the journal holds. `retry_errors` asks only rows that landed with an error, and replaces them.
    Raises ConfigError, SourceError, SinkError or StateError before anything is sent. Afterwards nothing raises: the
    report's status is `landed`, `partial` (stopped; what was finished landed) or `failed` (nothing landed).
    """
    require_classic(spark)
    if run_id is not None and not _RUN_ID.fullmatch(run_id):
        raise ConfigError(
            f"--run-id {run_id!r}: letters, digits and . _ = - only, 128 at most: it names files and folders"
        )
    if retry_errors is not None and job.source.trigger is not None:
        raise ConfigError(
            "--retry-errors reads landed rows, a source with a trigger only what is new: leave one of them out"
        )
    started_at_s = time.time()
    report = Report(
        job.job.name, run_id or "", mode=job.job.mode, task=str(job.request.task), started_at_s=started_at_s
    )
    report.notes.extend([*job.warnings, *embedding_plans.notes(job), *guard(spark)])
    price = plans.price(job)
    if price is None:
        report.notes.append(plans.unpriced(job))
    with ExitStack() as stack:
        base_url = stack.enter_context(served(job))
        state_path = absolute(job.state_path)
        state = open_store(state_path)
        prompt = plans.prompt_spec(job)
        plans.quota_spec(job, 1, None)  # refuses a cap on cost without a price, before anything is opened
        sink = open_sink(plans.sink_spec(job, state_path=state_path))
        source = read_source(spark, plans.source_spec(job))
        require_columns(source, prompt_columns(prompt), "[request] prompt")
        columns.check_collisions(source.columns, embedding_plans.result_shape(job))
        sink.prepare(spark, plans.result_struct(source.schema, job), job.job.mode)

        stack.enter_context(plans.job_lease(state, run_id))
        if job.request.task is Task.EMBEDDING:
            note_job(state, job)
        journal = plans.journal_name(state, plans.fingerprint(job), fresh=fresh)
        book = RunBook(state)
        before = book.records()
        record = book.begin(run_id, journal, lambda other: sink.has_landed(spark, run_key(job, other)))
        plans.describe(report, job, record, before, fresh=fresh)
        if record.status == "landed":
            report.status = "already_landed"
            report.notes.append(f"run {record.run_id} has landed before; nothing was read or sent")
            return report
        gate = _gate(job, state, record, book.records())
        opened = Opened(job, spark, base_url, state, state_path, sink, journal, watch, retry_errors, gate)
        if job.source.trigger is not None:
            stream.land_batches(opened, report, run_id=record.run_id)
        else:
            pending = pending_rows(spark, job, source, sink, prompt, retry_errors)
            report.rows_source, report.rows_skipped = pending.rows_source, pending.rows_source - pending.rows
            if pending.rows == 0 and pending.mode != "overwrite":
                report.status = "nothing_to_do"
            else:
                land(opened, run_key(job, record), pending, report)
        _book(opened, record, book, report, price, started_at_s)
    return report


def _gate(job: JobFile, state: Store, record: RunRecord, runs: list[RunRecord]) -> DriftGate | None:
    """Of a job whose vectors will stand beside those of earlier runs, or be followed by others."""
    action = job.embedding.drift
    if job.request.task is not Task.EMBEDDING or action == "off":
        return None
    replaced = job.job.mode == "overwrite"  # nothing of before stays in the table
    landed_runs = [run.run_id for run in runs if run.status in ("landed", "partial") and not replaced]
    return DriftGate(state, record.fingerprint, record.run_id, landed_runs, action, job.embedding.drift_cosine)


def run_key(job: JobFile, record: RunRecord) -> RunKey:
    """One application per job and journal: a changed prompt never competes with the numbers of the old one."""
    return RunKey(f"{job.job.name}/{record.fingerprint[:16]}", record.sequence, record.run_id)


def _book(
    opened: Opened, record: RunRecord, book: RunBook, report: Report, price: Price | None, started_at_s: float
) -> None:
    """What is done once the rows have landed, or have not."""
    job, spark = opened.job, opened.spark
    has_run = report.status != "nothing_to_do"
    if has_run:
        with _afterwards(report, "what was spent could not be summed"):
            _account(opened, record, report, price)
        with _afterwards(report, "the landed rows could not be counted"):
            landed.read_back(spark, opened.sink, job, report)
        report.notes.extend(opened.gate.notes if opened.gate is not None else ())
        embedding_plans.judge(job, report)
    if report.is_settled:  # else the next run asks the table
        with _afterwards(report, "the end of the run could not be noted"):
            book.end(record, _BOOKED.get(report.status, "failed"))
    report.duration_s = time.time() - started_at_s
    if has_run:
        with _afterwards(report, "the runs table could not be written"):
            landed.record_run(spark, job, report, record.sequence)


@contextlib.contextmanager
def _afterwards(report: Report, what: str) -> Iterator[None]:
    """A failure after the landing cannot undo it: it is said, and the rest is still done."""
    try:
        yield
    except FAILURES as exc:
        report.unbooked.append(f"{what}: {reason_of(exc)}")


def _account(opened: Opened, record: RunRecord, report: Report, price: Price | None) -> None:
    """Spend is a sum over the journal: Spark's accumulators miss what a killed attempt bought."""
    for run_id in report.run_ids or [record.run_id]:
        totals = journal_spend(opened.state, opened.journal, run_id=run_id)
        report.requests_sent += totals.sent
        report.requests_answered += totals.answered
        report.requests_unknown += totals.unknown
        report.input_tokens += totals.input_tokens
        report.output_tokens += totals.output_tokens
        if price is not None:
            added = plans.spend_of(totals, price)
            report.spend = added if report.spend is None else report.spend + added
