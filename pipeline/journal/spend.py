"""What exchanges used, as sums that each segment carries in its seal: accounting reads ends of segments, not answers."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import ErrorCode, JournalCorrupt
from pipeline.journal.frames import ID_BYTES, MARKER, Kind, Summary, frame_at, header_of, kind_of
from pipeline.records import Usage

# A seal has a few hundred bytes; a segment that more than one run wrote, some more.
SEAL_READ_BYTES = 4096


class Spend:
    """Running sums over the exchanges of one run. `sent` is `answered` + `failed` + `unknown`. Times in epoch seconds."""

    SUMS = (
        "exchanges", "sent", "answered", "failed", "unknown", "rows_answered",
        "input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens",
    )  # fmt: skip
    MOST = ("most_input_tokens", "most_output_tokens")  # of one exchange
    __slots__ = (*SUMS, *MOST, "newest_s", "oldest_s")

    def __init__(self) -> None:
        for name in (*self.SUMS, *self.MOST):
            setattr(self, name, 0)
        self.oldest_s: float | None = None
        self.newest_s: float | None = None

    exchanges: int
    sent: int
    answered: int
    failed: int
    unknown: int
    rows_answered: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    most_input_tokens: int
    most_output_tokens: int

    def add(
        self,
        rows: int,
        usage: Usage,
        sent_at_s: float,
        latency_ms: float,
        transport_error: ErrorCode | None,
        *,
        is_answered: bool,
        is_unknown: bool,
    ) -> None:
        """One exchange of `rows` requests."""
        self.exchanges += 1
        if transport_error is not ErrorCode.CONNECT_FAILED:
            self.sent += 1
            if is_answered:
                self.answered += 1
                self.rows_answered += rows
            elif is_unknown:
                self.unknown += 1
            else:
                self.failed += 1
        tokens_in, tokens_out, tokens, cached, reasoning = usage
        if tokens_in:
            self.input_tokens += tokens_in
            if tokens_in > self.most_input_tokens:
                self.most_input_tokens = tokens_in
        if tokens_out:
            self.output_tokens += tokens_out
            if tokens_out > self.most_output_tokens:
                self.most_output_tokens = tokens_out
        self.total_tokens += tokens or 0
        self.cached_input_tokens += cached or 0
        self.reasoning_tokens += reasoning or 0
        self._span(sent_at_s, sent_at_s + latency_ms / 1e3)

    def add_summary(self, summary: Summary) -> None:
        """One journaled exchange."""
        self.add(
            len(summary.request_ids) // ID_BYTES,
            summary.usage,
            summary.sent_at_s,
            summary.latency_ms,
            summary.transport_error,
            is_answered=summary.is_answered,
            is_unknown=summary.is_unknown_outcome,
        )

    def merge(self, other: "Spend") -> None:
        """Adds the sums of another."""
        for name in self.SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in self.MOST:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        if other.oldest_s is not None and other.newest_s is not None:
            self._span(other.oldest_s, other.newest_s)

    def to_json(self) -> dict[str, Any]:
        """What is not zero."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Spend":
        """The inverse of `to_json`; what a later version added is left out."""
        spend = cls()
        for name in cls.__slots__:
            if name in document:
                setattr(spend, name, document[name])
        return spend

    def _span(self, oldest_s: float, newest_s: float) -> None:
        if self.oldest_s is None or oldest_s < self.oldest_s:
            self.oldest_s = oldest_s
        if self.newest_s is None or newest_s > self.newest_s:
            self.newest_s = newest_s


def sealed_spends(tail: bytes, seed: int) -> dict[str, Spend] | None:
    """The sums by run in the seal at the end of `tail`, the last bytes of a segment.

    None where the segment has no seal, a damaged one, or one without sums.
    """
    position = len(tail)
    while (position := tail.rfind(MARKER, 0, position)) >= 0:
        try:
            length, payload = frame_at(tail, position, seed)
        except JournalCorrupt:
            continue
        if payload is None or position + length != len(tail) or kind_of(payload) != Kind.SEAL:
            return None
        spends = header_of(payload).get("spends")
        return None if spends is None else {run_id: Spend.from_json(spend) for run_id, spend in spends.items()}
    return None
