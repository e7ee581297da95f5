"""What a vector is in a table: floats, doubles, or bytes with a scale; and back. Pure."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.vectors import Matrix

VectorType = Literal["float", "double", "float16", "int8", "bits"]

# Bytes of IEEE half precision, of signed integers, and of signs, eight to a byte with the first one highest.
ARROW_TYPES: dict[VectorType, pa.DataType] = {
    "float": pa.list_(pa.float32()),
    "double": pa.list_(pa.float64()),
    "float16": pa.binary(),
    "int8": pa.binary(),
    "bits": pa.binary(),
}
# A number of the vector is about that of the table times the row's scale; for bits +1 or -1.
SCALED: frozenset[VectorType] = frozenset({"int8", "bits"})
LARGEST: dict[VectorType, float] = {"float16": 65_504.0}


def to_column(vectors: Sequence[Matrix | None], kind: VectorType) -> tuple[pa.Array, pa.Array | None]:
    """The column of these float32 vectors, null for None, and that of their scales where the type has one.

    Straight from the vectors' memory: no Python object per number.
    """
    lengths = np.fromiter((0 if v is None else len(v) for v in vectors), dtype=np.int64, count=len(vectors))
    present = [v for v in vectors if v is not None]
    flat: NDArray[Any] = np.concatenate(present) if present else np.empty(0, np.float32)
    is_null = None if len(present) == len(vectors) else np.array([v is None for v in vectors])
    if kind == "float":
        return _lists(flat, lengths, is_null), None
    if kind == "double":
        return _lists(flat.astype(np.float64), lengths, is_null), None
    if kind == "float16":
        with np.errstate(over="ignore"):
            return _bytes(flat.astype("<f2"), 2 * lengths, is_null), None
    filled = lengths[lengths > 0]
    starts = np.cumsum(filled) - filled
    if kind == "int8":
        scales = np.maximum.reduceat(np.abs(flat), starts) / np.float32(127) if present else flat
        divisors = np.repeat(np.where(scales > 0, scales, 1), filled)
        return _bytes(np.rint(flat / divisors).astype(np.int8), lengths, is_null), _scales(
            scales, is_null, len(vectors)
        )
    scales = np.add.reduceat(np.abs(flat), starts, dtype=np.float64) / filled if present else flat
    packed = [np.packbits(vector > 0) for vector in present]
    signs = np.concatenate(packed) if packed else np.empty(0, np.uint8)
    return _bytes(signs, (lengths + 7) // 8, is_null), _scales(scales, is_null, len(vectors))


def from_column(column: pa.Array, kind: VectorType, scales: pa.Array | None = None) -> Matrix:
    """The vectors of a column without nulls, float32, shape (n, dimensions).

    Those of bits are +scale and -scale, padded to whole bytes with -scale. ValueError where they differ in length.
    """
    count = len(column)
    if count == 0:
        return np.empty((0, 0), np.float32)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + count + 1]
    lengths = np.diff(offsets)
    if (lengths != lengths[0]).any():
        raise ValueError(f"vectors of {lengths.min()} to {lengths.max()} numbers or bytes in one table")
    if kind in ("float", "double"):
        return np.asarray(column.flatten()).astype(np.float32, copy=False).reshape(count, -1)
    raw = np.frombuffer(column.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(count, -1)
    if kind == "float16":
        return np.ascontiguousarray(raw).view("<f2").astype(np.float32)
    assert scales is not None
    factors = np.asarray(scales, dtype=np.float32)[:, None]
    numbers = raw.view(np.int8) if kind == "int8" else np.unpackbits(raw, axis=1).astype(np.int8) * 2 - 1
    return numbers.astype(np.float32) * factors


def _lists(flat: NDArray[Any], lengths: NDArray[np.int64], is_null: NDArray[np.bool_] | None) -> pa.Array:
    mask = None if is_null is None else pa.array(is_null)
    return pa.ListArray.from_arrays(pa.array(_offsets(lengths)), pa.array(flat), mask=mask)


def _bytes(data: NDArray[Any], lengths: NDArray[np.int64], is_null: NDArray[np.bool_] | None) -> pa.Array:
    validity = None if is_null is None else pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    buffers = [validity, pa.py_buffer(_offsets(lengths)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)


def _scales(scales: NDArray[Any], is_null: NDArray[np.bool_] | None, count: int) -> pa.Array:
    if is_null is None:
        return pa.array(scales.astype(np.float32), pa.float32())
    every = np.zeros(count, np.float32)
    every[~is_null] = scales
    return pa.array(every, pa.float32(), mask=is_null)


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
