"""Whole jobs over Spark against the simulator: both sinks, all modes, and the bill beside the tables."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipeline import audit_job, run_job
from pipeline.config import JobFile
from pipeline.landed import runs_spec
from pipeline.plans import sink_spec
from pipeline.simulator import Simulator, SimulatorSettings, canned_vector
from pipeline.simulator.handle import Handle
from pipeline.sinks import open_sink
from pipeline.sinks.parquet import ParquetSink
from pipeline.spark import local_frame
from tests.jobs import embedding_sections, figures, make_job, numbered, write_source

pytestmark = pytest.mark.spark


@pytest.fixture
def simulator() -> Iterator[Handle]:
    with Simulator(SimulatorSettings(log_requests=True)) as handle:
        yield handle


def results(spark: SparkSession, job: JobFile) -> DataFrame:
    frame = open_sink(sink_spec(job)).landed(spark)
    assert frame is not None
    return frame


def runs(spark: SparkSession, job: JobFile) -> list[Any]:
    frame = open_sink(runs_spec(job)).landed(spark)
    assert frame is not None
    return frame.orderBy("sequence").collect()


def test_a_budget_holds_over_workers_and_runs_and_the_rest_is_not_attempted(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_source(tmp_path, numbered(60))
    with Simulator(SimulatorSettings(latency_ms=20)) as simulator:
        sections = {
            "job": {"buckets": 2},
            "sink": {"format": "parquet"},
            "limits": {"in_flight": 4, "requests_per_second": 200},
        }
        small = make_job(tmp_path, simulator.base_url, budget={"max_requests": 25}, **sections)
        first = run_job(small, spark)
        assert (first.status, first.rows_landed, first.rows_not_attempted) == ("partial", 25, 35)
        assert "max_requests" in first.stopped
        again = run_job(small, spark)
        assert (again.rows_landed, again.rows_not_attempted) == (0, 35), "spent is spent, whichever run it was"
        larger = make_job(tmp_path, simulator.base_url, budget={"max_requests": 60}, **sections)
        rest = run_job(larger, spark)
        assert (rest.status, rest.rows_landed) == ("landed", 35)
        assert simulator.bill().requests == 60
        assert not any("static shares" in note for note in (*first.notes, *rest.notes))


SINKS = pytest.mark.parametrize("sink", ["delta", "parquet"])


@SINKS
def test_append_asks_only_for_rows_that_have_not_landed(
    spark: SparkSession, tmp_path: Path, simulator: Handle, sink: str
) -> None:
    job = make_job(tmp_path, simulator.base_url, sink={"format": sink})
    write_source(tmp_path, numbered(30))
    first = run_job(job, spark)
    assert (first.status, first.rows_landed, first.requests_sent) == ("landed", 30, 30)

    write_source(tmp_path, numbered(40))
    second = run_job(job, spark)
    assert (second.status, second.rows_skipped, second.rows_landed, second.requests_sent) == ("landed", 30, 10, 10)

    third = run_job(job, spark)
    assert third.status == "nothing_to_do"

    rows = results(spark, job).collect()
    assert len(rows) == len({row["id"] for row in rows}) == 40
    assert all(row["response"] is not None and row["error"] is None for row in rows)
    assert {row["run_id"] for row in rows} == {first.run_id, second.run_id}
    bill = simulator.bill()
    assert bill.requests == 40
    assert sum(row["usage"]["input_tokens"] for row in rows) == bill.input_tokens
    assert sum(row["usage"]["output_tokens"] for row in rows) == bill.output_tokens
    assert [(row["status"], row["rows_landed"]) for row in runs(spark, job)] == [("landed", 30), ("landed", 10)]


@SINKS
def test_overwrite_replaces_the_table_and_buys_nothing_twice(
    spark: SparkSession, tmp_path: Path, simulator: Handle, sink: str
) -> None:
    job = make_job(tmp_path, simulator.base_url, job={"mode": "overwrite"}, sink={"format": sink})
    write_source(tmp_path, numbered(20))
    run_job(job, spark)
    write_source(tmp_path, numbered(20, start=10))
    report = run_job(job, spark)
    assert (report.status, report.rows_landed, report.rows_replayed, report.requests_sent) == ("landed", 20, 10, 10)
    table = results(spark, job)
    assert sorted(row["id"] for row in table.select("id").collect()) == [row["id"] for row in numbered(20, start=10)]
    assert simulator.bill().requests == 30


def test_merge_updates_by_key(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    job = make_job(tmp_path, simulator.base_url, job={"mode": "merge"}, sink={"format": "delta"})
    write_source(tmp_path, numbered(10))
    run_job(job, spark)
    changed = numbered(12)
    changed[3]["doc"] = "Something else entirely."
    write_source(tmp_path, changed)
    report = run_job(job, spark)
    assert (report.status, report.rows_replayed, report.requests_sent) == ("landed", 9, 3)
    rows = results(spark, job).collect()
    assert len(rows) == len({row["id"] for row in rows}) == 12
    assert {row["id"]: row["doc"] for row in rows}["k00003"] == "Something else entirely."


@SINKS
def test_embeddings_land_bit_for_bit(spark: SparkSession, tmp_path: Path, simulator: Handle, sink: str) -> None:
    rows = numbered(50)
    write_source(tmp_path, rows)
    sections = embedding_sections(encoding_format="base64")
    job = make_job(
        tmp_path, simulator.base_url, **sections, sink={"format": sink}, limits={"max_batch_rows": 7},
        embedding={"dimensions": 1024, "normalization": "check" if sink == "delta" else "off"},
    )  # fmt: skip
    report = run_job(job, spark)
    assert report.status == "landed"
    assert report.norms is not None
    assert (report.norms.vectors, report.norms.dimensions) == (50, 1024)
    assert report.norms.mean == pytest.approx(1.0, abs=0.05)
    assert (report.norms.share_normalized is None) == (sink == "parquet")  # measured always, judged where asked
    landed = {row["id"]: row for row in results(spark, job).collect()}
    for row in rows:
        vector = np.array(landed[row["id"]]["response"], dtype=np.float32)
        assert np.array_equal(vector, canned_vector(row["doc"])), row["id"]
        assert landed[row["id"]]["norm"] == pytest.approx(float(np.linalg.norm(vector)), rel=1e-5)
    assert simulator.bill().requests < 17  # five of them for the texts that tell drift


def test_databricks_wire_shape_and_csv_source(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    (tmp_path / "source.csv").write_text("id,doc\n1,One. Two.\n2,Three.\n")
    job = make_job(
        tmp_path,
        simulator.host_url,
        source={"format": "csv", "path": str(tmp_path / "source.csv")},
        endpoint={"api": "databricks"},
    )
    assert run_job(job, spark).rows_landed == 2


def test_a_query_source_with_where_select_and_limit(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    write_source(tmp_path, numbered(20))
    spark.read.parquet(str(tmp_path / "source.parquet")).createOrReplaceTempView("numbers")
    job = make_job(
        tmp_path,
        simulator.base_url,
        source={
            "format": "query", "path": None, "query": "SELECT id, doc, 1 AS other FROM numbers",
            "where": "id >= 'k00005'", "limit": 4, "select": ["id", "doc"],
        },
    )  # fmt: skip
    assert run_job(job, spark).rows_landed == 4
    table = results(spark, job)
    assert sorted(row["id"] for row in table.collect()) == ["k00005", "k00006", "k00007", "k00008"]
    assert "other" not in table.columns


def test_equal_prompts_are_bought_once_and_charged_once(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    rows = [{"id": f"k{i}", "doc": f"Text {i % 3}."} for i in range(300)]
    write_source(tmp_path, rows)
    job = make_job(tmp_path, simulator.base_url)
    report = run_job(job, spark)
    assert report.rows_landed == 300
    bill = simulator.bill()
    assert bill.requests == 3
    total = results(spark, job).selectExpr("sum(usage.input_tokens) i").first()
    assert total is not None
    assert total["i"] == bill.input_tokens == report.input_tokens


def test_failed_rows_land_with_their_error(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    rows = numbered(10)
    rows[2]["doc"] = "Bad [[fault:bad_request]] one."
    rows[3]["doc"] = None
    rows[4]["doc"] = "   "
    rows[5]["doc"] = "Odd \x00 text [[fault:surrogate]]"
    write_source(tmp_path, rows)
    job = make_job(tmp_path, simulator.base_url)
    report = run_job(job, spark)
    assert report.status == "landed"
    assert report.errors == {"bad_request": 1, "empty_input": 2}
    landed = {row["id"]: row for row in results(spark, job).collect()}
    assert landed["k00002"]["error"]["status"] == 400
    assert landed["k00002"]["response"] is None
    assert landed["k00005"]["error"] is None
    assert landed["k00003"]["attempts"] == 0


def test_a_wrong_token_stops_after_one_call_per_worker(spark: SparkSession, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("sesame-8431")
    write_source(tmp_path, numbered(400))
    with Simulator(SimulatorSettings(token="right", latency_ms=20)) as simulator:
        job = make_job(
            tmp_path,
            simulator.base_url,
            endpoint={"auth": {"scheme": "bearer", "secret": f"file:{secret}"}},
            limits={"in_flight": 4},
        )
        report = run_job(job, spark)
        assert report.status in ("partial", "failed")
        assert f"file:{secret}" in report.stopped
        assert "sesame-8431" not in str(report)
        assert (
            simulator.bill().requests <= 2 * 4
        )  # two tasks, and whoever comes after the other may have all four slots
        secret.write_text("right\n")
        again = run_job(job, spark)
        assert (again.status, again.rows_landed) == ("landed", 400)


def test_an_endpoint_that_is_not_there_says_so(spark: SparkSession, tmp_path: Path) -> None:
    write_source(tmp_path, numbered(50))
    job = make_job(tmp_path, "http://127.0.0.1:9/v1", retry={"max_attempts": 2})
    report = run_job(job, spark)
    assert report.status in ("partial", "failed")
    assert "cannot be reached" in report.stopped
    assert report.rows_not_attempted == 50


def test_overwrite_is_not_published_by_half(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    job = make_job(tmp_path, simulator.base_url, job={"mode": "overwrite"}, limits={"in_flight": 2})
    write_source(tmp_path, numbered(10))
    run_job(job, spark)
    rows = numbered(40)
    rows[20]["doc"] = "Stop here [[fault:quota_exhausted]]"
    write_source(tmp_path, rows)
    report = run_job(job, spark)
    assert report.status == "failed"
    assert results(spark, job).count() == 10


def test_the_same_run_id_lands_once(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    write_source(tmp_path, numbered(5))
    job = make_job(tmp_path, simulator.base_url, sink={"format": "delta"})  # by its application transaction
    assert run_job(job, spark, run_id="nightly-7").status == "landed"
    write_source(tmp_path, numbered(9))
    assert run_job(job, spark, run_id="nightly-7").status == "already_landed"
    assert run_job(job, spark, run_id="nightly-8").rows_landed == 4


@pytest.mark.parametrize("kind", ["delta", "json"])
def test_other_files_as_sources(spark: SparkSession, tmp_path: Path, simulator: Handle, kind: str) -> None:
    path = str(tmp_path / "source")
    spark.createDataFrame(numbered(5), "id string, doc string").write.format(kind).save(path)
    job = make_job(tmp_path, simulator.base_url, source={"format": kind, "path": path})
    assert run_job(job, spark).rows_landed == 5
    assert {row["id"] for row in results(spark, job).collect()} == {row["id"] for row in numbered(5)}


TYPED = """
    SELECT 'k' || id AS id, 'Text ' || id AS doc, CAST(id AS DECIMAL(20, 3)) / 8 AS price, DATE '1582-10-04' AS day,
        TIMESTAMP '1900-01-01 00:00:01.000007' AS at, TIMESTAMP_NTZ '2026-03-29 02:30:00' AS local, id % 2 = 0 AS flag,
        MAP('a', id) AS counts, ARRAY(STRUCT(id AS n, CAST(NULL AS STRING) AS note)) AS parts, CAST('b' AS BINARY) AS raw,
        CAST(NULL AS INT) AS nothing, CAST(id AS TINYINT) AS small, CAST(0.5 AS FLOAT) AS half
    FROM RANGE({first}, {end})
"""


def test_columns_of_all_types_come_back_as_they_were_beside_a_run_that_spark_wrote(
    spark: SparkSession, tmp_path: Path, simulator: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def landed(first: int, end: int) -> JobFile:
        source = {"format": "query", "path": None, "query": TYPED.format(first=first, end=end)}
        job = make_job(tmp_path, simulator.base_url, source=source, sink={"format": "parquet"})
        assert run_job(job, spark).rows_landed == 3
        return job

    with monkeypatch.context() as patched:
        patched.setattr(ParquetSink, "open_stage", lambda *arguments: None)  # through Spark's own writer
        landed(0, 3)
    job = landed(3, 6)
    source = spark.sql(TYPED.format(first=0, end=6))
    table = results(spark, job).select(*source.columns)
    assert table.dtypes == source.dtypes
    assert table.orderBy("id").collect() == source.orderBy("id").collect()


def test_a_table_of_the_catalog_into_another(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    spark.sql(f"CREATE DATABASE shop LOCATION '{tmp_path / 'shop'}'")
    try:
        spark.createDataFrame(numbered(5), "id string, doc string").write.format("delta").saveAsTable("shop.docs")
        sections: dict[str, dict[str, Any]] = {
            "source": {"format": "table", "path": None, "table": "shop.docs"},
            "sink": {"format": "delta", "path": None, "table": "shop.summaries"},
            "state": {"path": str(tmp_path / "state")},
        }
        job = make_job(tmp_path, simulator.base_url, **sections)
        assert run_job(job, spark).rows_landed == 5
        spark.sql("INSERT INTO shop.docs VALUES ('k00005', 'A new one.')")
        assert run_job(job, spark).rows_landed == 1
        spark.sql("UPDATE shop.docs SET doc = 'Another text.' WHERE id = 'k00002'")
        sections["source"]["changed"] = True
        merged = run_job(make_job(tmp_path, simulator.base_url, **sections, job={"mode": "merge"}), spark)
        assert (merged.rows_landed, merged.requests_sent) == (1, 1)
        del sections["source"]["changed"]
        job = make_job(tmp_path, simulator.base_url, **sections, job={"mode": "overwrite"})
        replaced = run_job(job, spark)
        assert (replaced.rows_landed, replaced.requests_sent) == (6, 0)
        rows = spark.table("shop.summaries").collect()
        assert {row["id"]: row["doc"] for row in rows}["k00002"] == "Another text."
        assert len(rows) == len({row["id"] for row in rows}) == 6
        assert spark.table("shop.summaries_runs").count() == 4
        assert audit_job(job, spark, figures(simulator)).differences == []
    finally:
        spark.sql("DROP DATABASE shop CASCADE")


def test_own_rows_keep_their_moments_in_any_zone_and_start_no_python(spark: SparkSession) -> None:
    schema = StructType.fromDDL("at timestamp, counts map<string,bigint>, inner struct<a:int>")
    moment = datetime(2026, 11, 22, 3, tzinfo=UTC)
    before = spark.conf.get("spark.sql.session.timeZone")
    try:
        for zone in ("America/New_York", "Asia/Kolkata"):
            spark.conf.set("spark.sql.session.timeZone", zone)
            frame = local_frame(spark, [{"at": moment, "counts": {"a": 1}, "inner": None}], schema)
            row = frame.selectExpr("unix_seconds(at) AS at", "counts", "inner").first()
            assert row is not None
            assert row.asDict() == {"at": moment.timestamp(), "counts": {"a": 1}, "inner": None}, zone
        assert frame._jdf.queryExecution().sparkPlan().getClass().getSimpleName() == "LocalTableScanExec"
        assert local_frame(spark, [], schema).collect() == []
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "0")
        assert local_frame(spark, [{"at": None, "counts": None, "inner": None}], schema).count() == 1
    finally:
        spark.conf.set("spark.sql.session.timeZone", str(before))
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
