"""A driver dies at each step of publishing: every row is there once afterwards, and no call is made for it."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipeline.simulator import SimulatorProcess, SimulatorSettings, marker
from tests.faults.full_disks import DriverOnFullDisk
from tests.faults.here import DriverHere
from tests.faults.publishing import CASES, Case, publishing
from tests.faults.scenarios import Work
from tests.jobs import numbered

pytestmark = pytest.mark.spark

# Delta's transactions run in the JVM, which an exception in this process does not end.
_HERE = [case for case in CASES if not case.stop.startswith("delta commit") and case.stop != "delta before the commit"]
_SHORT = [Case("delta", "overwrite", "delta staged")]


def test_a_driver_that_ends_at_a_step_of_publishing(spark: SparkSession, tmp_path: Path) -> None:
    result = publishing(tmp_path, 1, _SHORT, lambda: DriverHere(spark))
    assert result.complaints == []


def test_an_overwrite_that_fails_after_one_that_died_leaves_the_old_rows(spark: SparkSession, tmp_path: Path) -> None:
    with SimulatorProcess(SimulatorSettings(log_requests=True)) as simulator:
        work = Work(tmp_path, simulator, 20, job={"mode": "overwrite", "buckets": 2}, sink={"format": "parquet"})
        driver = DriverHere(spark)
        driver.ask(work.command("run"))
        work.offer(numbered(30))
        driver.die(work.command("run", die_at="parquet set aside"))
        assert driver.ask(work.command("table"))["rows"] == []
        work.offer([*numbered(30), {"id": "stop", "doc": marker("quota_exhausted")}])
        assert driver.ask(work.command("run"))["status"] == "failed"
        assert len(driver.ask(work.command("table"))["rows"]) == 20


@pytest.mark.long
def test_a_driver_that_ends_at_any_step_of_publishing(spark: SparkSession, tmp_path: Path) -> None:
    result = publishing(tmp_path, 2, _HERE, lambda: DriverHere(spark))
    assert result.complaints == []


@pytest.mark.long
def test_a_driver_that_is_killed_at_any_step_of_publishing(tmp_path: Path) -> None:
    result = publishing(tmp_path, 4, CASES)
    assert result.complaints == []


@pytest.mark.parametrize(
    "case",
    [
        Case("parquet", "append", "parquet before the rename"),
        *(pytest.param(case, marks=pytest.mark.long) for case in CASES),
    ],
    ids=str,
)
def test_a_jvm_that_can_write_nothing_from_a_step_on(spark: SparkSession, tmp_path: Path, case: Case) -> None:
    result = publishing(tmp_path, 6, [case], lambda: DriverOnFullDisk(spark))
    assert result.complaints == []
