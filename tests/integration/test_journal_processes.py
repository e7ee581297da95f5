"""A bucket and a job change hands between processes, one of which may have been killed."""

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StateError
from pipeline.journal import Lease
from pipeline.journal.lease import is_alive
from pipeline.storage import LocalStore
from tests.unit.journals import exchange, open_bucket, request_id

ROOT = Path(__file__).parents[2]

PROCESS = """
    import sys, time
    sys.path.insert(0, {root!r})
    from pipeline.errors import LeaseLost
    from pipeline.journal import Lease
    from pipeline.storage import LocalStore
    from tests.unit.journals import exchange, open_bucket
    store = LocalStore({state!r})
    {body}
"""

APPENDS = """
    journal = open_bucket(store, "older", seal_bytes=20_000)
    number = 0
    try:
        while True:
            journal.append(exchange(number))
            print(number, flush=True)
            number += 1
            time.sleep(0.001)
    except LeaseLost:
        print(number, flush=True)
        journal.close()
"""

HOLDS = """
    lease = Lease.acquire(store, "job/lease", owner="run-1", mode="refuse")
    print("held", flush=True)
    time.sleep(60)
"""


class Other:
    """A second process at work on the same state."""

    def __init__(self, state: Path, body: str) -> None:
        script = PROCESS.format(root=str(ROOT), state=str(state), body=body.strip())
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
        )

    def lines(self, count: int) -> Iterator[str]:
        assert self.process.stdout is not None
        for _ in range(count):
            yield self.process.stdout.readline().strip()

    def rest(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.read().split()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def other(tmp_path) -> Iterator[list[Other]]:
    started: list[Other] = []
    yield started
    for process in started:
        process.close()


def test_a_process_killed_by_sigkill_frees_its_bucket_at_once_and_loses_no_append(tmp_path, other):
    other.append(Other(tmp_path, APPENDS))
    assert list(other[0].lines(200)) == [str(n) for n in range(200)]
    other[0].kill()
    appended = 200 + len([line for line in other[0].rest() if line])
    started_s = time.monotonic()
    journal = open_bucket(LocalStore(str(tmp_path)), "newer")
    assert time.monotonic() - started_s < 2.0
    entries = journal.lookup([request_id(n) for n in range(appended)])
    assert [journal.read(entry) for entry in entries if entry] == [exchange(n) for n in range(appended)]
    journal.close()


def test_a_living_attempt_in_another_process_stops_and_all_it_wrote_is_seen(tmp_path, other):
    other.append(Other(tmp_path, APPENDS))
    list(other[0].lines(50))
    journal = open_bucket(LocalStore(str(tmp_path)), "newer", wait_s=15.0)
    appended = 1 + int(other[0].rest()[-1])
    assert other[0].process.wait(10) == 0
    assert journal.lease.number == 2
    entries = journal.lookup([request_id(n) for n in range(appended + 1)])
    assert [entry is not None for entry in entries] == [True] * appended + [False]
    journal.close()


def test_a_job_whose_driver_was_killed_is_taken_over_at_once(tmp_path, other):
    store = LocalStore(str(tmp_path))
    other.append(Other(tmp_path, HOLDS))
    assert list(other[0].lines(1)) == ["held"]
    with pytest.raises(StateError, match=f"run-1 .process {other[0].process.pid} on "):
        Lease.acquire(store, "job/lease", owner="run-2", mode="refuse")
    assert is_alive(store, "job/lease", time.time())
    other[0].kill()
    assert not is_alive(store, "job/lease", time.time())
    lease = Lease.acquire(store, "job/lease", owner="run-2", mode="refuse")
    assert lease.number == 2
    lease.release()
