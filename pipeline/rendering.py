"""From record batches of rows to requests, and what runs in a Spark task where rows are only looked at. Sends nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import ErrorCode
from pipeline.prompts import PromptSpec, Renderer, prompt_columns
from pipeline.records import Request, RowError
from pipeline.tokens import Calibration, Estimator
from pipeline.vocabularies import vocabulary_of

MEASURED_DDL = "request_id string, input_tokens bigint"

_UNREADABLE = RowError(ErrorCode.INVALID_INPUT, "a column of the prompt holds bytes that are no UTF-8, or no such date")


class BatchRenderer:
    """Renders whole batches. The columns that the prompt needs are looked up once."""

    def __init__(self, prompt: PromptSpec, estimator: Estimator | None = None) -> None:
        self._renderer = Renderer(prompt, estimator)
        self._columns = list(prompt_columns(prompt))

    def __call__(self, batch: pa.RecordBatch) -> list[Request | RowError]:
        """What each row asks, or why it asks nothing."""
        rows = row_values(batch.select(self._columns)) if self._columns else [{}] * batch.num_rows
        render = self._renderer.render
        return [_UNREADABLE if row is None else render(row) for row in rows]

    def parts(self, request: Request) -> list[tuple[str, Request]]:
        """See `Renderer.parts`."""
        return self._renderer.parts(request)


@dataclass(frozen=True, slots=True)
class MeasureTask:
    """Per row the identity of its request and an estimate of its tokens; null where it asks nothing. Picklable."""

    prompt: PromptSpec
    calibration: Calibration
    model: str = ""  # whose tokenizer counts, where it is at hand

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per row, with the columns of `MEASURED_DDL`."""
        render = BatchRenderer(self.prompt, Estimator(self.calibration, vocabulary_of(self.model)))
        for batch in batches:
            known = [None if isinstance(one, RowError) else one for one in render(batch)]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([one and one.request_id for one in known], pa.string()),
                    pa.array([one and one.input_tokens for one in known], pa.int64()),
                ],
                names=["request_id", "input_tokens"],
            )


@dataclass(frozen=True, slots=True)
class PickTask:
    """Of all rows those that ask one of these requests. Picklable."""

    prompt: PromptSpec
    request_ids: frozenset[str]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows as they came."""
        render = BatchRenderer(self.prompt)
        for batch in batches:
            kept = [
                index
                for index, one in enumerate(render(batch))
                if not isinstance(one, RowError) and one.request_id in self.request_ids
            ]
            if kept:
                yield batch.take(pa.array(kept, pa.int32()))


@dataclass(frozen=True, slots=True)
class IdentifyTask:
    """Adds the id of each row's request as column `name`; empty, as in its landed row, where a row asks nothing. Picklable."""

    prompt: PromptSpec
    name: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows as they came, with one column more."""
        render = BatchRenderer(self.prompt)
        for batch in batches:
            ids = pa.array(["" if isinstance(one, RowError) else one.request_id for one in render(batch)], pa.string())
            schema = batch.schema.append(pa.field(self.name, pa.string()))
            yield pa.RecordBatch.from_arrays([*batch.columns, ids], schema=schema)


def row_values(piece: pa.RecordBatch) -> list[dict[str, Any] | None]:
    """The rows as Python values; None for one that has none: Spark's strings hold any bytes, its dates any year."""
    try:
        return list(piece.to_pylist())
    except (ValueError, OverflowError):
        if piece.num_rows == 1:
            return [None]
        half = piece.num_rows // 2
        return row_values(piece.slice(0, half)) + row_values(piece.slice(half))
