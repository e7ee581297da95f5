"""`ai_query` over Spark beyond single calls: limits, cache, streams, views, failing, what a plan shows."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipeline import ai_query, register
from pipeline.functions import registered
from pipeline.simulator import Simulator, SimulatorSettings
from pipeline.simulator.handle import Handle

pytestmark = pytest.mark.spark

ROWS = [
    (1, "Paris is big.", None),
    (2, None, b"\x89PNG\r\n\x1a\n."),
    (3, "Rome is old.", b"\xff\xd8\xff."),
    (4, "No [[fault:bad_request]]", b"%PDF"),
]
PLAIN = ["Paris is big.", None, "Rome is old."]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Handle]:
    with Simulator(SimulatorSettings(log_requests=True, canned_vectors=4)) as handle:
        yield handle


@pytest.fixture(scope="module")
def sql(spark: SparkSession, simulator: Handle) -> Iterator[SparkSession]:
    chat = {"kind": "chat", "base_url": simulator.base_url, "limits": {"in_flight": 16}}
    endpoints = {
        "chat": {**chat, "model": "local-chat", "retry": {"base_s": 0.01, "max_attempts": 2}},
        "slow": {**chat, "model": "local-chat", "limits": {"in_flight": 8}},
    }
    register(spark, {"endpoints": endpoints})
    frame = spark.createDataFrame(ROWS, "i int, p string, f binary").coalesce(1)
    frame.createOrReplaceTempView("t")
    frame.where("i < 4").createOrReplaceTempView("good")
    yield spark
    for view in ("t", "good"):
        spark.catalog.dropTempView(view)


def test_a_limit_above_a_filter_ends_the_calls(sql: SparkSession, simulator: Handle) -> None:
    """Rows 0 to 90 answer it; what comes on top was in flight."""
    simulator.reset_bill()
    simulator.set_latency(latency_ms=100.0)
    try:
        asked = "SELECT id, ai_query('slow', 'Row ' || id) r FROM range(0, 1000000, 1, 1)"
        rows = sql.sql(f"SELECT * FROM ({asked}) WHERE r LIKE '%9%' LIMIT 10").collect()
        assert [row["id"] for row in rows] == [9, 19, 29, 39, 49, 59, 69, 79, 89, 90]
    finally:
        simulator.set_latency(latency_ms=0.0)
    bill = simulator.bill()
    assert bill.requests <= 91 + 8
    assert simulator.bill().requests <= bill.requests + 8


TIMES = [
    *("2024-05-01 12:00:00", "2024-05-01T12:00:00.123456789+02:00", "2024-05-01 12:00:00Z", "2024-5-1 1:2:3"),
    *("2024-05-01 12:00:00 America/New_York", "2024-05-01 12:00:00 UTC+3", "2024-05", "2024-05-01 10", "2024-05-01"),
    *("2024-03-31 02:30:00", "2024-10-27 02:30:00", "1890-01-01 00:00:00", "2024-05-01 10:30:00."),
    *("2024-05-01 or so", "2024-13-01", "2024-05-01 24:00:00", "2024-05-01 12:00:00+19:00", "now", "1 May 2024"),
]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "-05:30"])
def test_times_are_read_as_from_json_reads_them_in_the_zone_of_the_session(sql: SparkSession, zone: str) -> None:
    """What `from_json` reads as NULL fails its row here."""
    kept = sql.conf.get("spark.sql.session.timeZone")
    sql.conf.set("spark.sql.session.timeZone", zone)
    try:
        sql.createDataFrame(
            [(json.dumps({"v": text}, separators=(",", ":")),) for text in TIMES], "j string"
        ).createOrReplaceTempView("times")
        for kind, plain in {"TIMESTAMP": "unix_micros", "TIMESTAMP_NTZ": "string", "DATE": "string"}.items():
            call = f"ai_query('chat', j, 'STRUCT<v: {kind}>', false)"
            rows = sql.sql(
                f"SELECT j, {plain}(from_json(j, 'v {kind}').v) AS spark, {plain}(r.result.v) AS ours, "
                f"r.errorMessage LIKE '%PARSE_CAST_ERROR%' AS failed FROM (SELECT j, {call} AS r FROM times)"
            ).collect()
            assert [(row["j"], row["ours"]) for row in rows] == [(row["j"], row["spark"]) for row in rows]
            assert [row["failed"] or False for row in rows] == [row["spark"] is None for row in rows]
            assert len({row["spark"] for row in rows}) > 4
    finally:
        sql.catalog.dropTempView("times")
        sql.conf.set("spark.sql.session.timeZone", kept)


def test_views_tables_and_functions_carry_it(sql: SparkSession, simulator: Handle) -> None:
    sql.sql("CREATE OR REPLACE TEMP VIEW asked AS SELECT i, ai_query('chat', p) AS r FROM good")
    sql.sql("CREATE OR REPLACE TEMPORARY FUNCTION ask(x STRING) RETURNS STRING RETURN ai_query('chat', x)")
    simulator.reset_bill()
    assert [row["r"] for row in sql.sql("SELECT r FROM asked ORDER BY i").collect()] == PLAIN
    assert [row["r"] for row in sql.sql("SELECT ask(p) AS r FROM good").collect()] == PLAIN
    assert [row["r"] for row in sql.table("good").select(F.expr("ai_query('chat', p)").alias("r")).collect()] == PLAIN
    sql.sql("DROP TEMPORARY FUNCTION ask")
    sql.catalog.dropTempView("asked")


def test_the_cache_answers_other_actions_and_other_queries(
    sql: SparkSession, simulator: Handle, tmp_path: Path
) -> None:
    sql.conf.set("pipeline.ai.cache", str(tmp_path))
    try:
        simulator.reset_bill()
        frame = sql.sql("SELECT ai_query('chat', p) AS r FROM good")
        for _ in range(2):
            assert [row["r"] for row in frame.collect()] == PLAIN
        # a sort runs the calls twice, once to find its ranges
        ordered = sql.sql(
            "SELECT ai_query('chat', p, failOnError => false) AS r FROM t ORDER BY r.result DESC"
        ).collect()
        assert [row["r"]["result"] for row in ordered] == ["Rome is old.", "Paris is big.", None, None]
        column = sql.table("good").select(ai_query("chat", "p", details=True).alias("r"))
        assert [row["r"]["result"] for row in column.collect()] == PLAIN
    finally:
        sql.conf.unset("pipeline.ai.cache")
    assert simulator.bill().answers == 2


def test_a_stream_asks_each_row_once(sql: SparkSession, simulator: Handle, tmp_path: Path) -> None:
    sql.table("good").write.parquet(str(tmp_path / "in"))
    simulator.reset_bill()
    for _ in range(2):
        stream = sql.readStream.schema("i int, p string, f binary").parquet(str(tmp_path / "in"))
        query = (
            stream.select("i", F.expr("ai_query('chat', p)").alias("r"), ai_query("chat", "p").alias("c"))
            .writeStream.format("parquet")
            .option("checkpointLocation", str(tmp_path / "checkpoint"))
            .trigger(availableNow=True)
            .start(str(tmp_path / "out"))
        )
        query.awaitTermination()
    landed = sql.read.parquet(str(tmp_path / "out")).orderBy("i").collect()
    assert [(row["r"], row["c"]) for row in landed] == [(value, value) for value in PLAIN]
    assert simulator.bill().requests == 2  # the function and the column ask the same


def test_over_connect_the_columns_work_and_a_warning_says_so(
    sql: SparkSession, simulator: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = registered.catalog
    monkeypatch.setattr("pipeline.sql_functions.is_remote", lambda: True)
    try:
        with pytest.warns(UserWarning, match="column functions"):
            register(sql, {"endpoints": {"here": {"kind": "chat", "base_url": simulator.base_url}}})
        assert set(registered.catalog.endpoints) == {"here"}
    finally:
        registered.catalog = kept


@pytest.mark.long
def test_one_bad_row_among_ten_thousand(sql: SparkSession, simulator: Handle) -> None:
    asked = "concat('Row ', id, IF(id = 7000, ' [[fault:bad_request]]', ''))"
    rows = f"SELECT ai_query('chat', {asked}, failOnError => false) AS r FROM range(0, 10000, 1, 2)"
    found = sql.sql(f"SELECT count(r.result) AS good, count(r.errorMessage) AS bad FROM ({rows})").first()
    assert found is not None
    assert (found["good"], found["bad"]) == (9999, 1)
    simulator.set_latency(latency_ms=500.0)
    try:
        started = time.monotonic()
        with pytest.raises(PySparkException, match="AI_FUNCTION_HTTP_REQUEST_ERROR"):
            sql.sql(f"SELECT ai_query('chat', {asked.replace('7000', '3')}) AS r FROM range(0, 10000, 1, 2)").collect()
        # Spark tries a failed task again, here four times in all: each within 2 s of the answer, which takes 0.5 s
        assert time.monotonic() - started < 4 * 2.5
        time.sleep(3)
        bill = simulator.bill()
        assert bill.in_flight == 0
        time.sleep(1)
        assert simulator.bill().requests == bill.requests
    finally:
        simulator.set_latency(latency_ms=0.0)


def test_nothing_secret_is_in_a_plan(spark: SparkSession, simulator: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TEST", "sesame-8431")
    table = {"kind": "chat", "base_url": simulator.base_url, "auth": {"scheme": "bearer", "secret": "env:KEY_OF_TEST"}}
    # the session's other tests keep their endpoints
    before = spark.sql("SELECT 1 AS p")
    kept = registered.catalog
    try:
        register(spark, {"endpoints": {"secret": table}})
        frame = before.select(ai_query("secret", F.lit("x")).alias("r"))
        plan = frame._jdf.queryExecution().toString()
    finally:
        registered.catalog = kept
    assert "ai_query(" in plan
    assert "sesame" not in plan
    assert "env:KEY" not in plan
