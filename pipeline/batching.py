"""Packs requests into the calls that carry them, by count, tokens and bytes. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.records import Batch, Request


@dataclass(frozen=True, slots=True)
class PackLimits:
    """The most that one call may carry. A request that alone exceeds a limit travels alone."""

    max_rows: int = 1
    max_tokens: int | None = None
    max_bytes: int | None = None


class Split:
    """A refused batch, asked again in halves: where both are answered as a whole, it was too large, not wrong."""

    def __init__(self, rows: int) -> None:
        self._larger_half = rows - rows // 2
        self._answered = 0

    def answered(self) -> int | None:
        """Notes that a half was answered; after both, how many rows an endpoint takes at once."""
        self._answered += 1
        return self._larger_half if self._answered == 2 else None


class Packer:
    """Continuous over any number of `add` calls; `flush` gives what is left."""

    def __init__(self, limits: PackLimits) -> None:
        self._limits = limits
        self._open: list[Request] = []
        self._tokens = 0
        self._bytes = 0

    @property
    def max_rows(self) -> int:
        """Rows of a call at most, as configured or as learned."""
        return self._limits.max_rows

    def lower(self, max_rows: int) -> None:
        """Packs no more than this from now on."""
        self._limits = replace(self._limits, max_rows=min(max_rows, self._limits.max_rows))

    def add(self, requests: Iterable[Request]) -> list[Batch]:
        """The batches that became full, in order."""
        if self._limits.max_rows == 1:
            return [*self.flush(), *[Batch((request,)) for request in requests]]
        full: list[Batch] = []
        for request in requests:
            size = _size_bytes(request) if self._limits.max_bytes is not None else 0
            if self._open and not self._fits(request.input_tokens, size):
                full.extend(self.flush())
            self._open.append(request)
            self._tokens += request.input_tokens
            self._bytes += size
            if len(self._open) >= self._limits.max_rows:
                full.extend(self.flush())
        return full

    def flush(self) -> list[Batch]:
        """The started batch, if any."""
        if not self._open:
            return []
        batch = Batch(tuple(self._open))
        self._open = []
        self._tokens = self._bytes = 0
        return [batch]

    def _fits(self, tokens: int, size: int) -> bool:
        limits = self._limits
        return (limits.max_tokens is None or self._tokens + tokens <= limits.max_tokens) and (
            limits.max_bytes is None or self._bytes + size <= limits.max_bytes
        )


def _size_bytes(request: Request) -> int:
    text = request.text or ""
    # JSON adds quotes, a comma and escapes; escapes are rare enough for 5 % to cover them in running text
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size + size // 20 + 3
