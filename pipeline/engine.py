"""The window: requests in, outcomes out, at most `in_flight` exchanges at a time. Knows neither Spark nor tables.

Everything here runs on one event loop; only `finished` is read by another thread. A call that waits for its next
attempt holds no slot, so slow answers and rate limits never stall the ones behind them.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.batching import Packer, PackLimits, Split
from pipeline.endpoints import Endpoint
from pipeline.errors import (
    ConnectFailed,
    DeadlineExceeded,
    ErrorCode,
    PipelineError,
    ResponseTooLarge,
    TransportError,
    Verdict,
)
from pipeline.records import (
    Batch,
    Exchange,
    Failure,
    HttpRequest,
    HttpResponse,
    Outcome,
    Request,
    RowError,
    Usage,
)
from pipeline.retry import Attempts, RetryPolicy, RetrySettings
from pipeline.transports import Transport

# How long a started embedding batch waits for more rows once the input pauses; the bound is 50 ms.
LINGER_S = 0.02


class ExchangeLog(Protocol):
    """Where every exchange is written before its outcome is used."""

    def append(self, exchange: Exchange) -> None:
        """Durable when it returns, as far as the log promises."""
        ...


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """What one worker may do."""

    in_flight: int = 64
    pack: PackLimits = field(default_factory=PackLimits)
    retry: RetrySettings = field(default_factory=RetrySettings)
    run_id: str = ""
    sends_run_id: bool = False  # as the header x-client-run; off, for nothing is sent that was not asked for


@dataclass(slots=True)
class Tally:
    """What happened so far, for progress; accounting reads the log instead."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    rate_limited: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Call:
    batch: Batch
    attempts: Attempts
    wait_s: float | None = None  # until the next attempt, after a failure that may pass
    split: Split | None = None  # the refused batch that it is a half of


class Window:
    """One window for one stream of requests; made and used on its event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        settings: WindowSettings,
        *,
        log: ExchangeLog | None = None,
        auth_headers: Callable[[], Mapping[str, str]] = dict,
        on_finished: Callable[[list[Outcome]], None],
        clock: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._endpoint = endpoint
        self._transport = transport
        self._settings = settings
        self._log = log
        self._auth_headers = auth_headers
        self._on_finished = on_finished
        self._clock = clock
        self._policy = RetryPolicy(settings.retry, uniform)
        self._packer = Packer(settings.pack)
        self._loop = asyncio.get_running_loop()
        self._ready: deque[_Call] = deque()
        self._waiting: dict[_Call, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._linger: asyncio.TimerHandle | None = None
        self._has_met_endpoint = False
        self._is_closed = False
        self.in_flight = 0
        self.tally = Tally()
        self.stopped: Failure | None = None
        self.crashed: BaseException | None = None

    @property
    def waiting(self) -> int:
        """Calls between two attempts; they hold no slot."""
        return len(self._waiting)

    # -- in

    def submit(self, requests: Iterable[tuple[Request, Attempts]]) -> None:
        """Takes requests; `Attempts` carry what an earlier run already spent on them."""
        fresh: list[Request] = []
        for request, attempts in requests:
            if attempts.unknown:  # alone, so that no other row is bought a second time with it
                self._ready.append(_Call(Batch((request,)), attempts))
            else:
                fresh.append(request)
        if self.stopped is not None:
            self._abandon(fresh)
            self._abandon_ready()
            return
        self._ready.extend(_Call(batch, Attempts()) for batch in self._packer.add(fresh))
        if self._linger is not None:
            self._linger.cancel()
        self._linger = self._loop.call_later(LINGER_S, self.flush)
        self._pump()

    def flush(self) -> None:
        """Sends a started batch without waiting for more rows."""
        self._ready.extend(_Call(batch, Attempts()) for batch in self._packer.flush())
        if self.stopped is not None:
            self._abandon_ready()
        else:
            self._pump()

    def stop(self, failure: Failure) -> None:
        """Nothing is sent any more; what is in flight still finishes, all else ends as not attempted."""
        if self.stopped is not None:
            return
        self.stopped = failure
        for call, timer in list(self._waiting.items()):
            timer.cancel()
            self._ready.append(call)
        self._waiting.clear()
        self._ready.extend(_Call(batch, Attempts()) for batch in self._packer.flush())
        self._abandon_ready()

    async def cancel(self) -> None:
        """Gives up everything, in flight included; nothing is reported or sent any more."""
        self._on_finished = lambda outcomes: None
        self._is_closed = True
        self._ready.clear()
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        if self._linger is not None:
            self._linger.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- the loop

    def _pump(self) -> None:
        while self._ready and self.in_flight < self._settings.in_flight:
            call = self._ready.popleft()
            if (
                len(call.batch) > self._packer.max_rows and not call.attempts.sent
            ):  # packed before the endpoint refused as many
                self._halve(call)
                continue
            self.in_flight += 1
            task = self._loop.create_task(self._run(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, call: _Call) -> None:
        try:
            result, latency_ms = await self._exchange(call)
            if isinstance(result, Failure):
                self._fail(call, result)
            else:
                self._finish(call, result, latency_ms)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - a journal that cannot be written: nothing may be sent unrecorded
            self.crashed = exc
            self.stop(Failure(Verdict.STOP, ErrorCode.INTERNAL, type(exc).__name__))
            self._abandon(call.batch.requests)
        finally:
            self.in_flight -= 1
            if self.stopped is None and not self._is_closed:
                self._pump()

    async def _exchange(self, call: _Call) -> tuple[list[Outcome] | Failure, float]:
        """Sends, journals, reads. A failure's attempt is counted in `call` before it is journaled."""
        batch = call.batch
        sent_at_s = self._clock()
        started = self._loop.time()
        response: HttpResponse | None = None
        result: list[Outcome] | Failure
        try:
            http_request = self._endpoint.build(batch)
            headers = self._auth_headers()
        except (PipelineError, OSError) as exc:
            # a credential that cannot be resolved: nothing was sent, and no later request could be
            return Failure(Verdict.STOP, ErrorCode.AUTHENTICATION, str(exc)), 0.0
        self.tally.sent += 1
        try:
            response = await self._transport.send(self._tagged(http_request), headers)
            self._has_met_endpoint = True
        except TransportError as exc:
            result = transport_failure(exc)
        latency_ms = (self._loop.time() - started) * 1e3
        if response is not None:
            result = read(self._endpoint, batch, response)
        if isinstance(result, Failure):
            call.attempts = call.attempts.after(result.code, sent_at_s)
            is_retry = result.verdict is Verdict.RETRY
            call.wait_s = self._policy.wait_s(call.attempts, result, self._clock()) if is_retry else None
        if self._log is not None:
            self._log.append(
                Exchange(
                    request_ids=tuple(request.request_id for request in batch.requests),
                    attempt=call.attempts.sent if isinstance(result, Failure) else call.attempts.sent + 1,
                    sent_at_s=sent_at_s,
                    latency_ms=latency_ms,
                    response=response,
                    transport_error=result.code if response is None and isinstance(result, Failure) else None,
                    message=result.message if isinstance(result, Failure) else "",
                    run_id=self._settings.run_id,
                    usage=result.usage if isinstance(result, Failure) else total_usage(result),
                    is_final=not isinstance(result, Failure) or self._is_last(call, result),
                )
            )
        return result, latency_ms

    def _is_last(self, call: _Call, failure: Failure) -> bool:
        """Whether the rows of this exchange end with it."""
        if failure.verdict is Verdict.RETRY:
            return call.wait_s is None
        return failure.verdict is Verdict.REJECT or (failure.verdict is Verdict.SPLIT and len(call.batch) == 1)

    def _tagged(self, request: HttpRequest) -> HttpRequest:
        if not self._settings.sends_run_id:
            return request
        return HttpRequest(request.url, request.body, (*request.headers, ("x-client-run", self._settings.run_id)))

    def _finish(self, call: _Call, outcomes: list[Outcome], latency_ms: float) -> None:
        now_s = self._clock()
        if call.split is not None and (max_rows := call.split.answered()) is not None:
            self._packer.lower(max_rows)
        attempts = call.attempts.sent + 1
        stamped = [o.with_timing(attempts=attempts, latency_ms=latency_ms, completed_at_s=now_s) for o in outcomes]
        for outcome in stamped:
            self.tally.input_tokens += outcome.usage.input_tokens or 0
            self.tally.output_tokens += outcome.usage.output_tokens or 0
            if outcome.error is None:
                self.tally.answered += 1
            else:
                self.tally.failed += 1
                self.tally.errors[str(outcome.error.code)] += 1
        self._on_finished(stamped)

    def _fail(self, call: _Call, failure: Failure) -> None:
        if failure.code is ErrorCode.RATE_LIMITED:
            self.tally.rate_limited += 1
        if failure.verdict is Verdict.STOP:
            self.stop(failure)
            self._abandon(call.batch.requests)
        elif failure.verdict is Verdict.SPLIT and len(call.batch) > 1:
            # only one of them may be bad: halves go first, so that a refusal costs O(log n) calls and no second wait
            self._halve(call)
            if self.stopped is not None:
                self._abandon_ready()
        elif failure.verdict is Verdict.RETRY and self.stopped is None:
            if call.wait_s is not None:
                self._waiting[call] = self._loop.call_later(call.wait_s, self._again, call)
            elif failure.code is ErrorCode.CONNECT_FAILED and not self._has_met_endpoint:
                self.stop(Failure(Verdict.STOP, failure.code, f"no connection was ever made: {failure.message}"))
                self._abandon(call.batch.requests)
            else:
                self._reject(call, failure)
        elif failure.verdict is Verdict.RETRY:
            self._abandon(call.batch.requests)
        else:
            self._reject(call, failure)

    def _halve(self, call: _Call) -> None:
        split = Split(len(call.batch))
        self._ready.extendleft(_Call(half, Attempts(), split=split) for half in reversed(call.batch.halves()))

    def _again(self, call: _Call) -> None:
        del self._waiting[call]
        self._ready.appendleft(call)
        self._pump()

    # -- out

    def _reject(self, call: _Call, failure: Failure) -> None:
        error = RowError(failure.code, failure.message, failure.status)
        shares = split_usage(failure.usage, len(call.batch))
        now_s = self._clock()
        outcomes = [
            Outcome(request.request_id, error=error, usage=usage, attempts=call.attempts.sent, completed_at_s=now_s)
            for request, usage in zip(call.batch.requests, shares, strict=True)
        ]
        self.tally.failed += len(outcomes)
        self.tally.errors[str(failure.code)] += len(outcomes)
        self._on_finished(outcomes)

    def _abandon_ready(self) -> None:
        while self._ready:
            self._abandon(self._ready.popleft().batch.requests)

    def _abandon(self, requests: Iterable[Request]) -> None:
        reason = self.stopped.message if self.stopped is not None else ""
        error = RowError(ErrorCode.NOT_ATTEMPTED, reason)
        outcomes = [Outcome(request.request_id, error=error, completed_at_s=self._clock()) for request in requests]
        if outcomes:
            self._on_finished(outcomes)


def read(endpoint: Endpoint, batch: Batch, response: HttpResponse) -> list[Outcome] | Failure:
    """What an answer means, live or replayed. A parser that fails costs the rows of one exchange, never the task."""
    try:
        return endpoint.parse(batch, response)
    except Exception as exc:  # noqa: BLE001 - the answer is foreign data; the type's name is all that may be shown
        return Failure(Verdict.REJECT, ErrorCode.INTERNAL, f"the answer broke the parser: {type(exc).__name__}")


def transport_failure(exc: TransportError) -> Failure:
    """The failure of an exchange that brought no answer."""
    code = ErrorCode.UNKNOWN_OUTCOME
    verdict = Verdict.RETRY
    if isinstance(exc, ConnectFailed):
        code = ErrorCode.CONNECT_FAILED
    elif isinstance(exc, DeadlineExceeded):
        code = ErrorCode.DEADLINE_EXCEEDED
    elif isinstance(exc, ResponseTooLarge):
        code, verdict = ErrorCode.RESPONSE_TOO_LARGE, Verdict.REJECT
    return Failure(verdict, code, str(exc))


def total_usage(outcomes: list[Outcome]) -> Usage:
    """The sum over the outcomes of one exchange; None where no outcome says."""
    if len(outcomes) == 1:
        return outcomes[0].usage

    def total(values: Iterable[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    usages = [outcome.usage for outcome in outcomes]
    return Usage(
        total(u.input_tokens for u in usages),
        total(u.output_tokens for u in usages),
        total(u.total_tokens for u in usages),
        total(u.cached_input_tokens for u in usages),
        total(u.reasoning_tokens for u in usages),
    )


def split_usage(usage: Usage, count: int) -> list[Usage]:
    """A usage in `count` parts whose sum is exactly the whole."""

    def part(value: int | None, index: int) -> int | None:
        return None if value is None else value // count + (index < value % count)

    return [
        Usage(
            part(usage.input_tokens, i),
            part(usage.output_tokens, i),
            part(usage.total_tokens, i),
            part(usage.cached_input_tokens, i),
            part(usage.reasoning_tokens, i),
        )
        for i in range(count)
    ]
