"""Every call, refusal, failure and plan of the tables beside this file, over Spark against the simulator's bill."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from pyspark.errors import AnalysisException, IllegalArgumentException, PySparkException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import VariantVal

from pipeline import AiFunctionError, ai_classify, ai_gen, ai_query, register
from pipeline.conditions import SQLSTATES
from pipeline.simulator import Simulator, SimulatorSettings
from pipeline.simulator.handle import Handle
from tests.conformance.calls import CASES, ROWS, Case
from tests.conformance.plans import FRAMES, INNERS, NOT_ALLOWED, NOT_ALLOWED_AS, OVER, PLANS
from tests.conformance.refusals import FAILURES, REFUSALS, STATES, Refusal

WAYS = ("sql", "column")
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
    defaults = {"default_endpoint": "chat", "default_embedding_endpoint": "embed"}
    register(spark, {**defaults, "endpoints": endpoints})
    frame = spark.createDataFrame(ROWS, "i int, p string, f binary").coalesce(1)
    frame.createOrReplaceTempView("t")
    frame.where("i < 4").createOrReplaceTempView("good")
    yield spark
    for view in ("t", "good", "seen", *(f"column_{name}" for name in INNERS)):
        spark.catalog.dropTempView(view)
    spark.sql("DROP TABLE IF EXISTS landed")


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


def state(condition: str) -> str:
    return STATES[condition.split(".")[0]]


@pytest.mark.parametrize("call", REFUSALS)
def test_wrong_calls_are_refused_at_analysis(sql: SparkSession, simulator: Handle, call: str) -> None:
    condition = REFUSALS[call].condition
    simulator.reset_bill()
    with pytest.raises(IllegalArgumentException) as caught:
        sql.sql(f"SELECT {call} AS r FROM t")
    text = str(caught.value)
    assert text.startswith(f"[{condition}] ")
    assert text.split("\n")[0].endswith(f" SQLSTATE: {state(condition)}")
    assert "\tat " not in text
    assert simulator.bill().requests == 0


@pytest.mark.parametrize("call", [call for call, refusal in REFUSALS.items() if refusal.column and not refusal.is_late])
def test_wrong_columns_are_refused_where_they_are_written(sql: SparkSession, call: str) -> None:
    make, condition = REFUSALS[call].column, REFUSALS[call].condition
    assert make is not None
    with pytest.raises(AiFunctionError) as caught:
        make()
    assert (caught.value.getCondition(), caught.value.getSqlState()) == (condition, state(condition))
    assert str(caught.value).startswith(f"[{condition}] ")


@pytest.mark.parametrize("call", [call for call, refusal in REFUSALS.items() if refusal.is_late])
def test_columns_of_a_wrong_type_are_refused_by_their_first_row(
    sql: SparkSession, simulator: Handle, call: str
) -> None:
    make, condition = REFUSALS[call].column, REFUSALS[call].condition
    assert make is not None
    simulator.reset_bill()
    frame = sql.table("t").where("i = 1").select(make().alias("r"))
    with pytest.raises(PySparkException) as caught:
        frame.collect()
    assert re.search(rf"\[{condition}\] .* SQLSTATE: {state(condition)}$", str(caught.value), re.MULTILINE)
    assert simulator.bill().requests == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ai_gen("v"), r"`prompt` must be .*; of a VARIANT, give to_json\. SQLSTATE: 42K09$"),
        (lambda: ai_classify("v", '["city", "land"]'), r"`content` must be a STRING; of a VARIANT, give to_json\. SQL"),
        (lambda: ai_query("chat", "v"), r"`request` must be .*; of a VARIANT, give to_json\. SQLSTATE: 42K09$"),
    ],
    ids=["gen", "classify", "query"],
)
def test_a_column_of_variant_is_refused_in_a_sentence_that_says_what_to_give(
    sql: SparkSession, simulator: Handle, make: Callable[[], Column], said: str
) -> None:
    simulator.reset_bill()
    frame = sql.range(1).select(F.parse_json(F.lit('{"x": 1}')).alias("v")).select(make())
    with pytest.raises(PySparkException) as caught:
        frame.collect()
    assert re.search(rf"\[DATATYPE_MISMATCH\] {said}", str(caught.value), re.MULTILINE)
    assert simulator.bill().requests == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("call", FAILURES)
def test_failed_queries_name_their_condition_and_not_the_prompt(
    sql: SparkSession, simulator: Handle, call: str, way: str
) -> None:
    failing = FAILURES[call]
    simulator.reset_bill()
    if way == "sql":
        frame = sql.sql(f"SELECT {call} AS r FROM {failing.view}")
    else:
        frame = sql.table(failing.view).select(failing.column().alias("r"))
    with pytest.raises(PySparkException) as caught:
        frame.collect()
    text = str(caught.value)
    name = re.escape(failing.condition)
    assert re.search(rf"\[{name}\] .* SQLSTATE: {state(failing.condition)}$", text, re.MULTILINE)
    assert "Rome is old" not in text
    assert "Paris is big" not in text
    assert simulator.bill().requests <= 4  # two rows of two attempts at most: a task tried again asks nothing


def run(statement: str, spark: SparkSession, way: str) -> None:
    """The statement over sub-queries, or over views that columns made."""
    for name, inner in INNERS.items():
        if way == "column" and f"{{{name}}}" in statement:
            inner.frame(spark).createOrReplaceTempView(f"column_{name}")
    views = {name: f"column_{name}" if way == "column" else f"({inner.query})" for name, inner in INNERS.items()}
    spark.sql(statement.format(**views)).collect()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("statement", OVER)
def test_no_plan_over_answers_buys_twice(sql: SparkSession, simulator: Handle, statement: str, way: str) -> None:
    if statement.startswith("CREATE TABLE"):
        sql.sql("DROP TABLE IF EXISTS landed")
    simulator.reset_bill()
    run(statement, sql, way)
    assert simulator.bill().requests == OVER[statement]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("statement", PLANS)
def test_no_plan_buys_twice(sql: SparkSession, simulator: Handle, statement: str, way: str) -> None:
    simulator.reset_bill()
    frame = sql.sql(statement) if way == "sql" else PLANS[statement].frame(sql)
    frame.collect()
    assert simulator.bill().requests == PLANS[statement].calls


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("statement", NOT_ALLOWED)
def test_where_spark_allows_no_call_it_says_so(sql: SparkSession, simulator: Handle, statement: str, way: str) -> None:
    simulator.reset_bill()
    made = (lambda: sql.sql(statement)) if way == "sql" else (lambda: NOT_ALLOWED[statement].frame(sql))
    with pytest.raises(AnalysisException, match=NOT_ALLOWED_AS):
        made().collect()
    assert simulator.bill().requests == 0


@pytest.mark.parametrize("name", FRAMES)
def test_no_frame_buys_twice(sql: SparkSession, simulator: Handle, name: str) -> None:
    make, calls = FRAMES[name]
    simulator.reset_bill()
    make(sql).collect()
    assert simulator.bill().requests == calls


@pytest.mark.parametrize("name", [*CASES, *REFUSALS])
def test_every_case_is_a_column_too_or_says_why_not(name: str) -> None:
    case: Case | Refusal = CASES[name] if name in CASES else REFUSALS[name]
    assert (case.column is None) == bool(case.sql_only)


def test_every_condition_has_a_case() -> None:
    shown = [refusal.condition for refusal in REFUSALS.values()] + [failing.condition for failing in FAILURES.values()]
    assert {condition.split(".")[0] for condition in shown} == STATES.keys() == SQLSTATES.keys()


def test_there_are_enough_cases_in_sql_and_as_columns() -> None:
    both = len(FAILURES) + len(OVER) + len(PLANS) + len(NOT_ALLOWED)
    calls = [*CASES.values(), *REFUSALS.values()]
    assert both + len(calls) >= 150
    assert both + sum(case.column is not None for case in calls) >= 150
