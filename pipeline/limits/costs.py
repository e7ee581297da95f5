"""What a call is charged before it runs, and what it turned out to cost. Pure."""

from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import ErrorCode
from pipeline.limits.amounts import MICROS, Cost
from pipeline.prices import Price
from pipeline.records import Batch, Usage

ReserveOutput = Literal["max_tokens", "larger", "estimate", "none"]

# Until answers have taught better, an answer without a given limit is taken to be this long.
UNKNOWN_OUTPUT_TOKENS = 256
MEMORY = 0.98
# The calls whose requests were perhaps served and billed although no answer came.
_PERHAPS_BILLED = frozenset(
    {ErrorCode.UNKNOWN_OUTCOME, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.RESPONSE_TOO_LARGE, ErrorCode.REQUEST_TIMEOUT}
)


@dataclass(frozen=True, slots=True)
class Costing:
    """How the calls of a job are charged.

    `reserve_output` is the provider's rule: `max_tokens` are taken from the quota before the answer and what was not
    used comes back (Databricks), the likely length (`estimate`), or nothing until the answer is there (Anthropic).
    `larger` (OpenAI): `tokens_per_minute` counts the larger of input and `max_tokens`, and nothing comes back of it;
    a limit of output alone, which OpenAI does not have, and a budget are reserved for as with `max_tokens`.
    """

    reserve_output: ReserveOutput = "max_tokens"
    max_output_tokens: int | None = None  # of one answer, where the request says; 0 for embeddings
    price: Price | None = None


class Costs:
    """Charges calls, and learns from answers how long they are."""

    def __init__(self, costing: Costing) -> None:
        self._costing = costing
        self._answers = 0.0
        self._output_tokens = 0.0

    def of(self, batch: Batch) -> Cost:
        """What is charged for a call before it runs."""
        rule, most = self._costing.reserve_output, self._costing.max_output_tokens
        likely = self.likely_output_tokens
        each = 0 if rule == "none" else likely if rule == "estimate" or most is None else most
        # money is reserved for the longest answer: a budget that is spent must not be overdrawn by long ones
        longest = (most if most is not None else max(likely, each)) * len(batch)
        return self._cost(batch, batch.input_tokens, 0, each * len(batch), longest)

    def used(self, charged: Cost, batch: Batch, usage: Usage, error: ErrorCode | None) -> Cost:
        """What a call has cost: as reported, nothing where it was refused, as charged where nobody knows."""
        if usage.input_tokens is None and usage.output_tokens is None:
            if error is None or error in _PERHAPS_BILLED:
                return replace(charged, requests=1)
            return Cost(1)  # refused; OpenAI counts such calls as requests too
        output_tokens = usage.output_tokens or 0
        if error is None:
            self._answers = MEMORY * self._answers + len(batch)
            self._output_tokens = MEMORY * self._output_tokens + output_tokens
        cached = usage.cached_input_tokens or 0
        return self._cost(batch, usage.input_tokens or 0, cached, output_tokens, output_tokens)

    @property
    def likely_output_tokens(self) -> int:
        """Of one answer."""
        if self._answers:
            return round(self._output_tokens / self._answers)
        most = self._costing.max_output_tokens
        return UNKNOWN_OUTPUT_TOKENS if most is None else most

    def _cost(
        self, batch: Batch, input_tokens: int, cached: int, output_tokens: int, priced_output_tokens: int
    ) -> Cost:
        price, larger_tokens = self._costing.price, 0
        if self._costing.reserve_output == "larger":
            # without max_tokens the provider has only its estimate to go by
            larger_tokens = max(input_tokens, (self._costing.max_output_tokens or 0) * len(batch))
        money = price.of_tokens(input_tokens, priced_output_tokens, cached) if price is not None else 0.0
        return Cost(1, input_tokens, output_tokens, round(money * MICROS), larger_tokens)
