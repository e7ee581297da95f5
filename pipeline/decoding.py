"""From what travelled to a matrix: base64 and lists of numbers, in any mix. Pure."""

import struct
from binascii import a2b_base64
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import numpy as np

from pipeline.vectors import Matrix


def decode_base64(texts: Sequence[str | bytes]) -> Matrix:
    """Little-endian float32 in base64 as a matrix, shape (n, dimensions).

    ValueError: not base64, not whole floats, or rows of different lengths.
    """
    decode_one = _base64_decoder()
    rows = [decode_one(text) for text in texts]
    row_bytes = len(rows[0]) if rows else 0
    if row_bytes % 4 or any(len(row) != row_bytes for row in rows):
        raise ValueError("base64 rows are not whole float32 vectors of one length")
    if not row_bytes:
        return np.empty((len(rows), 0), np.float32)
    flat = np.frombuffer(b"".join(rows), dtype="<f4")
    return flat.astype(np.float32, copy=False).reshape(len(rows), -1)


@lru_cache(maxsize=1)
def _base64_decoder() -> Callable[[str | bytes], bytes]:
    """With the processor's vector instructions where pybase64 is there: a twelfth of the time, and half of a worker's."""
    try:
        import pybase64
    except ImportError:  # a cluster without the package
        return partial(a2b_base64, strict_mode=True)
    return partial(pybase64.b64decode, validate=True)


def decode_floats(rows: Sequence[Sequence[Any]]) -> Matrix:
    """Lists of JSON numbers as a matrix, shape (n, dimensions); what float32 cannot hold becomes infinite.

    ValueError: rows of different lengths, or a value that is no number.
    """
    dimensions = len(rows[0]) if rows else 0
    if not dimensions:
        if any(rows):
            raise ValueError("rows of different lengths")
        return np.empty((len(rows), 0), np.float32)
    # struct refuses strings, lists and wrong lengths by itself, and is 2.7 times as fast as numpy.asarray
    pack = struct.Struct(f"{dimensions}d").pack
    try:
        flat = b"".join([pack(*row) for row in rows])
    except (struct.error, OverflowError) as exc:
        raise ValueError(f"not vectors of {dimensions} numbers: {exc}") from exc
    with np.errstate(all="ignore"):
        matrix = np.frombuffer(flat, dtype=np.float64).astype(np.float32).reshape(len(rows), dimensions)
    # struct takes true for 1.0; only rows that hold a 0 or a 1 can hide one
    suspects = np.flatnonzero(((matrix == 0.0) | (matrix == 1.0)).any(axis=1)).tolist()
    if any(bool in set(map(type, rows[row])) for row in suspects):
        raise ValueError("a truth value among the numbers")
    return matrix


def decode(values: Sequence[Any], dimensions: int | None = None) -> tuple[Matrix, list[bool]]:
    """A matrix, shape (n, dimensions), and which values have that many numbers; the rows of the others are zero.

    Values are float lists and base64 texts in any mix and any length; without `dimensions` the commonest length
    counts, on a tie the first. A null among the numbers is what some servers print for NaN.
    ValueError: a value that is neither a list of numbers nor base64.
    """
    kinds = set(map(type, values))
    matrix: Matrix | None = None
    with suppress(ValueError):  # of different lengths, or holding null: row by row
        if kinds == {str}:
            matrix = decode_base64(values)
        elif kinds == {list}:
            matrix = decode_floats(values)
    if matrix is not None and dimensions in (None, matrix.shape[1]):
        return matrix, [True] * len(matrix)
    rows = list(matrix) if matrix is not None else [_decode_one(value) for value in values]
    if dimensions is None:
        dimensions = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    matrix = np.zeros((len(rows), dimensions), np.float32)
    fits = [len(row) == dimensions for row in rows]
    for position in np.flatnonzero(fits).tolist():
        matrix[position] = rows[position]
    return matrix, fits


def _decode_one(value: Any) -> Matrix:
    if isinstance(value, str):
        return decode_base64([value]).reshape(-1)
    if not isinstance(value, list):
        raise ValueError(f"an embedding is {type(value).__name__}, neither a list nor base64")
    return decode_floats([[_number(item) for item in value]]).reshape(-1)


def _number(item: Any) -> Any:
    return float("nan") if item is None else item
