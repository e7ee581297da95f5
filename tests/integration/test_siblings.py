"""The functions beside `ai_query` over Spark against the simulator: schema, rows, bill, and what is refused."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

import pipeline
from pipeline import ConfigError, register
from pipeline.simulator import Simulator, SimulatorSettings, canned_vector
from pipeline.simulator.handle import Handle

pytestmark = pytest.mark.spark

ROWS = [("Paris is big.", "Paris is big."), (None, "x"), ("  ", None), ("Rome is old.", "Oslo is cold.")]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Handle]:
    with Simulator(SimulatorSettings(canned_answer="Positive.")) as handle:
        yield handle


def endpoints(simulator: Handle) -> dict[str, Any]:
    chat = {"kind": "chat", "base_url": simulator.base_url}
    return {
        "default_endpoint": "chat",
        "default_embedding_endpoint": "embed",
        "endpoints": {
            "chat": {**chat, "model": "local-chat"},
            "fixed": {**chat, "model": "canned-chat"},
            "wide": {"kind": "embedding", "base_url": simulator.base_url, "model": "local-embedding"},
            "embed": {"kind": "embedding", "base_url": simulator.base_url, "model": "canned-embedding"},
        },
    }


@pytest.fixture(scope="module")
def sql(spark: SparkSession, simulator: Handle) -> Iterator[SparkSession]:
    register(spark, endpoints(simulator))
    spark.createDataFrame(ROWS, "a string, b string").coalesce(1).createOrReplaceTempView("pairs")
    yield spark
    spark.catalog.dropTempView("pairs")


@dataclass(frozen=True)
class Case:
    """A call in SQL and as a column; what comes back, and what it cost."""

    call: str
    column: Callable[[], Column]
    kind: str
    rows: list[Any]
    billed: int = 2


COSINE = float(
    np.dot(canned_vector("Rome is old."), canned_vector("Oslo is cold."))
    / np.linalg.norm(canned_vector("Rome is old."))
    / np.linalg.norm(canned_vector("Oslo is cold."))
)
CASES = {
    "gen": Case("ai_gen(a)", lambda: pipeline.ai_gen("a"), "string", ["Paris is big.", None, None, "Rome is old."]),
    "classify": Case(
        "ai_classify(a, array('city', 'land'))",
        lambda: pipeline.ai_classify("a", ["city", "land"]),
        "string",
        ["city", None, None, "city"],
    ),
    "extract": Case(
        "ai_extract(a, array('place', 'size')).place IS NOT NULL",
        lambda: pipeline.ai_extract("a", ["place", "size"])["place"].isNotNull(),
        "boolean",
        [True, False, False, True],
    ),
    "extract type": Case(
        "ai_extract(NULL, array('place', 'size'))",
        lambda: pipeline.ai_extract(F.lit(None), ["place", "size"]),
        "struct<place:string,size:string>",
        [None] * 4,
        0,
    ),
    "summarize": Case(
        "ai_summarize(a) IS NULL", lambda: pipeline.ai_summarize("a").isNull(), "boolean", [False, True, True, False]
    ),
    "summarize words": Case(
        "ai_summarize(content => a, max_words => 0) IS NULL",
        lambda: pipeline.ai_summarize("a", 0).isNull(),
        "boolean",
        [False, True, True, False],
    ),
    "translate": Case(
        "ai_translate(a, 'de') IS NULL", lambda: pipeline.ai_translate("a", "de").isNull(), "boolean",
        [False, True, True, False],
    ),
    "mask": Case(
        "ai_mask(a, array('city')) IS NULL", lambda: pipeline.ai_mask("a", ["city"]).isNull(), "boolean",
        [False, True, True, False],
    ),
    "fix grammar": Case(
        "ai_fix_grammar(a) IS NULL", lambda: pipeline.ai_fix_grammar("a").isNull(), "boolean",
        [False, True, True, False],
    ),
    "sentiment": Case(
        "ai_analyze_sentiment(a)", lambda: pipeline.ai_analyze_sentiment("a"), "string",
        ["positive", None, None, "positive"],
    ),
    "embed": Case("size(ai_embed(a))", lambda: F.size(pipeline.ai_embed("a")), "int", [1024, None, None, 1024], 1),
    "filter": Case("ai_filter(a)", lambda: pipeline.ai_filter("a"), "boolean", [True, None, None, True]),
    "similarity": Case(
        "round(ai_similarity(a, b), 3)", lambda: F.round(pipeline.ai_similarity("a", "b"), 3), "float",
        [1.0, None, None, pytest.approx(COSINE, abs=2e-3)], 2,
    ),
    "count tokens": Case(
        "ai_count_tokens(a)", lambda: pipeline.ai_count_tokens("a"), "int", [3, None, 1, 3], 0
    ),
}  # fmt: skip


def plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("form", ["sql", "column"])
@pytest.mark.parametrize("name", CASES)
def test_results_and_bill(sql: SparkSession, simulator: Handle, name: str, form: str) -> None:
    case = CASES[name]
    frame = (
        sql.sql(f"SELECT {case.call} AS r FROM pairs")
        if form == "sql"
        else sql.table("pairs").select(case.column().alias("r"))
    )
    assert frame.schema["r"].dataType.simpleString() == case.kind
    simulator.reset_bill()
    assert [plain(row["r"]) for row in frame.collect()] == case.rows
    assert simulator.bill().requests == case.billed


REFUSALS = {
    "ai_gen()": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_gen(a, b)": "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
    "ai_summarize(a, -1)": "AI_FUNCTION_INVALID_MAX_WORDS",
    "ai_summarize(a, 'few')": "DATATYPE_MISMATCH",
    "ai_summarize(a, max_words => length(a))": "NON_FOLDABLE_ARGUMENT",
    "ai_classify(a, array('one'))": "DATATYPE_MISMATCH",
    "ai_classify(a, array('one', 'ONE'))": "DATATYPE_MISMATCH",
    "ai_classify(a, array('one', NULL))": "DATATYPE_MISMATCH",
    "ai_classify(a, array(a, b))": "NON_FOLDABLE_ARGUMENT",
    "ai_classify(a, 'one')": "DATATYPE_MISMATCH",
    "ai_extract(a, array())": "DATATYPE_MISMATCH",
    "ai_translate(a, '')": "DATATYPE_MISMATCH",
    "ai_translate(a)": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_mask(a, labels => array(1))": "DATATYPE_MISMATCH",
    "ai_similarity(a)": "REQUIRED_PARAMETER_NOT_FOUND",
    "ai_filter(predicate => a, content => b)": "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
}


@pytest.mark.parametrize("call", REFUSALS)
def test_wrong_calls_are_refused_at_analysis(sql: SparkSession, call: str) -> None:
    with pytest.raises(IllegalArgumentException) as caught:
        sql.sql(f"SELECT {call} AS r FROM pairs")
    assert str(caught.value).startswith(f"[{REFUSALS[call]}] ")


def test_a_session_names_its_own_default(sql: SparkSession) -> None:
    sql.conf.set("pipeline.ai.default_endpoint", "embed")
    try:
        with pytest.raises(IllegalArgumentException, match="is of kind embedding, not chat"):
            sql.sql("SELECT ai_gen('x')")
    finally:
        sql.conf.unset("pipeline.ai.default_endpoint")


DEFAULTS = {"default_endpoint": "fixed", "default_embedding_endpoint": "wide"}


def with_defaults(spark: SparkSession) -> list[tuple[Any, ...]]:
    """What two functions of chat and two of embeddings give, in SQL and as columns."""
    canned, other = "Say this.", "Say that."
    calls = "ai_gen(a), ai_fix_grammar(a), size(ai_embed(a)), ai_similarity(a, b) < 0.999"
    frame = spark.createDataFrame([(canned, other)], "a string, b string")
    columns = (
        pipeline.ai_gen("a"),
        pipeline.ai_fix_grammar("a"),
        F.size(pipeline.ai_embed("a")),
        pipeline.ai_similarity("a", "b") < 0.999,
    )
    frame.createOrReplaceTempView("sayings")
    rows = [*spark.sql(f"SELECT {calls} FROM sayings").collect(), *frame.select(*columns).collect()]
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("by", ["session", "register"])
def test_the_default_endpoints_are_those_of_the_session_or_of_register(
    sql: SparkSession, simulator: Handle, by: str
) -> None:
    usual = with_defaults(sql)
    assert usual[0] == usual[1]
    try:
        if by == "register":
            register(sql, {**endpoints(simulator), **DEFAULTS})
        else:
            for name, value in DEFAULTS.items():
                sql.conf.set(f"pipeline.ai.{name}", value)
        named = with_defaults(sql)
    finally:
        register(sql, endpoints(simulator))
        for name in DEFAULTS:
            sql.conf.unset(f"pipeline.ai.{name}")
    assert named[0] == named[1]
    assert named[0][:2] == ("Positive.", "Positive.")
    assert usual[0][0] == "Say this."
    assert usual[0][2] != named[0][2]


def test_templates_can_be_replaced(sql: SparkSession, simulator: Handle, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('[ai_translate]\nprompt = "{{ content }} In {{ to_lang }}."\nsystem = "Be a translator."\n')
    register(sql, endpoints(simulator), templates=str(path))
    try:
        row = sql.sql("SELECT ai_translate('Hallo.', 'English') AS r").first()
        assert row is not None
        assert row["r"] in ("Hallo.", "In English.", "Be a translator.")
    finally:
        register(sql, endpoints(simulator))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[ai_what]\nprompt = "x"', "[ai_what]: unknown function. Known: ai_analyze_sentiment, "),
        ('[ai_mask]\nask = "x"', "[ai_mask]: holds prompt and system"),
        ('[ai_mask]\nprompt = ""', "[ai_mask]: holds prompt and system"),
        ('[ai_mask]\nprompt = "{{ text }}"', "[ai_mask]: text is no argument. Known: content, labels"),
    ],
)
def test_templates_that_are_wrong(
    sql: SparkSession, simulator: Handle, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        register(sql, endpoints(simulator), templates=str(path))
    assert message in str(caught.value)
