"""The fault harness at length: `python -m tests.faults --seeds N [--only SCENARIO]`."""

import argparse
import errno
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from tests.faults.disks import ERRORS, failing_disks
from tests.faults.drivers import Driver, DriverError
from tests.faults.overlaps import overlapping_runs
from tests.faults.publishing import CASES, FEW, publishing
from tests.faults.scenarios import Result, driver_of, killed_embeddings, killed_tasks

_LINE = "{:<32}{:>5}{:>7}{:>9}{:>7}{:>11}{:>9}{:>8}{:>11}{:>8}  {}"


def _workers(folder: Path, seed: int, is_short: bool) -> Iterator[Result]:
    rows, kills = (3_000, 5) if is_short else (30_000, 50)
    with driver_of(folder) as driver:
        yield killed_tasks(folder, seed, driver, victim="worker", rows=rows, kills=kills)


def _executors(folder: Path, seed: int, is_short: bool) -> Iterator[Result]:
    rows, kills = (3_000, 2) if is_short else (30_000, 20)
    with driver_of(folder, "executor") as driver:
        yield killed_tasks(folder, seed, driver, victim="executor", rows=rows, kills=kills)


def _embeddings(folder: Path, seed: int, is_short: bool) -> Iterator[Result]:
    rows, kills = (4_000, 4) if is_short else (30_000, 30)
    sink = ("parquet", "delta")[seed % 2]  # tasks write the files of the one themselves, Spark those of the other
    with driver_of(folder) as driver:
        yield killed_embeddings(folder, seed, driver, sink=sink, rows=rows, kills=kills)


def _publishing(folder: Path, seed: int, is_short: bool) -> Iterator[Result]:
    by_table = itertools.groupby(FEW if is_short else CASES, lambda case: (case.sink, case.mode))
    for (sink, mode), cases in by_table:  # a line as soon as a kind of table is through: all of them take half an hour
        yield publishing(folder / f"{sink}-{mode}", seed, tuple(cases), name=f"driver SIGKILL: {sink} {mode}")


def _overlaps(folder: Path, seed: int, is_short: bool) -> Iterator[Result]:
    with Driver(folder) as second:
        for sink in ("delta", "parquet"):
            with Driver(folder) as first:
                yield overlapping_runs(folder / sink, seed, sink, first, second, DriverError)


_SCENARIOS: dict[str, Callable[[Path, int, bool], Iterator[Result]]] = {
    "workers": _workers,
    "executors": _executors,
    "embeddings": _embeddings,
    "publishing": _publishing,
    "overlaps": _overlaps,
}


def main() -> int:
    """Prints one line per scenario and seed; 1 where a promise did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to N-1; files have none")
    parser.add_argument("--first-seed", type=int, default=0, help="replays from this seed on")
    parser.add_argument("--only", choices=[*_SCENARIOS, "files"], action="append")
    parser.add_argument("--short", action="store_true", help="few rows and few kills")
    parser.add_argument("--json", type=Path, help="writes all results to this file")
    options = parser.parse_args()
    chosen = options.only or [*_SCENARIOS, "files"]
    documents = []
    failures = 0
    print(
        _LINE.format(
            "scenario", "seed", "kills", "rows", "lost", "duplicates", "bought", "again", "in flight", "time", ""
        )
    )
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in [name for name in chosen if name != "files"]:
            with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
                for result in _SCENARIOS[name](Path(folder), seed, options.short):
                    _show(result, name)
                    documents.append(asdict(result))
                    failures += bool(result.complaints)
    if "files" in chosen:
        failures += _files(documents, options.short)
    if options.json is not None:
        options.json.write_text(json.dumps({"at_s": time.time(), "results": documents}, indent=1))
    return 1 if failures else 0


def _show(result: Result, name: str) -> None:
    books = result.books
    print(
        _LINE.format(
            result.scenario, result.seed, result.kills, books.rows, books.lost, books.duplicates, books.bought,
            books.bought_again, result.in_flight_at_kills, f"{result.seconds:.0f} s",
            "held" if not result.complaints else "BROKEN",
        ),
        flush=True,
    )  # fmt: skip
    for complaint in result.complaints:
        print(f"    {complaint}\n    replay: --only {name} --first-seed {result.seed}", flush=True)


def _files(documents: list[dict[str, object]], is_short: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        result = failing_disks(Path(folder), ERRORS[:1] if is_short else ERRORS)
    names = ", ".join(errno.errorcode[number] for number in (ERRORS[:1] if is_short else ERRORS))
    print(
        f"each file operation failed once ({names}): {result.passes} passes, {result.raised} with a clear error, "
        f"{result.survived} that went on; bought again {result.bought_again}, in flight {result.in_flight}, "
        f"{result.seconds:.0f} s  {'held' if not result.complaints else 'BROKEN'}"
    )
    for complaint in result.complaints:
        print(f"    {complaint}")
    documents.append({**asdict(result), "operations": sorted(result.operations)})
    return int(bool(result.complaints))


if __name__ == "__main__":
    sys.exit(main())
