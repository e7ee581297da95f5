"""The input of a partition, piece by piece, until all its rows have left."""

from collections.abc import Sequence
from itertools import groupby

import pyarrow as pa

BUCKET_COLUMN = "__bucket"


class Pieces:
    """Record batches that are held as long as one of their rows is open. `open_bytes` is their size."""

    def __init__(self) -> None:
        self._pieces: dict[int, pa.RecordBatch] = {}
        self._open_rows: dict[int, int] = {}
        self._next = 0
        self.open_bytes = 0

    def __len__(self) -> int:
        """Pieces that are held."""
        return len(self._pieces)

    def add(self, piece: pa.RecordBatch) -> int:
        """Holds a piece; its number. Each of its rows leaves by `forget`."""
        number = self._next
        self._next += 1
        self._pieces[number] = piece
        self._open_rows[number] = piece.num_rows
        self.open_bytes += piece.nbytes
        return number

    def repeat(self, number: int, times: int) -> None:
        """A row of the piece leaves so many times more."""
        self._open_rows[number] += times

    def forget(self, number: int, rows: int = 1) -> None:
        """So many rows of the piece have left."""
        self._open_rows[number] -= rows
        if not self._open_rows[number]:
            del self._open_rows[number]
            self.open_bytes -= self._pieces.pop(number).nbytes

    def take(self, numbers: Sequence[int], indexes: Sequence[int]) -> pa.RecordBatch:
        """The rows at these pieces and indexes, without the bucket; those of one piece stand together."""
        parts: list[pa.RecordBatch] = []
        start = 0
        for number, rows in groupby(numbers):
            end = start + len(list(rows))
            parts.append(self._pieces[number].take(pa.array(indexes[start:end], pa.int32())))
            start = end
        source = parts[0] if len(parts) == 1 else pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
        return source.select([name for name in source.schema.names if name != BUCKET_COLUMN])
