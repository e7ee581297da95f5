"""Where partitions and driver meet while a run goes on: small files under the run's state. Numbers and one sentence."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

import orjson

from pipeline.engine import Tally
from pipeline.errors import ErrorCode, StateError
from pipeline.limits import LimitUse, QuotaView, added_views
from pipeline.progress import Progress
from pipeline.storage import Store
from pipeline.tokens import merged
from pipeline.vectors import added_sums


class Board:
    """The files of one run: `runs/<run id>/progress/<bucket>.json` and `runs/<run id>/stop`."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._folder = f"runs/{run_id}"
        self._seen: dict[str, tuple[float, Progress]] = {}
        self.limits_used: Callable[[], list[LimitUse]] = list  # by the driver's quota server, where there is one

    # -- partitions

    def publish(self, bucket: int, progress: Progress) -> None:
        """Replaces what this bucket said before."""
        self._store.write_atomic(f"{self._folder}/progress/{bucket}.json", orjson.dumps(_document(progress)))

    def stop_reason(self) -> str | None:
        """Why the job is to stop, if it is."""
        name = f"{self._folder}/stop"
        return self._store.read(name).decode() if self._store.exists(name) else None

    # -- driver

    def request_stop(self, reason: str) -> None:
        """Partitions send nothing more within a second or two; what is in flight finishes."""
        self._store.write_atomic(f"{self._folder}/stop", reason.encode())

    def clear(self) -> None:
        """Forgets an earlier attempt of the same run."""
        self._store.delete_tree(self._folder)
        self._seen.clear()

    def total(self) -> Progress:
        """The sum over all partitions; reads only what changed."""
        for name, _, changed_at_s in self._store.list(f"{self._folder}/progress"):
            known = self._seen.get(name)
            if known is None or known[0] != changed_at_s or not known[1].is_finished:
                self._seen[name] = (changed_at_s, _progress(self._store.read(name)))
        return added(progress for _, progress in self._seen.values())


class BucketControl:
    """`worker.Control` through the board."""

    def __init__(self, board: Board, bucket: int, *, stops_all: bool = True) -> None:
        self._board = board
        self._bucket = bucket
        self._stops_all = stops_all
        self.journal_damage = 0

    def report(self, progress: Progress) -> None:
        """See `Control.report`. A number that cannot be shown is no reason to fail a task that was paid for."""
        progress.journal_damage = self.journal_damage
        with contextlib.suppress(StateError):
            self._board.publish(self._bucket, progress)
            # what stops one bucket stops all: each would wait for the same outage, or be refused, anew. A task that
            # broke is not meant: Spark starts it again
            if self._stops_all and progress.stopped and progress.stopped_code != ErrorCode.INTERNAL:
                self._stops_all = False
                self._board.request_stop(progress.stopped)

    def stop_reason(self) -> str | None:
        """See `Control.stop_reason`."""
        return self._board.stop_reason()


def _document(progress: Progress) -> dict[str, object]:
    # asdict counts the pairs of a Counter before Python 3.12, and the loop thread counts on while this one writes
    errors = dict(progress.tally.errors)
    document = asdict(replace(progress, tally=replace(progress.tally, errors=Counter())))
    document["tally"]["errors"] = errors
    return document


def _progress(data: bytes) -> Progress:
    fields = orjson.loads(data)
    tally, quota = fields.pop("tally"), QuotaView(**fields.pop("quota"))
    tally = Tally(**{**tally, "errors": Counter(tally["errors"])})
    calibration = {script: tuple(sums) for script, sums in fields.pop("calibration").items()}
    return Progress(**fields, calibration=calibration, tally=tally, quota=quota)


def added(parts: Iterable[Progress]) -> Progress:
    """The sum; `stopped` is the first reason met, `is_finished` only where all are."""
    total = Progress(is_finished=True)
    views = []
    for part in parts:
        views.append(part.quota.of_ended() if part.is_finished else part.quota)
        total.rows_in += part.rows_in
        total.rows_done += part.rows_done
        total.rows_failed += part.rows_failed
        total.rows_replayed += part.rows_replayed
        total.rows_not_attempted += part.rows_not_attempted
        total.rows_broken += part.rows_broken
        total.vector_sum, total.vectors_summed = added_sums(
            (total.vector_sum, total.vectors_summed), (part.vector_sum, part.vectors_summed)
        )
        total.journal_damage += part.journal_damage
        total.in_flight += 0 if part.is_finished else part.in_flight
        total.tally.sent += part.tally.sent
        total.tally.answered += part.tally.answered
        total.tally.failed += part.tally.failed
        total.tally.rate_limited += part.tally.rate_limited
        total.tally.input_tokens += part.tally.input_tokens
        total.tally.output_tokens += part.tally.output_tokens
        total.tally.errors.update(part.tally.errors)
        total.cost += part.cost
        total.currency = total.currency or part.currency
        total.calibration = merged(total.calibration, part.calibration)
        # the bucket that met the reason says more than those that were told of it
        if part.stopped and (not total.stopped or total.stopped_code == ErrorCode.NOT_ATTEMPTED):
            total.stopped, total.stopped_code = part.stopped, part.stopped_code
        total.is_finished &= part.is_finished
    total.quota = added_views(views)
    return total
