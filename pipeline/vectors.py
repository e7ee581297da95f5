"""Vectors as matrices: decoding, norms, and the contract that an embedding has to keep. Pure."""

import struct
from binascii import a2b_base64
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ErrorCode

Matrix = NDArray[np.float32]
Norms = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EmbeddingContract:
    """What a vector must be to land as a response.

    `normalization`: "check" measures, "require" turns a vector that is not of unit length into a row error,
    "normalize" re-scales it, "off" measures nothing. `tolerance` is the largest distance of a norm from 1; the default
    is Databricks' own check, 1e-2 suits vectors that travelled as float16 (wire_formats 7). `model` is the name that
    the answer must state, letter by letter.
    """

    normalization: Literal["check", "require", "normalize", "off"] = "check"
    tolerance: float = 1e-3
    dimensions: int | None = None
    finite: bool = True
    non_zero: bool = True
    model: str | None = None


def decode_base64(texts: Sequence[str | bytes]) -> Matrix:
    """Little-endian float32 in base64 as a matrix, shape (n, dimensions).

    ValueError: not base64, not whole floats, or rows of different lengths.
    """
    rows = [a2b_base64(text, strict_mode=True) for text in texts]
    row_bytes = len(rows[0]) if rows else 0
    if row_bytes % 4 or any(len(row) != row_bytes for row in rows):
        raise ValueError("base64 rows are not whole float32 vectors of one length")
    if not row_bytes:
        return np.empty((len(rows), 0), np.float32)
    flat = np.frombuffer(b"".join(rows), dtype="<f4")
    return flat.astype(np.float32, copy=False).reshape(len(rows), -1)


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


def norms(matrix: Matrix) -> Norms:
    """Euclidean length of each row, shape (n,); not finite exactly where the row is not."""
    # squares of float32 cannot overflow in float64, so the norm also answers "finite?" and "zero?"
    with np.errstate(all="ignore"):
        squares: Norms = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)
        result: Norms = np.sqrt(squares)
    return result


def is_normalized(row_norms: Norms, tolerance: float) -> NDArray[np.bool_]:
    """Whether each norm is closer to 1 than the tolerance, shape (n,); never for one that is not finite."""
    with np.errstate(all="ignore"):
        result: NDArray[np.bool_] = np.abs(row_norms - 1.0) < tolerance
    return result


def normalize(matrix: Matrix, row_norms: Norms | None = None) -> Matrix:
    """The rows scaled to unit length; zero rows and rows that are not finite stay as they are."""
    lengths = norms(matrix) if row_norms is None else row_norms
    divisors = np.where(np.isfinite(lengths) & (lengths > 0.0), lengths, 1.0)
    with np.errstate(all="ignore"):
        scaled: Matrix = (matrix / divisors[:, None]).astype(np.float32)
    return scaled


def check(matrix: Matrix, contract: EmbeddingContract, row_norms: Norms | None = None) -> list[ErrorCode | None]:
    """How each row breaks the contract, None where it keeps it; the first of dimensions, finite, zero, unit length."""
    if contract.dimensions is not None and matrix.shape[1] != contract.dimensions:
        return [ErrorCode.WRONG_DIMENSIONS] * len(matrix)
    lengths = norms(matrix) if row_norms is None else row_norms
    codes: list[ErrorCode | None] = [None] * len(lengths)
    unit = is_normalized(lengths, contract.tolerance)
    finite = np.isfinite(lengths)
    broken = [
        (contract.normalization == "require", finite & ~unit, ErrorCode.NOT_NORMALIZED),
        (contract.non_zero, lengths == 0.0, ErrorCode.ZERO_VECTOR),
        (contract.finite, ~finite, ErrorCode.NOT_FINITE),
    ]
    for is_asked, rows, code in broken:
        if is_asked:
            for row in np.flatnonzero(rows).tolist():
                codes[row] = code
    return codes
