"""What a person is told about a run: the report as values and as text."""

import math
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from pipeline.prices import Expense
from pipeline.vectors import added_sums

RunStatus = Literal["landed", "partial", "failed", "already_landed", "nothing_to_do"]


@dataclass(frozen=True, slots=True)
class NormStatistics:
    """Of the vectors that landed in one run."""

    vectors: int
    dimensions: int | None
    mean: float
    lowest: float
    highest: float
    share_normalized: float | None  # None where normalization = "off"
    p1: float | None = None
    p99: float | None = None
    mean_vector: float | None = None  # norm of the mean of all vectors: near 1 where they all point the same way


@dataclass(slots=True)
class Report:
    """One run, whole: what the runs table holds and the summary prints. Rows are of this run, not of the table."""

    job: str
    run_id: str
    status: RunStatus = "failed"
    mode: str = "append"
    task: str = "chat"
    endpoint: str = ""
    fingerprint: str = ""
    source: str = ""
    sink: str = ""
    state: str = ""
    rows_source: int = 0
    rows_skipped: int = 0  # landed by an earlier run
    rows_landed: int = 0
    rows_failed: int = 0
    rows_replayed: int = 0
    rows_not_attempted: int = 0
    requests_sent: int = 0
    requests_answered: int = 0
    requests_unknown: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spend: Expense | None = None  # where the model has a price
    errors: dict[str, int] = field(default_factory=dict)
    norms: NormStatistics | None = None
    started_at_s: float = 0.0
    duration_s: float = 0.0
    calling_s: float = 0.0
    stopped: str = ""
    stopped_code: str = ""
    notes: list[str] = field(default_factory=list)
    unbooked: list[str] = field(default_factory=list)  # what failed after the landing
    vector_sum: list[float] = field(default_factory=list)  # of the vectors that landed
    vectors_summed: int = 0
    is_settled: bool = True  # whether it is known if the rows have landed
    run_ids: list[str] = field(default_factory=list)  # of the batches, where the source is a stream

    @property
    def rows_per_s(self) -> float:
        """Landed rows by the time that calling and landing took."""
        return self.rows_landed / self.calling_s if self.calling_s else 0.0

    def add_vectors(self, vector_sum: list[float], count: int) -> None:
        """Adds the sum of vectors of one landing; those of another length are left out."""
        self.vector_sum, self.vectors_summed = added_sums((self.vector_sum, self.vectors_summed), (vector_sum, count))

    @property
    def mean_vector_norm(self) -> float | None:
        """Length of the mean of the vectors that landed."""
        if not self.vectors_summed:
            return None
        return math.hypot(*self.vector_sum) / self.vectors_summed

    def lines(self) -> list[tuple[str, str]]:
        """The summary as (label, value), in reading order."""
        lines = [("run", f"{self.run_id} of {self.job}: {self.status.replace('_', ' ')}")]
        if self.stopped:
            lines.append(("stopped", self.stopped))
        skipped = f", {self.rows_skipped:,} landed before" if self.rows_skipped else ""
        lines.append(("source", f"{self.source}: {self.rows_source:,} rows{skipped}"))
        if self.status not in ("already_landed", "nothing_to_do"):
            good = self.rows_landed - self.rows_failed
            lines.append(("landed", f"{self.rows_landed:,} rows: {good:,} answered, {self.rows_failed:,} failed"))
            if self.rows_not_attempted:
                lines.append(("not attempted", f"{self.rows_not_attempted:,} rows; a rerun asks them"))
            replayed = f"; {self.rows_replayed:,} rows replayed from the journal" if self.rows_replayed else ""
            unknown = f", {self.requests_unknown:,} of unknown outcome" if self.requests_unknown else ""
            lines.append(
                ("requests", f"{self.requests_sent:,} sent, {self.requests_answered:,} answered{unknown}{replayed}")
            )
            lines.append(("tokens", f"{self.input_tokens:,} in, {self.output_tokens:,} out"))
            if self.spend is not None:
                lines.append(("cost", str(self.spend)))
            lines.append(
                ("speed", f"{self.rows_per_s:,.0f} rows/s over {self.calling_s:.1f} s ({self.duration_s:.1f} s in all)")
            )
        if self.norms is not None:
            lines.append(
                (
                    "norms",
                    f"mean {self.norms.mean:.4f}, {self.norms.lowest:.4f} to {self.norms.highest:.4f}; "
                    f"{_share(self.norms)}{self.norms.dimensions} dimensions{_more(self.norms)}",
                )
            )
        lines.extend(
            ("error", f"{count:,} x {code}") for code, count in sorted(self.errors.items(), key=lambda e: -e[1])
        )
        lines.append(("results", self.sink))
        lines.append(("state", self.state))
        lines.extend(("not booked", what) for what in self.unbooked)
        lines.extend(("note", note) for note in self.notes)
        return lines


def _share(norms: NormStatistics) -> str:
    return f"{norms.share_normalized:.1%} normalised; " if norms.share_normalized is not None else ""


def _more(norms: NormStatistics) -> str:
    percentiles = f"; p1 {norms.p1:.4f}, p99 {norms.p99:.4f}" if norms.p1 is not None and norms.p99 is not None else ""
    return percentiles + (
        f"; the mean vector's norm is {norms.mean_vector:.4f}" if norms.mean_vector is not None else ""
    )


def versions() -> dict[str, str]:
    """What ran, for the runs table."""
    found = {"python": platform.python_version()}
    for name in ("spark-ai-query", "pyspark", "delta-spark", "pyarrow", "httptools", "pyreqwest", "httpx"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
