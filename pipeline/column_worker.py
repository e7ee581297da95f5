"""One partition of a function call: arrays of arguments in, arrays of results out, in input order; knows no Spark.

One window serves all batches. The calling thread reads arguments and builds arrays; the loop thread sends.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from pipeline import reader
from pipeline.column_plan import ColumnPlan, stop_error
from pipeline.column_rows import Rows
from pipeline.endpoints import open_endpoint
from pipeline.engine import Window
from pipeline.errors import ErrorCode
from pipeline.loop import LoopThread, process_loop
from pipeline.query_failure import failure_of
from pipeline.query_memory import QueryMemory
from pipeline.questions import Questions
from pipeline.records import Outcome, Request
from pipeline.replay import Replay, ResponseLog
from pipeline.response_cache import ResponseCache
from pipeline.retry import NOT_SENT, Attempts
from pipeline.transports import Transport

# Rows read before the loop thread is served again.
READ_ROWS = 512
READ_BYTES = 16 * 2**20
# Results leave in small pieces, so that a LIMIT above a filter can end the query before much more is asked: after a
# share of the endpoint's latency, but not so often that the pieces themselves cost much.
PIECE_SHARE = 100
LEAST_PIECE_S, MOST_PIECE_S = 0.004, 0.05
# Where a piece takes no more than this share of a call, a free slot waits as long as so many pieces take: until the
# reader has looked at the piece that freed it, and closed where it wants no more. Two were too few for a busy reader.
HOLD_SHARE = 20
HOLD_PIECES = 2.5
# Between two looks at what other tasks of the query have bought, or whether the query has failed.
LOOK_S = 0.05
LOOK_AT_ONCE = 512
# Until the other tasks learn of answers: a transaction for each would cost as much as its call.
TELL_S = 0.02
# A row that another task took and does not answer is asked here after all.
PATIENCE_S = 60.0
# Rows that wait for one in front of them, in windows: a row that is tried again must not empty the window.
OPEN_WINDOWS = 32


def run_columns(
    batches: Iterable[pa.Array | tuple[pa.Array, ...]],
    plan: ColumnPlan,
    *,
    folder: Path | None = None,
    open_log: Callable[[], ResponseLog] | None = None,
    loop: LoopThread | None = None,
    transport: Transport | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[pa.Array]:
    """The results, in input order, in pieces of any size whose rows add up to the input's.

    In `folder` the tasks of one query on one machine meet: what one of them asks, the others do not. Nothing is opened
    before the first row that asks. Raises AiFunctionError at the first row that fails, where the call says so, wherever
    no later row could succeed, and soon after another task of the query did. Closing the generator ends all calls.
    """
    if open_log is None and plan.cache_path is not None:
        open_log = partial(ResponseCache, plan.cache_path, plan.question)
    worker = _Worker(plan, folder, open_log, loop, transport, clock)
    try:
        for batch in batches:
            arrays = batch if isinstance(batch, tuple) else (batch,)
            step = _rows_at_once(arrays)
            for start in range(0, len(arrays[0]), step):
                worker.take([array.slice(start, step) for array in arrays])
                yield from worker.turn()
                while worker.is_full:
                    worker.wait()
                    yield from worker.turn()
        worker.finish_input()
        while worker.is_waiting:
            worker.wait()
            yield from worker.turn()
        yield from worker.rest()
    finally:
        worker.close()


def _rows_at_once(arrays: Sequence[pa.Array]) -> int:
    size = sum(array.nbytes for array in arrays)
    return int(max(1, min(READ_ROWS, READ_BYTES * len(arrays[0]) // max(1, size))))


class _Worker:
    def __init__(
        self,
        plan: ColumnPlan,
        folder: Path | None,
        open_log: Callable[[], ResponseLog] | None,
        loop: LoopThread | None,
        transport: Transport | None,
        clock: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._open_log = open_log
        self._loop = loop
        self._transport = transport
        self._clock = clock
        self._questions = Questions(plan.question)
        self._rows = Rows(plan.result)
        self._window: Window | None = None
        self._log: ResponseLog | None = None
        self._replay: Replay | None = None
        self._memory: QueryMemory | None = None
        self._arrived: deque[list[Outcome]] = deque()
        self._wake = threading.Event()
        self._unsent: deque[tuple[Request, Attempts]] = deque()
        self._mine: deque[tuple[Request, Attempts]] = deque()  # unsent, and no other task of the query asks it
        self._elsewhere: dict[str, tuple[tuple[Request, Attempts], float]] = {}  # asked by another task, since when
        self._untold: list[Outcome] = []
        self._telling: asyncio.TimerHandle | None = None
        self._sent = 0  # requests in the window, and slots that are held
        self._freed = 0  # slots that became free since the last piece
        self._held: deque[tuple[float, int]] = deque()  # slots that became free with a piece, by when it left
        self._latency_s = 0.0
        # of the last piece, the last turn, the last look at the folder
        self._left_s = self._turned_s = self._looked_s = time.monotonic()
        pack_rows = plan.window.pack.max_rows
        self._most_sent = plan.window.in_flight * pack_rows
        self._most_open = max(OPEN_WINDOWS * self._most_sent, 8 * READ_ROWS)

    # -- on the loop thread

    def _arrive(self, outcomes: list[Outcome]) -> None:
        if self._memory is not None:  # here, since the other thread may stand still while nobody reads
            self._untold += outcomes
            if self._telling is None:
                self._telling = asyncio.get_running_loop().call_later(TELL_S, self._tell)
        self._arrived.append(outcomes)
        self._wake.set()

    def _tell(self) -> None:
        self._telling = None
        outcomes, self._untold = self._untold, []
        if self._memory is not None:
            self._memory.settle(outcomes)

    async def _end(self) -> None:
        assert self._window is not None
        await self._window.cancel()
        if self._telling is not None:
            self._telling.cancel()
            self._tell()

    # -- on the calling thread

    @property
    def is_full(self) -> bool:
        """Whether to read no more input for now."""
        return bool(self._unsent or self._mine) or len(self._rows) >= self._most_open

    @property
    def is_waiting(self) -> bool:
        """Whether some row is not finished."""
        return self._rows.is_waiting

    def take(self, arrays: Sequence[pa.Array]) -> None:
        """Reads a piece of the input; what it asks waits for a slot."""
        fresh = self._rows.take(self._questions.read(arrays))
        if not fresh:
            return
        self._open()
        if self._replay is None:
            self._unsent.extend((request, NOT_SENT) for request in fresh)
        else:
            replayed, calls = self._replay.divide(fresh)
            self._unsent.extend(calls)
            self._rows.settle(replayed)

    def finish_input(self) -> None:
        """Nothing more comes: a started embedding batch need not wait."""
        if self._window is not None and not self._unsent and not self._mine:
            assert self._loop is not None
            self._loop.post(self._window.flush)

    def wait(self) -> None:
        """Until something finished, a piece is due, or a short while.

        Then a moment more, a small share of a call: answers are taken by the handful, not each at the price of a switch
        between threads.
        """
        now_s = time.monotonic()
        piece_due_s = self._left_s + self._piece_s if self._rows.has_ready else now_s + LOOK_S
        slot_due_s = self._held[0][0] + HOLD_PIECES * self._piece_s if self._held else now_s + LOOK_S
        self._wake.wait(max(0.0, min(piece_due_s, slot_due_s) - now_s))
        pause_s = min(self._turned_s + min(self._piece_s, self._latency_s / HOLD_SHARE), slot_due_s) - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)

    def turn(self) -> Iterator[pa.Array]:
        """What has arrived, what may leave, what may be sent.

        A slot that became free with a piece is filled once the reader had time to look at it: where it wants no more
        rows, nothing was asked for nothing.
        """
        self._wake.clear()
        self._turned_s = time.monotonic()
        self._receive()
        self._look()
        for piece in self._rows.pieces(self._since_piece_s >= self._piece_s):
            yield piece
            self._left_s = time.monotonic()
            self._held.append((self._left_s, self._freed))
            self._freed = 0
        is_fast = self._piece_s * HOLD_SHARE > self._latency_s
        if is_fast or not self._rows.has_ready:  # what has finished waits for a row in front of it
            self._sent -= self._freed
            self._freed = 0
        held_until_s = time.monotonic() - (0.0 if is_fast else HOLD_PIECES * self._piece_s)
        while self._held and self._held[0][0] <= held_until_s:
            self._sent -= self._held.popleft()[1]
        self._send()

    def rest(self) -> Iterator[pa.Array]:
        """Everything that is left, once no row waits."""
        yield from self._rows.pieces(is_due=True)

    def close(self) -> None:
        """Ends every call of this partition; the process's loop and transports live on."""
        if self._window is not None:
            assert self._loop is not None
            self._loop.call(self._end())
        if self._memory is not None:
            self._memory.close()
        close = getattr(self._log, "close", None)
        if close is not None:
            close()

    @property
    def _piece_s(self) -> float:
        return min(max(self._latency_s / PIECE_SHARE, LEAST_PIECE_S), MOST_PIECE_S)

    @property
    def _since_piece_s(self) -> float:
        return time.monotonic() - self._left_s

    # -- the window

    def _open(self) -> None:
        if self._window is not None:
            return
        loop = self._loop = self._loop or process_loop()
        plan = self._plan
        endpoint = open_endpoint(plan.endpoint)
        if self._folder is not None:
            self._memory = QueryMemory(self._folder, plan.question.task)
        if self._open_log is not None:
            self._log = self._open_log()
            self._replay = Replay(self._log, endpoint, "transient", plan.window.retry.max_unknown_resends)

        async def opened() -> Window:
            return Window(
                endpoint,
                self._transport or await loop.transport(plan.transport_kind, plan.transport),
                plan.window,
                log=self._log,
                auth_headers=plan.credentials.headers if plan.credentials is not None else dict,
                on_finished=self._arrive,
                clock=self._clock,
            )

        self._window = loop.call(opened())

    def _receive(self) -> None:
        while self._arrived:
            outcomes = self._arrived.popleft()
            self._freed += len(outcomes)
            for outcome in outcomes:
                if outcome.error is not None and outcome.error.code is ErrorCode.NOT_ATTEMPTED:
                    assert self._window is not None
                    raise stop_error(self._window.stopped, self._plan)
            if (latency_ms := outcomes[0].latency_ms) is not None:
                self._latency_s += (latency_ms / 1e3 - self._latency_s) * (0.1 if self._latency_s else 1.0)
            self._rows.settle(outcomes)
        if self._window is not None and self._window.crashed is not None:
            raise self._window.crashed

    def _send(self) -> None:
        """Hands over what the window can use now, and what no other task of the query asks."""
        if self._window is None:
            return
        # a call that waits for its next attempt holds no slot
        room = self._most_sent - self._sent + self._window.between_attempts * self._plan.window.pack.max_rows
        calls: list[tuple[Request, Attempts]] = []
        while len(calls) < room and (self._mine or self._unsent):
            if not self._mine:
                # a window's worth at a time: few transactions, and the other tasks find something to do
                some = [self._unsent.popleft() for _ in range(min(len(self._unsent), self._most_sent))]
                self._claim(some, [time.monotonic()] * len(some))
            while self._mine and len(calls) < room:
                calls.append(self._mine.popleft())
        if calls:
            assert self._loop is not None
            if reader.is_gone():
                raise BrokenPipeError("nobody reads the results any more")
            self._sent += len(calls)
            self._loop.post(self._window.submit, calls)

    def _claim(self, calls: Sequence[tuple[Request, Attempts]], since_s: Sequence[float]) -> None:
        """Divides calls into those that are this task's, those that are answered, and those that another task asks."""
        if self._memory is None:
            self._mine.extend(calls)
            return
        claims = self._memory.claim([request.request_id for request, _ in calls])
        for call, claim, since in zip(calls, claims, since_s, strict=True):
            if claim == "ask":
                self._mine.append(call)
            elif claim == "wait":
                self._elsewhere[call[0].request_id] = (call, since)
            else:
                self._rows.settle([claim])

    def _look(self) -> None:
        """Now and then: whether the query has failed elsewhere, and what other tasks have bought by now."""
        now = time.monotonic()
        if self._folder is None or now - self._looked_s < LOOK_S:
            return
        self._looked_s = now
        if (failure := failure_of(self._folder)) is not None:
            raise failure
        if self._elsewhere:
            waiting = [self._elsewhere.pop(request_id) for request_id in list(self._elsewhere)[:LOOK_AT_ONCE]]
            self._mine.extend(call for call, since_s in waiting if now - since_s > PATIENCE_S)
            patient = [(call, since_s) for call, since_s in waiting if now - since_s <= PATIENCE_S]
            self._claim([call for call, _ in patient], [since_s for _, since_s in patient])
