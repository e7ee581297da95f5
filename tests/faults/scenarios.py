"""The scenarios: each runs a whole job, breaks it, runs it again where needed, and gives the books."""

import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import plans
from pipeline.simulator import SimulatorProcess, SimulatorSettings
from pipeline.simulator.faults import marker
from pipeline.simulator.handle import Handle
from pipeline.storage import open_store
from tests.faults import vectors
from tests.faults.books import Books, compare, journaled, requests_by_digest
from tests.faults.drivers import Driver
from tests.faults.kills import Killer, Victim
from tests.jobs import embedding_sections, make_job, numbered, write_source

MASTERS: Mapping[Victim, str] = {"worker": "local[2,1000]", "executor": "local-cluster[2,1,1024]"}
# an executor that dies is replaced, the task it took down counts as failed, and its part of the shuffle fails the
# stage: none of them may end the job
_ENDURING = {
    "spark.task.maxFailures": "1000",
    "spark.deploy.maxExecutorRetries": "-1",
    "spark.stage.maxConsecutiveAttempts": "1000",
}
IN_FLIGHT = 64
BUCKETS = 8
DIMENSIONS = 64
TEXTS_PER_CALL = 128
EMBEDDING_BUCKETS = 4  # many whole calls in each
EMBEDDING_CALLS = 6
EMBEDDING_FAULTS = {"shuffled_order": 0.5, "error_500": 0.08, "rate_429": 0.08}
REFUSED_ROWS = 6  # each is alone in the end, after as many refusals as a call can be halved
_UNTIL = 0.85


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
        self.refused: frozenset[str] = frozenset()
        self.sections = sections
        self.job = make_job(folder, simulator.base_url, **sections)
        self.fingerprint = plans.fingerprint(self.job)
        self.store = open_store(self.job.state_path)
        self.offer(numbered(rows))

    def offer(self, rows: list[dict[str, Any]], refused: Collection[int] = ()) -> None:
        """Replaces the source; the endpoint refuses the rows at these places, each time."""
        for place in refused:
            rows[place]["doc"] += f" {marker('bad_request')}"
        self.refused = frozenset(rows[place]["id"] for place in refused)
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
            [(key, failed != (key in self.refused)) for key, failed in table["rows"]],
            self.simulator.bill(),
            self.simulator.texts(),
            journaled(self.store, self.fingerprint),
        )


def driver_of(folder: Path, victim: Victim = "worker") -> Driver:
    """A driver under which victims may die as often as they must; runs one scenario after another."""
    return Driver(folder, master=MASTERS[victim], settings=_ENDURING)


def killed_tasks(
    folder: Path, seed: int, driver: Driver, *, victim: Victim, rows: int, kills: int, deadline_s: float = 1200.0
) -> Result:
    """Python workers or executor JVMs die while the one action of a job runs."""
    settings = SimulatorSettings(log_requests=True, latency_ms=30, jitter=0.5, seed=seed)
    with SimulatorProcess(settings) as simulator:
        work = Work(
            folder, simulator, rows,
            job={"buckets": BUCKETS}, limits={"in_flight": IN_FLIGHT}, sink={"format": "delta"},
        )  # fmt: skip
        return _killed(work, driver, f"{victim} SIGKILL", seed, victim, kills, deadline_s)


def killed_embeddings(
    folder: Path, seed: int, driver: Driver, *, sink: str, rows: int, kills: int, deadline_s: float = 1200.0
) -> Result:
    """Python workers die under 128 texts per call, while calls are refused, limited, broken and answered out of order.

    Each vector in the table is compared with the one that the simulator has for that row's text. In the books a call
    counts as often as it has texts.
    """
    settings = SimulatorSettings(
        log_requests=True, latency_ms=120, jitter=0.5, seed=seed, canned_vectors=DIMENSIONS,
        faults=EMBEDDING_FAULTS, retry_after="0", retry_after_s=0.0,
    )  # fmt: skip
    with SimulatorProcess(settings) as simulator:
        work = Work(
            folder, simulator, 0, **embedding_sections(encoding_format="base64"), job={"buckets": EMBEDDING_BUCKETS},
            # the gate's fixed texts are the driver's, which nobody kills here
            embedding={"dimensions": DIMENSIONS, "drift": "off"},
            limits={"in_flight": EMBEDDING_CALLS, "max_batch_rows": TEXTS_PER_CALL}, sink={"format": sink},
        )  # fmt: skip
        work.offer(numbered(rows), refused=random.Random(seed).sample(range(rows), REFUSED_ROWS))
        return _killed(
            work, driver, f"worker SIGKILL: embeddings {sink}", seed, "worker", kills, deadline_s, TEXTS_PER_CALL,
            lambda: vectors.complaints(
                {row["id"]: row["doc"] for row in work.rows}, work.refused, driver.ask(work.command("vectors")),
                DIMENSIONS, seed,
            ),
        )  # fmt: skip


def _killed(
    work: Work,
    driver: Driver,
    name: str,
    seed: int,
    victim: Victim,
    kills: int,
    deadline_s: float,
    texts_per_call: int = 1,
    more: Callable[[], list[str]] = list,
) -> Result:
    """Runs the job under a killer and compares the books; `more` looks at the table for what they do not show."""
    began_s = time.monotonic()
    simulator, most_in_flight = work.simulator, work.job.limits.in_flight * texts_per_call
    ids = {row["id"]: request_id for row, request_id in zip(work.rows, work.known.values(), strict=True)}
    buckets = driver.ask(work.command("buckets"))
    killer = Killer(
        driver, simulator, work.store, work.fingerprint, work.known,
        {ids[key]: bucket for key, bucket in buckets.items()}, victim,
    )  # fmt: skip
    most = len(work.rows)
    if texts_per_call > 1:
        # a refused call is no progress, and the last texts are all in flight at once
        killer.progress, most = lambda bill: bill.inputs, int(_UNTIL * len(work.rows))
    driver.begin(work.command("run"))
    killer.run(seed, kills, most, deadline_s)
    report = driver.answer(deadline_s)
    books = work.books(driver.ask(work.command("table")))
    complaints = [*books.complaints(sum(killer.in_flight)), *more()]
    if report["status"] != "landed":
        complaints.append(f"the run ended as {report['status']}: {report['stopped']}")
    if len(killer.in_flight) != kills:
        complaints.append(f"only {len(killer.in_flight)} of {kills} kills took place")
    if max(killer.in_flight, default=0) > most_in_flight:
        complaints.append(f"{max(killer.in_flight)} texts were in flight at one kill; the limit is {most_in_flight}")
    complaints.extend(f"no call got the fault {fault}" for fault in _missing_faults(simulator))
    return Result(
        name, seed, len(killer.in_flight), books, sum(killer.in_flight), time.monotonic() - began_s, complaints
    )


def _missing_faults(simulator: Handle) -> list[str]:
    """Of those that a scenario means to happen; none where the simulator was told of none."""
    faults = simulator.bill().faults
    return [name for name in (*EMBEDDING_FAULTS, "bad_request") if not faults.get(name)] if faults else []
