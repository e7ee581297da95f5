"""What tokens cost: a price per model, and the cost of a usage. Pure.

A model without a price has no cost: none is guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipeline.records import Usage

PER_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Per million tokens, in `currency`. `cached_input` None: cached input costs as much as other input."""

    input: float
    output: float
    cached_input: float | None = None
    currency: str = "USD"
    source: str = ""  # where it was read
    date: str = ""  # when, as 2026-11-21

    def cost(self, usage: Usage) -> float | None:
        """In `currency`; None where the usage says nothing. Cached tokens are a part of `input_tokens`."""
        if usage.input_tokens is None and usage.output_tokens is None:
            return None
        return self.of_tokens(usage.input_tokens or 0, usage.output_tokens or 0, usage.cached_input_tokens or 0)

    def of_tokens(self, input_tokens: float, output_tokens: float, cached_input_tokens: float = 0) -> float:
        """In `currency`."""
        cached = min(cached_input_tokens, input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        paid = (input_tokens - cached) * self.input + cached * cached_price + output_tokens * self.output
        return paid / PER_TOKENS


@dataclass(frozen=True, slots=True)
class Expense:
    """What a journal or a part of it has cost.

    `cost` prices every token that was reported, those of failed and repeated calls too. Calls of unknown outcome may
    have been billed and reported nothing: they cost between nothing and `unknown`, each as much as the largest input
    and the largest output that one call reported; None where no call reported any.
    """

    cost: float = 0.0
    unknown: float | None = 0.0
    currency: str = "USD"

    def __add__(self, other: "Expense") -> "Expense":
        """The sum of two of one currency."""
        unknown = None if self.unknown is None or other.unknown is None else self.unknown + other.unknown
        return Expense(self.cost + other.cost, unknown, self.currency)

    def __str__(self) -> str:
        """`1.23 USD`, and how much more where that is not known."""
        if self.unknown is None:
            return f"{money(self.cost, self.currency)}, and what calls of unknown outcome cost"
        more = f", at most {money(self.unknown, self.currency)} more for calls of unknown outcome"
        return money(self.cost, self.currency) + (more if self.unknown else "")


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """One price and the models that it is for: names, with `*`, `?` and `[...]` as in a shell."""

    models: tuple[str, ...]
    price: Price


def price_of(model: str, entries: Sequence[PriceEntry]) -> Price | None:
    """The price of the first entry that names the model, as the job file names it; None where none does."""
    return next((one.price for one in entries if any(fnmatchcase(model, name) for name in one.models)), None)


def money(amount: float, currency: str) -> str:
    """`0.0123 USD`: two digits after the point, and below one unit enough for three significant ones."""
    digits = 2
    while digits < 9 and 0 < abs(amount) < 10 ** (2 - digits):
        digits += 1
    return f"{amount:,.{digits}f} {currency}"
