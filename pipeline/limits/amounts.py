"""What a call costs, what a limit allows, and what a whole job may spend. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# Money is counted in whole millionths.
MICROS = 1_000_000

Meter = Literal["requests", "input_tokens", "output_tokens", "tokens", "larger_tokens", "micros"]

# How far from its slot a call may start, and still no window of the limit is ever above it.
MOST_LATENESS_S = 0.5


@dataclass(frozen=True, slots=True)
class Cost:
    """One call, or the sum of several; `output_tokens` as reserved, `micros` in millionths of the currency.

    `larger_tokens` is what a provider counts that charges the larger of input and `max_tokens`; 0 under other rules.
    """

    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    micros: int = 0
    larger_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Both kinds."""
        return self.input_tokens + self.output_tokens

    def of(self, meter: Meter) -> int:
        """The amount that a meter counts."""
        return int(getattr(self, meter))

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.micros + other.micros,
            self.larger_tokens + other.larger_tokens,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            self.requests - other.requests,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.micros - other.micros,
            self.larger_tokens - other.larger_tokens,
        )

    def covers(self, other: "Cost") -> bool:
        """Whether this is at least the other, in every respect."""
        return (
            self.requests >= other.requests
            and self.input_tokens >= other.input_tokens
            and self.output_tokens >= other.output_tokens
            and self.micros >= other.micros
            and self.larger_tokens >= other.larger_tokens
        )


NOTHING = Cost(0)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    summed = NOTHING
    for cost in costs:
        summed += cost
    return summed


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` in any `window_s` seconds, as the endpoint counts. `name` is the job file's."""

    name: str
    meter: Meter
    amount: float
    window_s: float

    @property
    def lateness_s(self) -> float:
        """How long a slot stays good: 0.8 % of a minute, 5 % of a second."""
        return min(MOST_LATENESS_S, self.window_s / 20)

    def share(self, workers: int) -> "Limit":
        """What each of `workers` may use without asking the others; their sum is not above the whole."""
        return Limit(self.name, self.meter, self.amount / workers, self.window_s)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a job may spend over all its runs; None where nothing caps it."""

    max_requests: int | None = None
    max_tokens: int | None = None
    max_micros: int | None = None

    @property
    def caps(self) -> tuple[tuple[str, Meter, int], ...]:
        """(name in the job file, meter, amount) of each cap that is set."""
        every: tuple[tuple[str, Meter, int | None], ...] = (
            ("max_requests", "requests", self.max_requests),
            ("max_tokens", "tokens", self.max_tokens),
            ("max_cost", "micros", self.max_micros),
        )
        return tuple((name, meter, amount) for name, meter, amount in every if amount is not None)
