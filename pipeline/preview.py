"""A look at a job before it runs: prompts, a few answers, and what the whole of it will send, use, cost and take."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline import columns, embedding_plans, plans
from pipeline.board import Board
from pipeline.calibrations import add_calibration, load_calibration
from pipeline.config import JobFile
from pipeline.errors import SourceError
from pipeline.estimates import Answered, Estimate, Sizes, reckon
from pipeline.journal import journal_spend
from pipeline.landing import absolute, endpoint_key
from pipeline.leasing import static_parts
from pipeline.pending import pending_rows
from pipeline.prices import Price
from pipeline.prompts import PromptSpec, Renderer, prompt_columns
from pipeline.records import Request, RowError, Task
from pipeline.rendering import MEASURED_DDL, MeasureTask, PickTask
from pipeline.servers import served
from pipeline.settings import longest_output
from pipeline.sinks import open_sink
from pipeline.spark import answered, bucketed, first_line, quoted, read_source, require_classic, require_columns, slots
from pipeline.storage import Store, open_store
from pipeline.task import BucketTask

# Enough rows that their mean is within a few percent, few enough that looking takes seconds.
MEASURED_ROWS = 20_000
_SEED = 20_261_121


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row of the sample: what is asked, and what came back where it was sent."""

    key: str
    question: str
    answer: str = ""
    input_tokens: int | None = None  # reported where it was sent, else estimated
    output_tokens: int | None = None
    latency_ms: float | None = None
    is_sent: bool = False


@dataclass(slots=True)
class Preview:
    """A job before it runs."""

    job: str
    endpoint: str
    rows_source: int
    rows_pending: int
    sizes: Sizes
    estimate: Estimate
    price: Price | None
    rows: list[PreviewRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str = ""  # why the endpoint cannot be used

    def lines(self) -> list[tuple[str, str]]:
        """(label, text), in reading order."""
        sizes = self.sizes
        landed = self.rows_source - self.rows_pending
        skipped = f", {landed:,} of them landed before" if landed else ""
        lines = [("job", f"{self.job}: {self.rows_source:,} rows{skipped}"), ("endpoint", self.endpoint)]
        if self.problem:
            lines.append(("problem", self.problem))
        measured = "all rows" if sizes.scale <= 1 else f"{sizes.rendered:,} rows at random"
        lines.append(
            ("prompts", f"{sizes.mean:,.0f} tokens on average, {sizes.p95:,} at the 95th percentile ({measured})")
        )
        if sizes.refused:
            lines.append(
                ("", f"{round(sizes.refused * sizes.scale):,} rows ask nothing: blank, too large or unreadable")
            )
        lines += self.estimate.lines(self.price)
        lines.extend(("note", note) for note in self.notes)
        return lines


def preview_job(job: JobFile, spark: SparkSession, *, rows: int = 20, calls: int = 0) -> Preview:
    """Renders prompts of the pending rows, sends `calls` of them, and reckons the whole job. Lands nothing.

    What was sent is in the journal: the run that follows has its answers, and does not buy them again.
    Raises ConfigError, SourceError or SinkError as a run would.
    """
    require_classic(spark)
    price, prompt = plans.price(job), plans.prompt_spec(job)
    sink = open_sink(plans.sink_spec(job))
    source = read_source(spark, plans.source_spec(job))
    require_columns(source, prompt_columns(prompt), "[request] prompt")
    columns.check_collisions(source.columns, embedding_plans.result_shape(job))
    sink.prepare(spark, plans.result_struct(source.schema, job), job.job.mode)
    pending = pending_rows(spark, job, source, sink, prompt, None)
    state = open_store(absolute(job.state_path))

    measured = _part(pending.frame, pending.rows)
    calibration = load_calibration(state, endpoint_key(job))
    sizes, picked = _measure(measured, prompt, MeasureTask(prompt, calibration, job.endpoint.name), pending.rows, rows)
    sample = _rows(measured, PickTask(prompt, frozenset(picked)), picked, prompt)
    sent = _Sent()
    if calls and sample:
        sent = _send(job, spark, state, measured, picked[:calls], pending.rows)
        if sent.reported:  # sizes as the endpoint counts them
            calibration = load_calibration(state, endpoint_key(job))
            sizes, _ = _measure(
                measured, prompt, MeasureTask(prompt, calibration, job.endpoint.name), pending.rows, rows
            )
    estimate = reckon(
        sizes,
        sent.answered,
        price,
        plans.speed(job, slots(spark)),
        embedding_plans.pack_limits(job),
        longest_output(job.request.task, job.request.parameters),
    )
    preview = Preview(
        job.job.name,
        f"{job.endpoint.name} ({job.endpoint.api}) at {job.endpoint.base_url}",
        pending.rows_source,
        pending.rows,
        sizes,
        estimate,
        price,
        [_shown(row, request, job, sent.results.get(request.request_id)) for request, row in sample],
        [*job.warnings, *embedding_plans.notes(job)],
        sent.problem,
    )
    if price is None:
        preview.notes.append(plans.unpriced(job))
    if job.request.task is Task.EMBEDDING and prompt.long_texts.policy == "chunk":
        preview.notes.append("a long text is one request here; the run asks for it in parts")
    already = journal_spend(state, plans.journal_name(state, plans.fingerprint(job), fresh=False)).rows_answered
    if already:
        preview.notes.append(f"{already:,} requests of this job are answered in its journal and not bought again")
    return preview


@dataclass(slots=True)
class _Sent:
    """What a few calls brought, by request id."""

    results: dict[str, Any] = field(default_factory=dict)
    answered: Answered = field(default_factory=Answered)
    reported: bool = False
    problem: str = ""


def _part(frame: DataFrame, rows: int) -> DataFrame:
    """The frame, or a random part of it of about `MEASURED_ROWS` rows; the same one each time."""
    if rows <= MEASURED_ROWS:
        return frame
    return frame.sample(withReplacement=False, fraction=MEASURED_ROWS / rows, seed=_SEED)


def _measure(
    frame: DataFrame, prompt: PromptSpec, task: MeasureTask, rows: int, wanted: int
) -> tuple[Sizes, list[str]]:
    """Sizes of the distinct requests, and the ids of some spread evenly over them, small to large."""
    names = prompt_columns(prompt)
    read = frame.select(*[F.col(quoted(name)) for name in names]) if names else frame
    try:
        found = read.mapInArrow(task, MEASURED_DDL).collect()
    except PySparkException as exc:
        raise SourceError(f"the source cannot be read: {first_line(exc)}") from exc
    sizes = {row["request_id"]: int(row["input_tokens"]) for row in found if row["request_id"] is not None}
    refused = sum(row["request_id"] is None for row in found)
    ordered = sorted(sizes, key=lambda one: (sizes[one], one))
    count = min(wanted, len(ordered))
    # the middle of each of `count` equal parts: long and short answers are met in their proportion
    picked = [ordered[int((place + 0.5) * len(ordered) / count)] for place in range(count)]
    middle_first = sorted(picked, key=lambda one: abs(sizes[one] - sizes[ordered[len(ordered) // 2]]))
    return Sizes(rows, len(found), refused, tuple(sizes.values())), middle_first


def _rows(
    frame: DataFrame, task: PickTask, picked: Sequence[str], prompt: PromptSpec
) -> list[tuple[Request, dict[str, Any]]]:
    """One row per picked request, in the order of the picks."""
    if not picked:
        return []
    renderer = Renderer(prompt)
    found: dict[str, tuple[Request, dict[str, Any]]] = {}
    for row in frame.mapInArrow(task, frame.schema).toLocalIterator():
        values = row.asDict()
        request = renderer.render(values)
        if not isinstance(request, RowError):
            found.setdefault(request.request_id, (request, values))
    return [found[one] for one in picked if one in found]


def _send(job: JobFile, spark: SparkSession, state: Store, frame: DataFrame, picked: Sequence[str], rows: int) -> _Sent:
    """Asks for these rows as the run would, with its journal and buckets, and takes the answers here."""
    run_id = f"preview-{int(time.time())}"
    prompt = plans.prompt_spec(job)
    with ExitStack() as stack:
        base_url = stack.enter_context(served(job))
        stack.enter_context(plans.job_lease(state, run_id))
        journal = plans.journal_name(state, plans.fingerprint(job), fresh=False)
        buckets = plans.buckets(job, state, journal, rows, slots(spark))
        spent = journal_spend(state, journal) if plans.has_budget(job) else None
        quota = static_parts(plans.quota_spec(job, min(buckets, slots(spark)), spent), buckets)
        plan = plans.worker_plan(job, base_url, run_id, quota)
        plan = replace(plan, calibration=load_calibration(state, endpoint_key(job)))
        board = Board(state, run_id)
        task = BucketTask(plan, absolute(job.state_path), journal, job.state.fsync)
        some = frame.mapInArrow(PickTask(prompt, frozenset(picked)), frame.schema)
        work = answered(bucketed(some, prompt_columns(prompt), buckets), task, plans.result_struct(frame.schema, job))
        began_s = time.monotonic()
        try:
            landed = work.collect()
        except PySparkException as exc:
            return _Sent(problem=first_line(exc))
        took_s = time.monotonic() - began_s
        total = board.total()
        add_calibration(state, endpoint_key(job), total.calibration)
        board.clear()
    name = job.sink.prefix
    results = {row[f"{name}request_id"]: row for row in landed}
    usages = [row for row in results.values() if row[f"{name}response"] is not None]
    latency_s = tuple(row[f"{name}latency_ms"] / 1e3 for row in usages)
    found = Answered(
        tuple(row[f"{name}usage"]["output_tokens"] or 0 for row in usages),
        latency_s,
        max(0.0, took_s - max(latency_s, default=0.0)),
    )
    problem = plans.explain_stop(total.stopped_code, total.stopped, job) if total.stopped else ""
    return _Sent(results, found, bool(total.calibration), problem)


def _shown(row: dict[str, Any], request: Request, job: JobFile, result: Any | None) -> PreviewRow:
    key = ", ".join(str(row[name]) for name in job.source.key)
    question = (
        request.text
        if request.text is not None
        else "\n".join(str(message["content"]) for message in request.messages or ())
    )
    if result is None:
        return PreviewRow(key, question, input_tokens=request.input_tokens)
    name = job.sink.prefix
    usage, error, response = result[f"{name}usage"], result[f"{name}error"], result[f"{name}response"]
    if error is not None:
        answer = f"{error['code']}: {error['message']}"
    elif job.request.task is Task.EMBEDDING:
        unit = "bytes" if isinstance(response, bytes | bytearray) else "numbers"
        norm = result[f"{name}norm"]
        answer = f"a vector of {len(response)} {unit}" + (f", norm {norm:.4f}" if norm is not None else "")
    else:
        answer = str(response)
    return PreviewRow(
        key, question, answer, usage["input_tokens"], usage["output_tokens"], result[f"{name}latency_ms"], True
    )
