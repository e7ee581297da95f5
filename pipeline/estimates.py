"""What a job will send, use, cost and take, reckoned from a sample. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from pipeline.batching import PackLimits
from pipeline.limits import Limit
from pipeline.prices import Price, money

# Two standard errors on both sides: 95 % of the samples have the truth between.
_ERRORS = 1.96
# Calls that one core of an ordinary machine builds, sends, reads and journals (tests.benchmarks.overhead).
CALLS_PER_CORE_S = 1_400.0
# Rows that one core renders, reads back and writes where many share a call: a worker's figure for vectors of 1,024 floats
# as JSON, the slower of the two encodings (tests.benchmarks.embeddings; base64 is nearly twice as fast).
ROWS_PER_CORE_S = 12_000.0
# What Spark takes for a run beside its calls and beside the start that a sample shows: the plan of the whole table, and
# the first write and commit of a young JVM on two cores (3.0 to 3.6 s measured by tests.benchmarks.preview).
LANDING_S = 3.3


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with what it may be."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        """Without the range where it is narrow."""
        if self.high - self.low < 0.01 * max(self.middle, 1.0):
            return f"{self.middle:,.0f}"
        return f"{self.middle:,.0f} ({self.low:,.0f} to {self.high:,.0f})"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Input tokens of the requests that were rendered; `rows` of the whole table stand behind them."""

    rows: int
    rendered: int
    refused: int  # rows that ask nothing: blank, or not to be rendered
    input_tokens: tuple[int, ...]  # one per distinct request

    @property
    def scale(self) -> float:
        """What one rendered row stands for."""
        return self.rows / self.rendered if self.rendered else 0.0

    @property
    def questions(self) -> int:
        """Distinct requests of the whole table; equal ones that the sample missed make it too many."""
        return round(len(self.input_tokens) * self.scale)

    @property
    def mean(self) -> float:
        """Input tokens of a request."""
        return fmean(self.input_tokens) if self.input_tokens else 0.0

    @property
    def p95(self) -> int:
        """The size that 95 % of the requests do not exceed."""
        ordered = sorted(self.input_tokens)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else 0

    def total(self) -> Range:
        """Input tokens of the whole table."""
        if len(self.input_tokens) < 2 or self.scale == 1:
            exact = self.questions * self.mean
            return Range(exact, exact, exact)
        return spread(self.input_tokens, self.questions)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back for a part of the requests."""

    output_tokens: tuple[int, ...] = ()
    latency_s: tuple[float, ...] = ()
    start_s: float = 0.0  # what Spark took beside the calls: planning, starting workers, shuffling


@dataclass(frozen=True, slots=True)
class Speed:
    """What bounds a job: its limits, the calls at once, and the cores of its workers."""

    limits: tuple[Limit, ...]
    in_flight: int  # as configured, else where the run begins
    cores: int
    most_tried: int | None = None  # where nobody configured `in_flight`: the run looks for more up to here

    def at_once(self, *, is_limited: bool) -> tuple[int, str]:
        """Calls at once to reckon with, and in words.

        Where nobody configured them the run grows until a limit binds; where there is none either, nothing but the
        beginning is known.
        """
        if self.most_tried is None:
            return self.in_flight, f"in_flight = {self.in_flight}"
        if is_limited:
            return self.most_tried, f"{self.most_tried:,} calls at once, the most that is tried; in_flight is not set"
        tries = f"in_flight is not set, the run tries up to {self.most_tried:,}"
        return self.in_flight, f"{self.in_flight} calls at once to begin with; {tries}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A whole job. None where nothing tells."""

    requests: int
    input_tokens: Range
    output_tokens: Range | None
    cost: Range | None  # in the price's currency
    duration_s: float | None
    binds: str  # what the duration comes from

    def lines(self, price: Price | None) -> list[tuple[str, str]]:
        """(label, text), in reading order."""
        output = f"{self.output_tokens} out" if self.output_tokens else "out not known before an answer"
        lines = [("requests", f"{self.requests:,}"), ("tokens", f"{self.input_tokens} in, {output}")]
        if price is not None and self.cost is not None:
            low, middle, high = (
                money(value, price.currency) for value in (self.cost.low, self.cost.middle, self.cost.high)
            )
            lines.append(("cost", f"{middle} ({low} to {high})" if low != high else middle))
            lines.append(("", f"price of {price.date}, {price.source}"))
        if self.duration_s is not None:
            lines.append(("duration", f"{clock(self.duration_s)} with landing; what binds: {self.binds}"))
        else:
            lines.append(("duration", "not known before an answer: no limit is set, and no call was made"))
        return lines


def reckon(
    sizes: Sizes, answered: Answered, price: Price | None, speed: Speed, pack: PackLimits, max_output_tokens: int | None
) -> Estimate:
    """The whole job. `max_output_tokens` is 0 for embeddings, None where the request sets no bound."""
    input_tokens = sizes.total()
    output_tokens = _output(sizes.questions, answered, max_output_tokens)
    requests = _requests(sizes, pack)
    cost = None
    if price is not None and output_tokens is not None:
        low, middle, high = (
            price.of_tokens(getattr(input_tokens, name), getattr(output_tokens, name))
            for name in ("low", "middle", "high")
        )
        cost = Range(low, middle, high)
    larger_tokens = sum(max(size, max_output_tokens or 0) for size in sizes.input_tokens) * sizes.scale
    duration_s, binds = _duration(
        sizes.questions, requests, input_tokens, output_tokens, larger_tokens, answered, speed
    )
    return Estimate(requests, input_tokens, output_tokens, cost, duration_s, binds)


def spread(sample: Sequence[float], count: int) -> Range:
    """The sum of `count` values of which a sample is known."""
    middle = fmean(sample) * count
    if len(sample) < 2:
        return Range(0.0, middle, 2 * middle)
    deviation = float(np.std(sample, ddof=1))  # `statistics.stdev` reckons in fractions and takes several times as long
    error = _ERRORS * deviation / math.sqrt(len(sample)) * count
    # what n values did not show may still be in 3 / n of all: a sample of equals is no proof that all are equal
    error = max(error, 3 / len(sample) * middle)
    return Range(max(0.0, middle - error), middle, middle + error)


def clock(seconds: float) -> str:
    """`1:02:03`, or tenths of a second below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _output(questions: int, answered: Answered, most: int | None) -> Range | None:
    if most == 0:
        return Range(0.0, 0.0, 0.0)
    if answered.output_tokens:
        found = spread(answered.output_tokens, questions)
        if most is None:
            return found
        return Range(found.low, found.middle, min(found.high, most * questions))
    if most is None:
        return None
    return Range(0.0, most * questions / 2, most * questions)


def _requests(sizes: Sizes, pack: PackLimits) -> int:
    calls = sizes.questions / pack.max_rows
    if pack.max_tokens is not None:
        calls = max(calls, sizes.questions * sizes.mean / pack.max_tokens)
    return math.ceil(calls)


def _duration(
    questions: int,
    requests: int,
    input_tokens: Range,
    output_tokens: Range | None,
    larger_tokens: float,
    answered: Answered,
    speed: Speed,
) -> tuple[float | None, str]:
    output = output_tokens.middle if output_tokens is not None else 0.0
    amounts = {
        "requests": float(requests),
        "input_tokens": input_tokens.middle,
        "output_tokens": output,
        "tokens": input_tokens.middle + output,
        "larger_tokens": larger_tokens,
    }
    bounds = [
        (amounts[limit.meter] * limit.window_s / limit.amount, limit.name)
        for limit in speed.limits
        if limit.meter in amounts
    ]
    if answered.latency_s:
        at_once, words = speed.at_once(is_limited=bool(bounds))
        bounds.append((requests * fmean(answered.latency_s) / (min(at_once, requests) or 1), words))
        busy_s = max(requests / CALLS_PER_CORE_S, questions / ROWS_PER_CORE_S) / speed.cores
        bounds.append((busy_s, f"{speed.cores} cores of the workers"))
    if not bounds:
        return None, ""
    longest_s, binds = max(bounds)
    return (answered.start_s + longest_s + LANDING_S if requests else 0.0), binds
