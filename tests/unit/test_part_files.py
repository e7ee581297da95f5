import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.columns import ResultShape, to_arrow
from pipeline.part_files import HIDDEN, PartWriter, leaf_paths
from pipeline.records import Outcome, Task


def batches(count, rows=3):
    for start in range(count):
        vectors = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) + start
        yield to_arrow([Outcome(f"r{start}", response=row) for row in vectors], ResultShape(Task.EMBEDDING), "run-1")


def written(folder, work, **options):
    return list(PartWriter(work, str(folder), "{}", "response", **options)(iter([])))


def test_a_task_leaves_one_hidden_file_with_its_rows_and_names_it(tmp_path):
    (manifest,) = written(tmp_path, lambda _: batches(5), left_out=("run_id",))
    (row,) = manifest.to_pylist()
    assert [path.name for path in tmp_path.iterdir()] == [row["file"]]
    assert row["file"].startswith(HIDDEN)
    table = pq.read_table(tmp_path / row["file"])
    assert row["rows"] == table.num_rows == 15
    assert "run_id" not in table.schema.names
    expected = [pair["response"] for batch in batches(5) for pair in batch.to_pylist()]
    assert table.column("response").to_pylist() == expected


def test_vectors_are_stored_as_they_are_and_the_rest_is_not(tmp_path):
    (manifest,) = written(tmp_path, lambda _: batches(2))
    metadata = pq.ParquetFile(tmp_path / manifest.to_pylist()[0]["file"]).metadata
    assert metadata.metadata[b"org.apache.spark.sql.parquet.row.metadata"] == b"{}"
    columns = {c.path_in_schema: c for c in (metadata.row_group(0).column(i) for i in range(metadata.num_columns))}
    assert columns["response.list.element"].compression == "UNCOMPRESSED"
    assert "PLAIN_DICTIONARY" not in columns["response.list.element"].encodings
    assert columns["request_id"].compression == "SNAPPY"


@pytest.mark.parametrize(
    ("codec", "compression"), [("snappy", "SNAPPY"), ("ZSTD", "ZSTD"), ("none", "UNCOMPRESSED"), ("lzo", "SNAPPY")]
)
def test_texts_are_compressed_as_spark_is_told(tmp_path, codec, compression):
    def work(_):
        yield to_arrow([Outcome("r", response="the same again")] * 50, ResultShape(Task.CHAT), "run-1")

    (manifest,) = list(PartWriter(work, str(tmp_path), "{}", codec=codec)(iter([])))
    metadata = pq.ParquetFile(tmp_path / manifest.to_pylist()[0]["file"]).metadata
    response = next(
        c for c in map(metadata.row_group(0).column, range(metadata.num_columns)) if c.path_in_schema == "response"
    )
    assert response.compression == compression
    assert "RLE_DICTIONARY" in response.encodings
    assert response.statistics is not None


def test_a_task_without_rows_leaves_nothing(tmp_path):
    assert written(tmp_path, lambda _: iter([])) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("good", [0, 3])
def test_a_task_that_fails_takes_its_file_away(tmp_path, good):
    def work(_):
        yield from batches(good)
        raise RuntimeError("the bucket was taken over")

    with pytest.raises(RuntimeError):
        written(tmp_path, work)
    assert list(tmp_path.iterdir()) == []


def test_rows_leave_memory_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.part_files.ROW_GROUP_BYTES", 2_000)
    (manifest,) = written(tmp_path, lambda _: batches(20))
    assert pq.ParquetFile(tmp_path / manifest.to_pylist()[0]["file"]).num_row_groups > 2


def test_leaves_are_named_as_parquet_names_them():
    schema = pa.schema([("a", pa.list_(pa.float32())), ("b", pa.struct([("c", pa.int32())])), ("d", pa.string())])
    assert leaf_paths(schema) == ["a.list.element", "b.c", "d"]
