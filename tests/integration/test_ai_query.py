"""`ai_query` over Spark against the simulator: statement, schema, rows or error condition, and the bill."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import IllegalArgumentException, PySparkException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from pipeline import AiFunctionError, ai_query, register
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
REFUSED = "[AI_FUNCTION_HTTP_REQUEST_ERROR] bad_request, HTTP 400: the request is not acceptable. SQLSTATE: 08000"
ENVELOPE = "struct<result:string,errorMessage:string>"


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
        "wire": {**chat, "model": "local-chat", "api": "databricks", "base_url": simulator.host_url},
        "lost": {**chat, "model": "no-such-model"},
        "embed": {"kind": "embedding", "base_url": simulator.base_url, "model": "canned-embedding"},
    }
    register(spark, {"endpoints": endpoints})
    frame = spark.createDataFrame(ROWS, "i int, p string, f binary").coalesce(1)
    frame.createOrReplaceTempView("t")
    frame.where("i < 4").createOrReplaceTempView("good")
    yield spark
    for view in ("t", "good"):
        spark.catalog.dropTempView(view)


@dataclass(frozen=True)
class Case:
    """A call over a view, in SQL and where it can be said as a column; what comes back, and what it cost."""

    call: str
    kind: str = "string"
    rows: list[Any] = field(default_factory=list)
    billed: int = 2
    view: str = "good"
    column: Callable[[], Column] | None = None


P = F.col
SCHEMA = '{"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}}}}'  # noqa: E501
PLAIN = ["Paris is big.", None, "Rome is old."]
CITY = "struct<city:string,n:int>"

CASES = {
    "positional": Case("ai_query('chat', p)", rows=PLAIN, column=lambda: ai_query("chat", "p")),
    "named": Case(
        "ai_query(request => p, endpoint => 'chat')", rows=PLAIN, column=lambda: ai_query("chat", request=P("p"))
    ),
    "names in any case": Case("ai_query('chat', REQUEST => p)", rows=PLAIN),
    "folded endpoint": Case("ai_query(concat('ch', lower('AT')), p)", rows=PLAIN),
    "databricks wire": Case("ai_query('wire', p)", rows=PLAIN, column=lambda: ai_query("wire", "p")),
    "built prompt": Case(
        "ai_query('chat', 'Say: ' || p)", rows=PLAIN, column=lambda: ai_query("chat", F.concat(F.lit("Say: "), "p"))
    ),
    "return type string": Case(
        "ai_query('chat', p, 'STRING')", rows=PLAIN, column=lambda: ai_query("chat", "p", "STRING")
    ),
    "null literal": Case("ai_query('chat', NULL)", rows=[None] * 3, billed=0),
    "constant asked once": Case("ai_query('chat', 'Hi.')", rows=["Hi."] * 3, billed=1),
    "null skips": Case(
        "ai_query('chat', IF(i = 1, NULL, p))",
        rows=[None, None, "Rome is old."],
        billed=1,
        column=lambda: ai_query("chat", F.when(P("i") != 1, P("p"))),
    ),
    "fail on error, all well": Case(
        "ai_query('chat', p, failOnError => true)", rows=PLAIN, column=lambda: ai_query("chat", "p", fail_on_error=True)
    ),
    "envelope": Case(
        "ai_query('chat', p, failOnError => false)",
        ENVELOPE,
        [("Paris is big.", None), (None, None), ("Rome is old.", None), (None, REFUSED)],
        billed=3,
        view="t",
        column=lambda: ai_query("chat", "p", fail_on_error=False),
    ),
    "envelope by position": Case(
        "ai_query('chat', p, 'STRING', false)", ENVELOPE, [("Paris is big.", None), (None, None), ("Rome is old.", None)]
    ),
    "parameters": Case(
        "ai_query('chat', p, modelParameters => named_struct('max_tokens', 2, 'temperature', 0.5))",
        rows=["Paris is", None, "Rome is "],
        column=lambda: ai_query("chat", "p", model_parameters={"max_tokens": 2, "temperature": 0.5}),
    ),
    "more parameters": Case(
        "ai_query('chat', p, modelParameters => named_struct('stop', array('x'), 'seed', 7, 'top_p', 1))",
        rows=PLAIN,
        column=lambda: ai_query("chat", "p", model_parameters={"stop": ["x"], "seed": 7, "top_p": 1}),
    ),
    "response format text": Case(
        """ai_query('chat', p, responseFormat => '{"type": "text"}')""",
        rows=PLAIN,
        column=lambda: ai_query("chat", "p", response_format={"type": "text"}),
    ),
    "json object stays text": Case(
        """ai_query('chat', p, responseFormat => '{"type": "json_object"}')""",
        rows=['{"answer":"Paris is big."}', None, '{"answer":"Rome is old."}'],
        column=lambda: ai_query("chat", "p", response_format={"type": "json_object"}),
    ),
    "json schema stays text": Case(
        f"ai_query('chat', p, responseFormat => '{SCHEMA}')",
        rows=['{"city":"Paris is big.","n":1}', None, '{"city":"Rome is old.","n":1}'],
        column=lambda: ai_query("chat", "p", response_format=SCHEMA),
    ),
    "json schema in the envelope": Case(
        f"ai_query('chat', p, responseFormat => '{SCHEMA}', failOnError => false)",
        ENVELOPE,
        [('{"city":"Paris is big.","n":1}', None), (None, None), ('{"city":"Rome is old.","n":1}', None)],
    ),
    "return type over json schema": Case(
        f"ai_query('chat', p, 'STRUCT<city: STRING, n: INT>', responseFormat => '{SCHEMA}')",
        CITY,
        [("Paris is big.", 1), None, ("Rome is old.", 1)],
        column=lambda: ai_query("chat", "p", "STRUCT<city: STRING, n: INT>", response_format=SCHEMA),
    ),
    "schema_of_json": Case(
        """ai_query('chat', p, schema_of_json('{"answer": ""}'), responseFormat => '{"type": "json_object"}')""",
        "struct<answer:string>",
        [("Paris is big.",), None, ("Rome is old.",)],
    ),
    "ddl of several fields": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<city: STRING, n: INT>')",
        CITY,
        [("Paris is big.", 1), None, ("Rome is old.", 1)],
        column=lambda: ai_query("chat", "p", response_format="STRUCT<city: STRING, n: INT>"),
    ),
    "ddl with a wrapper": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<out: STRUCT<city: STRING, n: INT>>')",
        CITY,
        [("Paris is big.", 1), None, ("Rome is old.", 1)],
    ),
    "ddl of one plain field": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<city: STRING>')",
        "struct<city:string>",
        [("Paris is big.",), None, ("Rome is old.",)],
    ),
    "ddl nested": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<a: ARRAY<STRUCT<b: BOOLEAN, d: DOUBLE>>, x: BIGINT>')",
        "struct<a:array<struct<b:boolean,d:double>>,x:bigint>",
        [([(True, 0.5)], 1), None, ([(True, 0.5)], 1)],
    ),
    "ddl in the envelope": Case(
        "ai_query('chat', p, responseFormat => 'STRUCT<city: STRING, n: INT>', failOnError => false)",
        f"struct<result:{CITY},errorMessage:string>",
        [(("Paris is big.", 1), None), (None, None), (("Rome is old.", 1), None)],
    ),
    "map": Case(
        """ai_query('chat', p, 'MAP<STRING, STRING>', responseFormat => '{"type": "json_object"}')""",
        "map<string,string>",
        [{"answer": "Paris is big."}, None, {"answer": "Rome is old."}],
    ),
    "number": Case("ai_query('chat', '42')", rows=["42"] * 3, billed=1),
    "int": Case("ai_query('chat', '42', 'INT')", "int", [42] * 3, 1, column=lambda: ai_query("chat", F.lit("42"), "INT")),
    "double": Case("ai_query('chat', '2.5', 'DOUBLE')", "double", [2.5] * 3, 1),
    "boolean": Case("ai_query('chat', 'true', 'BOOLEAN')", "boolean", [True] * 3, 1),
    "array": Case("ai_query('chat', '[1, 2]', 'ARRAY<INT>')", "array<int>", [[1, 2]] * 3, 1),
    "misfit is a message": Case(
        "ai_query('chat', p, 'INT', false)",
        "struct<result:int,errorMessage:string>",
        [
            (None, "[AI_FUNCTION_HTTP_PARSE_CAST_ERROR] the answer is a string, not INT32. SQLSTATE: 2203G"),
            (None, None),
            (None, "[AI_FUNCTION_HTTP_PARSE_CAST_ERROR] the answer is a string, not INT32. SQLSTATE: 2203G"),
        ],
        column=lambda: ai_query("chat", "p", "INT", fail_on_error=False),
    ),
    "columns misfit": Case(
        """ai_query('chat', '{"a":1,"b":2}', 'INT', false).errorMessage""",
        rows=["[AI_FUNCTION_HTTP_PARSE_COLUMNS_ERROR] the answer has 2 columns, INT32 is one. SQLSTATE: 2203G"] * 3,
        billed=1,
    ),
    "vector": Case(
        "size(ai_query('embed', p))", "int", [4, None, 4], 1, column=lambda: F.size(ai_query("embed", P("p")))
    ),
    "vector type": Case("ai_query('embed', NULL)", "array<float>", [None] * 3, 0),
    "vector as doubles": Case("size(ai_query('embed', p, 'ARRAY<DOUBLE>'))", "int", [4, None, 4], 1),
    "vector in the envelope": Case(
        "size(ai_query('embed', p, failOnError => false).result)", "int", [4, None, 4], 1
    ),
    "message struct": Case(
        "ai_query('chat', IF(p IS NULL, NULL, named_struct('role', 'user', 'content', p)))", rows=PLAIN
    ),
    "message list": Case(
        "ai_query('chat', IF(p IS NULL, NULL, array(named_struct('role', 'system', 'content', 'Be brief:'),"
        " named_struct('role', 'user', 'content', p))))",
        rows=["Paris is big.", None, "Rome is old."],
    ),
    "files": Case(
        "ai_query('chat', p, files => f)", rows=PLAIN, column=lambda: ai_query("chat", "p", files=P("f"))
    ),
    "several files": Case("ai_query('chat', p, files => array(f, f))", rows=PLAIN),
    "no image": Case(
        "ai_query('chat', 'See.', files => f, failOnError => false).errorMessage",
        rows=[
            None,
            None,
            None,
            "[AI_FUNCTION_HTTP_REQUEST_ERROR] invalid_input: file 1 is no JPEG, PNG, GIF or WebP image. SQLSTATE: 08000",
        ],
        billed=3,
        view="t",
    ),
    "blank request": Case(
        "ai_query('chat', ' ', failOnError => false).errorMessage",
        rows=["[AI_FUNCTION_HTTP_REQUEST_ERROR] empty_input: the request is blank. SQLSTATE: 08000"] * 3,
        billed=0,
    ),
    "retried once": Case("ai_query('chat', p || ' [[fault:overloaded_529:1]]')", rows=[], billed=4),
    "details": Case(
        "ai_query('chat', p, details => true).attempts", "int", [1, None, 1],
        column=lambda: ai_query("chat", "p", details=True)["attempts"],
    ),
    "usage": Case("ai_query('chat', p, details => true).usage.output_tokens", "bigint", [4, None, 3]),
    "in a case": Case("CASE WHEN i < 3 THEN ai_query('chat', p) END", rows=["Paris is big.", None, None]),
    "in coalesce": Case("coalesce(ai_query('chat', p), 'none')", rows=["Paris is big.", "none", "Rome is old."]),
    "nested": Case("ai_query('chat', ai_query('chat', p))", rows=PLAIN),
    "two calls": Case(
        "ai_query('chat', p) || ai_query('chat', 'Hi.')", rows=["Paris is big.Hi.", None, "Rome is old.Hi."], billed=3
    ),
}  # fmt: skip


def plain(value: Any) -> Any:
    """Rows as tuples."""
    if isinstance(value, tuple | list):
        kind = list if type(value) is list else tuple
        return kind(plain(item) for item in value)
    return value


def check(case: Case, frame: Any, simulator: Handle) -> None:
    assert frame.schema["r"].dataType.simpleString() == case.kind
    simulator.reset_bill()
    found = [plain(row["r"]) for row in frame.collect()]
    if case.rows:
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


# call -> condition
REFUSALS = {
    "ai_query()": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_query('chat')": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_query(request => p)": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_query('chat', p, 'INT', true, named_struct('n', 1), 'x', f, true, 1)": "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
    "ai_query('chat', p, temperature => 1)": "UNRECOGNIZED_PARAMETER_NAME",
    "ai_query('chat', p, request => p)": "DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.BOTH_POSITIONAL_AND_NAMED",
    "ai_query(endpoint => 'chat', p)": "UNEXPECTED_POSITIONAL_ARGUMENT",
    "ai_query(p, p)": "NON_FOLDABLE_ARGUMENT",
    "ai_query('chat', p, failOnError => i > 1)": "NON_FOLDABLE_ARGUMENT",
    "ai_query('chat', p, returnType => p)": "NON_FOLDABLE_ARGUMENT",
    "ai_query('chat', p, responseFormat => p)": "NON_FOLDABLE_ARGUMENT",
    "ai_query('chat', p, modelParameters => named_struct('seed', i))": "NON_FOLDABLE_ARGUMENT",
    "ai_query('nope', p)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query(NULL, p)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('embed', p, 'INT')": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('embed', p, files => f)": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query('chat', p, 'INT', responseFormat => 'STRUCT<a: INT>')": "AI_FUNCTION_COMPILATION_ERROR",
    "ai_query(7, p)": "DATATYPE_MISMATCH",
    "ai_query('chat', i)": "DATATYPE_MISMATCH",
    "ai_query('chat', named_struct('a', p))": "DATATYPE_MISMATCH",
    "ai_query('embed', named_struct('role', p, 'content', p))": "DATATYPE_MISMATCH",
    "ai_query('chat', p, files => p)": "DATATYPE_MISMATCH",
    "ai_query('chat', p, failOnError => 'no')": "DATATYPE_MISMATCH",
    "ai_query('chat', p, modelParameters => 'max_tokens')": "DATATYPE_MISMATCH",
    "ai_query('chat', p, modelParameters => map('a', 1))": "DATATYPE_MISMATCH",
    "ai_query('chat', p, 'STRUCT<')": "INVALID_SCHEMA.PARSE_ERROR",
    "ai_query('chat', p, 'WORDS')": "INVALID_SCHEMA.PARSE_ERROR",
    "ai_query('chat', p, responseFormat => 'INT')": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING",
    "ai_query('chat', p, responseFormat => 'xml')": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.DDL_STRING",
    "ai_query('chat', p, responseFormat => '{')": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING",
    """ai_query('chat', p, responseFormat => '{"type": "xml"}')""": (
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING"
    ),
    """ai_query('chat', p, responseFormat => '{"type": "json_schema"}')""": (
        "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT.JSON_STRING"
    ),
    """ai_query('embed', p, responseFormat => '{"type": "text"}')""": "AI_FUNCTION_UNSUPPORTED_RESPONSE_FORMAT",
    **{
        f"ai_query('chat', p, modelParameters => named_struct({arguments}))": (
            f"AI_FUNCTION_INVALID_MODEL_PARAMETERS.{sub}"
        )
        for arguments, sub in {
            "'messages', 'x'": "FOUND_RESERVED_PARAMETER_NAME",
            "'model', 'x'": "FOUND_RESERVED_PARAMETER_NAME",
            "'stream', true": "FOUND_RESERVED_PARAMETER_NAME",
            "'response_format', 'x'": "FOUND_RESERVED_PARAMETER_NAME",
            "'max_tokens', '9'": "INVALID_PARAMETER_DATA_TYPE",
            "'max_tokens', 1.5": "INVALID_PARAMETER_DATA_TYPE",
            "'max_tokens', 0": "INVALID_NUMERIC_PARAMETER",
            "'temperature', 2.5": "INVALID_NUMERIC_PARAMETER",
            "'top_p', -0.1": "INVALID_NUMERIC_PARAMETER",
            "'n', 2": "UNSUPPORTED_MODEL_PARAMETER",
            "'dimensions', 4": "UNSUPPORTED_MODEL_PARAMETER",
        }.items()
    },
}


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


# statement -> condition of the failure; the query fails under either setting where no later row could succeed
FAILURES = {
    "SELECT ai_query('chat', p) FROM t": "AI_FUNCTION_HTTP_REQUEST_ERROR",
    "SELECT ai_query('chat', p, 'INT') FROM good": "AI_FUNCTION_HTTP_PARSE_CAST_ERROR",
    "SELECT ai_query('chat', p || '[[fault:overloaded_529]]') FROM good": "REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT",
    "SELECT ai_query('chat', p || '[[fault:null_content]]') FROM good": "AI_FUNCTION_INVALID_HTTP_RESPONSE",
    "SELECT ai_query('lost', p, failOnError => false) FROM good": "AI_FUNCTION_HTTP_REQUEST_ERROR",
    "SELECT ai_query('slow', p || '[[fault:quota_exhausted]]', failOnError => false) FROM good": (
        "AI_FUNCTION_HTTP_REQUEST_ERROR"
    ),
}


@pytest.mark.parametrize("statement", FAILURES)
def test_failed_queries_name_their_condition_and_not_the_prompt(sql: SparkSession, statement: str) -> None:
    frame = sql.sql(statement)
    with pytest.raises(PySparkException) as caught:
        frame.collect()
    text = str(caught.value)
    assert f"[{FAILURES[statement]}] " in text
    assert "Rome is old" not in text
    assert "Paris is big" not in text


def test_a_column_that_is_wrong_is_refused_where_it_is_written(sql: SparkSession) -> None:
    with pytest.raises(AiFunctionError, match="Known in endpoints: chat, embed, lost, slow, wire"):
        ai_query("nope", "p")
    with pytest.raises(AiFunctionError, match="INVALID_NUMERIC_PARAMETER"):
        ai_query("chat", "p", model_parameters={"max_tokens": 0})


# The double purchases of the plans that were measured: statement -> calls
PLANS = {
    "SELECT r.result, r.errorMessage FROM (SELECT ai_query('chat', p, failOnError => false) r FROM good)": 2,
    "SELECT upper(r), lower(r), length(r) FROM (SELECT ai_query('chat', p) r FROM good)": 2,
    "SELECT * FROM (SELECT ai_query('chat', p) r FROM good) WHERE r IS NOT NULL": 2,
    "SELECT * FROM (SELECT i, ai_query('chat', p) r FROM good) WHERE r LIKE 'P%' AND length(r) > 2": 2,
    "SELECT CASE WHEN r LIKE 'P%' THEN r ELSE 'x' || r END FROM (SELECT ai_query('chat', p) r FROM good)": 2,
    "SELECT coalesce(r, r || 'x', 'none') FROM (SELECT ai_query('chat', p) r FROM good)": 2,
    "SELECT r, count(*) FROM (SELECT ai_query('chat', p) r FROM good) GROUP BY r": 2,
    "SELECT ai_query('chat', p) r, count(*) FROM good GROUP BY ai_query('chat', p)": 2,
    "SELECT count(*) FROM (SELECT ai_query('chat', p) r FROM good)": 0,
    "SELECT i FROM (SELECT i, ai_query('chat', p) r FROM good)": 0,
    "WITH c AS (SELECT ai_query('chat', p) r FROM good) SELECT a.r FROM c a WHERE a.r = (SELECT min(p) FROM good)": 2,
    "SELECT ai_query('chat', max(p)) r FROM good": 1,
    "SELECT ai_query('chat', 'Row ' || id) FROM range(0, 100000, 1, 1) LIMIT 10": 10,
    "SELECT r FROM (SELECT ai_query('chat', 'Row ' || id) r FROM range(0, 100000, 1, 1)) LIMIT 10": 10,
}


@pytest.mark.parametrize("statement", PLANS)
def test_no_plan_buys_twice(sql: SparkSession, simulator: Handle, statement: str) -> None:
    simulator.reset_bill()
    sql.sql(statement).collect()
    assert simulator.bill().requests == PLANS[statement]


def test_a_limit_above_a_filter_ends_the_calls(sql: SparkSession, simulator: Handle) -> None:
    """Rows 0 to 90 answer it; what comes on top is what was in flight, and what was asked while Spark read."""
    simulator.reset_bill()
    simulator.set_latency(latency_ms=100.0)
    try:
        asked = "SELECT id, ai_query('slow', 'Row ' || id) r FROM range(0, 1000000, 1, 1)"
        rows = sql.sql(f"SELECT * FROM ({asked}) WHERE r LIKE '%9%' LIMIT 10").collect()
        assert [row["id"] for row in rows] == [9, 19, 29, 39, 49, 59, 69, 79, 89, 90]
    finally:
        simulator.set_latency(latency_ms=0.0)
    bill = simulator.bill()
    assert bill.requests <= 91 + 5 * 8
    assert simulator.bill().requests <= bill.requests + 8


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
