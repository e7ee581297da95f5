"""Whatever dies under a job: no row is lost, none lands twice, and only what was in flight is bought again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipeline.errors import StateError
from tests.faults.drivers import Driver
from tests.faults.here import DriverHere
from tests.faults.overlaps import overlapping_runs
from tests.faults.scenarios import driver_of, killed_embeddings, killed_tasks

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Driver]]:
    """Gives one driver to all that leave it alive, since its start takes longer than most of them; else a new one."""
    started: list[Driver] = []

    def last() -> Driver:
        if not started or not started[-1].is_alive:
            started.append(driver_of(tmp_path_factory.mktemp("driver")))
            started[-1].__enter__()
        return started[-1]

    yield last
    for one in started:
        one.kill()


@pytest.fixture
def driver(living: Callable[[], Driver]) -> Driver:
    return living()


def test_killed_python_workers_cost_what_was_in_flight(tmp_path: Path, driver: Driver) -> None:
    result = killed_tasks(tmp_path, 1, driver, victim="worker", rows=2_000, kills=4, deadline_s=170)
    assert result.complaints == [], f"seed {result.seed}: {result}"


def test_vectors_are_the_simulators_bit_for_bit_after_kills_splits_and_retries(tmp_path: Path, driver: Driver) -> None:
    result = killed_embeddings(tmp_path, 1, driver, sink="parquet", rows=3_000, kills=3, deadline_s=170)
    assert result.complaints == [], f"seed {result.seed}: {result}"


@pytest.mark.long  # two JVMs of executors beside the driver's: a minute and a half of two cores
def test_a_killed_executor_costs_what_was_in_flight(tmp_path: Path) -> None:
    with driver_of(tmp_path, "executor") as driver:
        result = killed_tasks(tmp_path, 1, driver, victim="executor", rows=1_000, kills=1, deadline_s=170)
    assert result.complaints == [], f"seed {result.seed}: {result}"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_twenty_killed_executors_over_thirty_thousand_rows(tmp_path: Path, seed: int) -> None:
    with driver_of(tmp_path, "executor") as driver:
        result = killed_tasks(tmp_path, seed, driver, victim="executor", rows=30_000, kills=20)
    assert result.complaints == [], f"seed {result.seed}: {result}"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_fifty_killed_python_workers_over_thirty_thousand_rows(tmp_path: Path, driver: Driver, seed: int) -> None:
    result = killed_tasks(tmp_path, seed, driver, victim="worker", rows=30_000, kills=50)
    assert result.complaints == [], f"seed {result.seed}: {result}"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_thirty_killed_python_workers_over_thirty_thousand_vectors(tmp_path: Path, driver: Driver, seed: int) -> None:
    sink = ("parquet", "delta")[seed % 2]
    result = killed_embeddings(tmp_path, seed, driver, sink=sink, rows=30_000, kills=30)
    assert result.complaints == [], f"seed {result.seed}: {result}"


@pytest.mark.parametrize(
    ("sink", "dies_at"),
    [
        # two promises by one death, since each costs the start of a Spark
        ("delta", "delta before the commit"),
        pytest.param("delta", None, marks=pytest.mark.long),
        pytest.param("parquet", None, marks=pytest.mark.long),
    ],
)
def test_a_second_run_is_refused_while_the_first_lives_and_takes_over_when_it_is_dead(
    spark: SparkSession, tmp_path: Path, driver: Driver, sink: str, dies_at: str | None
) -> None:
    result = overlapping_runs(tmp_path, 5, sink, driver, DriverHere(spark), StateError, dies_at)
    assert result.complaints == []
