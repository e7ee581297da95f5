"""The commands on one job, as a person types them: look, run, look again, compare the books, tidy up."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner, Result

from jobs import audit, journal, preview, run
from pipeline.journal.lease import Lease
from pipeline.simulator import Handle, Simulator
from pipeline.storage import open_store
from tests.jobs import write_conf

pytestmark = pytest.mark.spark
ROWS = 12


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def conf(tmp_path: Path, simulator: Handle) -> str:
    simulator.reset_bill()
    return write_conf(tmp_path, simulator.base_url, ROWS, name="commands", in_flight=4)


def typed(app, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_a_job_from_the_first_look_to_the_pruned_journal(spark: SparkSession, conf: str, simulator: Handle) -> None:
    done = typed(run.app, conf, "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"{ROWS} rows" in done.output
    assert "(not sent)" in done.output
    assert simulator.bill().requests == 0

    done = typed(preview.app, conf, "--rows", "3", "--send")
    assert done.exit_code == 0, done.output
    assert simulator.bill().requests == 3

    done = typed(run.app, conf, "--limit", "8", "--run-id", "first")
    assert done.exit_code == 0, done.output
    assert "first of commands: landed" in done.output
    done = typed(run.app, conf)
    assert done.exit_code == 0, done.output
    assert simulator.bill().requests == ROWS, "what the preview and the first run had bought is not bought again"

    done = typed(audit.app, conf, "--bill", simulator.base_url.removesuffix("/v1"))
    assert done.exit_code == 0, done.output
    assert "the books agree" in done.output

    done = typed(journal.app, conf)
    assert done.exit_code == 0, done.output
    assert f"{ROWS}" in done.output
    assert typed(journal.app, conf, "--prune", "30d").exit_code == 0
    assert f"{ROWS}" in typed(journal.app, conf).output
    assert typed(journal.app, conf, "--prune", "soon").exit_code == 2


def test_failed_rows_exit_with_1_where_the_job_says_so_after_they_landed(
    spark: SparkSession, conf: str, tmp_path: Path
) -> None:
    failing = ["--set", "request.prompt=Say: {{ doc }} [[fault:bad_request]]"]
    done = typed(run.app, conf, *failing, "--set", "job.on_error=fail")
    assert done.exit_code == 1, done.output
    rows = spark.read.parquet(str(tmp_path / "results")).select("error.code").collect()
    assert [row["code"] for row in rows] == ["bad_request"] * ROWS
    done = typed(run.app, conf, *failing, "--set", f"sink.path={tmp_path / 'kept'}")
    assert done.exit_code == 0, done.output


def test_a_preview_of_a_dead_endpoint_exits_with_1(spark: SparkSession, conf: str) -> None:
    done = typed(preview.app, conf, "--set", "endpoint.base_url=http://127.0.0.1:9/v1", "--set", "retry.max_attempts=1")
    assert done.exit_code == 1, done.output
    assert "cannot be reached" in done.output


def test_a_second_run_of_a_job_is_refused_before_anything_is_sent(
    spark: SparkSession, conf: str, tmp_path: Path, simulator: Handle
) -> None:
    state = tmp_path / "busy"
    lease = Lease.acquire(open_store(str(state)), "lease", owner="nightly", mode="refuse")
    try:
        done = typed(run.app, conf, "--set", f"state.path={state}")
    finally:
        lease.release()
    assert done.exit_code == 2, done.output
    assert "in use by nightly" in done.output
    assert simulator.bill().requests == 0


def test_retry_errors_needs_no_value(spark: SparkSession, conf: str) -> None:
    for words in ([conf, "--retry-errors"], ["--retry-errors", conf], ["--retry-errors", "all", conf]):
        done = typed(run.app, *words)
        assert done.exit_code == 2, done.output
        assert "--retry-errors" in done.output
        assert "delta" in done.output, "the sink of this job is Parquet"
