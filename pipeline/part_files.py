"""Parquet files that tasks write themselves.

Spark's writer takes 250 us of CPU for 1,024 floats, Arrow's 10; of a chat job's rows it takes half of the whole JVM's time.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

# Readers of Spark leave out names that begin so; the driver gives the file its name once the task has ended well.
HIDDEN = "_"
MANIFEST = "file string, rows bigint"
# The whole of it is in memory twice while it is written.
ROW_GROUP_BYTES = 16 * 2**20
# Numbers that the writer takes at a time; its own 1,024 cost a fifth more per vector.
_WRITE_BATCH = 16_384
_SPARK_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"  # where Spark looks for its own schema

# Spark's names of what Arrow writes, too; its own default for the others.
_CODECS = {
    "none": "none",
    "uncompressed": "none",
    "snappy": "snappy",
    "gzip": "gzip",
    "zstd": "zstd",
    "brotli": "brotli",
    "lz4_raw": "lz4",
}

Work = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class PartWriter:
    """The function that `mapInArrow` runs around another one: its rows go into a file, the file's name to Spark.

    A file that no finished task has named belongs to a dead attempt; it is never published. `vectors` is the column
    whose numbers are stored as they are: they neither repeat nor compress, and trying both takes most of the time.
    None where there is no such column.
    """

    work: Work
    folder: str
    spark_schema: str  # JSON, without the columns left out
    vectors: str | None = None
    left_out: tuple[str, ...] = ()
    codec: str = "snappy"  # as Spark calls it, for all but the vectors

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row: the file's name in the folder, and how many rows it has; none where there were none."""
        path = os.path.join(self.folder, f"{HIDDEN}part-{uuid.uuid4().hex}.parquet")
        rows = 0
        writer: pq.ParquetWriter | None = None
        group: list[pa.RecordBatch] = []
        size = 0
        try:
            for batch in self.work(batches):
                group.append(self._kept(batch))
                rows += batch.num_rows
                size += batch.nbytes
                writer = writer or self._open(path, group[0].schema)
                if size >= ROW_GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(group), row_group_size=rows)
                    group, size = [], 0
            if writer is not None:
                if group:
                    writer.write_table(pa.Table.from_batches(group), row_group_size=rows)
                writer.close()
        except BaseException:
            with contextlib.suppress(Exception):
                if writer is not None:
                    writer.close()
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        if rows:
            yield pa.RecordBatch.from_pydict({"file": [os.path.basename(path)], "rows": [rows]})

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.select([name for name in batch.schema.names if name not in self.left_out])

    def _open(self, path: str, schema: pa.Schema) -> pq.ParquetWriter:
        schema = schema.with_metadata({_SPARK_SCHEMA: self.spark_schema.encode()})
        paths = leaf_paths(schema)
        plain = [leaf for leaf in paths if self.vectors is not None and f"{leaf}.".startswith(f"{self.vectors}.")]
        others = [leaf for leaf in paths if leaf not in plain]
        return pq.ParquetWriter(
            path,
            schema,
            compression={
                **dict.fromkeys(others, _CODECS.get(self.codec.lower(), "snappy")),
                **dict.fromkeys(plain, "none"),
            },
            use_dictionary=others,
            write_statistics=others,
            write_batch_size=_WRITE_BATCH if plain else None,
        )


def leaf_paths(schema: pa.Schema) -> list[str]:
    """How Parquet calls the columns of a schema, like `response.list.element`."""
    written = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), written)
    columns = pq.ParquetFile(pa.BufferReader(written.getvalue())).schema
    return [columns.column(i).path for i in range(len(columns))]
