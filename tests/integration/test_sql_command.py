"""`jobs.sql`: statements from text, rows in three forms, what they cost, and failures as one sentence."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner, Result

from jobs.sql import app
from pipeline import StatementFailed, StatementRefused, run_sql, split_statements
from pipeline.functions import registered
from pipeline.simulator import Simulator, SimulatorSettings
from pipeline.simulator.handle import Handle

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def simulator() -> Iterator[Handle]:
    with Simulator(SimulatorSettings(canned_vectors=8)) as handle:
        yield handle


@pytest.fixture(scope="module")
def conf(spark: SparkSession, simulator: Handle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    kept = registered.catalog
    path = tmp_path_factory.mktemp("conf") / "endpoints.toml"
    path.write_text(
        f'default_endpoint = "chat"\n[endpoints.chat]\nkind = "chat"\nbase_url = "{simulator.base_url}"\n'
        f'model = "local-chat"\n[endpoints.embed]\nkind = "embedding"\nbase_url = "{simulator.base_url}"\n'
        'model = "canned-embedding"\n[endpoints.away]\nkind = "chat"\nbase_url = "http://127.0.0.1:9/v1"\n'
        "retry = { max_attempts = 1, base_s = 0.01 }\n"
        f'[endpoints.custom]\nkind = "custom"\napi = "databricks"\nbase_url = "{simulator.host_url}"\n'
        'model = "local-custom"\n'
    )
    yield path
    registered.catalog = kept


def call(conf: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["--conf", str(conf), *arguments], input=stdin)


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("SELECT 1", ["SELECT 1"]),
        (" SELECT 1 ; ; SELECT 2;\n", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', \"a;b\", `c;d`, 'it\\'s;'", ["SELECT ';', \"a;b\", `c;d`, 'it\\'s;'"]),
        ("-- one; two\nSELECT 1 /* a;\nb */ + 2; -- end", ["SELECT 1   + 2"]),
        ("SELECT /*+ BROADCAST(t) */ 1", ["SELECT /*+ BROADCAST(t) */ 1"]),
        ("SELECT 'open; SELECT 2", ["SELECT 'open", "SELECT 2"]),
        (" -- nothing", []),
    ],
)
def test_statements_end_at_semicolons_outside_of_quotes_and_comments(text: str, statements: list[str]) -> None:
    assert split_statements(text) == statements


def test_rows_in_three_forms_and_what_they_cost(conf: Path, simulator: Handle) -> None:
    simulator.reset_bill()
    asked = "SELECT id, ai_gen('Row ' || id) AS a, ai_query('embed', 'x') AS v FROM range(0, 1000, 1, 1)"
    done = call(conf, asked, "--rows", "3", "--output", "json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(row["id"], row["a"], len(row["v"])) for row in rows] == [(i, f"Row {i}", 8) for i in range(3)]
    assert "3 rows in " in done.stderr
    bill = simulator.bill()
    assert f" · {bill.requests} calls · {bill.input_tokens} tokens in, {bill.output_tokens} out" in done.stderr
    assert "At most 3 rows were asked; --rows N asks more" in done.stderr
    assert bill.requests <= 5
    assert "No price" not in done.stderr

    priced = conf.with_name("prices.toml")
    priced.write_text(
        '[[prices]]\nmodels = ["local-*"]\ninput = 1e6\noutput = 2e6\ncurrency = "EUR"\nsource = "here"\ndate = 2026-11-21\n'
    )
    simulator.reset_bill()
    done = call(conf, "SELECT ai_gen('Priced.') AS a, size(ai_query('embed', 'x')) AS v", "--prices", str(priced))
    chat = simulator.bill()
    embedded = 1  # token, of a model without a price
    assert f" · {chat.input_tokens - embedded + 2 * chat.output_tokens:.2f} EUR" in done.stderr
    assert "8" in done.stdout

    done = call(conf, "SELECT 'a,b' AS s, array(1, 2) AS l, CAST(NULL AS INT) AS n", "--output", "csv")
    assert (done.exit_code, done.stdout) == (0, 's,l,n\n"a,b","[1, 2]",\n')

    done = call(conf, "--file", "-", stdin="CREATE OR REPLACE TEMP VIEW one AS SELECT 5 AS n; SELECT n FROM one;")
    assert done.exit_code == 0, done.output
    assert next(line.split() for line in done.stdout.splitlines() if line.strip()) == ["n"]
    assert "5" in done.stdout
    assert "1 row in " in done.stderr
    assert "calls" not in done.stderr
    assert "No price" not in done.stderr


def test_calls_without_a_price_are_named(conf: Path, simulator: Handle) -> None:
    done = call(conf, "SELECT ai_query('custom', 7, 'INT') AS a, ai_gen('x') AS b")
    assert "No price is known for model local-custom: cost counts 1 of 2 calls; --prices FILE gives one." in done.stderr
    done = call(conf, "SELECT ai_query('custom', 7, 'INT') AS a", "--output", "json")
    assert (done.stdout, done.stderr.count("\n")) == ('[{"a": 7}]\n', 2)
    assert done.stderr.endswith(
        "\nNo price is known for model local-custom: cost counts 0 of 1 call; --prices FILE gives one.\n"
    )


# arguments -> exit status, how the one line begins
REFUSALS: dict[str, tuple[list[str], int, str]] = {
    "unknown endpoint": (
        ["SELECT ai_query('nope', 'x')"],
        2,
        "[AI_FUNCTION_COMPILATION_ERROR] the endpoint 'nope' is ",
    ),
    "unknown table": (["SELECT * FROM nothing_here"], 2, "[TABLE_OR_VIEW_NOT_FOUND] The table or view `nothing_here` "),
    "no SQL": (["SELEC 1"], 2, "[PARSE_SYNTAX_ERROR] Syntax error at or near 'SELEC'"),
    "refused row": (
        ["SELECT ai_gen('x [[fault:bad_request]]')"],
        1,
        "[AI_FUNCTION_HTTP_REQUEST_ERROR] bad_request, HTTP 400: the request is not acceptable. SQLSTATE: 08000",
    ),
    "nobody there": (["SELECT ai_query('away', 'x')"], 1, "[REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT] the endpoint away at "),
    "no statement": ([" ; "], 2, "there is no statement"),
    "neither": ([], 2, "give one SQL statement, or --file"),
    "both": (["SELECT 1", "--file", "x.sql"], 2, "give one SQL statement, or --file"),
    "no file": (["--file", "nowhere.sql"], 2, "--file nowhere.sql: No such file"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_failure_is_one_sentence_and_a_status(conf: Path, name: str) -> None:
    arguments, status, start = REFUSALS[name]
    done = call(conf, *arguments)
    assert (done.exit_code, done.stdout) == (status, "")
    assert done.stderr.startswith(start)
    assert done.stderr.count("\n") == 1
    assert start[0] != "[" or " SQLSTATE: " in done.stderr


def test_a_missing_endpoints_file_is_named(spark: SparkSession, tmp_path: Path) -> None:
    done = call(tmp_path / "no.toml", "SELECT 1")
    assert done.exit_code == 2
    assert str(tmp_path / "no.toml") in done.stderr


def test_the_same_from_python(spark: SparkSession, conf: Path, tmp_path: Path) -> None:
    spark.conf.set("pipeline.ai.cache", str(tmp_path))
    try:
        first = run_sql(spark, "SELECT ai_gen('Cached.') AS a, named_struct('b', array(1)) AS s", rows=None)
        again = run_sql(spark, "SELECT ai_gen('Cached.') AS a")
    finally:
        spark.conf.unset("pipeline.ai.cache")
    assert (first.columns, first.rows, first.is_cut) == (("a", "s"), [("Cached.", {"b": [1]})], False)
    assert [first.calls, again.calls, again.rows] == [1, 0, [("Cached.",)]]
    with pytest.raises(StatementRefused, match="UNRESOLVED_COLUMN"):
        run_sql(spark, "SELECT nowhere")
    with pytest.raises(StatementFailed, match="DIVIDE_BY_ZERO"):
        run_sql(spark, "SELECT 1 / id FROM range(1)")
    assert spark.conf.get("pipeline.ai.cache", None) is None
