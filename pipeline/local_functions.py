"""What an AI function computes without a call: the nearness of two vectors, an estimate of tokens."""

from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.types import FloatType

from pipeline.tokens import estimate_tokens


def cosine_udf() -> Any:
    """FLOAT: the cosine of two ARRAY<FLOAT>; NULL where one is NULL, has no length, or another width."""

    def ai_similarity(left: pa.Array, right: pa.Array) -> pa.Array:
        values = [
            None if one is None or other is None else _cosine(one, other)
            for one, other in zip(_vectors(left), _vectors(right), strict=True)
        ]
        return pa.array(values, pa.float32())

    return F.arrow_udf(ai_similarity, FloatType())


def _vectors(array: pa.Array) -> list[Any]:
    return [item.values.to_numpy(zero_copy_only=False) if item.is_valid else None for item in array]


def _cosine(one: Any, other: Any) -> float | None:
    length = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.dot(one, other)) / length if length and len(one) == len(other) else None


def count_udf() -> Any:
    """INT: about how many tokens a STRING has."""

    def ai_count_tokens(content: pa.Array) -> pa.Array:
        counts = [None if text is None else estimate_tokens(text) if text else 0 for text in content.to_pylist()]
        return pa.array(counts, pa.int32())

    return F.arrow_udf(ai_count_tokens, "int")
