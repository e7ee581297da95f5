"""A look at a job before it runs: what it sends, what it says, and what the run then does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipeline import preview_job, run_job
from pipeline.estimates import Range
from pipeline.plans import sink_spec
from pipeline.simulator import Simulator, marker
from pipeline.simulator.handle import Handle
from pipeline.sinks import open_sink
from tests.jobs import make_job, write_source

pytestmark = pytest.mark.spark


@pytest.fixture
def simulator() -> Iterator[Handle]:
    with Simulator() as handle:
        yield handle


def test_a_preview_reckons_the_run_and_the_run_replays_what_it_sent(
    spark: SparkSession, tmp_path: Path, simulator: Handle
) -> None:
    rows = [
        {"id": f"k{number}", "doc": f"Row {number} says much. " * (number % 23 + 1) + f"In the end it says {number}."}
        for number in range(80)
    ]
    rows[3]["doc"] = ""
    rows[4]["doc"] = rows[5]["doc"]  # bought once
    write_source(tmp_path, rows)
    prices = tmp_path / "prices.toml"
    prices.write_text(
        '[[prices]]\nmodels = ["local-*"]\ninput = 3\noutput = 9\nsource = "contract"\ndate = 2026-11-01\n'
    )
    job = make_job(
        tmp_path,
        simulator.base_url,
        endpoint={"name": "local-chat"},
        budget={"prices": str(prices)},
        limits={"in_flight": 8},
    )

    dry = preview_job(job, spark, rows=5)
    assert simulator.bill().requests == 0
    assert [(row.answer, row.is_sent) for row in dry.rows] == [("", False)] * 5
    assert len({row.key for row in dry.rows}) == 5
    assert all(row.question.startswith("Say: Row ") for row in dry.rows)
    assert dry.estimate.output_tokens == Range(0, 78 * 10, 78 * 20)
    assert "not known before an answer" in dict(dry.lines())["duration"]

    preview = preview_job(job, spark, rows=20, calls=20)
    assert simulator.bill().requests == 20
    assert all(row.is_sent and row.answer for row in preview.rows)
    assert open_sink(sink_spec(job)).landed(spark) is None  # nothing lands
    assert (preview.sizes.refused, preview.estimate.requests, preview.rows_pending) == (1, 78, 80)
    assert any("20 requests of this job are answered" in note for note in preview.notes)
    assert preview.estimate.binds

    report = run_job(job, spark)
    bill = simulator.bill()
    assert (report.status, report.rows_landed, bill.requests) == ("landed", 80, 78)  # none of the 20 was bought again
    assert preview.estimate.input_tokens.middle == pytest.approx(bill.input_tokens, rel=0.1)
    assert preview.estimate.output_tokens is not None
    assert preview.estimate.output_tokens.low <= bill.output_tokens <= preview.estimate.output_tokens.high
    total = preview.estimate.input_tokens.middle + preview.estimate.output_tokens.middle
    assert total == pytest.approx(bill.input_tokens + bill.output_tokens, rel=0.1)
    assert preview.estimate.cost is not None
    billed = (bill.input_tokens * 3 + bill.output_tokens * 9) / 1e6
    assert preview.estimate.cost.low <= billed <= preview.estimate.cost.high


def test_an_endpoint_that_refuses_is_found_before_the_run(
    spark: SparkSession, tmp_path: Path, simulator: Handle
) -> None:
    write_source(tmp_path, [{"id": "a", "doc": "Hello there " + marker("unauthorized_401")}, {"id": "b", "doc": None}])
    preview = preview_job(make_job(tmp_path, simulator.base_url), spark, calls=1)
    assert simulator.bill().requests == 1
    assert "refused the request" in preview.problem
    assert ("problem", preview.problem) in preview.lines()
