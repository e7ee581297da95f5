"""What functions compute by themselves, over the arrays of their arguments; loaded by workers. Pure."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.conditions import AiFunctionError
from pipeline.tokens import estimate_tokens


def cosines(left: pa.Array, right: pa.Array) -> pa.Array:
    """FLOAT per pair of vectors; null where one is missing, has no length, or has another dimension."""
    values = [
        None if one is None or other is None else _cosine(one, other)
        for one, other in zip(_vectors(left), _vectors(right), strict=True)
    ]
    return pa.array(values, pa.float32())


def token_counts(content: pa.Array) -> pa.Array:
    """INT per text; null for null, 0 for an empty one."""
    if not (
        pa.types.is_string(content.type) or pa.types.is_large_string(content.type) or pa.types.is_null(content.type)
    ):
        raise AiFunctionError("DATATYPE_MISMATCH", "`content` must be a STRING.")
    counts = [None if text is None else estimate_tokens(text) if text else 0 for text in content.to_pylist()]
    return pa.array(counts, pa.int32())


def _vectors(array: pa.Array) -> list[Any]:
    return [item.values.to_numpy(zero_copy_only=False) if item.is_valid else None for item in array]


def _cosine(one: Any, other: Any) -> float | None:
    length = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.dot(one, other)) / length if length and len(one) == len(other) else None
