"""`python -m tests.benchmarks.quota`: workers in processes of their own, one quota server, the simulator's own books.

Prints a table and writes `out/benchmarks/quota.json`. Legs last about half a minute each; `--only` picks some.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import plans
from pipeline.limits import LimitUse
from pipeline.progress import Progress
from pipeline.quota import QuotaServer
from pipeline.simulator import Bill, Quotas, SimulatorProcess, SimulatorSettings
from pipeline.worker import run_partition
from pipeline.worker_plan import Plan
from tests.jobs import make_job, write_conf

WARM_UP_S = 10
RESULTS: list[dict[str, Any]] = []


class Last:
    """`worker.Control` that keeps the last report."""

    def __init__(self) -> None:
        self.progress = Progress()

    def report(self, progress: Progress) -> None:
        self.progress = progress

    def stop_reason(self) -> str | None:
        return None


def work(plan: Plan, first: int, rows: int) -> dict[str, Any]:
    """One worker: its rows through the engine; how they ended, and after how many seconds."""
    started_s = time.monotonic()
    texts = [f"Row {i} says hello. It is short." for i in range(first, first + rows)]
    batch = pa.record_batch({"id": [f"k{i}" for i in range(first, first + rows)], "doc": texts})
    control = Last()
    codes: Counter[str] = Counter()
    for result in run_partition([batch], plan, control=control):
        codes.update(error["code"] if error else "ok" for error in result.column("error").to_pylist())
    progress = control.progress
    return {
        "codes": dict(codes),
        "not_attempted": progress.rows_not_attempted,
        "stopped": progress.stopped,
        "took_s": time.monotonic() - started_s,
    }


@dataclass
class Leg:
    """What one leg showed."""

    wall_s: float
    codes: Counter[str]
    not_attempted: int
    stopped: set[str]
    bill: Bill
    used: list[LimitUse]
    shared_s: float  # until the first worker had no more rows

    def per_second(self) -> float:
        """Answers while all workers had rows, after the warm-up and without the last two seconds."""
        seconds = self.bill.answers_per_second[: int(self.shared_s)][WARM_UP_S:-2]
        return sum(seconds) / max(1, len(seconds))

    @property
    def refused(self) -> float:
        return self.bill.refused.get(429, 0) / max(1, self.bill.requests)


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        list(executor.map(time.sleep, [0.2] * workers))  # imports done before the clock runs
        yield executor


def leg(
    settings: SimulatorSettings,
    workers: int,
    rows: int,
    during: Callable[[Any], None] = lambda simulator: None,
    **sections: dict[str, Any],
) -> Leg:
    """`rows` in all over `workers`, leased from one server."""
    with SimulatorProcess(settings) as simulator, pool(workers) as executor, tempfile.TemporaryDirectory() as folder:
        job = make_job(Path(folder), simulator.base_url, **sections)
        quota = plans.quota_spec(job, workers, None)
        with QuotaServer(quota, "127.0.0.1") as server:
            plan = plans.worker_plan(job, simulator.base_url, "bench", quota, server.link("127.0.0.1"))
            each = rows // workers
            started_s = time.monotonic()
            running = [executor.submit(work, plan, worker * each, each) for worker in range(workers)]
            during(simulator)
            ended = [one.result() for one in running]
            wall_s = time.monotonic() - started_s
            codes: Counter[str] = Counter()
            for one in ended:
                codes.update(one["codes"])
            return Leg(
                wall_s,
                codes,
                sum(one["not_attempted"] for one in ended),
                {one["stopped"] for one in ended} - {""},
                simulator.bill(),
                server.used(),
                min(one["took_s"] for one in ended),
            )


def say(what: str, measured: str, aim: str, is_met: bool, **figures: float) -> None:
    RESULTS.append({"what": what, "measured": measured, "aim": aim, "is_met": is_met, **figures})
    print(f"{what:<58} {measured:<58} {aim:<30} {'met' if is_met else 'MISSED'}", flush=True)


UNSET = {"in_flight": None}  # nothing configured: found by AIMD


def requests_limit(workers: int, per_minute: int, seconds: int = 45) -> None:
    settings = SimulatorSettings(latency_ms=200, quotas=Quotas(requests_per_minute=per_minute))
    rows = per_minute * seconds // 60 // workers * workers
    shown = leg(settings, workers, rows, limits={"in_flight": 64, "requests_per_minute": per_minute})
    used = shown.per_second() / (per_minute / 60)
    say(
        f"{workers} workers, {per_minute:,} requests/min",
        f"{used:.1%} used after {WARM_UP_S} s, {shown.refused:.2%} answered 429",
        ">= 97 %, < 0.5 %",
        used >= 0.97 and shown.refused < 0.005 and shown.codes["ok"] == rows,
        used=used,
        refused=shown.refused,
    )


def tokens_limit() -> None:
    limit = 60_000
    settings = SimulatorSettings(latency_ms=200, quotas=Quotas(tokens_per_minute=limit))
    shown = leg(settings, 2, 900, limits={"in_flight": 64, "tokens_per_minute": limit})
    per_call = (shown.bill.input_tokens + shown.bill.output_tokens) / max(1, shown.bill.answers)
    used = shown.per_second() * per_call / (limit / 60)
    say(
        f"2 workers, {limit:,} tokens/min, max_tokens reserved",
        f"{used:.1%} used after {WARM_UP_S} s, {shown.refused:.2%} answered 429",
        ">= 97 %, < 0.5 %",
        used >= 0.97 and shown.refused < 0.005,
        used=used,
        refused=shown.refused,
    )


def found_capacity(overload: str) -> None:
    slots, latency_s = 60, 0.2
    settings = SimulatorSettings(latency_ms=latency_s * 1e3, slots=slots, overload=overload)  # type: ignore[arg-type]
    shown = leg(settings, 2, 9_000, limits=UNSET)
    used = shown.per_second() * latency_s / slots
    say(
        f"2 workers, no limit configured, {slots} slots, overload {overload}",
        f"{used:.1%} of capacity after {WARM_UP_S} s, {shown.bill.requests / 9_000 - 1:.1%} more calls than rows",
        ">= 90 %",
        used >= 0.9 and shown.codes["ok"] == 9_000,
        used=used,
    )


def fixed_share() -> None:
    plain = leg(SimulatorSettings(latency_ms=500), 2, 6_000, limits={"in_flight": 128})
    with_429 = leg(SimulatorSettings(latency_ms=500, faults={"rate_429": 0.1}), 2, 6_000, limits={"in_flight": 128})
    ratio = with_429.wall_s / plain.wall_s
    say(
        "10 % of all calls answered 429, whatever the load",
        f"{ratio:.2f} x of the wall without them ({with_429.wall_s:.1f} / {plain.wall_s:.1f} s)",
        "<= 1.5 x",
        ratio <= 1.5 and with_429.codes["ok"] == 6_000,
        ratio=ratio,
    )


# One of each way to fail that may pass: refused, broken off, spoilt.
FAULTS = ("rate_429", "rate_429_databricks", "timeout_408", "conflict_409", "backend_424", "error_500", "error_502")
FAULTS += ("unavailable_503", "overloaded_529", "error_200", "empty_body", "malformed", "reset", "truncated")


def thirty_percent() -> None:
    kinds = FAULTS
    rows, in_flight, latency_s = 6_000, 128, 0.5
    settings = SimulatorSettings(latency_ms=latency_s * 1e3, faults={name: 0.3 / len(kinds) for name in kinds})
    shown = leg(settings, 2, rows, limits={"in_flight": in_flight}, retry={"base_s": 0.5})
    ideal_s = rows * latency_s / in_flight / 0.7
    ended = sum(shown.codes.values())
    say(
        f"30 % of calls fail ({len(kinds)} kinds): wall / ideal at 70 %",
        f"{shown.wall_s / ideal_s:.2f} x; {shown.codes['ok']:,} answers + {ended - shown.codes['ok']:,} errors of {rows:,}",
        "<= 2 x, sum = rows",
        shown.wall_s / ideal_s <= 2 and ended == rows,
        ratio=shown.wall_s / ideal_s,
        errors=ended - shown.codes["ok"],
    )


def outage() -> None:
    rows, in_flight, latency_s, away_s = 12_000, 64, 0.2, 60.0
    settings = SimulatorSettings(latency_ms=latency_s * 1e3)
    shown = leg(
        settings,
        2,
        rows,
        lambda simulator: simulator.set_outage("unavailable", after_s=8.0, for_s=away_s),
        limits={"in_flight": in_flight},
    )
    ideal_s = rows * latency_s / in_flight
    seconds = shown.bill.answers_per_second
    dark = [second for second, answers in enumerate(seconds) if answers == 0]
    full = in_flight / latency_s
    back = next((s for s in range(dark[-1], len(seconds)) if seconds[s] >= 0.9 * full), len(seconds)) if dark else 0
    probes = 2 * 16
    most = 1.1 * in_flight + probes
    say(
        f"outage of {away_s:.0f} s: rows lost, calls during it, back at full rate",
        f"{rows - shown.codes['ok']} lost, {shown.bill.in_outage} calls, after {back - dark[-1] if dark else 0} s; "
        f"wall {shown.wall_s - ideal_s - away_s:+.0f} s",
        f"0, <= {most:.0f}, <= 10 s",
        shown.codes["ok"] == rows and shown.bill.in_outage <= most and bool(dark) and back - dark[-1] <= 10,
        calls=shown.bill.in_outage,
    )


def budget() -> None:
    most = 20_000
    settings = SimulatorSettings(latency_ms=200)
    shown = leg(settings, 2, 4_000, limits={"in_flight": 64}, budget={"max_tokens": most})
    billed = shown.bill.input_tokens + shown.bill.output_tokens
    dearest = 64
    say(
        f"budget of {most:,} tokens",
        f"{billed:,} billed, {shown.codes['ok']:,} rows answered, {shown.not_attempted:,} not attempted",
        f"<= {most + 64 * dearest:,}",
        most - 2 * dearest <= billed <= most + 64 * dearest and bool(shown.stopped),
        billed=billed,
    )


def budget_killed() -> None:
    """Driver and JVM are killed half way, with calls in flight; the next run goes on with what the journal counts."""
    most, in_flight = 20_000, 64
    with SimulatorProcess(SimulatorSettings(latency_ms=200)) as simulator, tempfile.TemporaryDirectory() as folder:
        conf = write_conf(Path(folder), simulator.base_url, 4_000, name="killed", in_flight=in_flight)
        settings = ("job.buckets=2", "request.parameters={max_tokens=20}", f"budget.max_tokens={most}")
        command = [sys.executable, "-m", "jobs.run", conf]
        command += [word for setting in settings for word in ("--set", setting)]
        environment = {**os.environ, "SPARK_MASTER": "local[2]"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        killed = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)  # type: ignore[call-overload]
        while simulator.bill().answers < 400:
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        time.sleep(2.0)
        before = simulator.bill()
        exit_code = subprocess.run(command, env=environment, check=False, **quiet).returncode  # type: ignore[call-overload]
        after = simulator.bill()
    billed = after.input_tokens + after.output_tokens
    dearest = 40  # tokens of one call: the prompt and 20 more
    say(
        f"budget of {most:,} tokens, SIGKILL after {before.answers:,} answers, run again",
        f"{billed:,} billed ({billed - most:+,}), exit {exit_code}",
        f"<= {most + in_flight * dearest:,}, exit 1",
        billed <= most + in_flight * dearest and billed >= 0.95 * most and exit_code == 1,
        billed=billed,
    )


PARTS: dict[str, Callable[[], None]] = {
    "requests-2-600": lambda: requests_limit(2, 600),
    "requests-4-600": lambda: requests_limit(4, 600),
    "requests-2-6000": lambda: requests_limit(2, 6_000),
    "requests-4-6000": lambda: requests_limit(4, 6_000),
    "tokens": tokens_limit,
    "capacity-429": lambda: found_capacity("429"),
    "capacity-503": lambda: found_capacity("503"),
    "fixed-share": fixed_share,
    "faults": thirty_percent,
    "outage": outage,
    "budget": budget,
    "budget-killed": budget_killed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; repeatable")
    for name in parser.parse_args().only or PARTS:
        PARTS[name]()
    folder = Path("out/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    document = {"at": time.strftime("%Y-%m-%d %H:%M"), "rows": RESULTS}
    (folder / "quota.json").write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
