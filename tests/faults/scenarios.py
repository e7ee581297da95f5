"""The scenarios: each runs a whole job, breaks it, runs it again where needed, and gives the books."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import plans
from pipeline.simulator import SimulatorProcess, SimulatorSettings
from pipeline.simulator.handle import Handle
from pipeline.storage import open_store
from tests.faults.books import Books, compare, journaled, requests_by_digest
from tests.faults.drivers import Driver
from tests.faults.kills import Killer, Victim
from tests.jobs import make_job, numbered, write_source

MASTERS: Mapping[Victim, str] = {"worker": "local[2,1000]", "executor": "local-cluster[2,1,1024]"}
# an executor that dies is replaced, and the task it took down counts as failed: neither may end the job
_ENDURING = {"spark.task.maxFailures": "1000", "spark.deploy.maxExecutorRetries": "-1"}
IN_FLIGHT = 64
BUCKETS = 8


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario with one seed. `complaints` is empty where every promise held."""

    scenario: str
    seed: int
    kills: int
    books: Books
    in_flight_at_kills: int
    seconds: float
    complaints: list[str] = field(default_factory=list)


class Work:
    """One job in a folder, with its source, as driver and test both know it."""

    def __init__(self, folder: Path, simulator: Handle, rows: int, **sections: Mapping[str, Any]) -> None:
        self.folder = folder
        self.simulator = simulator
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[dict[str, Any]] = []
        self.sections = sections
        self.job = make_job(folder, simulator.base_url, **sections)
        self.fingerprint = plans.fingerprint(self.job)
        self.store = open_store(self.job.state_path)
        self.offer(numbered(rows))

    def offer(self, rows: list[dict[str, Any]]) -> None:
        """Replaces the source."""
        self.rows = rows
        write_source(self.folder, rows)
        self.known = requests_by_digest(self.job, rows)

    def command(self, do: str, **more: Any) -> dict[str, Any]:
        """For a driver."""
        return {
            "do": do, "folder": str(self.folder), "base_url": self.simulator.base_url, "sections": self.sections, **more
        }  # fmt: skip

    def books(self, table: Mapping[str, Any]) -> Books:
        """All three, now."""
        return compare(
            self.known,
            [row["id"] for row in self.rows],
            [(key, failed) for key, failed in table["rows"]],
            self.simulator.bill(),
            self.simulator.texts(),
            journaled(self.store, self.fingerprint),
        )


def killed_tasks(
    folder: Path, seed: int, *, victim: Victim, rows: int, kills: int, deadline_s: float = 1200.0
) -> Result:
    """Python workers or executor JVMs die while the one action of a job runs."""
    began_s = time.monotonic()
    settings = SimulatorSettings(log_requests=True, latency_ms=30, jitter=0.5, seed=seed)
    with SimulatorProcess(settings) as simulator:
        work = Work(folder, simulator, rows, job={"buckets": BUCKETS}, limits={"in_flight": IN_FLIGHT})
        with Driver(folder, master=MASTERS[victim], settings=_ENDURING) as driver:
            ids = {row["id"]: request_id for row, request_id in zip(work.rows, work.known.values(), strict=True)}
            buckets = driver.ask(work.command("buckets"))
            killer = Killer(
                driver, simulator, work.store, work.fingerprint, work.known,
                {ids[key]: bucket for key, bucket in buckets.items()}, victim,
            )  # fmt: skip
            driver.begin(work.command("run"))
            killer.run(seed, kills, rows, deadline_s)
            report = driver.answer(deadline_s)
            books = work.books(driver.ask(work.command("table")))
    in_flight = sum(killer.in_flight)
    complaints = books.complaints(in_flight)
    if report["status"] != "landed":
        complaints.append(f"the run ended as {report['status']}: {report['stopped']}")
    if len(killer.in_flight) != kills:
        complaints.append(f"only {len(killer.in_flight)} of {kills} kills took place")
    if max(killer.in_flight, default=0) > IN_FLIGHT:
        complaints.append(f"{max(killer.in_flight)} calls were in flight at one kill; the limit is {IN_FLIGHT}")
    return Result(
        f"{victim} SIGKILL", seed, len(killer.in_flight), books, in_flight, time.monotonic() - began_s, complaints
    )
