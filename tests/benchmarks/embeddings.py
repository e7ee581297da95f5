"""`python -m tests.benchmarks.embeddings`: bulk embeddings, from a bare loop to a whole Spark job, in one run.

Every leg sends the same texts over the same transport to the same canned server, from two processes on two cores. Prints
a table and writes `out/benchmarks/embeddings.json`.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import open_session, run_job
from pipeline.batching import PackLimits
from pipeline.decoding import decode
from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.endpoints.bodies import from_body
from pipeline.engine import Window, WindowSettings
from pipeline.journal import BucketJournal
from pipeline.loop import new_event_loop
from pipeline.pieces import BUCKET_COLUMN
from pipeline.prompts import PromptSpec, Renderer
from pipeline.records import Batch, HttpRequest, Outcome, Request, Task
from pipeline.retry import Attempts
from pipeline.simulator.vectors import canned_index, canned_pool
from pipeline.storage import open_store
from pipeline.task import collect_less_often
from pipeline.transports import TransportSpec, open_transport
from pipeline.vectors import EmbeddingContract
from pipeline.worker import run_partition
from pipeline.worker_plan import Plan
from tests.benchmarks.bare import cpu_s
from tests.benchmarks.canned import CannedServer
from tests.benchmarks.memory import Memory
from tests.jobs import make_job

CORES = 2
DIMENSIONS = 1024
LATENCY_S = 0.02
PER_CALL = 128
IN_FLIGHT = 16  # of the whole job, in every leg


@dataclass(frozen=True, slots=True)
class Leg:
    """What one process of a leg is to do."""

    name: str
    base_url: str
    encoding: str
    first: int
    rows: int
    per_call: int = PER_CALL
    in_flight: int = IN_FLIGHT // CORES
    profiles: bool = False


def text_of(row: int) -> str:
    return f"Row {row}: a text of ordinary length that says little."


def requests_of(leg: Leg) -> list[Request]:
    renderer = Renderer(PromptSpec(Task.EMBEDDING, template="{{ doc }}"))
    rendered = [renderer.render({"doc": text_of(row)}) for row in range(leg.first, leg.first + leg.rows)]
    return [request for request in rendered if isinstance(request, Request)]


def spec_of(leg: Leg) -> EndpointSpec:
    parameters = {"encoding_format": leg.encoding}
    return EndpointSpec(
        Task.EMBEDDING, "canned-embedding", "openai", leg.base_url, parameters, EmbeddingContract(dimensions=DIMENSIONS)
    )


async def bare(leg: Leg, started: Callable[[], None]) -> None:
    """Coroutines that post and decode, nothing else: no retry, no journal, no contract, no table."""
    endpoint = open_endpoint(spec_of(leg))
    bodies = [endpoint.build(Batch(tuple(part))).body for part in _parts(requests_of(leg), leg.per_call)]
    transport = open_transport("httptools", TransportSpec(in_flight=leg.in_flight, max_response_bytes=2**26))
    todo = iter(bodies)

    async def sender() -> None:
        for body in todo:
            response = await transport.send(HttpRequest(f"{leg.base_url}/embeddings", body), {})
            matrix, _ = decode([item["embedding"] for item in from_body(response.body)["data"]])
            assert matrix.shape[1] == DIMENSIONS

    started()
    await asyncio.gather(*[sender() for _ in range(leg.in_flight)])
    await transport.close()


async def engine(leg: Leg, started: Callable[[], None]) -> None:
    """The window: packing, retries, contract, outcomes, usage."""
    requests = [(request, Attempts()) for request in requests_of(leg)]
    transport = open_transport("httptools", TransportSpec(in_flight=leg.in_flight, max_response_bytes=2**26))
    done = asyncio.Event()
    finished = 0

    def take(outcomes: Sequence[Outcome]) -> None:
        nonlocal finished
        assert outcomes[0].error is None
        finished += len(outcomes)
        if finished == leg.rows:
            done.set()

    settings = WindowSettings(in_flight=leg.in_flight, pack=PackLimits(leg.per_call))
    window = Window(open_endpoint(spec_of(leg)), transport, settings, on_finished=take)
    started()
    window.submit(requests)
    await done.wait()
    await window.cancel()
    await transport.close()


def worker(leg: Leg, started: Callable[[], None]) -> None:
    """What a Spark task runs, its journal on, its record batches written as Spark takes them, to nowhere."""
    collect_less_often()  # as a task does
    folder = tempfile.mkdtemp(prefix="embeddings-worker-")
    settings = WindowSettings(in_flight=leg.in_flight, pack=PackLimits(leg.per_call))
    plan = Plan(
        PromptSpec(Task.EMBEDDING, template="{{ doc }}"),
        spec_of(leg),
        settings,
        transport=TransportSpec(in_flight=leg.in_flight, max_response_bytes=2**26),
        run_id="bench",
    )
    journal = BucketJournal.open(open_store(folder), "f" * 64, 0, run_id="bench", attempt="1")
    started()
    rows = 0
    with pa.OSFile(os.devnull, "wb") as sink:
        writer = None
        for batch in run_partition(_source(leg), plan, log=journal):
            if writer is None:
                writer = pa.ipc.new_stream(sink, batch.schema)
            writer.write_batch(batch)
            rows += batch.num_rows
    journal.close()
    assert rows == leg.rows
    shutil.rmtree(folder)


def _source(leg: Leg) -> Iterator[pa.RecordBatch]:
    for start in range(leg.first, leg.first + leg.rows, 10_000):
        numbers = range(start, min(start + 10_000, leg.first + leg.rows))
        yield pa.RecordBatch.from_pydict(
            {
                "id": pa.array([f"k{i}" for i in numbers]),
                "doc": pa.array([text_of(i) for i in numbers]),
                BUCKET_COLUMN: pa.array([0] * len(numbers), pa.int32()),
            }
        )


def _parts(requests: list[Request], size: int) -> Iterator[list[Request]]:
    iterator = iter(requests)
    while part := list(itertools.islice(iterator, size)):
        yield part


LEGS: dict[str, Callable[[Leg, Callable[[], None]], Any]] = {"bare": bare, "engine": engine, "worker": worker}


def run_leg(leg: Leg, barrier: Any, times: Any) -> None:
    """In a process of its own: all start together, each reports its times."""
    span, used = [0.0, 0.0], [0.0]
    sampler = Sampler() if leg.profiles else None

    def started() -> None:
        barrier.wait()
        if sampler is not None:
            sampler.start()
        span[0] = time.time()
        used[0] = cpu_s()

    try:
        running = LEGS[leg.name](leg, started)
        if running is not None:
            new_event_loop().run_until_complete(running)
    except BaseException:
        barrier.abort()
        raise
    span[1] = time.time()
    if sampler is not None:
        sampler.show()
    times.put((*span, cpu_s() - used[0]))


class Sampler(threading.Thread):
    """Which Python function each thread is in, every 5 ms, weighted by the CPU that the thread used since."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._names: Counter[str] = Counter()
        self._used: dict[int, float] = {}

    def run(self) -> None:
        process = psutil.Process()
        natives: dict[int | None, int | None] = {}
        self._used = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
        while True:
            time.sleep(0.005)
            natives = {thread.ident: thread.native_id for thread in threading.enumerate()}
            used = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
            frames = sys._current_frames()
            for ident, frame in frames.items():
                native = natives.get(ident)
                if native is None or ident == self.ident:
                    continue
                spent = used.get(native, 0.0) - self._used.get(native, 0.0)
                if spent > 0:
                    code = frame.f_code
                    self._names[f"{Path(code.co_filename).name}:{code.co_name}:{frame.f_lineno}"] += spent
            known = set(natives.values())
            for native, total in used.items():
                if native not in known:
                    self._names["(threads that are not Python's: network)"] += total - self._used.get(native, total)
            self._used = used

    def show(self) -> None:
        total = sum(self._names.values())
        print(f"  CPU {total:.1f} s of one worker, by the line it was at:")
        for name, spent in self._names.most_common(22):
            print(f"  {spent / total:6.1%} {name}")


class Bench:
    """The server, the folder and the session of one run."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.folder = Path(tempfile.mkdtemp(prefix="embeddings-"))
        self.lines: list[dict[str, Any]] = []
        self.speeds: dict[tuple[str, str], float] = {}
        self._spark: Any = None

    def leg(self, name: str, encoding: str, rows: int, *, per_call: int = PER_CALL, profiles: bool = False) -> float:
        """Rows per second of a leg in two processes."""
        context = multiprocessing.get_context("spawn")
        with CannedServer(DIMENSIONS, LATENCY_S) as server:
            barrier, times = context.Barrier(CORES), context.Queue()
            share = rows // CORES
            processes = [
                context.Process(
                    target=run_leg,
                    args=(
                        Leg(name, server.base_url, encoding, i * share, share, per_call, profiles=profiles and i == 0),
                        barrier,
                        times,
                    ),
                )
                for i in range(CORES)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            assert not any(process.exitcode for process in processes), f"the leg {name} failed, see above"
            spans = [times.get(timeout=10) for _ in processes]
            served_s = sum(psutil.Process(server.pid).cpu_times()[:2])
        wall_s = max(span[1] for span in spans) - min(span[0] for span in spans)
        speed = CORES * share / wall_s
        self.add(
            f"{name}, {encoding}, {per_call} per call, {CORES * share:,} rows",
            f"{speed:,.0f} rows/s",
            rows_per_s=speed,
            wall_s=wall_s,
            cpu_us=sum(span[2] for span in spans) / rows * 1e6,
            server_cpu_us=served_s / rows * 1e6,
        )
        self.speeds[name, encoding] = speed
        return speed

    def job(self, encoding: str, rows: int, *, per_call: int = PER_CALL, checks: bool = False) -> float:
        """Rows per second of a whole job into Parquet; Spark's start and the counting of the source are not in it."""
        work = Path(tempfile.mkdtemp(dir=self.folder))
        with CannedServer(DIMENSIONS, LATENCY_S) as server, Memory() as memory:
            job = make_job(
                work,
                server.base_url,
                source={"path": self.source(rows)},
                request={
                    "task": "embedding",
                    "prompt": None,
                    "text": "{{ doc }}",
                    "parameters": {"encoding_format": encoding},
                },
                endpoint={"name": "canned-embedding", "send_run_id": None},
                limits={"in_flight": IN_FLIGHT, "max_batch_rows": per_call, "requests_per_minute": 10_000_000},
                embedding={"dimensions": DIMENSIONS},
                sink={"format": "parquet", "path": str(work / "results")},
            )
            report = run_job(job, self.spark)
            served_s = sum(psutil.Process(server.pid).cpu_times()[:2])
        assert report.status == "landed", report.lines()
        assert report.rows_landed == rows, report.lines()
        assert not report.rows_failed, report.lines()
        if checks:
            check_table(work / "results", rows)
        shutil.rmtree(work)
        speed = rows / report.calling_s
        self.add(
            f"Spark job to Parquet, {encoding}, {per_call} per call, {rows:,} rows",
            f"{speed:,.0f} rows/s; workers {memory.early_mb:.0f} MB at a fifth, at most {memory.peak_mb:.0f}",
            rows_per_s=speed,
            wall_s=report.calling_s,
            server_cpu_us=served_s / rows * 1e6,
            early_mb=memory.early_mb,
            peak_mb=memory.peak_mb,
        )
        self.speeds["job", encoding] = speed
        return speed

    @property
    def spark(self) -> Any:
        if self._spark is None:
            os.environ["SPARK_MASTER"] = f"local[{CORES}]"
            self._spark = open_session("benchmarks")
            self.job("base64", 4_000)  # the first job of a session loads classes and starts workers
            self.lines.pop()
            self.job("base64", 4_000)  # what a job takes before and after its rows
        return self._spark

    def source(self, rows: int) -> str:
        path = self.folder / f"source-{rows}.parquet"
        if not path.exists():
            pq.write_table(
                pa.table({"id": [f"k{i}" for i in range(rows)], "doc": [text_of(i) for i in range(rows)]}), path
            )
        return str(path)

    def add(self, what: str, measured: str, **figures: float) -> None:
        self.lines.append({"what": what, "measured": measured, **figures})
        detail = " ".join(
            f"{name} {figures[name]:.1f}" for name in ("wall_s", "cpu_us", "server_cpu_us") if name in figures
        )
        print(f"{what:<60} {measured:<44} {detail}", flush=True)

    def close(self) -> None:
        if self._spark is not None:
            self._spark.stop()
        shutil.rmtree(self.folder)


def check_table(path: Path, rows: int) -> None:
    """Every vector in the table is its text's, bit for bit."""
    pool = canned_pool(DIMENSIONS)
    seen = 0
    for file in sorted(path.rglob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(8_192, columns=["doc", "response"]):
            vectors = batch.column("response").flatten().to_numpy().reshape(batch.num_rows, DIMENSIONS)
            wanted = pool[[canned_index(text) for text in batch.column("doc").to_pylist()]]
            assert np.array_equal(vectors.view(np.uint32), wanted.view(np.uint32)), f"{file}: another text's vector"
            seen += batch.num_rows
    assert seen == rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the base64 legs; others take a share")
    parser.add_argument("--only", choices=["bare", "engine", "worker", "job", "single", "memory"], action="append")
    parser.add_argument("--encoding", choices=["base64", "float"], action="append")
    parser.add_argument("--profile", action="store_true", help="where one worker's CPU goes")
    arguments = parser.parse_args()
    only = arguments.only or ["bare", "engine", "worker", "job", "single"]
    bench = Bench(arguments.rows)
    for encoding in arguments.encoding or ["base64", "float"]:
        rows = arguments.rows if encoding == "base64" else arguments.rows // 4
        if "bare" in only:
            bench.leg("bare", encoding, rows)
        if "job" in only:
            speed = bench.job(encoding, rows, checks=True)
            aim = {"base64": 20_000, "float": 8_000}[encoding]
            bench.add(f"  aim {aim:,} rows/s", "met" if speed >= aim else "MISSED")
            if bare_speed := bench.speeds.get(("bare", encoding)):
                bench.add("  job / bare loop (aim 70 %)", f"{speed / bare_speed:.0%}", ratio=speed / bare_speed)
        for name in ("engine", "worker"):
            if name in only:
                bench.leg(name, encoding, rows, profiles=arguments.profile and name == "worker")
    if "single" in only:
        rows = max(500, arguments.rows // 80)
        single = bench.job("base64", rows, per_call=1)
        packed = bench.job("base64", rows * 40, per_call=PER_CALL)
        bench.add("  128 per call / one text per call", f"{packed / single:.0f} x", ratio=packed / single)
    if "memory" in only:
        bench.job("base64", 1_000_000)
    bench.close()
    folder = Path("out/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    document = {"at": time.strftime("%Y-%m-%d %H:%M"), "cores": CORES, "rows": bench.lines}
    (folder / "embeddings.json").write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
