"""Seeded killers: they freeze the Python workers, count what is in flight, kill one victim and let the rest go on."""

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.journal import current_holder
from pipeline.journal.segments import folder_of
from pipeline.simulator.bill import Bill
from pipeline.simulator.handle import Handle
from pipeline.storage import Store
from tests.faults.books import journaled
from tests.faults.drivers import Driver
from tests.faults.processes import Process, executors, python_workers, workers_of

Victim = Literal["worker", "executor"]

_POLL_S = 0.02
_DRAIN_S = 20.0
# the Python daemon of a killed executor hangs up on its workers as soon as its input ends
_HANG_UP_S = 0.5


@dataclass(slots=True)
class Killer:
    """Kills at seeded points of a job's progress, read from the bill; `in_flight` has one count of texts per kill."""

    driver: Driver
    simulator: Handle
    store: Store
    fingerprint: str
    known: Mapping[str, str]  # text digest -> request id
    bucket_of: Mapping[str, int]  # request id -> bucket
    victim: Victim
    progress: Callable[[Bill], int] = lambda bill: bill.requests
    in_flight: list[int] = field(default_factory=list)
    at_simulator: list[int] = field(default_factory=list)  # of these, those that it had not answered
    _lost: dict[int, int] = field(default_factory=dict)  # bucket -> texts lost there so far

    def run(self, seed: int, kills: int, most: int, deadline_s: float) -> None:
        """Kills while the progress is below `most`; returns at the answer or after `kills`. TimeoutError at the end."""
        draw = random.Random(seed)
        points = sorted(draw.uniform(0.02, 0.97) * most for _ in range(kills))
        until_s = time.monotonic() + deadline_s
        for point in points:
            while self.progress(self.simulator.bill()) - sum(self.in_flight) < point:
                if self.driver.is_answered():
                    return
                self._check(until_s)
                time.sleep(_POLL_S)
            time.sleep(draw.uniform(0.0, 0.05))
            while not self._kill_one(draw):
                if self.driver.is_answered():
                    return
                self._check(until_s)
                time.sleep(_POLL_S)

    def _kill_one(self, draw: random.Random) -> bool:
        """False where no victim was in the middle of a bucket with calls in flight."""
        with self._frozen() as workers:
            groups = self._groups(workers)
            at_simulator = self.simulator.bill().in_flight
            self._drain()
            counted = [(executor, group, self._count(self._held_by(group))) for executor, group in groups]
            candidates = [(executor, group, lost) for executor, group, lost in counted if any(lost.values())]
            if not candidates:
                return False
            executor, group, lost = draw.choice(candidates)
            in_flight = sum(lost.values())
            for bucket, calls in lost.items():
                self._lost[bucket] = self._lost.get(bucket, 0) + calls
            (executor or group[0]).signal(signal.SIGKILL)
            if executor is not None:
                time.sleep(_HANG_UP_S)
            self.in_flight.append(in_flight)
            self.at_simulator.append(at_simulator)
        return True

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[list[Process]]:
        workers = python_workers(self.driver.session_id)
        for worker in workers:
            worker.signal(signal.SIGSTOP)
        try:
            yield workers
        finally:
            for worker in workers:
                worker.signal(signal.SIGCONT)

    def _groups(self, workers: Sequence[Process]) -> list[tuple[Process | None, list[Process]]]:
        if self.victim == "worker":
            return [(None, [worker]) for worker in workers]
        session_id = self.driver.session_id
        return [(executor, workers_of(executor, session_id)) for executor in executors(session_id)]

    def _held_by(self, group: Sequence[Process]) -> list[int]:
        pids = {worker.pid for worker in group}
        held = []
        for bucket in sorted(set(self.bucket_of.values())):
            holder = current_holder(self.store, folder_of(self.fingerprint, bucket))
            if holder is not None and holder.pid in pids:
                held.append(bucket)
        return held

    def _drain(self) -> None:
        """Frozen clients send nothing: waits until the simulator has read and answered what they sent."""
        until_s = time.monotonic() + _DRAIN_S
        before = -1
        while True:
            bill = self.simulator.bill()
            if bill.in_flight == 0 and bill.requests == before:
                return
            before = bill.requests
            self._check(until_s)
            time.sleep(_POLL_S)

    def _count(self, buckets: Sequence[int]) -> dict[int, int]:
        """Texts per bucket that are on the bill, not in the journal, and not of an earlier kill."""
        received = self.simulator.texts().received
        lost = {}
        for bucket in buckets:
            written = journaled(self.store, self.fingerprint, bucket)
            missing = sum(
                times - written[request_id]
                for digest, times in received.items()
                if self.bucket_of[request_id := self.known[digest]] == bucket
            )
            lost[bucket] = missing - self._lost.get(bucket, 0)
        return lost

    @staticmethod
    def _check(until_s: float) -> None:
        if time.monotonic() > until_s:
            raise TimeoutError("the job did not go on: no further call on the bill before the deadline")
