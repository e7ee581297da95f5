"""Where the journal answers a request: 24 bytes per request and a small part that still moves. Pure.

Requests are known by the first 16 bytes of their id: 2**-128 is the chance that two meet.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_SEGMENTS = 1 << 20
MAX_OFFSET = (1 << 32) - 1
MAX_UNKNOWN = 63

_ID_BYTES = 32
_KEY_BYTES = 16
_FINAL, _ANSWERED = 1, 2
_RANK_MASK = 3
_UNKNOWN_SHIFT = 2
_CLAIMED = 1 << 8
_OFFSET_SHIFT = 12
_SEGMENT_SHIFT = 44
_UNKNOWN_MASK = MAX_UNKNOWN << _UNKNOWN_SHIFT
# A dict entry takes about 200 bytes: one in sixteen requests there adds 12 bytes to each.
_RECENT_SHARE = 16
_RECENT_AT_LEAST = 2048

_Words = NDArray[np.uint64]


class Entry(NamedTuple):
    """The exchange that counts for a request: the latest one, or the latest final one where there is any.

    `unknown_outcomes` counts all exchanges of the request whose outcome is unknown, up to 63. `is_claimed` is true once
    a row has taken the usage of this answer; it lives in memory only.
    """

    segment: int
    offset: int
    is_final: bool
    is_answered: bool
    unknown_outcomes: int
    is_claimed: bool = False

    @property
    def is_failed(self) -> bool:
        """The exchange that counts brought no answer."""
        return not self.is_answered


def pack_value(segment: int, offset: int, *, is_final: bool, is_answered: bool, unknown_outcomes: int) -> int:
    """An entry in 64 bits: segment (20), offset (32), spare (3), claimed (1), unknown outcomes (6), answered (1), final (1)."""
    if segment >= MAX_SEGMENTS or offset > MAX_OFFSET:
        raise ValueError("a bucket's journal has at most 1,048,576 segments of 4 GiB")
    rank = (_FINAL if is_final else 0) | (_ANSWERED if is_final and is_answered else 0)
    unknown = min(unknown_outcomes, MAX_UNKNOWN) << _UNKNOWN_SHIFT
    return segment << _SEGMENT_SHIFT | offset << _OFFSET_SHIFT | unknown | rank


def unpack_value(value: int) -> Entry:
    """The entry behind 64 bits."""
    return Entry(
        value >> _SEGMENT_SHIFT,
        value >> _OFFSET_SHIFT & MAX_OFFSET,
        bool(value & _FINAL),
        bool(value & _ANSWERED),
        (value & _UNKNOWN_MASK) >> _UNKNOWN_SHIFT,
        bool(value & _CLAIMED),
    )


def combine(old: int, new: int) -> int:
    """What counts after both: the later one, unless it is less final than the earlier one. Unknown outcomes add up."""
    winner = (new if new & _RANK_MASK >= old & _RANK_MASK else old) | (old | new) & _CLAIMED
    unknown = min(((old & _UNKNOWN_MASK) + (new & _UNKNOWN_MASK)) >> _UNKNOWN_SHIFT, MAX_UNKNOWN)
    return winner & ~_UNKNOWN_MASK | unknown << _UNKNOWN_SHIFT


class RequestIndex:
    """Request id to entry. New entries go to a dict, which is merged into sorted arrays now and then."""

    def __init__(self) -> None:
        self._recent: dict[bytes, int] = {}
        self._high: _Words = np.empty(0, np.uint64)
        self._low: _Words = np.empty(0, np.uint64)
        self._values: _Words = np.empty(0, np.uint64)
        self._recent_limit = _RECENT_AT_LEAST

    def __len__(self) -> int:
        """Number of distinct requests; merges first."""
        self._merge()
        return len(self._values)

    def add(self, binary_ids: bytes, value: int) -> None:
        """Notes an exchange for each of its requests; `binary_ids` are 32 bytes each, `value` from `pack_value`."""
        recent = self._recent
        for key in _keys(binary_ids):
            old = recent.get(key)
            recent[key] = value if old is None else combine(old, value)
        if len(recent) >= self._recent_limit:
            self._merge()

    def lookup(self, ids: Sequence[str]) -> list[Entry | None]:
        """The entry of each request, in order; None where there is none. ValueError for an id that is no SHA-256."""
        binary = bytes.fromhex("".join(ids))
        if len(binary) != _ID_BYTES * len(ids):
            raise ValueError("a request id is a SHA-256 in 64 hexadecimal digits")
        words = np.frombuffer(binary, np.uint64).reshape(-1, 4)
        found = self._find(words[:, 0], words[:, 1])
        keys = _keys(binary)
        if self._recent.keys().isdisjoint(keys) and not (found >= 0).any():  # a first run: all are new
            return [None] * len(ids)
        values = self._values[found].tolist() if len(self._values) else [0] * len(ids)
        entries: list[Entry | None] = []
        for key, position, value in zip(keys, found.tolist(), values, strict=True):
            recent = self._recent.get(key)
            if recent is not None:
                entries.append(unpack_value(combine(value, recent) if position >= 0 else recent))
            else:
                entries.append(unpack_value(value) if position >= 0 else None)
        return entries

    def claim(self, ids: Sequence[str]) -> None:
        """Marks known requests: their usage is now in a row. Unknown ids are left out."""
        binary = bytes.fromhex("".join(ids))
        words = np.frombuffer(binary, np.uint64).reshape(-1, 4)
        found = self._find(words[:, 0], words[:, 1])
        known = found >= 0
        self._values[found[known]] |= np.uint64(_CLAIMED)
        if known.all():
            return
        keys, recent = _keys(binary), self._recent
        for i in np.flatnonzero(~known).tolist():
            if (value := recent.get(keys[i])) is not None:
                recent[keys[i]] = value | _CLAIMED

    def counts(self) -> tuple[int, int]:
        """Distinct requests, and how many of them are answered."""
        total = len(self)
        return total, int(np.count_nonzero(self._values & np.uint64(_ANSWERED)))

    def _find(self, high: _Words, low: _Words) -> NDArray[np.intp]:
        """The position of each key in the sorted arrays, -1 where it is missing."""
        size = len(self._high)
        position = np.searchsorted(self._high, high)
        found = np.full(len(high), -1, np.intp)
        open_ = np.flatnonzero(position < size)
        while len(open_):  # one turn, but for keys whose first eight bytes are equal
            at = position[open_]
            same = self._high[at] == high[open_]
            hit = same & (self._low[at] == low[open_])
            found[open_[hit]] = at[hit]
            open_ = open_[same & ~hit]
            position[open_] += 1
            open_ = open_[position[open_] < size]
        return found

    def _merge(self) -> None:
        if not self._recent:
            return
        words = np.frombuffer(b"".join(self._recent), np.uint64).reshape(-1, 2)
        values = np.fromiter(self._recent.values(), np.uint64, len(self._recent))
        self._recent = {}
        high, low = words[:, 0], words[:, 1]
        found = self._find(high, low)
        known = found >= 0
        if known.any():
            at = found[known]
            self._values[at] = _combine_all(self._values[at], values[known])
        high, low, values = high[~known], low[~known], values[~known]
        order = np.argsort(high, kind="stable")
        high, low, values = high[order], low[order], values[order]
        at = np.searchsorted(self._high, high)
        self._high = np.insert(self._high, at, high)
        self._low = np.insert(self._low, at, low)
        self._values = np.insert(self._values, at, values)
        self._recent_limit = max(_RECENT_AT_LEAST, len(self._values) // _RECENT_SHARE)


def _keys(binary_ids: bytes) -> list[bytes]:
    return [binary_ids[start : start + _KEY_BYTES] for start in range(0, len(binary_ids), _ID_BYTES)]


def _combine_all(old: _Words, new: _Words) -> _Words:
    """`combine` for arrays."""
    mask, rank = np.uint64(_UNKNOWN_MASK), np.uint64(_RANK_MASK)
    winner = np.where(new & rank >= old & rank, new, old) | (old | new) & np.uint64(_CLAIMED)
    unknown = np.minimum((old & mask) + (new & mask), mask)
    combined: _Words = winner & ~mask | unknown
    return combined
