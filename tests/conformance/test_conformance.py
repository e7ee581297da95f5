"""Every call, refusal, failure and plan of the tables beside this file, over Spark against the simulator's bill."""

import shutil
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from pyspark.errors import AnalysisException, IllegalArgumentException, PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.types import VariantVal

from pipeline import AiFunctionError, register
from pipeline.simulator import Simulator, SimulatorSettings
from pipeline.simulator.handle import Handle
from tests.conformance.calls import CASES, ROWS, Case
from tests.conformance.plans import FRAMES, NOT_ALLOWED, PLANS
from tests.conformance.refusals import COLUMN_REFUSALS, FAILURES, REFUSALS

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def simulator() -> Iterator[Handle]:
    with Simulator(SimulatorSettings(canned_vectors=4)) as handle:
        yield handle


@pytest.fixture(scope="module")
def sql(spark: SparkSession, simulator: Handle) -> Iterator[SparkSession]:
    chat = {"kind": "chat", "base_url": simulator.base_url, "model": "local-chat"}
    wire = {**chat, "api": "databricks", "base_url": simulator.host_url}
    endpoints = {
        "chat": {**chat, "limits": {"in_flight": 16}, "retry": {"base_s": 0.01, "max_attempts": 2}},
        "slow": {**chat, "limits": {"in_flight": 8}},
        "wire": wire,
        "lost": {**chat, "model": "no-such-model"},
        "embed": {"kind": "embedding", "base_url": simulator.base_url, "model": "canned-embedding"},
        "complete": {**chat, "kind": "completion"},
        "complete_wire": {**wire, "kind": "completion"},
        "custom": {**wire, "kind": "custom", "model": "local-custom"},
    }
    register(spark, {"default_endpoint": "chat", "endpoints": endpoints})
    frame = spark.createDataFrame(ROWS, "i int, p string, f binary").coalesce(1)
    frame.createOrReplaceTempView("t")
    frame.where("i < 4").createOrReplaceTempView("good")
    yield spark
    for view in ("t", "good", "seen"):
        spark.catalog.dropTempView(view)
    spark.sql("DROP TABLE IF EXISTS landed")
    shutil.rmtree("spark-warehouse", ignore_errors=True)


def plain(value: Any) -> Any:
    """Rows as tuples, variants as what they hold."""
    if isinstance(value, tuple | list):
        kind = list if type(value) is list else tuple
        return kind(plain(item) for item in value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, VariantVal):
        return value.toPython()
    return float(value) if isinstance(value, Decimal) else value


def check(case: Case, frame: Any, simulator: Handle) -> None:
    assert frame.schema["r"].dataType.simpleString() == case.kind
    simulator.reset_bill()
    found = [plain(row["r"]) for row in frame.collect()]
    if case.rows is not None:
        assert found == case.rows
    assert simulator.bill().requests == case.billed


@pytest.mark.parametrize("name", CASES)
def test_sql(sql: SparkSession, simulator: Handle, name: str) -> None:
    case = CASES[name]
    check(case, sql.sql(f"SELECT {case.call} AS r FROM {case.view}"), simulator)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.column is not None])
def test_column(sql: SparkSession, simulator: Handle, name: str) -> None:
    case = CASES[name]
    assert case.column is not None
    check(case, sql.table(case.view).select(case.column().alias("r")), simulator)


@pytest.mark.parametrize("call", REFUSALS)
def test_wrong_calls_are_refused_at_analysis(sql: SparkSession, simulator: Handle, call: str) -> None:
    simulator.reset_bill()
    with pytest.raises(IllegalArgumentException) as caught:
        sql.sql(f"SELECT {call} AS r FROM t")
    text = str(caught.value)
    assert text.startswith(f"[{REFUSALS[call]}] ")
    assert " SQLSTATE: " in text
    assert "\tat " not in text
    assert simulator.bill().requests == 0


@pytest.mark.parametrize("name", COLUMN_REFUSALS)
def test_wrong_columns_are_refused_where_they_are_written(sql: SparkSession, name: str) -> None:
    make, condition = COLUMN_REFUSALS[name]
    with pytest.raises(AiFunctionError) as caught:
        make()
    assert caught.value.condition == condition


@pytest.mark.parametrize("statement", FAILURES)
def test_failed_queries_name_their_condition_and_not_the_prompt(
    sql: SparkSession, simulator: Handle, statement: str
) -> None:
    simulator.reset_bill()
    frame = sql.sql(statement)
    with pytest.raises(PySparkException) as caught:
        frame.collect()
    text = str(caught.value)
    assert f"[{FAILURES[statement]}] " in text
    assert "Rome is old" not in text
    assert "Paris is big" not in text
    assert simulator.bill().requests <= 4  # two rows of two attempts at most: a task tried again asks nothing


@pytest.mark.parametrize("statement", PLANS)
def test_no_plan_buys_twice(sql: SparkSession, simulator: Handle, statement: str) -> None:
    simulator.reset_bill()
    sql.sql(statement).collect()
    assert simulator.bill().requests == PLANS[statement]


@pytest.mark.parametrize("statement", NOT_ALLOWED)
def test_where_spark_allows_no_call_it_says_so(sql: SparkSession, simulator: Handle, statement: str) -> None:
    simulator.reset_bill()
    with pytest.raises(AnalysisException, match=NOT_ALLOWED[statement]):
        sql.sql(statement)
    assert simulator.bill().requests == 0


@pytest.mark.parametrize("name", FRAMES)
def test_no_frame_buys_twice(sql: SparkSession, simulator: Handle, name: str) -> None:
    make, calls = FRAMES[name]
    simulator.reset_bill()
    make(sql).collect()
    assert simulator.bill().requests == calls


def test_there_are_enough_cases() -> None:
    in_sql = len(CASES) + len(REFUSALS) + len(FAILURES) + len(PLANS)
    as_columns = sum(case.column is not None for case in CASES.values()) + len(COLUMN_REFUSALS) + len(FRAMES)
    assert in_sql >= 150
    assert as_columns >= 60
