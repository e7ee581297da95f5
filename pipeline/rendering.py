"""What runs in a Spark task where a job is only looked at: renders and measures, sends nothing. Picklable."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.pieces import row_values
from pipeline.prompts import PromptSpec, Renderer, prompt_columns
from pipeline.records import RowError
from pipeline.tokens import Calibration, Estimator

MEASURED_DDL = "request_id string, input_tokens bigint"


@dataclass(frozen=True, slots=True)
class MeasureTask:
    """Per row the identity of its request and an estimate of its tokens; null where it asks nothing."""

    prompt: PromptSpec
    calibration: Calibration

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per row, with the columns of `MEASURED_DDL`."""
        renderer = Renderer(self.prompt, Estimator(self.calibration))
        names = list(prompt_columns(self.prompt))
        for batch in batches:
            rows = row_values(batch.select(names)) if names else [{}] * batch.num_rows
            asked = [None if row is None else renderer.render(row) for row in rows]
            known = [None if isinstance(one, RowError) else one for one in asked]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([one and one.request_id for one in known], pa.string()),
                    pa.array([one and one.input_tokens for one in known], pa.int64()),
                ],
                names=["request_id", "input_tokens"],
            )


@dataclass(frozen=True, slots=True)
class PickTask:
    """Of all rows those that ask one of these requests."""

    prompt: PromptSpec
    request_ids: frozenset[str]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows as they came."""
        renderer, names = Renderer(self.prompt), list(prompt_columns(self.prompt))
        for batch in batches:
            rows = row_values(batch.select(names)) if names else [{}] * batch.num_rows
            asked = [None if row is None else renderer.render(row) for row in rows]
            kept = [
                index
                for index, one in enumerate(asked)
                if one is not None and not isinstance(one, RowError) and one.request_id in self.request_ids
            ]
            if kept:
                yield batch.take(pa.array(kept, pa.int32()))
