"""One partition: record batches in, record batches out; knows no Spark.

The calling thread renders rows and builds record batches; the loop thread sends and journals. They exchange lists.
"""

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter

import pyarrow as pa

from pipeline import columns
from pipeline.columns import WHOLE, TextPart
from pipeline.endpoints import open_endpoint
from pipeline.engine import Window
from pipeline.errors import ErrorCode, JobStopped, LeaseLost, Verdict
from pipeline.limits import LeaseHolder
from pipeline.long_texts import Gathering
from pipeline.loop import LoopThread, process_loop
from pipeline.messages import encoded_messages
from pipeline.pieces import Pieces
from pipeline.progress import Control, NoControl, Progress
from pipeline.quota import LeaseClient, Wants
from pipeline.records import NO_USAGE, Failure, Outcome, Request, RowError, Task
from pipeline.rendering import BatchRenderer
from pipeline.replay import Replay, ResponseLog
from pipeline.retry import NOT_SENT
from pipeline.tokens import Estimator
from pipeline.transports import Transport
from pipeline.vector_types import SCALED, from_column
from pipeline.vectors import CONTRACT_CODES, EmbeddingContract, VectorSum
from pipeline.vocabularies import vocabulary_of
from pipeline.worker_plan import Plan

# Rows rendered before the loop thread is served again: about 10 ms of work.
RENDER_ROWS = 512
# Rows leave in batches of this size, or after EMIT_AFTER_S, so that output keeps flowing and memory stays flat.
EMIT_ROWS = 512
EMIT_AFTER_S = 1.0
REPORT_EVERY_S = 1.0
# The two threads share one interpreter lock: waking the other one for every answer costs more than the answer.
WAKE_AFTER = 128
WAKE_AFTER_S = 0.05
# Rows of megabytes are rendered a few at a time, and no more of them are taken in than the window needs.
RENDER_BYTES = 16 * 2**20
MOST_OPEN_BYTES = 256 * 2**20

# From so many rows on a partition judges [embedding] max_error_ratio by itself; the run as a whole is judged at its end.
CONTRACT_ROWS = 500
# The first answers of a partition teach what tokens a text has, later ones keep it right: learning takes microseconds.
LEARN_FIRST = 512
LEARN_EVERY = 16

# Piece, row in it, and for a part of a long text its gathering and its place there.
_Place = tuple[int, int, Gathering | None, int]
_PIECE = itemgetter(0)


def run_partition(
    batches: Iterable[pa.RecordBatch],
    plan: Plan,
    *,
    log: ResponseLog | None = None,
    control: Control | None = None,
    loop: LoopThread | None = None,
    transport: Transport | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[pa.RecordBatch]:
    """The rows of a partition with their results, in the order in which they finish.

    `loop` and `transport` default to those of the process. Rows that were not attempted are left out (a later run asks
    them). A row's failure is a row; only a state that cannot be written raises.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:  # Spark runs the function on empty partitions too: open nothing for them
        return
    partition = _Partition(plan, log, control or NoControl(), loop or process_loop(), transport, clock)
    try:
        for batch in chain([first], iterator):
            step = _rows_at_once(batch)
            for start in range(0, batch.num_rows, step):
                partition.take(batch.slice(start, step))
                yield from partition.emitted()
                while partition.is_full:
                    partition.wait()
                    yield from partition.emitted()
        partition.finish_input()
        while partition.outstanding:
            partition.wait()
            yield from partition.emitted()
        yield from partition.emitted(everything=True)
        partition.raise_if_unfinished()
    finally:
        partition.close()


def _rows_at_once(batch: pa.RecordBatch) -> int:
    rows_of_bytes = RENDER_BYTES * batch.num_rows // max(1, batch.nbytes)
    return int(max(1, min(RENDER_ROWS, rows_of_bytes)))


class _Partition:
    def __init__(
        self,
        plan: Plan,
        log: ResponseLog | None,
        control: Control,
        loop: LoopThread,
        transport: Transport | None,
        clock: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._control = control
        self._loop = loop
        self._clock = clock
        counts_tokens = plan.window.quota.counts_tokens  # a vocabulary takes half a second to load
        self._estimator = Estimator(plan.calibration, vocabulary_of(plan.endpoint.name) if counts_tokens else None)
        self._taught_by: dict[str, Request] = {}  # on their way, by request id
        self._submitted = 0
        self._render = BatchRenderer(plan.prompt, self._estimator)
        self._shape = plan.shape
        self._endpoint = open_endpoint(plan.endpoint)
        self._log = log
        self._replay = Replay(log, self._endpoint, plan.retry_failed, self._resends()) if log is not None else None
        self._arrived: deque[list[Outcome]] = deque()
        self._wake = threading.Event()
        self._pieces = Pieces()
        self._rows_of: dict[str, list[_Place]] = {}
        self._finished: list[tuple[int, int, Outcome, TextPart]] = []
        self._cut: set[tuple[int, int]] = set()  # rows whose text was truncated and that have not left
        self._vector_sum = VectorSum()
        self._unclaimed: list[str] = []  # settled since the log was last asked
        self._last_emit_s = time.monotonic()
        self._last_report_s = 0.0
        self.progress = Progress()
        self.outstanding = 0  # rows submitted and not finished
        pack_rows = plan.window.pack.max_rows
        # twice the window keeps it full while this thread renders; the floor serves small windows
        self._most_outstanding = max(2 * plan.window.in_flight * pack_rows, 4 * RENDER_ROWS)
        self._holder = LeaseHolder(plan.window.quota) if plan.link is not None else None
        self._leases: LeaseClient | None = None
        self._window = loop.call(self._open_window(log, transport))

    def _resends(self) -> int | None:
        return None if self._plan.asks_unknown_again else self._plan.window.retry.max_unknown_resends

    async def _open_window(self, log: ResponseLog | None, transport: Transport | None) -> Window:
        plan = self._plan
        window = Window(
            self._endpoint,
            transport or await self._loop.transport(plan.transport_kind, plan.transport),
            plan.window,
            log=log,
            auth_headers=plan.credentials.headers if plan.credentials is not None else dict,
            permits=self._holder,
            on_finished=self._arrive,
            clock=self._clock,
        )
        if self._holder is not None and plan.link is not None:
            wants = partial(_wants, window, plan.window.in_flight)
            self._leases = LeaseClient(plan.link, self._holder, wants, partial(_go_on, window))
        return window

    async def _close(self) -> None:
        await self._window.cancel()
        if self._leases is not None:
            await self._leases.close()

    # -- on the loop thread

    def _arrive(self, outcomes: list[Outcome]) -> None:
        self._arrived.append(outcomes)
        if len(self._arrived) >= WAKE_AFTER:
            self._wake.set()

    # -- on the calling thread

    @property
    def is_full(self) -> bool:
        return self.outstanding >= self._most_outstanding or (
            self._pieces.open_bytes >= MOST_OPEN_BYTES and self.outstanding >= self._plan.window.in_flight
        )

    def take(self, piece: pa.RecordBatch) -> None:
        """Renders the rows of a piece; replays what the log answers, submits the rest, once per distinct request."""
        number = self._pieces.add(piece)
        self.progress.rows_in += piece.num_rows
        fresh: dict[str, Request] = {}
        for index, request in enumerate(self._render(piece)):
            if isinstance(request, RowError):
                self._end_row(number, index, Outcome("", error=request, completed_at_s=self._clock()))
            elif not request.is_long:
                self._await(request, (number, index, None, 0), fresh)
            elif self._plan.prompt.long_texts.policy == "truncate":
                self._cut.add((number, index))
                self._await(request, (number, index, None, 0), fresh)
            else:
                texts, parts = zip(*self._render.parts(request), strict=True)
                gathering = Gathering(request, parts, texts)
                for place, part in enumerate(parts):
                    self._await(part, (number, index, gathering, place), fresh)
        self._tick()  # before anything is sent: the job may have been told to stop
        self._submit(fresh)

    def _await(self, request: Request, place: _Place, fresh: dict[str, Request]) -> None:
        places = self._rows_of.get(request.request_id)
        if places is None:
            fresh[request.request_id] = request
            self._rows_of[request.request_id] = [place]
        else:
            places.append(place)
        self.outstanding += 1

    def _submit(self, fresh: dict[str, Request]) -> None:
        if not fresh:
            return
        if self._replay is None:
            calls = [(request, NOT_SENT) for request in fresh.values()]
        else:
            if self._unclaimed:
                self._replay.claim(self._unclaimed)
                self._unclaimed = []
            replayed, calls = self._replay.divide(list(fresh.values()))
            self._settle(replayed)
        before, self._submitted = self._submitted, self._submitted + len(calls)
        teaching = calls if before < LEARN_FIRST else calls[-before % LEARN_EVERY :: LEARN_EVERY]
        self._taught_by.update((request.request_id, request) for request, _ in teaching)
        if calls:
            self._loop.post(self._window.submit, calls)

    def finish_input(self) -> None:
        self._loop.post(self._window.flush)

    def wait(self) -> None:
        """Until something finished, or a short while."""
        self._wake.wait(WAKE_AFTER_S)
        self._tick()

    def emitted(self, everything: bool = False) -> Iterator[pa.RecordBatch]:
        """Finished rows, once there are enough of them or enough time has passed."""
        self._wake.clear()
        while self._arrived:
            self._settle(self._arrived.popleft())
        if self._window.crashed is not None:
            raise self._window.crashed
        due = everything or time.monotonic() - self._last_emit_s >= EMIT_AFTER_S
        while len(self._finished) >= EMIT_ROWS or (due and self._finished):
            rows, self._finished = self._finished[:EMIT_ROWS], self._finished[EMIT_ROWS:]
            self._last_emit_s = time.monotonic()
            yield self._to_batch(rows)

    def raise_if_unfinished(self) -> None:
        """For a sink that lands all rows or none."""
        if self.progress.rows_not_attempted and self._plan.on_unfinished == "raise":
            self._report()
            raise JobStopped(self.progress.stopped or "stopped before all rows were answered")

    def close(self) -> None:
        """Ends every call of this partition; the process's loop and transports live on."""
        self._loop.call(self._close())
        self.progress.is_finished = not self.outstanding
        if self._vector_sum.total is not None:
            self.progress.vectors_summed = self._vector_sum.count
            self.progress.vector_sum = self._vector_sum.total.tolist()
        self._report()

    # -- bookkeeping

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        if self._replay is not None:
            self._unclaimed.extend(outcome.request_id for outcome in outcomes)
        taught_by = self._taught_by
        for outcome in outcomes:
            request_id = outcome.request_id
            places = self._rows_of.pop(request_id)
            self.outstanding -= len(places)
            if request_id in taught_by:
                self._learn(taught_by.pop(request_id), outcome)
            # the call is charged to one row; rows that share its answer cost nothing
            self._end_place(places[0], outcome)
            if len(places) > 1:
                shared = outcome.with_usage(NO_USAGE)
                for place in places[1:]:
                    self._end_place(place, shared)

    def _learn(self, request: Request, outcome: Outcome) -> None:
        if outcome.usage.input_tokens is not None:
            text = request.text if request.text is not None else encoded_messages(list(request.messages or ()))
            self._estimator.learn(text, outcome.usage.input_tokens)

    def _end_place(self, place: _Place, outcome: Outcome) -> None:
        number, index, gathering, part = place
        if gathering is None:
            self._end_row(number, index, outcome)
        elif gathering.take(part, outcome):
            self._end_gathering(number, index, gathering)

    def _end_gathering(self, number: int, index: int, gathering: Gathering) -> None:
        """All parts of a text leave together: a row of which a part is missing would never be asked again."""
        outcomes = gathering.outcomes
        count = len(outcomes)
        missing = [o for o in outcomes if o.error is not None and o.error.code is ErrorCode.NOT_ATTEMPTED]
        if missing:
            self._end_row(number, index, missing[0])
        elif self._plan.prompt.long_texts.is_pooled:
            contract = self._plan.endpoint.contract or EmbeddingContract()
            self._end_row(number, index, gathering.pooled(contract), TextPart(count=count))
        else:
            self._pieces.repeat(number, count - 1)
            failed = next((outcome for outcome in outcomes if outcome.error is not None), outcomes[0])
            self._count(failed)
            for place, (outcome, text) in enumerate(zip(outcomes, gathering.texts, strict=True)):
                self._finished.append((number, index, outcome, TextPart(place, text, count)))

    def _end_row(self, number: int, index: int, outcome: Outcome, part: TextPart = WHOLE) -> None:
        if outcome.error is not None and outcome.error.code is ErrorCode.NOT_ATTEMPTED:
            self.progress.rows_not_attempted += 1
            self._pieces.forget(number)
            return
        self._count(outcome)
        if self._cut and (number, index) in self._cut:
            self._cut.remove((number, index))
            part = TextPart(is_truncated=True)
        self._finished.append((number, index, outcome, part))

    def _count(self, outcome: Outcome) -> None:
        progress = self.progress
        progress.rows_done += 1
        if outcome.is_replayed:
            progress.rows_replayed += 1
        if outcome.error is not None:
            progress.rows_failed += 1
            progress.rows_broken += outcome.error.code in CONTRACT_CODES

    def _to_batch(self, rows: list[tuple[int, int, Outcome, TextPart]]) -> pa.RecordBatch:
        rows.sort(key=_PIECE)  # rows of one input piece together: one take per piece
        numbers, indexes, outcomes, parts = zip(*rows, strict=True)
        source = self._pieces.take(numbers, indexes)
        results = columns.to_arrow(outcomes, self._shape, self._plan.run_id, parts, self._plan.price)
        if self._shape.task is Task.EMBEDDING:
            self._sum_vectors(results)
        for number, times in Counter[int](numbers).items():
            self._pieces.forget(number, times)
        arrays = [*source.columns, *results.columns]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([*source.schema, *results.schema]))

    def _sum_vectors(self, results: pa.RecordBatch) -> None:
        prefix, kind = self._plan.prefix, self._plan.vectors
        scales = results.column(f"{prefix}scale") if kind in SCALED else None
        column = results.column(f"{prefix}response")
        if column.null_count:
            scales = scales and scales.drop_null()
            column = column.drop_null()
        with contextlib.suppress(ValueError):  # of several lengths: they have no mean
            self._vector_sum.add(from_column(column, kind, scales))

    def _tick(self) -> None:
        now_s = time.monotonic()
        if now_s - self._last_report_s < REPORT_EVERY_S:
            return
        self._last_report_s = now_s
        if self._log is not None and not self._log.is_held():
            raise LeaseLost("another attempt of this bucket has taken over; this one stops calling")
        reason = self._control.stop_reason() or self._broken_contract()
        if reason is not None and self._window.stopped is None:
            self._loop.post(self._window.stop, _stop(reason))
        self._report()

    def _broken_contract(self) -> str | None:
        """Why too many vectors are bad to go on; judged once there are enough to tell."""
        most, progress = self._plan.max_error_ratio, self.progress
        if most is None or progress.rows_done < CONTRACT_ROWS or progress.rows_broken <= most * progress.rows_done:
            return None
        share = progress.rows_broken / progress.rows_done
        return (
            f"{share:.1%} of {progress.rows_done:,} vectors break the contract; [embedding] max_error_ratio is {most:g}"
        )

    def _report(self) -> None:
        progress = self.progress
        progress.in_flight = self._window.in_flight
        progress.tally = self._window.tally
        progress.quota = self._window.view()
        if self._holder is not None:
            progress.quota.leased = int(self._holder.is_leased)
            progress.quota.unleased = int(self._holder.is_alone)
        progress.calibration = self._estimator.added
        if (price := self._plan.price) is not None:
            progress.cost = price.of_tokens(progress.tally.input_tokens, progress.tally.output_tokens)
            progress.currency = price.currency
        if self._window.stopped is not None:
            progress.stopped = self._window.stopped.message
            progress.stopped_code = str(self._window.stopped.code)
        self._control.report(progress)


def _wants(window: Window, most: int) -> Wants:
    # a window that is empty for the moment, while rows are rendered or written, wants what it had
    slots = min(most, window.gate.found, max(window.peak, window.in_flight + window.waiting))
    return Wants(window.in_flight, slots, window.waiting, window.upcoming)


def _go_on(window: Window) -> None:
    """The share has changed, or was confirmed."""
    window.peak = window.in_flight
    window.pump()


def _stop(reason: str) -> Failure:
    return Failure(Verdict.STOP, ErrorCode.NOT_ATTEMPTED, reason)
