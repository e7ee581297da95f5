"""The rows nearest to a vector: brute force over record batches, as a user checks that vectors mean something."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.vector_types import VectorType, from_column
from pipeline.vectors import Matrix, Norms, norms

SCORE = "__score"
ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class Nearest:
    """The function that `mapInArrow` runs: of a partition the `k` rows with the greatest cosine, with `SCORE`.

    `query` is float32, shape (dimensions,). The columns of the vector and its scale are left out.
    """

    query: Matrix
    k: int
    kind: VectorType
    response: str
    scale: str | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """At most one record batch."""
        best: list[tuple[float, int, pa.RecordBatch, int]] = []
        number = 0
        for whole in batches:
            for start in range(0, whole.num_rows, ROWS_AT_ONCE):
                batch = whole.slice(start, ROWS_AT_ONCE)
                scores = self.scores(batch)
                kept = self._kept(batch)
                for row in np.argsort(-scores, kind="stable")[: self.k].tolist():
                    number += 1  # breaks ties: record batches have no order
                    one = (float(scores[row]), -number, kept, row)
                    if len(best) < self.k:
                        heapq.heappush(best, one)
                    elif one > best[0]:
                        heapq.heapreplace(best, one)
        if best:
            rows = [pa.Table.from_batches([kept.slice(row, 1)]) for _, _, kept, row in best]
            table = pa.concat_tables(rows).combine_chunks()
            yield table.append_column(SCORE, pa.array([score for score, *_ in best], pa.float64())).to_batches()[0]

    def scores(self, batch: pa.RecordBatch) -> Norms:
        """The cosine of each row, shape (rows,). ValueError where the vectors have another length than the query."""
        scales = batch.column(self.scale) if self.scale is not None else None
        matrix = from_column(batch.column(self.response), self.kind, scales)
        query = self.query
        if self.kind == "bits":  # packed to whole bytes
            query = np.pad(query, (0, -len(query) % 8))
        if matrix.shape[1] != len(query):
            raise ValueError(f"the table's vectors have {matrix.shape[1]} numbers and the query's {len(query)}")
        lengths = norms(matrix) * float(norms(query[None])[0])
        found: Norms = (matrix @ query) / np.maximum(lengths, np.finfo(np.float64).tiny)
        return found

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.select([name for name in batch.schema.names if name not in (self.response, self.scale)])
