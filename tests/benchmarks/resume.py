"""`python -m tests.benchmarks.resume`: what the journal costs a worker, and how fast it gives answers back. No Spark.

Two workers run at once, as two tasks of a job would: once without a journal, once with one, once again from it.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time

import pyarrow as pa

from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.journal import BucketJournal
from pipeline.prompts import PromptSpec
from pipeline.records import Task
from pipeline.simulator import SimulatorProcess, SimulatorSettings
from pipeline.storage import open_store
from pipeline.transports import TransportSpec
from pipeline.worker import run_partition
from pipeline.worker_plan import Plan

WORKERS = 2
BATCH_ROWS = 10_000


def work(arguments: tuple[str, int, int, int, str | None, str]) -> tuple[float, float]:
    """Seconds from the first to the last row, and of CPU."""
    base_url, worker, rows, in_flight, folder, attempt = arguments
    plan = Plan(
        PromptSpec(Task.CHAT, template="Summarise in one sentence: {{ doc }}"),
        EndpointSpec(Task.CHAT, "canned-chat", "openai", base_url, {"max_tokens": 60}),
        window=WindowSettings(in_flight=in_flight),
        transport=TransportSpec(in_flight=in_flight),
        run_id="run",
    )
    journal = (
        BucketJournal.open(open_store(folder), "f" * 64, worker, run_id="run", attempt=attempt) if folder else None
    )
    texts = [f"Row {worker}/{i}: a text of ordinary length that says little." for i in range(rows)]
    batches = [pa.record_batch({"doc": texts[i : i + BATCH_ROWS]}) for i in range(0, rows, BATCH_ROWS)]
    started_s, cpu_s = time.perf_counter(), _cpu_s()
    done = sum(batch.num_rows for batch in run_partition(batches, plan, log=journal))
    took = time.perf_counter() - started_s, _cpu_s() - cpu_s
    assert done == rows
    if journal is not None:
        journal.close()
    return took


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--in-flight", type=int, default=1024, help="of both workers together")
    parser.add_argument("--latency-ms", type=float, default=500)
    parser.add_argument("--rounds", type=int, default=2, help="with and without take turns; the best of each counts")
    arguments = parser.parse_args()
    share, rows = arguments.in_flight // WORKERS, arguments.rows // WORKERS

    with (
        multiprocessing.get_context("spawn").Pool(WORKERS) as pool,
        SimulatorProcess(SimulatorSettings(latency_ms=arguments.latency_ms)) as simulator,
        tempfile.TemporaryDirectory() as root,
    ):

        def timed(folder: str | None, attempt: str) -> tuple[float, float]:
            tasks = [(simulator.base_url, worker, rows, share, folder, attempt) for worker in range(WORKERS)]
            results = pool.map(work, tasks, chunksize=1)
            return max(wall for wall, _ in results), sum(cpu for _, cpu in results)

        timed(None, "warm")
        without, with_journal = [], []
        for turn in range(arguments.rounds):
            without.append(timed(None, "none"))
            with_journal.append(timed(f"{root}/{turn}", "first"))
        sent = simulator.bill().requests
        replay_s, _ = timed(f"{root}/0", "second")
        assert simulator.bill().requests == sent, "the replay made calls"
    bare_s, cost_s = min(wall for wall, _ in without), min(wall for wall, _ in with_journal)
    bare_cpu_s, cpu_s = min(cpu for _, cpu in without), min(cpu for _, cpu in with_journal)
    print(f"{arguments.rows:,} rows, {arguments.latency_ms:g} ms, {WORKERS}x{share} in flight")
    print(f"wall without journal   {bare_s:8.2f} s")
    print(f"wall with journal      {cost_s:8.2f} s   {cost_s / bare_s - 1:+.1%} (aim <= +3 %)")
    per_row = [seconds / arguments.rows * 1e6 for seconds in (bare_cpu_s, cpu_s)]
    print(f"CPU per row            {per_row[0]:8.0f} us without, {per_row[1]:.0f} us with")
    print(f"replay                 {arguments.rows / replay_s:8,.0f} rows/s on {WORKERS} cores (aim >= 20,000)")


if __name__ == "__main__":
    main()
