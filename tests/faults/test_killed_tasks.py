"""Whatever dies under a job: no row is lost, none lands twice, and only what was in flight is bought again."""

from pathlib import Path

import pytest

from tests.faults.scenarios import killed_tasks

pytestmark = pytest.mark.spark


def test_killed_python_workers_cost_what_was_in_flight(tmp_path: Path) -> None:
    result = killed_tasks(tmp_path, 1, victim="worker", rows=2_000, kills=4, deadline_s=170)
    assert result.complaints == [], f"seed {result.seed}: {result}"


@pytest.mark.long  # two JVMs of executors beside the driver's: a minute and a half of two cores
def test_a_killed_executor_costs_what_was_in_flight(tmp_path: Path) -> None:
    result = killed_tasks(tmp_path, 1, victim="executor", rows=1_000, kills=1, deadline_s=170)
    assert result.complaints == [], f"seed {result.seed}: {result}"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_twenty_killed_executors_over_thirty_thousand_rows(tmp_path: Path, seed: int) -> None:
    result = killed_tasks(tmp_path, seed, victim="executor", rows=30_000, kills=20)
    assert result.complaints == [], f"seed {result.seed}: {result}"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_fifty_killed_python_workers_over_thirty_thousand_rows(tmp_path: Path, seed: int) -> None:
    result = killed_tasks(tmp_path, seed, victim="worker", rows=30_000, kills=50)
    assert result.complaints == [], f"seed {result.seed}: {result}"
