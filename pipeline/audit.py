"""Compares the books of a job: source, table, journal, and the endpoint's own bill where there is one."""

from dataclasses import dataclass, field

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipeline import plans
from pipeline.canary import canary_totals
from pipeline.config import JobFile
from pipeline.errors import SourceError
from pipeline.journal import JournalTotals, fingerprints, journal_spend, journal_totals
from pipeline.landing import absolute
from pipeline.prices import Price, money
from pipeline.sinks import open_sink
from pipeline.spark import measure, quoted, read_source
from pipeline.storage import Store, open_store


@dataclass(frozen=True, slots=True)
class BillFigures:
    """What an endpoint says it served; with the simulator, its `/bill`."""

    requests: int
    answers: int
    input_tokens: int
    output_tokens: int


@dataclass(slots=True)
class Audit:
    """Figures as (label, value), and the sentences that say what differs; no sentence means that the books agree."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def compare(self, what: str, ours: int, theirs: int) -> None:
        """Notes a difference where there is one."""
        if ours != theirs:
            self.differences.append(f"{what}: {ours:,} against {theirs:,} ({ours - theirs:+,})")


def audit_job(job: JobFile, spark: SparkSession, bill: BillFigures | None = None) -> Audit:
    """The books of all runs of a job. Reads the source and the table, sends nothing."""
    audit = Audit()
    state = open_store(absolute(job.state_path))
    journal = plans.journal_name(state, plans.fingerprint(job), fresh=False)
    totals, canary = journal_totals(state, journal), canary_totals(state, journal)
    price = plans.price(job)
    _journal(audit, totals)
    if canary.sent:
        audit.figures.append(
            (
                "",
                f"{canary.sent:,} of the requests and {canary.input_tokens:,} tokens were for the texts that tell drift",
            )
        )
    if price is not None:
        audit.figures.append(("", f"cost {plans.spend_of(totals, price)}"))
    _table(audit, job, spark, totals, _bought(state), price)
    if bill is not None:
        _bill(audit, bill, totals)
    return audit


def _bought(state: Store) -> tuple[int, int]:
    """Input and output tokens of all journals of the state, but for the texts that tell drift."""
    names = fingerprints(state)
    spends = [journal_spend(state, name) for name in names]
    canaries = [canary_totals(state, name) for name in names]
    return (
        sum(each.input_tokens for each in spends) - sum(each.input_tokens for each in canaries),
        sum(each.output_tokens for each in spends) - sum(each.output_tokens for each in canaries),
    )


def _journal(audit: Audit, totals: JournalTotals) -> None:
    unknown = f", {totals.unknown:,} of unknown outcome" if totals.unknown else ""
    audit.figures.append(
        ("journal", f"{totals.sent:,} requests sent: {totals.answered:,} answered, {totals.failed:,} refused{unknown}")
    )
    audit.figures.append(
        ("", f"{totals.requests:,} distinct rows asked, {totals.requests_answered:,} of them answered")
    )
    audit.figures.append(("", f"{totals.input_tokens:,} tokens in, {totals.output_tokens:,} out"))
    for damage in totals.damage:
        audit.differences.append(f"journal: {damage}")


def _table(
    audit: Audit,
    job: JobFile,
    spark: SparkSession,
    totals: JournalTotals,
    bought: tuple[int, int],
    price: Price | None,
) -> None:
    key, prefix = job.source.key, job.sink.prefix
    landed = open_sink(plans.sink_spec(job)).landed(spark)
    if landed is None:
        audit.figures.append(("table", "nothing has landed"))
        return
    try:
        source_rows = measure(read_source(spark, plans.source_spec(job)), ()).rows
        audit.figures.append(("source", f"{source_rows:,} rows"))
    except SourceError as exc:
        audit.differences.append(f"source: {exc}")
        source_rows = None
    usage = F.col(f"{prefix}usage")
    row = landed.agg(
        F.count("*").alias("rows"),
        F.count(F.col(f"{prefix}error")).alias("failed"),
        F.coalesce(F.sum(usage["input_tokens"]), F.lit(0)).alias("input"),
        F.coalesce(F.sum(usage["output_tokens"]), F.lit(0)).alias("output"),
        (F.sum(f"{prefix}cost") if f"{prefix}cost" in landed.columns else F.lit(None)).alias("cost"),
    ).first()
    assert row is not None
    audit.figures.append(
        ("table", f"{row['rows']:,} rows landed: {row['rows'] - row['failed']:,} answered, {row['failed']:,} failed")
    )
    cost = f", cost {money(row['cost'], price.currency)}" if price is not None and row["cost"] is not None else ""
    audit.figures.append(("", f"{row['input']:,} tokens in, {row['output']:,} out{cost}"))
    if key:
        is_one_row_per_key = job.embedding.long_text != "chunk" or job.embedding.chunks == "pooled"
        distinct = landed.select(*[F.col(quoted(name)) for name in key]).distinct().count()
        if is_one_row_per_key:
            audit.compare("table: rows and distinct keys", row["rows"], distinct)
        if source_rows is not None and source_rows > distinct:
            audit.differences.append(
                f"table: {source_rows - distinct:,} source rows have not landed; run the job again"
            )
    _tokens(audit, job, totals, (row["input"], row["output"]), bought)
    bought_again = totals.rows_answered - totals.requests_answered
    if bought_again > 0:
        audit.differences.append(f"journal: {bought_again:,} rows were answered more than once")


def _tokens(
    audit: Audit, job: JobFile, totals: JournalTotals, landed: tuple[int, int], bought: tuple[int, int]
) -> None:
    """What all journals of the state bought against what the rows say.

    They are equal where every answer became a row and stayed. An answer that was replaced, that was of no use or that
    belongs to another question of the same table is in a journal only; a row whose tokens no journal has is wrong.
    """
    is_replaced = job.job.mode != "append" or job.source.changed
    for what, ours, theirs in zip(("input", "output"), landed, bought, strict=True):
        if ours > theirs or (ours != theirs and not is_replaced and not totals.failed):
            audit.compare(f"{what} tokens, table and journals", ours, theirs)
        elif ours != theirs:
            audit.figures.append(
                ("", f"{theirs - ours:,} {what} tokens were bought and are in no row: replaced, or of no use")
            )


def _bill(audit: Audit, bill: BillFigures, totals: JournalTotals) -> None:
    audit.figures.append(
        (
            "bill",
            f"{bill.requests:,} requests, {bill.answers:,} answers, {bill.input_tokens:,} + {bill.output_tokens:,} tokens",
        )
    )
    audit.compare("requests, bill and journal", bill.requests, totals.sent)
    if totals.unknown:
        audit.figures.append(
            ("", f"{totals.unknown:,} requests of unknown outcome: the bill may exceed the journal by as many answers")
        )
    audit.compare("input tokens, bill and journal", bill.input_tokens, totals.input_tokens)
    audit.compare("output tokens, bill and journal", bill.output_tokens, totals.output_tokens)
