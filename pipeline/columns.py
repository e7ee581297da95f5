"""The columns that a job adds to its source, and the conversion of outcomes to Arrow. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import ConfigError
from pipeline.records import Outcome, Task

ERROR_TYPE = pa.struct(
    [
        pa.field("code", pa.string()),
        pa.field("message", pa.string()),
        pa.field("status", pa.int32()),
        pa.field("retryable", pa.bool_()),
    ]
)
USAGE_FIELDS = ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens")
USAGE_TYPE = pa.struct([pa.field(name, pa.int64()) for name in USAGE_FIELDS])
_EMBEDDING_ONLY = frozenset({"norm", "is_normalized"})


def result_schema(task: Task, prefix: str = "") -> pa.Schema:
    """What is added to the source columns, in order; `norm` and `is_normalized` only for embeddings."""
    fields = [
        ("response", pa.list_(pa.float32()) if task is Task.EMBEDDING else pa.string()),
        ("error", ERROR_TYPE),
        ("usage", USAGE_TYPE),
        ("finish_reason", pa.string()),
        ("model", pa.string()),
        ("norm", pa.float32()),
        ("is_normalized", pa.bool_()),
        ("attempts", pa.int32()),
        ("latency_ms", pa.float32()),
        ("request_id", pa.string()),
        ("run_id", pa.string()),
        ("completed_at", pa.timestamp("us", tz="UTC")),
    ]
    if task is not Task.EMBEDDING:
        fields = [(name, kind) for name, kind in fields if name not in _EMBEDDING_ONLY]
    return pa.schema([pa.field(prefix + name, kind) for name, kind in fields])


def check_collisions(source_columns: Sequence[str], task: Task, prefix: str) -> None:
    """Raises ConfigError where a source column has the name of a result column (Spark ignores case)."""
    added = {name.lower() for name in result_schema(task, prefix).names}
    taken = [name for name in source_columns if name.lower() in added]
    if taken:
        raise ConfigError(
            f"[source] has columns that the job adds itself: {', '.join(taken)}. Set [sink] prefix (for example "
            f'prefix = "ai_"), leave them out with [source] select, or rename them in a source query.'
        )


def to_arrow(outcomes: Sequence[Outcome], task: Task, run_id: str, prefix: str = "") -> pa.RecordBatch:
    """One row per outcome, in order, with the columns of `result_schema`."""
    values: dict[str, Any] = {
        "response": _vectors(outcomes)
        if task is Task.EMBEDDING
        else pa.array([o.response for o in outcomes], pa.string()),
        "error": _errors(outcomes),
        "usage": _usage(outcomes),
        "finish_reason": pa.array([o.finish_reason for o in outcomes], pa.string()),
        "model": pa.array([o.model for o in outcomes], pa.string()),
        "attempts": pa.array([o.attempts for o in outcomes], pa.int32()),
        "latency_ms": pa.array([o.latency_ms for o in outcomes], pa.float32()),
        "request_id": pa.array([o.request_id for o in outcomes], pa.string()),
        "run_id": pa.array([run_id] * len(outcomes), pa.string()),
        "completed_at": pa.array([int(o.completed_at_s * 1e6) for o in outcomes], pa.timestamp("us", tz="UTC")),
    }
    if task is Task.EMBEDDING:
        values["norm"] = pa.array([o.norm for o in outcomes], pa.float32())
        values["is_normalized"] = pa.array([o.is_normalized for o in outcomes], pa.bool_())
    schema = result_schema(task, prefix)
    return pa.RecordBatch.from_arrays([values[name.removeprefix(prefix)] for name in schema.names], schema=schema)


def _vectors(outcomes: Sequence[Outcome]) -> Any:
    """A list column straight from float32 buffers: no Python object per float."""
    vectors = [o.response for o in outcomes]
    lengths = np.fromiter((0 if v is None else len(v) for v in vectors), dtype=np.int32, count=len(vectors))
    offsets = np.zeros(len(vectors) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    present = [v for v in vectors if v is not None]
    floats = np.concatenate(present) if present else np.empty(0, dtype=np.float32)
    mask = pa.array([v is None for v in vectors], pa.bool_()) if len(present) < len(vectors) else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(floats, pa.float32()), mask=mask)


def _errors(outcomes: Sequence[Outcome]) -> Any:
    rows = [
        None
        if o.error is None
        else {
            "code": str(o.error.code),
            "message": o.error.message,
            "status": o.error.status,
            "retryable": o.error.is_retryable,
        }
        for o in outcomes
    ]
    return pa.array(rows, ERROR_TYPE)


def _usage(outcomes: Sequence[Outcome]) -> Any:
    children = [pa.array([getattr(o.usage, name) for o in outcomes], pa.int64()) for name in USAGE_FIELDS]
    return pa.StructArray.from_arrays(children, fields=list(USAGE_TYPE))


def spark_ddl(schema: pa.Schema) -> str:
    """The Spark DDL of `result_schema`, for `mapInArrow`."""
    return ", ".join(f"`{field.name}` {_ddl(field.type)}" for field in schema)


def _ddl(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"array<{_ddl(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {_ddl(field.type)}" for field in kind) + ">"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return {
        pa.string(): "string",
        pa.float32(): "float",
        pa.float64(): "double",
        pa.int32(): "int",
        pa.int64(): "bigint",
        pa.bool_(): "boolean",
    }[kind]
