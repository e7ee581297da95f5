"""Vectors as matrices: norms, scaling, and the contract that an embedding has to keep. Pure."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ErrorCode

Matrix = NDArray[np.float32]
Norms = NDArray[np.float64]

_FLOAT32_MAX = float(np.finfo(np.float32).max)


# How a vector that came can be none to keep.
CONTRACT_CODES = frozenset(
    {
        ErrorCode.NOT_NORMALIZED,
        ErrorCode.WRONG_DIMENSIONS,
        ErrorCode.NOT_FINITE,
        ErrorCode.ZERO_VECTOR,
        ErrorCode.WRONG_MODEL,
    }
)


@dataclass(frozen=True, slots=True)
class EmbeddingContract:
    """What a vector must be to land as a response.

    `normalization`: "check" says of each, "require" turns a vector that is not of unit length into a row error,
    "normalize" re-scales it, "off" judges none; norms are measured always. `tolerance` is the largest distance of a
    norm from 1; the default is Databricks' own check, 1e-2 suits vectors that travelled as float16 (wire_formats 7).
    `model` is the name that the answer must state, letter by letter. `truncate_to` keeps the first numbers of a vector
    that has kept the contract, which must have as many, and scales them to unit length, for models trained so.
    `largest` is the greatest magnitude that the table's type holds.
    """

    normalization: Literal["check", "require", "normalize", "off"] = "check"
    tolerance: float = 1e-3
    dimensions: int | None = None
    finite: bool = True
    non_zero: bool = True
    model: str | None = None
    truncate_to: int | None = None
    largest: float = _FLOAT32_MAX


def norms(matrix: Matrix) -> Norms:
    """Euclidean length of each row, shape (n,); not finite exactly where the row is not."""
    # squares of float32 cannot overflow in float64, so the norm also answers "finite?" and "zero?"; one call, since each
    # that lets go of the interpreter lock may wait milliseconds to get it back
    with np.errstate(all="ignore"):
        squares: Norms = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)
        result: Norms = np.sqrt(squares)
    return result


class VectorSum:
    """The sum of the finite vectors that went by, for their mean; a vector of another length ends it."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Norms | None = None
        self._is_mixed = False

    def add(self, matrix: Matrix) -> None:
        """Float32 vectors, shape (n, dimensions); summed as floats within the call and as doubles over all."""
        if self._is_mixed or not matrix.size:
            return
        with np.errstate(all="ignore"):
            added = matrix.sum(axis=0, dtype=np.float32).astype(np.float64)  # not BLAS, whose threads wait by spinning
        if not np.isfinite(added).all():  # beyond float32, or of vectors that were let in as they are: JSON has no inf
            matrix = matrix[np.isfinite(matrix).all(axis=1)]
            added = matrix.sum(axis=0, dtype=np.float64)
        if self.total is not None and len(self.total) != len(added):
            self._is_mixed, self.count, self.total = True, 0, None
            return
        self.total = added if self.total is None else self.total + added
        self.count += len(matrix)


def added_sums(ours: tuple[list[float], int], theirs: tuple[list[float], int]) -> tuple[list[float], int]:
    """Two sums of vectors, each with how many it sums; one of another length than `ours` is left out."""
    if not ours[0]:
        return theirs
    if len(ours[0]) != len(theirs[0]):
        return ours
    return [a + b for a, b in zip(ours[0], theirs[0], strict=True)], ours[1] + theirs[1]


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
    found = matrix.shape[1]
    if contract.dimensions not in (None, found) or found < (contract.truncate_to or 0):
        return [ErrorCode.WRONG_DIMENSIONS] * len(matrix)
    lengths = norms(matrix) if row_norms is None else row_norms
    codes: list[ErrorCode | None] = [None] * len(lengths)
    unit = is_normalized(lengths, contract.tolerance)
    finite = np.isfinite(lengths)
    if contract.largest < _FLOAT32_MAX and matrix.shape[1]:
        with np.errstate(all="ignore"):
            finite = finite & (np.abs(matrix).max(axis=1) <= contract.largest)
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
