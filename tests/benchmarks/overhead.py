"""`python -m tests.benchmarks.overhead`: bare loop, engine and whole Spark job against one simulator, in one run.

Prints a table and writes `out/benchmarks/overhead.json`. The simulator runs in a process of its own on the same cores.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import open_session, run_job
from pipeline.report import Report
from pipeline.simulator import SimulatorProcess, SimulatorSettings
from tests.benchmarks.bare import bare_loop, engine_loop
from tests.benchmarks.memory import Memory
from tests.jobs import embedding_sections, make_job

CORES = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured, and what it should be."""

    what: str
    measured: str
    target: str
    is_met: bool | None
    figures: dict[str, float]


class Bench:
    """A Spark session, a simulator and a folder, for one run of the benchmarks."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        os.environ["SPARK_MASTER"] = f"local[{CORES}]"
        self.spark = open_session("benchmarks")
        self.folder = Path(tempfile.mkdtemp(prefix="overhead-"))
        self.rows: list[Row] = []
        self._sources: dict[int, str] = {}

    def count(self, rows: int) -> int:
        return max(200, int(rows * self.scale))

    def source(self, rows: int) -> str:
        if rows not in self._sources:
            path = self.folder / f"source-{rows}.parquet"
            texts = [f"Row {i}: a text of ordinary length that says little." for i in range(rows)]
            pq.write_table(pa.table({"id": [f"k{i}" for i in range(rows)], "doc": texts}), path)
            self._sources[rows] = str(path)
        return self._sources[rows]

    def job(self, settings: SimulatorSettings, rows: int, in_flight: int, **sections: dict[str, Any]) -> "Measured":
        """One whole job into Parquet; Spark's start and the counting of the source are not in `calling_s`."""
        work = Path(tempfile.mkdtemp(dir=self.folder))
        with SimulatorProcess(settings) as simulator:
            server = psutil.Process(simulator_pid())
            sections = {
                "source": {"path": self.source(rows)},
                "limits": {"in_flight": in_flight},
                "retry": {"base_s": 0.5},
                "sink": {"format": "parquet", "path": str(work / "results")},
                **sections,
            }
            before = sum(server.cpu_times()[:2])
            with Memory() as memory:
                report = run_job(make_job(work, simulator.base_url, **sections), self.spark)
            served_s = sum(server.cpu_times()[:2]) - before
        assert report.status == "landed", report.lines()
        assert report.rows_landed == rows, report.lines()
        shutil.rmtree(work)
        return Measured(report, served_s, memory.peak_mb)

    def add(self, what: str, measured: str, target: str, is_met: bool | None, **figures: float) -> None:
        self.rows.append(Row(what, measured, target, is_met, figures))
        mark = {True: "met", False: "MISSED", None: ""}[is_met]
        print(f"{what:<58} {measured:<44} {target:<22} {mark}", flush=True)


@dataclass(frozen=True, slots=True)
class Measured:
    report: Report
    simulator_cpu_s: float
    worker_mb: float


def simulator_pid() -> int:
    """The youngest child of this process that serves."""
    children = [p for p in psutil.Process().children() if "simulator" in " ".join(p.cmdline())]
    return int(max(children, key=lambda p: p.create_time()).pid)


def cpu_per_request(bench: Bench) -> None:
    rows = bench.count(20_000)
    with SimulatorProcess(SimulatorSettings()) as simulator:
        bare_loop(simulator.base_url, 2_000, 64)
        best = {"bare": 1e9, "engine": 1e9}
        for _ in range(3):  # alternating, the least of three: what else runs here only ever adds
            best["bare"] = min(best["bare"], bare_loop(simulator.base_url, rows, 64).cpu_us)
            best["engine"] = min(best["engine"], engine_loop(simulator.base_url, rows, 64).cpu_us)
    ratio = best["engine"] / best["bare"]
    bench.add(
        "CPU per chat request, engine / bare loop",
        f"{ratio:.2f} x ({best['engine']:.0f} / {best['bare']:.0f} us)",
        "<= 2.0 x",
        ratio <= 2.0,
        ratio=ratio,
        **best,
    )


def latency_bound(bench: Bench) -> None:
    for rows, in_flight, most in ((20_000, 256, 1.08), (40_000, 1024, 1.15)):
        rows = bench.count(rows)
        ideal_s = rows * 0.5 / in_flight
        with SimulatorProcess(SimulatorSettings(latency_ms=500)) as simulator:
            bare = bare_loop(simulator.base_url, rows, in_flight)
        took_s = bench.job(SimulatorSettings(latency_ms=500), rows, in_flight).report.calling_s
        bench.add(
            f"Spark job, {rows:,} rows, 500 ms, 2x{in_flight // 2}: wall / ideal",
            f"{took_s / ideal_s:.3f} x (bare loop {bare.wall_s / ideal_s:.3f} x)",
            f"<= {most} x",
            took_s / ideal_s <= most,
            ratio=took_s / ideal_s,
            bare_ratio=bare.wall_s / ideal_s,
            ideal_s=ideal_s,
        )


def throughput(bench: Bench) -> None:
    rows = bench.count(60_000)
    with SimulatorProcess(SimulatorSettings(latency_ms=100)) as simulator:
        bare = bare_loop(simulator.base_url, rows, 1024)
    measured = bench.job(SimulatorSettings(latency_ms=100), rows, 1024)
    speed = rows / measured.report.calling_s
    bench.add(
        f"Spark job, {rows:,} rows, 100 ms, 2x512",
        f"{speed:,.0f} rows/s (bare loop {bare.rows_per_s:,.0f}; simulator {measured.simulator_cpu_s:.1f} s CPU)",
        ">= 7,000 rows/s",
        speed >= 7_000,
        rows_per_s=speed,
        bare_rows_per_s=bare.rows_per_s,
        simulator_cpu_s=measured.simulator_cpu_s,
    )


def rate_limited(bench: Bench) -> None:
    rows = bench.count(20_000)
    plain = SimulatorSettings(latency_ms=500)
    without_s = bench.job(plain, rows, 256).report.calling_s
    with_s = bench.job(replace(plain, faults={"rate_429": 0.1}), rows, 256).report.calling_s
    bench.add(
        f"Spark job, {rows:,} rows, 10 % answered 429, Retry-After: 1",
        f"{with_s / without_s:.2f} x ({with_s:.1f} / {without_s:.1f} s)",
        "<= 1.4 x",
        with_s / without_s <= 1.4,
        ratio=with_s / without_s,
    )


def memory(bench: Bench) -> None:
    few = bench.job(SimulatorSettings(), bench.count(20_000), 256)
    many = bench.job(SimulatorSettings(), bench.count(200_000), 256)
    growth = many.worker_mb - few.worker_mb
    bench.add(
        "Memory of a worker, 20,000 to 200,000 rows",
        f"{growth:+.0f} MB ({few.worker_mb:.0f} to {many.worker_mb:.0f})",
        "< +50 MB",
        growth < 50,
        few_mb=few.worker_mb,
        many_mb=many.worker_mb,
    )


def embeddings(bench: Bench) -> None:
    rows = bench.count(100_000)
    measured = bench.job(
        SimulatorSettings(canned_vectors=1024),
        rows,
        16,
        **embedding_sections(encoding_format="base64"),
        limits={"in_flight": 16, "max_batch_rows": 64},
    )
    calling_s = measured.report.calling_s
    own_s = calling_s - measured.simulator_cpu_s / CORES
    speed = rows / own_s
    bench.add(
        f"Embeddings, {rows:,} x 1,024 floats, base64, 64 per call",
        f"{speed:,.0f} rows/s ({rows / calling_s:,.0f} with the simulator's CPU)",
        ">= 10,000 rows/s",
        speed >= 10_000,
        rows_per_s=speed,
        rows_per_s_gross=rows / calling_s,
        worker_mb=measured.worker_mb,
    )


PARTS: dict[str, Callable[[Bench], None]] = {
    "cpu": cpu_per_request,
    "latency": latency_bound,
    "throughput": throughput,
    "rate-limits": rate_limited,
    "memory": memory,
    "embeddings": embeddings,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; repeatable")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for a quick look")
    arguments = parser.parse_args()
    bench = Bench(arguments.scale)
    bench.job(SimulatorSettings(), 500, 16)  # the first job of a session loads classes and starts workers
    for name in arguments.only or PARTS:
        PARTS[name](bench)
    folder = Path("out/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"what": row.what, "measured": row.measured, "target": row.target, "is_met": row.is_met, **row.figures}
        for row in bench.rows
    ]
    document = {"at": time.strftime("%Y-%m-%d %H:%M"), "cores": CORES, "scale": arguments.scale, "rows": lines}
    (folder / "overhead.json").write_text(json.dumps(document, indent=2))
    shutil.rmtree(bench.folder)
    bench.spark.stop()


if __name__ == "__main__":
    main()
