"""The columns that a job adds to its source, and the conversion of outcomes to Arrow. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from pipeline.errors import ConfigError
from pipeline.prices import Price
from pipeline.records import Outcome, RowError, Task, Usage
from pipeline.vector_types import ARROW_TYPES, SCALED, VectorType, to_column

ERROR_TYPE = pa.struct(
    [
        pa.field("code", pa.string()),
        pa.field("message", pa.string()),
        pa.field("status", pa.int32()),
        pa.field("retryable", pa.bool_()),
    ]
)
USAGE_TYPE = pa.struct([pa.field(name, pa.int64()) for name in Usage._fields])
# Columns that a table may lack because it was made before they were: such a table keeps its shape, or is widened.
LATER_COLUMNS = ("cost",)


@dataclass(frozen=True, slots=True)
class TextPart:
    """Which part of a row's text an outcome is about; the whole, unless the text was too long."""

    index: int = 0
    text: str | None = None
    count: int = 1
    is_truncated: bool = False


WHOLE = TextPart()


@dataclass(frozen=True, slots=True)
class ResultShape:
    """What decides which columns a job adds. All but task and prefix are for embeddings."""

    task: Task
    prefix: str = ""
    vectors: VectorType = "float"
    long_text: Literal["error", "truncate", "chunk"] = "error"
    is_pooled: bool = False

    def _special(self) -> dict[str, bool]:
        """The columns that only some jobs have."""
        is_embedding = self.task is Task.EMBEDDING
        is_chunked = is_embedding and self.long_text == "chunk"
        return {
            "scale": is_embedding and self.vectors in SCALED,
            "norm": is_embedding,
            "is_normalized": is_embedding,
            "is_truncated": is_embedding and self.long_text == "truncate",
            "chunk_index": is_chunked and not self.is_pooled,
            "chunk_text": is_chunked and not self.is_pooled,
            "chunk_count": is_chunked,
        }

    def schema(self) -> pa.Schema:
        """What is added to the source columns, in order."""
        fields = [
            ("response", ARROW_TYPES[self.vectors] if self.task is Task.EMBEDDING else pa.string()),
            ("scale", pa.float32()),
            ("error", ERROR_TYPE),
            ("usage", USAGE_TYPE),
            ("cost", pa.float64()),
            ("finish_reason", pa.string()),
            ("model", pa.string()),
            ("norm", pa.float32()),
            ("is_normalized", pa.bool_()),
            ("is_truncated", pa.bool_()),
            ("chunk_index", pa.int32()),
            ("chunk_text", pa.string()),
            ("chunk_count", pa.int32()),
            ("attempts", pa.int32()),
            ("latency_ms", pa.float32()),
            ("request_id", pa.string()),
            ("run_id", pa.string()),
            ("completed_at", pa.timestamp("us", tz="UTC")),
        ]
        special = self._special()
        return pa.schema([pa.field(self.prefix + name, kind) for name, kind in fields if special.get(name, True)])


def check_collisions(source_columns: Sequence[str], shape: ResultShape) -> None:
    """Raises ConfigError where two source columns, or one and a result column, have one name (Spark ignores case)."""
    times = Counter(name.lower() for name in source_columns)
    repeated = [name for name in source_columns if times[name.lower()] > 1]
    if repeated:
        raise ConfigError(
            f"[source] has columns of the same name: {', '.join(repeated)}. A table cannot hold both: leave one out with "
            "[source] select, or rename it in a source query."
        )
    added = {name.lower() for name in shape.schema().names}
    taken = [name for name in source_columns if name.lower() in added]
    if taken:
        raise ConfigError(
            f"[source] has columns that the job adds itself: {', '.join(taken)}. Set [sink] prefix (for example "
            f'prefix = "ai_"), leave them out with [source] select, or rename them in a source query.'
        )


def to_arrow(
    outcomes: Sequence[Outcome],
    shape: ResultShape,
    run_id: str,
    parts: Sequence[TextPart] | None = None,
    price: Price | None = None,
) -> pa.RecordBatch:
    """One row per outcome, in order, with the columns of the shape; `parts` where texts can be too long.

    `cost` is null without a price.
    """
    parts = [WHOLE] * len(outcomes) if parts is None else parts
    # each field of all outcomes: one turn over the tuples instead of one per column
    of: Any = Outcome._make(zip(*outcomes, strict=True) if outcomes else [()] * len(Outcome._fields))
    if shape.task is Task.EMBEDDING:
        response, scale = to_column(of.response, shape.vectors)
    else:
        response, scale = pa.array(of.response, pa.string()), None
    values: dict[str, Callable[[], Any]] = {
        "response": lambda: response,
        "scale": lambda: scale,
        "error": lambda: _errors(of.error),
        "usage": lambda: _usage(of.usage),
        "cost": lambda: (
            pa.nulls(len(outcomes), pa.float64())
            if price is None
            else pa.array([price.cost(usage) for usage in of.usage], pa.float64())
        ),
        "finish_reason": lambda: pa.array(of.finish_reason, pa.string()),
        "model": lambda: pa.array(of.model, pa.string()),
        "norm": lambda: pa.array(of.norm, pa.float32()),
        "is_normalized": lambda: pa.array(of.is_normalized, pa.bool_()),
        "is_truncated": lambda: pa.array([part.is_truncated for part in parts], pa.bool_()),
        "chunk_index": lambda: pa.array([part.index for part in parts], pa.int32()),
        "chunk_text": lambda: pa.array([part.text for part in parts], pa.string()),
        "chunk_count": lambda: pa.array([part.count for part in parts], pa.int32()),
        "attempts": lambda: pa.array(of.attempts, pa.int32()),
        "latency_ms": lambda: pa.array(of.latency_ms, pa.float32()),
        "request_id": lambda: pa.array(of.request_id, pa.string()),
        "run_id": lambda: pa.repeat(pa.scalar(run_id, pa.string()), len(outcomes)),
        "completed_at": lambda: pa.array([int(at_s * 1e6) for at_s in of.completed_at_s], pa.timestamp("us", tz="UTC")),
    }
    schema = shape.schema()
    arrays = [values[name.removeprefix(shape.prefix)]() for name in schema.names]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _errors(errors: Sequence[RowError | None]) -> Any:
    if not any(errors):
        return pa.nulls(len(errors), ERROR_TYPE)
    rows = [
        None
        if error is None
        else {
            "code": str(error.code),
            "message": error.message,
            "status": error.status,
            "retryable": error.is_retryable,
        }
        for error in errors
    ]
    return pa.array(rows, ERROR_TYPE)


def _usage(usages: Sequence[Usage]) -> Any:
    counters = zip(*usages, strict=True) if usages else [()] * len(Usage._fields)
    children = [pa.array(counter, pa.int64()) for counter in counters]
    return pa.StructArray.from_arrays(children, fields=list(USAGE_TYPE))


def spark_ddl(schema: pa.Schema) -> str:
    """The Spark DDL of a shape's schema."""
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
        pa.binary(): "binary",
    }[kind]
