"""The rows nearest to a vector: brute force over record batches, as a user checks that vectors mean something.

And how much two such rankings agree.
"""

import heapq
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.vector_types import VectorType, from_column
from pipeline.vectors import Matrix, Norms, norms

SCORE = "__score"
ROWS_AT_ONCE = 4_096
# How likely a reader who has seen one row looks at the next: with 0.9 the first ten rows have 86 % of the weight.
PERSISTENCE = 0.9


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


def rank_biased_overlap(
    ours: Sequence[Hashable], theirs: Sequence[Hashable], persistence: float = PERSISTENCE
) -> float:
    """How much two rankings agree, from 0 to 1: agreement at the top counts more, and rows that both lack are assumed
    to go on agreeing as those that are there do.

    1 for the same rows in the same order, 0 where no row is in both, or one is empty. A row that stands twice in a
    ranking counts where it stands first. The extrapolated measure for rankings of unequal length, RBO_EXT.
    Source: Webber, Moffat, Zobel, "A similarity measure for indefinite rankings", ACM TOIS 28(4), 2010, equation 32.
    """
    short, long = sorted((list(dict.fromkeys(ours)), list(dict.fromkeys(theirs))), key=len)
    if not short:
        return 0.0
    seen_short: set[Hashable] = set()
    seen_long: set[Hashable] = set()
    shared = shared_at_end_of_short = 0
    total = 0.0
    for depth, row in enumerate(long, 1):
        seen_long.add(row)
        if depth <= len(short):
            seen_short.add(short[depth - 1])
            shared = len(seen_short & seen_long)
            shared_at_end_of_short = shared
        else:
            shared += row in seen_short
            total += shared_at_end_of_short * (depth - len(short)) / (len(short) * depth) * persistence**depth
        total += shared / depth * persistence**depth
    beyond = (shared - shared_at_end_of_short) / len(long) + shared_at_end_of_short / len(short)
    return (1 - persistence) / persistence * total + beyond * persistence ** len(long)
