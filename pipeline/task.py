"""What runs in a Spark task: a bucket, its journal and its place on the board. Picklable; everything opens there."""

import gc
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import pyarrow as pa

from pipeline.board import Board, BucketControl
from pipeline.journal import BucketJournal
from pipeline.pieces import BUCKET_COLUMN
from pipeline.storage import open_store
from pipeline.worker import run_partition
from pipeline.worker_plan import Plan

# New objects until the garbage collector looks at the youngest of them; Python's own value is 700.
COLLECT_AFTER = 10_000


@dataclass(frozen=True, slots=True)
class BucketTask:
    """The function that `mapInArrow` runs."""

    plan: Plan
    state_path: str
    fingerprint: str
    fsync: Literal["never", "interval", "always"] = "never"

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The bucket's rows with their results."""
        first = next((batch for batch in batches if batch.num_rows), None)
        if first is None:
            return
        collect_less_often()
        bucket = int(first.column(BUCKET_COLUMN)[0].as_py())
        store = open_store(self.state_path)
        # a static part of a budget is used up for its bucket alone
        is_own_part = self.plan.link is None and bool(self.plan.window.quota.budget.caps)
        control = BucketControl(Board(store, self.plan.run_id), bucket, stops_all=not is_own_part)
        journal = BucketJournal.open(
            store,
            self.fingerprint,
            bucket,
            run_id=self.plan.run_id,
            attempt=f"{os.getpid()}-{uuid.uuid4().hex[:12]}",
            fsync=self.fsync,
            on_corrupt="skip",  # what is damaged is asked again and reported; the rest still answers
        )
        control.journal_damage = sum(damage.kind == "corrupt" for damage in journal.damage)
        try:
            yield from run_partition(chain([first], batches), self.plan, log=journal, control=control)
        finally:
            journal.close()


def collect_less_often() -> None:
    """A window makes no cycles, and looking for them took 10 % of a worker's CPU. The process is Spark's Python worker."""
    if gc.get_threshold()[0] < COLLECT_AFTER:
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
