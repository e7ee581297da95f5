"""One partition of a function call: arrays of arguments in, arrays of results out, in input order; knows no Spark.

One window serves all batches. The calling thread reads arguments and builds arrays; the loop thread sends.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.auth import Credentials
from pipeline.conditions import AiFunctionError, row_condition, row_failure
from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.engine import Window, WindowSettings
from pipeline.errors import ErrorCode
from pipeline.loop import LoopThread, process_loop
from pipeline.questions import Questions, QuestionSpec
from pipeline.readings import Cell, ResultSpec, to_array, value_of
from pipeline.records import NO_USAGE, Failure, Outcome, Request, RowError
from pipeline.replay import Replay, ResponseLog
from pipeline.response_cache import ResponseCache
from pipeline.retry import Attempts
from pipeline.transports import Transport, TransportSpec

# Rows read before the loop thread is served again.
READ_ROWS = 512
READ_BYTES = 16 * 2**20
# Results leave in small pieces, so that a LIMIT above a filter can end the query before much more is asked.
EMIT_ROWS = 256
EMIT_AFTER_S = 0.05
# Answers kept for later rows of the same partition that ask the same.
MOST_REMEMBERED = 4096
# Rows that wait for one in front of them, in windows: a row that is tried again must not empty the window.
OPEN_WINDOWS = 32


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """Everything a worker needs, frozen and picklable; holds references to secrets, never secrets."""

    function: str
    endpoint_name: str
    question: QuestionSpec
    endpoint: EndpointSpec
    result: ResultSpec
    window: WindowSettings = field(default_factory=WindowSettings)
    transport_kind: str = "reqwest"
    transport: TransportSpec = field(default_factory=TransportSpec)
    credentials: Credentials | None = None
    cache_path: str | None = None


def run_columns(
    batches: Iterable[pa.Array | tuple[pa.Array, ...]],
    plan: ColumnPlan,
    *,
    open_log: Callable[[], ResponseLog] | None = None,
    loop: LoopThread | None = None,
    transport: Transport | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[pa.Array]:
    """The results, in input order, in pieces of any size whose rows add up to the input's.

    Nothing is opened before the first row that asks. Raises AiFunctionError at the first row that fails, where the
    call says so, and wherever no later row could succeed. Closing the generator ends all calls.
    """
    if open_log is None and plan.cache_path is not None:
        open_log = partial(ResponseCache, plan.cache_path, plan.question)
    worker = _Worker(plan, open_log, loop, transport, clock)
    try:
        for batch in batches:
            arrays = batch if isinstance(batch, tuple) else (batch,)
            step = _rows_at_once(arrays)
            for start in range(0, len(arrays[0]), step):
                worker.take([array.slice(start, step) for array in arrays])
                yield from worker.emitted()
                while worker.is_full:
                    worker.wait()
                    yield from worker.emitted()
        worker.finish_input()
        while worker.is_waiting:
            worker.wait()
            yield from worker.emitted()
        yield from worker.emitted(everything=True)
    finally:
        worker.close()


def _rows_at_once(arrays: Sequence[pa.Array]) -> int:
    size = sum(array.nbytes for array in arrays)
    return int(max(1, min(READ_ROWS, READ_BYTES * len(arrays[0]) // max(1, size))))


class _Row:
    """A place in the output; `cell` is set once it is finished."""

    __slots__ = ("cell",)

    def __init__(self, cell: Cell | None = None) -> None:
        self.cell = cell


class _Worker:
    def __init__(
        self,
        plan: ColumnPlan,
        open_log: Callable[[], ResponseLog] | None,
        loop: LoopThread | None,
        transport: Transport | None,
        clock: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._open_log = open_log
        self._loop = loop
        self._transport = transport
        self._clock = clock
        self._questions = Questions(plan.question)
        self._window: Window | None = None
        self._log: ResponseLog | None = None
        self._replay: Replay | None = None
        self._arrived: deque[list[Outcome]] = deque()
        self._wake = threading.Event()
        self._rows: deque[_Row] = deque()
        self._rows_of: dict[str, list[_Row]] = {}
        self._prompt_of: dict[str, str] = {}
        self._unsent: deque[tuple[Request, Attempts]] = deque()
        self._sent = 0  # requests in the window
        self._remembered: OrderedDict[str, Outcome] = OrderedDict()
        self._ready: list[Cell] = []
        self._last_emit_s = time.monotonic()
        pack_rows = plan.window.pack.max_rows
        # enough to refill a slot at once, and little to be asked for nothing when the query ends early
        self._most_sent = (plan.window.in_flight + max(1, plan.window.in_flight // 4)) * pack_rows
        self._most_open = max(OPEN_WINDOWS * plan.window.in_flight * pack_rows, 8 * READ_ROWS)

    # -- on the loop thread

    def _arrive(self, outcomes: list[Outcome]) -> None:
        self._arrived.append(outcomes)
        self._wake.set()

    # -- on the calling thread

    @property
    def is_full(self) -> bool:
        """Whether to read no more input for now."""
        return bool(self._unsent) or len(self._rows) >= self._most_open

    @property
    def is_waiting(self) -> bool:
        """Whether some row is not finished."""
        return bool(self._rows_of)

    def take(self, arrays: Sequence[pa.Array]) -> None:
        """Reads a piece of the input; what it asks is sent as far as the window wants more."""
        fresh: list[Request] = []
        for question in self._questions.read(arrays):
            row = _Row()
            self._rows.append(row)
            if question is None:
                row.cell = Cell()
            elif isinstance(question, RowError):
                self._end(row, Outcome("", error=question))
            elif known := self._remembered.get(question.request_id):
                self._end(row, known)
            elif waiting := self._rows_of.get(question.request_id):
                waiting.append(row)
            else:
                self._rows_of[question.request_id] = [row]
                if prompt := _prompt(question):
                    self._prompt_of[question.request_id] = prompt
                fresh.append(question)
        if fresh:
            self._ask(fresh)

    def _ask(self, fresh: list[Request]) -> None:
        self._open()
        if self._replay is None:
            self._unsent.extend((request, Attempts()) for request in fresh)
        else:
            replayed, calls = self._replay.divide(fresh)
            self._unsent.extend(calls)
            self._settle(replayed)
        self._send()

    def finish_input(self) -> None:
        """Nothing more comes: a started embedding batch need not wait."""
        self._flush()

    def wait(self) -> None:
        """Until something finished, or a short while."""
        self._wake.wait(EMIT_AFTER_S)

    def emitted(self, everything: bool = False) -> Iterator[pa.Array]:
        """Finished rows from the front, once there are enough of them or enough time has passed."""
        self._wake.clear()
        while self._arrived:
            outcomes = self._arrived.popleft()
            self._sent -= len(outcomes)
            self._settle(outcomes)
        if self._window is not None and self._window.crashed is not None:
            raise self._window.crashed
        self._send()
        while self._rows and (cell := self._rows[0].cell) is not None:
            self._rows.popleft()
            self._ready.append(cell)
        due = everything or time.monotonic() - self._last_emit_s >= EMIT_AFTER_S
        while len(self._ready) >= EMIT_ROWS or (due and self._ready):
            cells, self._ready = self._ready[:EMIT_ROWS], self._ready[EMIT_ROWS:]
            self._last_emit_s = time.monotonic()
            yield to_array(cells, self._plan.result)

    def close(self) -> None:
        """Ends every call of this partition; the process's loop and transports live on."""
        if self._window is not None:
            assert self._loop is not None
            self._loop.call(self._window.cancel())
        close = getattr(self._log, "close", None)
        if close is not None:
            close()

    # -- the window

    def _open(self) -> None:
        if self._window is not None:
            return
        loop = self._loop = self._loop or process_loop()
        endpoint = open_endpoint(self._plan.endpoint)
        if self._open_log is not None:
            self._log = self._open_log()
            self._replay = Replay(self._log, endpoint, "transient", self._plan.window.retry.max_unknown_resends)

        async def opened() -> Window:
            plan = self._plan
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

    def _send(self) -> None:
        """Hands over what the window can use now."""
        if not self._unsent or self._sent >= self._most_sent:
            return
        assert self._window is not None
        assert self._loop is not None
        calls = [self._unsent.popleft() for _ in range(min(len(self._unsent), self._most_sent - self._sent))]
        self._sent += len(calls)
        self._loop.post(self._window.submit, calls)

    def _flush(self) -> None:
        if self._window is not None and not self._unsent:
            assert self._loop is not None
            self._loop.post(self._window.flush)

    # -- rows

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.error is not None and outcome.error.code is ErrorCode.NOT_ATTEMPTED:
                raise self._stopped()
            # a call is charged to one row; rows that share its answer cost nothing
            shared = outcome.with_usage(NO_USAGE)
            first, *others = self._rows_of.pop(outcome.request_id)
            self._end(first, outcome)
            for row in others:
                self._end(row, shared)
            self._prompt_of.pop(outcome.request_id, None)
            if outcome.error is None:
                self._remembered[outcome.request_id] = shared
                if len(self._remembered) > MOST_REMEMBERED:
                    self._remembered.popitem(last=False)

    def _end(self, row: _Row, outcome: Outcome) -> None:
        """Finishes a row. Raises AiFunctionError where a failed row fails the query."""
        result = self._plan.result
        try:
            if outcome.error is not None:
                raise row_failure(outcome.error, outcome.attempts, self._prompt_of.get(outcome.request_id))
            row.cell = Cell(value_of(outcome.response, result), None, outcome)
        except AiFunctionError as failure:
            if result.fails:
                raise
            row.cell = Cell(None, str(failure), outcome if outcome.request_id else None)

    def _stopped(self) -> AiFunctionError:
        """No later row could succeed, whatever the call says about failed rows."""
        assert self._window is not None
        failure = self._window.stopped
        return (
            _stop_error(failure, self._plan)
            if failure is not None
            else AiFunctionError("AI_FUNCTION_HTTP_REQUEST_ERROR", "the calls were stopped.")
        )


def _stop_error(failure: Failure, plan: ColumnPlan) -> AiFunctionError:
    where = f"the endpoint {plan.endpoint_name} at {plan.endpoint.base_url}"
    secret = f"the credential {plan.credentials.describe()}" if plan.credentials else "a request without credential"
    told = {
        ErrorCode.AUTHENTICATION: f"{where} refused {secret}",
        ErrorCode.PERMISSION: f"{where} does not allow this to {secret}",
        ErrorCode.NOT_FOUND: f"{where} was not found",
        ErrorCode.QUOTA_EXHAUSTED: f"quota or credit of {where} is used up",
        ErrorCode.CONNECT_FAILED: f"{where} cannot be reached",
    }.get(failure.code, where)
    return AiFunctionError(row_condition(failure.code), f"{told}: {failure.message}.")


def _prompt(request: Request) -> str | None:
    if request.text is not None:
        return request.text
    content: Any = request.messages[-1].get("content") if request.messages else None
    return content if isinstance(content, str) else None
