"""Two drivers and one job: the second is refused while the first one lives, and takes over when it is dead."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.simulator import SimulatorProcess, SimulatorSettings
from pipeline.simulator.handle import Handle
from tests.faults.drivers import Driver
from tests.faults.publishing import Mortal
from tests.faults.scenarios import Result, Work
from tests.jobs import numbered

ROWS = 200
IN_FLIGHT = 8
_DEADLINE_S = 180.0


def overlapping_runs(
    folder: Path,
    seed: int,
    sink: str,
    first: Driver,
    second: Mortal,
    refusal: type[Exception],
    dies_at: str | None = None,
) -> Result:
    """The first driver is killed in the middle of its run's calls, or at a step of publishing; it does not live on.

    `refusal` is what `second.ask` raises for a refused run.
    """
    began_s = time.monotonic()
    draw = random.Random(seed)
    complaints: list[str] = []
    most = IN_FLIGHT if dies_at is None else 0  # at a step of publishing all answers are in the journal
    with SimulatorProcess(SimulatorSettings(log_requests=True, latency_ms=20, seed=seed)) as simulator:
        work = Work(
            folder, simulator, ROWS // 4, job={"buckets": 4}, limits={"in_flight": IN_FLIGHT}, sink={"format": sink}
        )
        second.ask(work.command("run"))
        work.offer(numbered(ROWS))
        simulator.set_latency(latency_ms=1_500)  # slow enough for a second driver to look around
        try:
            first.begin(work.command("run", run_id="first", die_at=dies_at))
            _until(simulator, lambda: simulator.bill().requests >= ROWS // 4 + draw.randint(1, 2 * IN_FLIGHT))
            try:
                report = second.ask(work.command("run", run_id="second"))
                complaints.append(f"the second run was not refused: {report['status']}")
            except refusal as exc:
                if "first" not in str(exc) or f"process {first.session_id}" not in str(exc):
                    complaints.append(f"the refusal does not name the first run and its process: {exc}")
            if (seen := len(second.ask(work.command("table"))["rows"])) != ROWS // 4:
                complaints.append(f"readers saw {seen} rows while {ROWS // 4} were committed")
            if first.is_answered():
                complaints.append("the first run ended before the second one was refused: nothing was shown")
            if dies_at is not None:
                simulator.set_latency(latency_ms=20)
                first.await_death()
        finally:
            first.kill()
        if (seen := len(second.ask(work.command("table"))["rows"])) != ROWS // 4:
            complaints.append(f"after the kill readers saw {seen} rows while {ROWS // 4} were committed")
        simulator.set_latency(latency_ms=20)
        report = second.ask(work.command("run", run_id="second"))
        if report["status"] != "landed":
            complaints.append(f"the second run ended as {report['status']}: {report['stopped']}")
        table = second.ask(work.command("table"))
        books = work.books(table)
        complaints += books.complaints(most)
        second.ask(work.command("run", run_id="second"))
        if (after := second.ask(work.command("table"))) != table:
            complaints.append(f"a third run changed the table or the runs from {table} to {after}")
        if len(names := [run_id for run_id, _ in table["runs"]]) != len(set(names)):
            complaints.append(f"the runs table has a run twice: {names}")
    return Result(f"overlapping runs, {sink}", seed, 1, books, most, time.monotonic() - began_s, complaints)


def _until(simulator: Handle, is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + _DEADLINE_S
    while not is_so():
        if time.monotonic() > until_s:
            raise TimeoutError(f"the first run made no calls: {simulator.bill()}")
        time.sleep(0.05)
