"""`python -m tests.benchmarks.functions`: what `ai_query` in SQL costs in time and in calls, in one run.

Prints a table and writes `out/benchmarks/functions.json`. The simulator runs in a process of its own on the same cores.
"""

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from pipeline import open_session, register
from pipeline.simulator import SimulatorProcess, SimulatorSettings
from pipeline.simulator.handle import Handle
from tests.benchmarks.bare import bare_loop

CORES = 2
IN_FLIGHT = 256  # of the query: 128 per task
BAD = "[[fault:bad_request]]"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured, and what it should be."""

    what: str
    measured: str
    target: str
    is_met: bool


class Bench:
    """A session and a simulator that both live for the whole run."""

    def __init__(self, simulator: Handle, scale: float) -> None:
        os.environ["SPARK_MASTER"] = f"local[{CORES},4]"  # four attempts per task, as on a cluster
        self.simulator = simulator
        self.scale = scale
        self.spark: SparkSession = open_session("functions")
        chat = {"kind": "chat", "base_url": simulator.base_url, "model": "local-chat"}
        endpoints = {
            "chat": {**chat, "limits": {"in_flight": IN_FLIGHT}},
            "narrow": {**chat, "limits": {"in_flight": 128}},
            "embed": {
                "kind": "embedding",
                "base_url": simulator.base_url,
                "model": "canned-embedding",
                "parameters": {"encoding_format": "base64"},
                "limits": {"in_flight": 16, "max_batch_rows": 64},
            },
        }
        register(self.spark, {"endpoints": endpoints})
        self.rows: list[Row] = []

    def count(self, rows: int) -> int:
        return max(200, int(rows * self.scale))

    def run(self, statement: str) -> float:
        """Seconds that a statement takes, its rows thrown away in the JVM."""
        started = time.monotonic()
        self.spark.sql(statement).write.format("noop").mode("overwrite").save()
        return time.monotonic() - started

    def add(self, what: str, measured: str, target: str, is_met: bool) -> None:
        self.rows.append(Row(what, measured, target, is_met))
        print(f"{what:<64} {measured:<46} {target:<22} {'met' if is_met else 'MISSED'}", flush=True)


def latency_bound(bench: Bench) -> None:
    rows = bench.count(10_000)
    bench.simulator.set_latency(latency_ms=500)
    ideal_s = rows * 0.5 / IN_FLIGHT
    bare_s = bare_loop(bench.simulator.base_url, rows, IN_FLIGHT).wall_s
    took_s = bench.run(f"SELECT ai_query('chat', 'Row ' || id) AS r FROM range(0, {rows}, 1, {CORES})")
    bench.add(
        f"{rows:,} rows, 500 ms, 2x128 in flight: wall / ideal",
        f"{took_s / ideal_s:.3f} x (bare loop {bare_s / ideal_s:.3f} x)",
        "<= 1.15 x",
        took_s / ideal_s <= 1.15,
    )


def duplicates(bench: Bench) -> None:
    rows, distinct = bench.count(10_000), 100
    bench.simulator.set_latency(latency_ms=100)
    bench.simulator.reset_bill()
    bench.run(f"SELECT ai_query('chat', 'Row ' || id % {distinct}) AS r FROM range(0, {rows}, 1, {2 * CORES})")
    calls = bench.simulator.bill().requests
    bench.add(f"{rows:,} rows, {distinct} questions, 4 tasks", f"{calls} calls", f"{distinct}", calls == distinct)


def one_bad_row(bench: Bench) -> None:
    rows = bench.count(10_000)
    bench.simulator.set_latency(latency_ms=0)
    asked = f"ai_query('chat', 'Row ' || id || IF(id = 7, ' {BAD}', ''), failOnError => false)"
    counted = f"SELECT count(r.result) AS good, count(r.errorMessage) AS bad FROM (SELECT {asked} AS r FROM range(0, {rows}, 1, {CORES}))"  # noqa: E501
    found = bench.spark.sql(counted).first()
    assert found is not None
    bench.add(
        f"One bad row of {rows:,}, failOnError => false",
        f"{found['good']:,} results, {found['bad']} message",
        f"{rows - 1:,} and 1",
        (found["good"], found["bad"]) == (rows - 1, 1),
    )


def failing(bench: Bench) -> None:
    bench.simulator.set_latency(latency_ms=500)
    bench.simulator.reset_bill()
    answered_s: list[float] = []

    def watch() -> None:
        while not bench.simulator.bill().refused:
            time.sleep(0.01)
        answered_s.append(time.monotonic())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    asked = f"ai_query('chat', 'Row ' || id || IF(id = 300, ' {BAD}', ''))"
    with pytest.raises(PySparkException, match="AI_FUNCTION_HTTP_REQUEST_ERROR"):
        bench.run(f"SELECT {asked} AS r FROM range(0, 10000, 1, {CORES})")
    failed_s = time.monotonic()
    thread.join()
    while bench.simulator.bill().in_flight and time.monotonic() - failed_s < 10:
        time.sleep(0.01)
    idle_s = time.monotonic() - answered_s[0]
    after = bench.simulator.bill()
    took_s = failed_s - answered_s[0]
    time.sleep(1.5)
    is_quiet = bench.simulator.bill().requests == after.requests
    bench.add(
        "failOnError => true, 4 attempts per task: from the answer to the error",
        f"{took_s:.2f} s, nothing in flight after {idle_s:.2f} s",
        "<= 2 s, <= 3 s",
        took_s <= 2 and idle_s <= 3 and is_quiet,
    )


def limits(bench: Bench) -> None:
    bench.simulator.set_latency(latency_ms=0)
    bench.simulator.reset_bill()
    bench.spark.sql("SELECT ai_query('chat', 'Row ' || id) AS r FROM range(1000000) LIMIT 10").collect()
    calls = bench.simulator.bill().requests
    bench.add("LIMIT 10 over 1,000,000 rows", f"{calls} calls", "10", calls == 10)
    for latency_ms in (100, 500):
        bench.simulator.set_latency(latency_ms=latency_ms)
        bench.simulator.reset_bill()
        asked = "SELECT id, ai_query('narrow', 'Row ' || id) AS r FROM range(0, 1000000, 1, 1)"
        found = bench.spark.sql(f"SELECT * FROM ({asked}) WHERE r LIKE '%99%' LIMIT 10").collect()
        ended_s = time.monotonic()
        needed = found[-1]["id"] + 1
        while bench.simulator.bill().in_flight:
            time.sleep(0.01)
        stopped_s = time.monotonic() - ended_s
        over = bench.simulator.bill().requests - needed
        bench.add(
            f"Filter on the answer, LIMIT 10, {latency_ms} ms, 64 in flight",
            f"{needed} needed, {over} more, stopped after {stopped_s:.2f} s",
            "<= 64 more, <= 3 s",
            over <= 64 and stopped_s <= 3,
        )


def embeddings(bench: Bench) -> None:
    rows = bench.count(100_000)
    bench.simulator.set_latency(latency_ms=0)
    took_s = bench.run(f"SELECT ai_query('embed', 'Row ' || id) AS r FROM range(0, {rows}, 1, {CORES})")
    bench.add(
        f"{rows:,} embeddings of 1,024 floats, 64 per call",
        f"{rows / took_s:,.0f} rows/s (the simulator's CPU included)",
        ">= 8,000 rows/s",
        rows / took_s >= 8_000,
    )


PARTS: dict[str, Callable[[Bench], None]] = {
    "latency": latency_bound,
    "duplicates": duplicates,
    "bad-row": one_bad_row,
    "failing": failing,
    "limits": limits,
    "embeddings": embeddings,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; repeatable")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for a quick look")
    arguments = parser.parse_args()
    with SimulatorProcess(SimulatorSettings(canned_vectors=1024)) as simulator:
        bench = Bench(simulator, arguments.scale)
        bench.run("SELECT ai_query('chat', 'Hello.') AS r")  # the first query of a session loads classes
        for name in arguments.only or PARTS:
            PARTS[name](bench)
        bench.spark.stop()
    folder = Path("out/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "cores": CORES,
        "scale": arguments.scale,
        "rows": [asdict(row) for row in bench.rows],
    }
    (folder / "functions.json").write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
