"""What exchanges used, as sums that each segment carries in its seal: accounting reads ends of segments, not answers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.errors import ErrorCode, JournalCorrupt
from pipeline.journal.frames import MARKER, Kind, Summary, frame_at, header_of, kind_of
from pipeline.records import Exchange

# A seal has a few hundred bytes; a segment that more than one run wrote, some more.
SEAL_READ_BYTES = 4096


@dataclass(slots=True)
class Spend:
    """Running sums over the exchanges of one run. `sent` is `answered` + `failed` + `unknown`. Times in epoch seconds."""

    exchanges: int = 0
    sent: int = 0
    answered: int = 0
    failed: int = 0
    unknown: int = 0
    rows_answered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    most_input_tokens: int = 0  # of one exchange
    most_output_tokens: int = 0
    oldest_s: float | None = None
    newest_s: float | None = None

    def add(self, exchange: Exchange | Summary) -> None:
        """One exchange."""
        self.exchanges += 1
        if exchange.transport_error is not ErrorCode.CONNECT_FAILED:
            self.sent += 1
            if exchange.is_answered:
                self.answered += 1
                self.rows_answered += exchange.rows
            elif exchange.is_unknown_outcome:
                self.unknown += 1
            else:
                self.failed += 1
        tokens_in, tokens_out, tokens, cached, reasoning = exchange.usage
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
        self._span(exchange.sent_at_s, exchange.sent_at_s + exchange.latency_ms / 1e3)

    def merge(self, other: "Spend") -> None:
        """Adds the sums of another."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.most_input_tokens = max(self.most_input_tokens, other.most_input_tokens)
        self.most_output_tokens = max(self.most_output_tokens, other.most_output_tokens)
        if other.oldest_s is not None and other.newest_s is not None:
            self._span(other.oldest_s, other.newest_s)

    def to_json(self) -> dict[str, Any]:
        """What is not zero."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Spend":
        """The inverse of `to_json`; what a later version added is left out."""
        return cls(**{name: document[name] for name in _NAMES if name in document})

    def _span(self, oldest_s: float, newest_s: float) -> None:
        if self.oldest_s is None or oldest_s < self.oldest_s:
            self.oldest_s = oldest_s
        if self.newest_s is None or newest_s > self.newest_s:
            self.newest_s = newest_s


_NAMES = tuple(field.name for field in fields(Spend))
_SUMS = _NAMES[: _NAMES.index("most_input_tokens")]


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
