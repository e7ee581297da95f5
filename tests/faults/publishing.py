"""Drivers that die at each step of publishing, and the runs after them."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from pipeline.simulator import SimulatorProcess, SimulatorSettings
from tests.faults.books import Books
from tests.faults.drivers import Driver
from tests.faults.scenarios import Result, Work
from tests.faults.stops import STOPS
from tests.jobs import numbered

ROWS = 40
_AT_THE_END = ("run record unwritten", "run record written", "runs table unwritten", "runs table written")
# A Parquet overwrite is two renames: who dies between them leaves nothing to read until the next run.
_GAP = ("parquet set aside", "parquet before the rename")
_COMMIT = ("delta before the commit", "delta commit written", "delta commit acknowledged", "delta landed")


@dataclass(frozen=True, slots=True)
class Case:
    """A table, a mode, and where the driver dies."""

    sink: str
    mode: str
    stop: str

    def __str__(self) -> str:
        return f"{self.sink} {self.mode}: {self.stop.removeprefix(f'{self.sink} ')}"


def _cases() -> Iterator[Case]:
    for stop in (*_COMMIT, *_AT_THE_END):
        yield Case("delta", "append", stop)
    for stop in ("delta staged for merge", *_COMMIT, *_AT_THE_END):
        yield Case("delta", "merge", stop)
    for stop in ("delta staged", *_COMMIT, *_AT_THE_END):
        yield Case("delta", "overwrite", stop)
    for stop in ("parquet before the rename", "parquet renamed", "parquet landed", *_AT_THE_END):
        yield Case("parquet", "append", stop)
    for stop in (
        "parquet staged", "parquet set aside", "parquet before the rename", "parquet renamed", "parquet landed",
        *_AT_THE_END,
    ):  # fmt: skip
        yield Case("parquet", "overwrite", stop)


CASES = tuple(_cases())
assert {case.stop for case in CASES} == set(STOPS)
# one of each kind of place, for when every death costs the start of a Spark
FEW = (
    Case("delta", "append", "delta before the commit"),
    Case("delta", "merge", "delta commit written"),
    Case("parquet", "overwrite", "parquet set aside"),
)


class Mortal(Protocol):
    """Who runs commands and can be made to die in one."""

    def ask(self, command: dict[str, Any]) -> Any:
        """The answer."""
        ...

    def die(self, command: dict[str, Any]) -> None:
        """Runs a command that must not survive."""
        ...


@dataclass(slots=True)
class _Try:
    """One case, from the first run to the last look."""

    case: Case
    work: Work
    run_id: str | None
    books: Books | None = None
    complaints: list[str] = field(default_factory=list)

    def die(self, driver: Mortal) -> None:
        """A first run lands half of the rows; the second one, over all, dies."""
        driver.ask(self.work.command("run"))
        self.work.offer(numbered(ROWS))
        driver.die(self.work.command("run", run_id=self.run_id, die_at=self.case.stop))

    def recover(self, driver: Mortal) -> None:
        """What readers see after the death, and what two further runs make of it."""
        seen = driver.ask(self.work.command("table"))
        if len(seen["rows"]) not in (ROWS // 2, ROWS) and (self.case.stop not in _GAP or seen["rows"]):
            self._complain(f"after the death readers saw {len(seen['rows'])} rows, not {ROWS // 2} or {ROWS}")
        calls = self.work.simulator.bill().requests
        if calls != ROWS:
            self._complain(f"{calls} calls before the death for {ROWS} rows")
        for number in (1, 2):
            report = driver.ask(self.work.command("run", run_id=self.run_id))
            table = driver.ask(self.work.command("table"))
            if report["status"] not in ("landed", "already_landed", "nothing_to_do"):
                self._complain(f"rerun {number} ended as {report['status']}: {report['stopped']}")
            self.books = self.work.books(table)
            for complaint in self.books.complaints():
                self._complain(f"after rerun {number}: {complaint}")
            is_same = table["version"] == seen["version"]
            if not is_same and self.run_id is not None and (number == 2 or len(seen["rows"]) == ROWS):
                self._complain(f"rerun {number} changed the table from {seen['version']} to {table['version']}")
            seen = table
        names = [run_id for run_id, _ in seen["runs"]]
        if len(names) != len(set(names)):
            self._complain(f"the runs table has a run twice: {names}")

    def _complain(self, text: str) -> None:
        self.complaints.append(f"{self.case}{'' if self.run_id else ' (no run id)'}: {text}")


def publishing(
    folder: Path,
    seed: int,
    cases: Sequence[Case],
    next_driver: Callable[[], Mortal] | None = None,
    *,
    name: str = "driver SIGKILL in publishing",
) -> Result:
    """All cases, in a seeded order. Without `next_driver` each dies for good, and the next one starts anew."""
    began_s = time.monotonic()
    folder.mkdir(exist_ok=True)
    draw = random.Random(seed)
    order = draw.sample(list(cases), len(cases))
    drivers: list[Driver] = []

    def start() -> Mortal:
        drivers.append(Driver(folder))
        return drivers[-1].__enter__()

    following = next_driver or start
    complaints: list[str] = []
    books: list[Books] = []
    with SimulatorProcess(SimulatorSettings(log_requests=True, seed=seed)) as simulator:
        driver = following()
        try:
            for number, case in enumerate(order):
                simulator.reset_bill()
                work = Work(
                    folder / f"case-{number:02d}", simulator, ROWS // 2,
                    job={"mode": case.mode, "buckets": 2}, sink={"format": case.sink},
                )  # fmt: skip
                attempt = _Try(case, work, draw.choice([None, "night"]))
                attempt.die(driver)
                driver = following()
                attempt.recover(driver)
                complaints += attempt.complaints
                assert attempt.books is not None
                books.append(attempt.books)
        finally:
            for started in drivers:
                started.kill()
    total = Books(**{item.name: sum(getattr(one, item.name) for one in books) for item in fields(Books)})
    return Result(name, seed, len(cases), total, 0, time.monotonic() - began_s, complaints)
