"""The quota server and its clients over real sockets, with real threads."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import plans
from pipeline.config import JobFile
from pipeline.limits import Budget, Limit, QuotaSpec
from pipeline.loop import LoopThread
from pipeline.progress import Progress
from pipeline.quota import Channel, QuotaLink, QuotaServer
from pipeline.quota.frames import NONCE_BYTES
from pipeline.simulator import Quotas, Simulator, SimulatorSettings
from pipeline.worker import run_partition
from tests.jobs import make_job, numbered

PER_MINUTE = Limit("requests_per_minute", "requests", 3_000, 60.0)


@pytest.fixture
def server() -> Iterator[QuotaServer]:
    with QuotaServer(QuotaSpec(in_flight=8, limits=(PER_MINUTE,), workers=2), "127.0.0.1") as server:
        yield server


class Caller:
    """A connection that says what it is told."""

    def __init__(self, server: QuotaServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self.theirs = self.receive()

    def send(self, data: bytes, size: int | None = None) -> None:
        self.socket.sendall((len(data) if size is None else size).to_bytes(4, "big") + data)

    def receive(self) -> bytes:
        """The next frame, b"" where the server has hung up."""
        try:
            head = self.socket.recv(4, socket.MSG_WAITALL)
            return self.socket.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL) if head else b""
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self.socket.close()


def refused_after(server: QuotaServer, before: int) -> int:
    for _ in range(200):
        if server.refused > before:
            break
        time.sleep(0.01)
    return server.refused - before


@given(data=st.binary(max_size=300), size=st.none() | st.integers(0, 2**32 - 1), greets=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_garbage_and_oversized_frames_have_no_effect(
    server: QuotaServer, data: bytes, size: int | None, greets: bool
) -> None:
    caller = Caller(server)
    if greets:
        caller.send(os.urandom(NONCE_BYTES))
    caller.send(data, size)
    caller.socket.shutdown(socket.SHUT_WR)
    assert caller.receive() == b"", "the server hangs up without a word"
    caller.close()
    assert server.came == 0
    assert server.used()[0].used == 0


def test_unsigned_replayed_and_senseless_frames_are_refused_and_logged_once(
    server: QuotaServer, caplog: pytest.LogCaptureFixture
) -> None:
    ask = [0, [0, 8, 0, 1, [[1, 10, 10, 0, 0]], [], 1, 1]]
    link = server.link("127.0.0.1")
    nonce = os.urandom(NONCE_BYTES)
    with caplog.at_level(logging.WARNING):
        honest = Caller(server)
        honest.send(nonce)
        frame = Channel(link.key, honest.theirs + nonce, b"w").seal(ask)
        honest.send(frame)
        assert honest.receive()
        assert (server.came, server.used()[0].used) == (1, 1)
        for attack in ("unsigned", "replayed on its connection", "replayed on another", "senseless"):
            before = server.refused
            caller = honest if attack == "replayed on its connection" else Caller(server)
            if caller is not honest:
                caller.send(nonce)
            key = bytes(32) if attack == "unsigned" else link.key
            value = ["drop", "table"] if attack == "senseless" else ask
            fresh = Channel(key, caller.theirs + nonce, b"w").seal(value)
            caller.send(frame if attack.startswith("replayed") else fresh)
            assert caller.receive() == b"", attack
            assert refused_after(server, before) == 1, attack
            caller.close()
    assert (server.came, server.used()[0].used) == (1, 1), "nothing was granted"
    assert len([record for record in caplog.records if "refused" in record.message]) == 1
    assert link.key.hex() not in repr(link)
    assert str(link.key) not in caplog.text


def test_it_never_listens_on_all_addresses() -> None:
    for host in ("0.0.0.0", "", "::"):
        with pytest.raises(OSError, match="one address"):
            QuotaServer(QuotaSpec(), host)


class Watched:
    """`worker.Control` that keeps the last report."""

    def __init__(self) -> None:
        self.progress = Progress()

    def report(self, progress: Progress) -> None:
        self.progress = progress

    def stop_reason(self) -> str | None:
        return None


def work(job: JobFile, quota: QuotaSpec, link: QuotaLink, base_url: str, first: int, rows: int) -> Progress:
    batch = pa.RecordBatch.from_pylist(numbered(rows, first))
    control, loop = Watched(), LoopThread()
    plan = plans.worker_plan(job, base_url, "run", quota, link)
    for _ in run_partition([batch], plan, control=control, loop=loop):
        pass
    loop.close()
    return control.progress


def test_three_workers_share_one_quota_and_the_provider_refuses_nothing(tmp_path: Path) -> None:
    limits = Quotas(requests_per_minute=1_200, tokens_per_minute=120_000, slice_s=5.0)
    with Simulator(SimulatorSettings(latency_ms=50, quotas=limits)) as simulator:
        job = make_job(
            tmp_path,
            simulator.base_url,
            limits={"in_flight": 16, "requests_per_minute": 1_200, "tokens_per_minute": 120_000},
        )
        quota = plans.quota_spec(job, 3, None)
        with QuotaServer(quota, "127.0.0.1") as server, ThreadPoolExecutor(3) as pool:
            link = server.link("127.0.0.1")
            started_s = time.monotonic()
            sizes = ((0, 60), (60, 10), (70, 10))
            parts = list(pool.map(lambda part: work(job, quota, link, simulator.base_url, *part), sizes))
            took_s = time.monotonic() - started_s
        bill = simulator.bill()
    assert [part.rows_done for part in parts] == [60, 10, 10]
    assert sum(part.rows_failed for part in parts) == 0
    assert bill.refused == {}
    assert bill.requests == 80
    assert server.came == 3
    assert 3.5 <= took_s <= 7.0, "80 calls at 20 a second, whoever has them"
    assert all(part.quota.unleased == 0 for part in parts)


def test_without_a_server_each_worker_lives_on_its_share_and_no_task_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Simulator() as simulator:
        job = make_job(tmp_path, simulator.base_url, limits={"in_flight": 16, "requests_per_minute": 6_000})
        quota = plans.quota_spec(job, 4, None)
        part = work(job, quota, QuotaLink("127.0.0.1", port, bytes(32)), simulator.base_url, 0, 30)
        assert simulator.bill().peak_in_flight <= 4
    assert (part.rows_done, part.rows_failed, part.quota.unleased) == (30, 0, 1)


def test_a_server_that_goes_away_and_returns_fails_nothing(tmp_path: Path) -> None:
    with Simulator(SimulatorSettings(latency_ms=20)) as simulator:
        job = make_job(tmp_path, simulator.base_url, limits={"in_flight": 8, "requests_per_minute": 1_800})
        quota = plans.quota_spec(job, 1, None)
        first = QuotaServer(quota, "127.0.0.1")
        first.__enter__()
        link = first.link("127.0.0.1")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(work, job, quota, link, simulator.base_url, 0, 150)
            time.sleep(0.7)
            first.__exit__(None, None, None)
            time.sleep(0.7)
            with QuotaServer(quota, "127.0.0.1", port=first.port, key=link.key) as second:
                part = running.result(timeout=20)
                assert second.came == 1, "it came back"
    assert (part.rows_done, part.rows_failed) == (150, 0)


def test_a_budget_nobody_counts_is_not_spent() -> None:
    spec = QuotaSpec(budget=Budget(max_requests=5), workers=2)

    async def main() -> None:
        from pipeline.limits import Cost, LeaseHolder

        holder = LeaseHolder(spec)
        holder.lost(100.0)
        assert holder.take(Cost(), 100.0) == float("inf")
        assert not holder.is_stranded(150.0)
        assert holder.is_stranded(161.0)

    asyncio.run(main())
