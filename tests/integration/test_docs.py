"""The pages of docs/ say what happens: every example is run, every function has its page."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import pipeline
from pipeline import pandas_api, register
from pipeline.conditions import SQLSTATES
from pipeline.functions import registered
from pipeline.pandas_calls import _configured
from pipeline.siblings import BY_NAME
from pipeline.simulator import Simulator, SimulatorSettings
from tests.docs import FOLDER, PAGES, examples, outcome

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def session(spark: SparkSession) -> Iterator[SparkSession]:
    kept = registered.catalog
    with Simulator(SimulatorSettings()) as simulator:
        tables = {f"local-{kind}": {"kind": kind, "base_url": simulator.base_url} for kind in ("chat", "embedding")}
        names = {"default_endpoint": "local-chat", "default_embedding_endpoint": "local-embedding"}
        register(spark, {**names, "endpoints": tables})
        pandas_api.configure({**names, "endpoints": tables})
        for example in examples((FOLDER / "README.md").read_text()):
            if "CREATE" in example.code:
                outcome(spark, example)
        yield spark
    registered.catalog = kept
    _configured.place = None


@pytest.mark.spark
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_give_what_the_page_shows(session: SparkSession, page: Path) -> None:
    found = list(examples(page.read_text()))
    assert found
    for example in found:
        assert outcome(session, example) == (example.output or ""), f"{page.name}: run python -m tests.docs"


@pytest.mark.parametrize("name", BY_NAME)
def test_every_function_has_a_page_with_its_signature_and_the_readmes_lead_there(name: str) -> None:
    page = (FOLDER / f"{name}.md").read_text()
    signature = re.search(r"^```\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    assert signature is not None
    for parameter in BY_NAME[name].parameters:
        assert parameter.name in signature[1]
    for heading in ("## Returns", "## NULL", "## Example", "## Errors"):
        assert heading in page
    assert f"({name}.md)" in (FOLDER / "README.md").read_text()
    assert name in pipeline.__all__


def test_conditions_that_pages_name_exist() -> None:
    named = {word for page in PAGES for word in re.findall(r"`([A-Z]+_[A-Z_]+)(?:\.[A-Z_]+)?`", page.read_text())}
    spark_own = {"UNRESOLVED_COLUMN"}
    variables = {"DATABRICKS_HOST", "DATABRICKS_TOKEN"}
    assert named - spark_own - variables <= SQLSTATES.keys()


def test_the_readme_links_the_pages() -> None:
    assert "(docs/README.md)" in (ROOT / "README.md").read_text()
