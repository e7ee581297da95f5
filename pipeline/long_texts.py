"""Texts beyond a model's limit: cut, or divided at sentence borders and put together again. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.records import Outcome, Request, RowError, total_usage
from pipeline.tokens import BYTES_PER_TOKEN, estimate_tokens
from pipeline.vectors import EmbeddingContract, check, is_normalized, normalize, norms

# A sentence ends at its mark and white space, at a mark that needs none (Chinese, Japanese), or at a line's end.
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])\s*|\n+")


@dataclass(frozen=True, slots=True)
class LongTexts:
    """What happens to a text of more than `max_tokens` estimated tokens.

    "error": the row is refused before it costs anything. "truncate": its beginning is asked. "chunk": it is asked in
    parts of at most `max_tokens` that begin `overlap_tokens` before the end of the one before; `is_pooled` makes one
    vector of them again.
    """

    policy: Literal["error", "truncate", "chunk"] = "error"
    max_tokens: int | None = None
    overlap_tokens: int = 0
    is_pooled: bool = False

    def is_long(self, text: str) -> bool:
        """Whether the text exceeds the limit; never without one."""
        return self.max_tokens is not None and estimate_tokens(text) > self.max_tokens


def cut(text: str, max_tokens: int) -> str:
    """The longest beginning within the limit, ended at white space where there is some in its last quarter."""
    if estimate_tokens(text) <= max_tokens:
        return text
    size = int(max_tokens * BYTES_PER_TOKEN)
    kept = size if text.isascii() else _characters_within(text, size)
    for end in range(kept, kept - kept // 4, -1):
        if text[end].isspace():
            return text[:end].rstrip() or text[:kept]
    return text[: max(1, kept)]


def chunks(text: str, max_tokens: int, overlap_tokens: int = 0) -> list[str]:
    """The text in parts of at most `max_tokens`, each ended at the border of a sentence where one fits.

    Parts after the first repeat the last whole sentences of the one before, up to `overlap_tokens`. A sentence that is
    too long is cut at white space. Parts are stripped; blank ones are left out. Every character but white space is in
    one of them. One character of more than `max_tokens` is a part of its own.
    """
    spans = [
        piece
        for start, end in _sentences(text)
        for piece in _pieces(text, start, end, max_tokens)
        if text[slice(*piece)].strip()
    ]
    parts: list[str] = []
    first = 0
    while first < len(spans):
        last = first
        while last + 1 < len(spans) and _fits(text, spans[first][0], spans[last + 1][1], max_tokens):
            last += 1
        parts.append(text[spans[first][0] : spans[last][1]].strip())
        if last + 1 == len(spans):
            break
        begin = last + 1
        # what is repeated must leave room for the next sentence, or the parts would never get past it
        while (
            begin - 1 > first
            and _fits(text, spans[begin - 1][0], spans[last][1], overlap_tokens)
            and _fits(text, spans[begin - 1][0], spans[last + 1][1], max_tokens)
        ):
            begin -= 1
        first = begin
    return parts


class Gathering:
    """The parts of one row's text, until all are answered: they land together or not at all."""

    def __init__(self, whole: Request, parts: Sequence[Request], texts: Sequence[str] = ()) -> None:
        self.whole = whole
        self.parts = parts
        self.texts = texts
        self._outcomes: list[Outcome | None] = [None] * len(parts)
        self._missing = len(parts)

    def take(self, part: int, outcome: Outcome) -> bool:
        """Notes the outcome of a part; true once none is missing."""
        self._missing -= self._outcomes[part] is None
        self._outcomes[part] = outcome
        return not self._missing

    @property
    def outcomes(self) -> list[Outcome]:
        """Of all parts, in their order, once none is missing."""
        return [outcome for outcome in self._outcomes if outcome is not None]

    def pooled(self, contract: EmbeddingContract) -> Outcome:
        """One outcome: the mean of the parts' vectors weighted by their lengths, scaled to length 1.

        The first error is that of the row. Usage is the sum, attempts and latency those of the worst part.
        """
        outcomes = self.outcomes
        longest = max(outcomes, key=lambda outcome: outcome.latency_ms or 0.0)
        result = Outcome(
            self.whole.request_id,
            usage=total_usage([outcome.usage for outcome in outcomes]),
            model=outcomes[0].model,
            attempts=max(outcome.attempts for outcome in outcomes),
            latency_ms=longest.latency_ms,
            completed_at_s=max(outcome.completed_at_s for outcome in outcomes),
            is_replayed=all(outcome.is_replayed for outcome in outcomes),
        )
        failed = next((outcome for outcome in outcomes if outcome.error is not None), None)
        if failed is not None:
            return result._replace(error=failed.error)
        # by the rule of thumb alone: estimates learn, and the same text must get the same vector in the next run
        weights = np.array([estimate_tokens(part.text or "") for part in self.parts], np.float64)
        vectors = np.stack([outcome.response for outcome in outcomes]).astype(np.float64)
        mean = (weights @ vectors / weights.sum()).astype(np.float32)[None]
        matrix = normalize(mean)
        length = norms(matrix)
        code = check(matrix, replace(contract, dimensions=None), length)[0]  # the parts had as many as they must
        if code is not None:
            return result._replace(error=RowError(code, "the mean of the parts' vectors breaks the contract"))
        is_judged = contract.normalization != "off"
        return result._replace(
            response=matrix[0],
            norm=float(length[0]),
            is_normalized=bool(is_normalized(length, contract.tolerance)[0]) if is_judged else None,
        )


def _sentences(text: str) -> list[tuple[int, int]]:
    """Spans that together are the whole text, each with the white space that follows it."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() > match.start() or match.end()]
    starts = [0, *ends]
    return [(start, end) for start, end in zip(starts, [*ends, len(text)], strict=True) if end > start]


def _pieces(text: str, start: int, end: int, max_tokens: int) -> list[tuple[int, int]]:
    """A sentence as it is, or in pieces that fit."""
    pieces: list[tuple[int, int]] = []
    while not _fits(text, start, end, max_tokens):
        kept = len(cut(text[start:end], max_tokens))
        while start + kept < end and text[start + kept].isspace():
            kept += 1
        pieces.append((start, start + kept))
        start += kept
    return [*pieces, (start, end)] if end > start else pieces


def _fits(text: str, start: int, end: int, max_tokens: int) -> bool:
    return estimate_tokens(text[start:end].rstrip()) <= max_tokens


def _characters_within(text: str, size: int) -> int:
    """How many characters from the start take at most `size` bytes."""
    used = 0
    for position, character in enumerate(text[: size + 1]):
        used += len(character.encode("utf-8", "surrogatepass"))
        if used > size:
            return position
    return min(len(text), size)
