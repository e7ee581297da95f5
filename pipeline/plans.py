"""From the job file to the values that the parts below take."""

import contextlib
import hashlib
import os
from collections.abc import Iterator

import orjson
from pyspark.sql.types import StructType

from pipeline import columns, embedding_plans, prompts
from pipeline.config import EMBEDDED, LOCAL, JobFile, load_prices
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.errors import ConfigError, ErrorCode
from pipeline.estimates import Speed
from pipeline.journal import JournalTotals, Lease
from pipeline.limits import FIRST_EMBEDDING_GUESS, FIRST_GUESS, MICROS, NOTHING, Budget, Cost, Costing, QuotaSpec
from pipeline.prices import Expense, Price, price_of
from pipeline.prompts import PromptSpec
from pipeline.quota import QuotaLink
from pipeline.records import Task
from pipeline.report import Report
from pipeline.runs import RunRecord
from pipeline.settings import (
    credentials_of,
    longest_output,
    rate_limits,
    reserve_output,
    retry_settings,
    transport_spec,
)
from pipeline.sinks import SinkSpec
from pipeline.spark import SourceSpec, bucket_count
from pipeline.storage import Store
from pipeline.worker_plan import Plan

# Where nobody configured `in_flight`, AIMD looks for the endpoint's capacity up to here.
MOST_TRIED = 1024
# No worker begins with fewer: growth is judged by goodput, and that of one call says little.
FEWEST_FIRST = 4


def source_spec(job: JobFile) -> SourceSpec:
    """`[source]`."""
    source = job.source
    return SourceSpec(
        source.format,
        path=source.path,
        table=source.table,
        query=source.query,
        key=source.key,
        where=source.where,
        limit=source.limit,
        select=source.select,
        options=tuple(source.options.items()),
    )


def sink_spec(job: JobFile, state_path: str = "") -> SinkSpec:
    """`[sink]`; a run that must land whole is staged under the state."""
    return SinkSpec(
        job.sink.format,
        path=job.sink.path,
        table=job.sink.table,
        key=job.source.key,
        run_column=f"{job.sink.prefix}run_id",
        later=tuple(job.sink.prefix + name for name in columns.LATER_COLUMNS),
        stage_path=f"{state_path}/stage",
    )


def prompt_spec(job: JobFile) -> PromptSpec:
    """`[request]`, with everything else that changes an answer as its identity.

    The base URL is not part of it: the same model behind another address, or a simulator on another port, resumes.
    """
    request = job.request
    return PromptSpec(
        request.task,
        template=request.text if request.task is Task.EMBEDDING else request.prompt,
        system=request.system,
        messages_column=request.messages,
        identity={"api": job.endpoint.api, "name": job.endpoint.name, "parameters": dict(request.parameters)},
        max_request_bytes=job.limits.max_request_bytes,
        instruction=embedding_plans.instruction(job),
        long_texts=embedding_plans.long_texts(job),
    )


def fingerprint(job: JobFile) -> str:
    """Of everything that changes an answer."""
    return prompts.fingerprint(prompt_spec(job))


def result_struct(source: StructType, job: JobFile) -> StructType:
    """The columns of the results table."""
    added = StructType.fromDDL(columns.spark_ddl(embedding_plans.result_shape(job).schema()))
    return StructType([*source.fields, *added.fields])


def most_in_flight(job: JobFile) -> int:
    """Calls at once of the whole job: as configured, else the most that is tried to find what the endpoint takes."""
    if "in_flight" in job.limits.model_fields_set:
        return job.limits.in_flight
    return MOST_TRIED if job.request.task is Task.CHAT else job.limits.in_flight


def first_in_flight(job: JobFile) -> int | None:
    """Calls at once of the whole job to begin with, where nobody configured `in_flight`; None where somebody did."""
    if "in_flight" in job.limits.model_fields_set:
        return None
    return FIRST_EMBEDDING_GUESS if job.request.task is Task.EMBEDDING else FIRST_GUESS


def has_budget(job: JobFile) -> bool:
    """Whether anything caps what the job may spend."""
    budget = job.budget
    return budget.max_requests is not None or budget.max_tokens is not None or budget.max_cost is not None


def costing(job: JobFile, price: Price | None) -> Costing:
    """How a call is charged before its answer is there."""
    return Costing(reserve_output(job.limits), longest_output(job.request.task, job.request.parameters), price)


def quota_spec(job: JobFile, workers: int, totals: JournalTotals | None) -> QuotaSpec:
    """`[limits]` and `[budget]`; `totals` are of all earlier runs, where a budget needs them. Raises ConfigError."""
    budget = job.budget
    cost = None if budget.max_cost is None else round(budget.max_cost * MICROS)
    known = price(job)
    if cost is not None and known is None:
        raise ConfigError(
            f"[budget] max_cost = {budget.max_cost}: no price is known for {job.endpoint.name}, so nothing could be "
            "counted; name a file with its price in [budget] prices, or use max_tokens"
        )
    spent = NOTHING
    if totals is not None:
        # a call of unknown outcome may have been billed: as much as an answered one is assumed
        scale = 1 + totals.unknown / max(1, totals.sent - totals.unknown)
        tokens = round(totals.input_tokens * scale), round(totals.output_tokens * scale)
        money = known.of_tokens(*tokens, round(totals.cached_input_tokens * scale)) if known is not None else 0.0
        spent = Cost(totals.sent, *tokens, round(money * MICROS))
    caps = Budget(budget.max_requests, budget.max_tokens, cost)
    return QuotaSpec(most_in_flight(job), rate_limits(job.limits), caps, spent, workers)


def worker_plan(job: JobFile, base_url: str, run_id: str, quota: QuotaSpec, link: QuotaLink | None = None) -> Plan:
    """What travels. Limits are the job's: a worker leases its part over `link`, else it has an equal share."""
    share = quota.in_flight if link is not None else max(1, quota.in_flight // quota.workers)
    first = first_in_flight(job)
    endpoint = job.endpoint
    return Plan(
        prompt=prompt_spec(job),
        endpoint=EndpointSpec(
            job.request.task,
            endpoint.name,
            endpoint.api,
            base_url,
            dict(job.request.parameters),
            embedding_plans.contract(job),
        ),
        window=WindowSettings(
            in_flight=share,
            pack=embedding_plans.pack_limits(job),
            retry=retry_settings(job.retry),
            first_guess=None if first is None else max(FEWEST_FIRST, first // quota.workers),
            quota=quota,
            costing=costing(job, price(job)),
            run_id=run_id,
            sends_run_id=endpoint.send_run_id or endpoint.base_url == EMBEDDED,
        ),
        transport_kind="local" if endpoint.base_url == LOCAL else endpoint.transport,
        transport=transport_spec(endpoint, in_flight=share, response_bytes=job.response_bytes),
        credentials=credentials_of(endpoint.auth),
        retry_failed=job.retry.retry_failed,
        run_id=run_id,
        prefix=job.sink.prefix,
        link=link,
        vectors=job.embedding.type,
        max_error_ratio=job.embedding.max_error_ratio,
        price=price(job),
    )


def speed(job: JobFile, cores: int) -> Speed:
    """What bounds the job's pace."""
    first, most = first_in_flight(job), most_in_flight(job)
    limits = rate_limits(job.limits)
    return Speed(limits, most, cores) if first is None else Speed(limits, min(first, most), cores, most)


def price(job: JobFile) -> Price | None:
    """What the endpoint's tokens cost, by the job's price file and the shipped one. Raises ConfigError."""
    return price_of(job.endpoint.name, load_prices(job.budget.prices))


def spend_of(totals: JournalTotals, price: Price) -> Expense:
    """What the exchanges behind these sums have cost."""
    cost = price.of_tokens(totals.input_tokens, totals.output_tokens, totals.cached_input_tokens)
    most = totals.most_input_tokens, totals.most_output_tokens
    unknown = totals.unknown * price.of_tokens(*most) if any(most) or not totals.unknown else None
    return Expense(cost, unknown, price.currency)


def unpriced(job: JobFile) -> str:
    """Says once that nothing will have a cost, and what to do."""
    return (
        f"no price is known for {job.endpoint.name}, so cost stays empty; "
        "[budget] prices names a file with yours (pipeline/prices.toml shows how)"
    )


def journal_name(state: Store, fingerprint: str, *, fresh: bool) -> str:
    """The journal of a fingerprint: its own name, or after a fresh start that of its newest generation.

    Decided durably before anything is sent, so that a fresh run that dies is resumed and not begun again.
    """
    name = f"generations/{fingerprint}.json"
    found = state.find(name)
    generation = int(orjson.loads(found)["generation"]) if found is not None else 0
    if fresh:
        generation += 1
        state.write_atomic(name, orjson.dumps({"generation": generation}))
    return fingerprint if generation == 0 else hashlib.sha256(f"{fingerprint}/{generation}".encode()).hexdigest()


def describe(report: Report, job: JobFile, record: RunRecord, before: list[RunRecord], *, fresh: bool) -> None:
    """Fills in what the report says of the job, and what changed since its last run."""
    report.run_id, report.fingerprint = record.run_id, record.fingerprint
    report.source, report.sink, report.state = str(source_spec(job)), str(sink_spec(job)), job.state_path
    report.endpoint = f"{job.endpoint.name} ({job.endpoint.api})"
    if fresh:
        report.notes.append("--fresh: the journal is ignored, every pending row is bought anew")
    elif before and before[-1].fingerprint != record.fingerprint:
        report.notes.append(
            "what is asked changed since the last run (endpoint name, prompt or parameters): answers of before are not "
            "replayed. Landed rows stay as they are; mode = merge with [source] changed = true asks them again"
        )


def buckets(job: JobFile, state: Store, fingerprint: str, rows: int, slots: int) -> int:
    """How many buckets the rows go to: what `[job]` says or what suits their number, if the journal is new."""
    return buckets_of_birth(state, fingerprint, job.job.buckets or min(bucket_count(rows, slots), job.limits.in_flight))


def buckets_of_birth(state: Store, fingerprint: str, wanted: int) -> int:
    """How many buckets this journal has: decided once, so that a rerun elsewhere finds the same rows in the same one."""
    name = f"births/{fingerprint}.json"
    state.put_if_absent(name, orjson.dumps({"buckets": wanted}))
    return int(orjson.loads(state.read(name))["buckets"])


@contextlib.contextmanager
def job_lease(state: Store, run_id: str | None) -> Iterator[None]:
    """Only one driver runs a job on one state folder; a second is refused while the first one lives."""
    lease = Lease.acquire(state, "lease", owner=run_id or f"pid {os.getpid()}", mode="refuse")
    try:
        yield
    finally:
        lease.release()


def explain_stop(code: str, message: str, job: JobFile) -> str:
    """Why the job stopped and what to change."""
    where = f"{job.endpoint.name} at {job.endpoint.base_url}"
    secret = (
        f"the credential {job.endpoint.auth.secret}"
        if job.endpoint.auth
        else "the request, which carried no credential"
    )
    advice = {
        ErrorCode.AUTHENTICATION: f"{where} refused {secret} ([endpoint] auth)",
        ErrorCode.PERMISSION: f"{where} does not allow this to {secret} ([endpoint] auth)",
        ErrorCode.NOT_FOUND: f"{where} was not found: check [endpoint] name, api and base_url",
        ErrorCode.QUOTA_EXHAUSTED: f"{where}: quota or credit is used up",
        ErrorCode.CONNECT_FAILED: f"{where} cannot be reached: check [endpoint] base_url, and that the server runs",
    }.get(ErrorCode(code) if code else ErrorCode.INTERNAL)
    return f"{advice}: {message}" if advice else message
