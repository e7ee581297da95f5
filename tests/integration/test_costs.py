"""Cost over Spark: per row, per run with failed and unknown calls, in audit, and in tables made before there was one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipeline import run_job
from pipeline.audit import audit_job
from pipeline.config import JobFile
from pipeline.landed import RUNS_SCHEMA, runs_spec
from pipeline.plans import result_struct, sink_spec
from pipeline.simulator import Simulator, marker
from pipeline.simulator.handle import Handle
from pipeline.sinks import SinkSpec, open_sink
from pipeline.spark import local_frame
from tests.jobs import make_job, numbered, write_source

pytestmark = pytest.mark.spark

INPUT, OUTPUT = 3.0, 15.0


@pytest.fixture
def simulator() -> Iterator[Handle]:
    with Simulator() as handle:
        yield handle


def table(spark: SparkSession, spec: SinkSpec) -> DataFrame:
    frame = open_sink(spec).landed(spark)
    assert frame is not None
    return frame


def made_before(spark: SparkSession, spec: SinkSpec, schema: StructType, *lacking: str) -> None:
    """A table of one row from before these columns were."""
    assert spec.path is not None
    old = StructType([field for field in schema.fields if field.name not in lacking])
    if spec.format == "delta":
        local_frame(spark, [{}], old).write.format("delta").save(spec.path)
    else:
        kept = StructType([field for field in old.fields if field.name != "run_id"])
        local_frame(spark, [{}], kept).write.parquet(f"{spec.path}/run_id=old")


def priced_job(folder: Path, simulator: Handle, sink: str) -> JobFile:
    prices = folder / "prices.toml"
    prices.write_text(
        f'[[prices]]\nmodels = ["canned-*"]\ninput = {INPUT}\noutput = {OUTPUT}\nsource = "contract"\ndate = 2026-11-01\n'
    )
    return make_job(folder, simulator.base_url, sink={"format": sink}, budget={"prices": str(prices)})


@pytest.mark.parametrize("sink", ["parquet", "delta"])
def test_all_that_was_paid_is_in_the_books_and_tables_made_before_keep_working(
    spark: SparkSession, tmp_path: Path, simulator: Handle, sink: str
) -> None:
    rows = numbered(12)
    rows[3]["doc"] += marker("empty_choices", 1)  # billed, of no use, asked again
    rows[5]["doc"] += marker("truncated", 1)  # perhaps billed: the answer broke off
    rows[7]["doc"] += marker("bad_request")  # refused, costs nothing
    write_source(tmp_path, rows)
    job = priced_job(tmp_path, simulator, sink)
    source = StructType.fromDDL("id string, doc string")
    made_before(spark, sink_spec(job), result_struct(source, job), "cost")
    made_before(spark, runs_spec(job), StructType.fromDDL(RUNS_SCHEMA), "cost", "cost_unknown", "currency")

    report = run_job(job, spark)
    bill, spend = simulator.bill(), report.spend
    assert (report.status, report.rows_failed, report.requests_unknown) == ("landed", 1, 1)
    assert spend is not None
    assert spend.unknown is not None
    # the simulator did charge for the broken answer: what is known and what is not enclose its bill
    billed = (bill.input_tokens * INPUT + bill.output_tokens * OUTPUT) / 1e6
    assert spend.cost < billed <= spend.cost + spend.unknown
    assert spend.cost == pytest.approx((report.input_tokens * INPUT + report.output_tokens * OUTPUT) / 1e6)
    assert ("cost", str(spend)) in report.lines()

    results, runs = table(spark, sink_spec(job)), table(spark, runs_spec(job))
    if sink == "parquet":  # as they were
        assert "cost" not in results.columns
        assert "cost" not in runs.columns
    else:  # widened: null in the rows of before
        expected = f"sum(usage.input_tokens * {INPUT} + usage.output_tokens * {OUTPUT}) / 1e6 expected"
        (sums,) = results.selectExpr("count(*) rows", "count(cost) priced", "sum(cost) cost", expected).collect()
        assert (sums["rows"], sums["priced"]) == (13, 11)
        assert sums["cost"] == pytest.approx(sums["expected"])
        assert sums["cost"] < spend.cost  # the useless answer is in no row
        (run,) = runs.where("run_id is not null").collect()
        assert (run["cost"], run["cost_unknown"], run["currency"]) == (spend.cost, spend.unknown, "USD")
        assert any(f"cost {spend}" in text for _, text in audit_job(job, spark).figures)


def test_a_model_without_a_price_is_said_once_and_costs_nothing_made_up(
    spark: SparkSession, tmp_path: Path, simulator: Handle
) -> None:
    write_source(tmp_path, numbered(3))
    simulated = make_job(tmp_path, simulator.base_url)
    endpoint = simulated.endpoint.model_copy(update={"name": "nobody-knows"})
    report = run_job(simulated.model_copy(update={"endpoint": endpoint}), spark)
    assert report.spend is None
    assert sum("no price is known for nobody-knows" in note for note in report.notes) == 1
