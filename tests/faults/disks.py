"""Every file operation of journal and state fails once: the pass ends with a clear error, and a second one repairs it."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import plans
from pipeline.board import Board, BucketControl
from pipeline.errors import StateError
from pipeline.journal import BucketJournal, journal_spend
from pipeline.runs import RunBook
from pipeline.simulator import Simulator, SimulatorSettings
from pipeline.storage import LocalStore, Store
from pipeline.worker import run_partition
from tests.faults.books import journaled
from tests.faults.scenarios import Work
from tests.unit.journals import FaultyOps, QuietOps

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
ROWS = 6
IN_FLIGHT = 2
# a whole pass makes fewer operations than this; the loop ends with the first pass that meets no fault
_OPERATIONS_AT_MOST = 2_000


@dataclass(slots=True)
class DiskResult:
    """What the loop over all operations found."""

    passes: int = 0
    raised: int = 0  # passes that ended with a StateError
    survived: int = 0  # passes whose fault cost nothing
    bought_again: int = 0
    in_flight: int = 0  # calls on the bill and not in the journal when the pass had failed
    operations: set[str] = field(default_factory=set)
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)


def failing_disks(folder: Path, numbers: tuple[int, ...] = ERRORS) -> DiskResult:
    """One pass, one fault and one repair per operation and error number."""
    began_s = time.monotonic()
    result = DiskResult()
    with Simulator(SimulatorSettings(log_requests=True, latency_ms=1)) as simulator:
        for number in numbers:
            for fail_at in range(1, _OPERATIONS_AT_MOST):
                simulator.reset_bill()
                work = Work(
                    folder / f"{errno.errorcode[number]}-{fail_at}", simulator, ROWS, limits={"in_flight": IN_FLIGHT}
                )
                ops = FaultyOps(fail_at, number)
                _one(work, ops, result, f"{errno.errorcode[number]} at operation {fail_at}")
                if not ops.failed:
                    break
            else:
                result.complaints.append("no pass without a fault")
    result.seconds = time.monotonic() - began_s
    return result


def _one(work: Work, ops: FaultyOps, result: DiskResult, where: str) -> None:
    root = str(work.job.state_path)
    broken: StateError | None = None
    rows: list[dict[str, Any]] = []
    try:
        rows = _pass(work, LocalStore(root, ops))
    except StateError as exc:
        broken = exc
    except Exception as exc:  # noqa: BLE001 - this is what the harness looks for
        result.complaints.append(f"{where} ({ops.failed}): {type(exc).__name__}: {exc}")
    where = f"{where} ({ops.failed})"
    result.passes += 1
    if ops.failed:
        result.operations.add(ops.failed)
        result.raised += broken is not None
        result.survived += broken is None
    if broken is not None and (root not in str(broken) or errno.errorcode[ops.number] not in str(broken)):
        result.complaints.append(f"{where}: names neither file nor reason: {broken}")
    store = LocalStore(root, QuietOps())
    bill = work.simulator.bill()
    in_flight = bill.requests - sum(journaled(store, work.fingerprint).values())
    if broken is not None or not rows:
        try:
            rows = _pass(work, store)
        except StateError as exc:
            result.complaints.append(f"{where}: the rerun failed: {exc}")
    books = work.books({"rows": [[row["id"], row["error"] is not None] for row in rows]})
    result.complaints += [f"{where}: {complaint}" for complaint in books.complaints(in_flight)]
    if in_flight > IN_FLIGHT:
        result.complaints.append(f"{where}: {in_flight} calls are not in the journal; {IN_FLIGHT} may be in flight")
    result.in_flight += in_flight
    result.bought_again += books.bought_again


def _pass(work: Work, store: Store) -> list[dict[str, Any]]:
    """What driver and task do with the state in one run of one bucket."""
    rows = pa.RecordBatch.from_pylist([{**row, "__bucket": 0} for row in work.rows])
    with plans.job_lease(store, None):
        book = RunBook(store)
        record = book.begin("night", work.fingerprint, lambda other: False)
        buckets = plans.buckets_of_birth(store, work.fingerprint, 1)
        assert buckets == 1
        board = Board(store, record.run_id)
        board.clear()
        plan = plans.worker_plan(work.job, work.simulator.base_url, record.run_id, plans.quota_spec(work.job, 1, None))
        with _journal(store, work, record.run_id) as journal:
            control = BucketControl(board, 0)
            out = [
                row for batch in run_partition([rows], plan, log=journal, control=control) for row in batch.to_pylist()
            ]
        board.total()
        journal_spend(store, work.fingerprint, run_id=record.run_id)
        book.end(record, "landed")
    return out


@contextlib.contextmanager
def _journal(store: Store, work: Work, run_id: str) -> Iterator[BucketJournal]:
    attempt = f"{os.getpid()}-{time.monotonic_ns()}"
    journal = BucketJournal.open(store, work.fingerprint, 0, run_id=run_id, attempt=attempt, fsync="always")
    try:
        yield journal
    finally:
        journal.close()
