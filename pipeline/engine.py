"""The window: requests in, outcomes out, at most `in_flight` exchanges at a time. Knows neither Spark nor tables.

Everything here runs on one event loop; other threads only look at the counters. A call that waits for its next
attempt holds no slot, so slow answers and rate limits never stall the ones behind them. Whether a call may start is
the gate's to say (`limits.Gate`); the window asks it before every attempt and tells it how each one ended.
"""

import asyncio
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple, Protocol

from pipeline.batching import Packer, PackLimits, Split
from pipeline.endpoints import Endpoint
from pipeline.errors import ErrorCode, PipelineError, TransportError, Verdict
from pipeline.exchanges import read, transport_failure
from pipeline.limits import (
    NOTHING,
    Cost,
    Costing,
    Costs,
    Gate,
    GateSettings,
    Permits,
    QuotaSpec,
    QuotaView,
    StaticShare,
    Ticket,
)
from pipeline.records import (
    NO_USAGE,
    Batch,
    Exchange,
    Failure,
    HttpRequest,
    HttpResponse,
    Outcome,
    Request,
    RowError,
    Usage,
    total_usage,
)
from pipeline.retry import NOT_SENT, Attempts, RetryPolicy, RetrySettings
from pipeline.transports import Transport

# How long a started embedding batch waits for more rows once the input pauses; the bound is 50 ms.
LINGER_S = 0.02
# A wait of nanoseconds, left over by rounding, is no reason to come back that often.
SHORTEST_WAIT_S = 0.001

ONE_CALL = Cost()


class ExchangeLog(Protocol):
    """Where every exchange is written before its outcome is used."""

    def append(self, *exchanges: Exchange) -> None:
        """Durable when it returns, as far as the log promises."""
        ...


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """What one worker may do."""

    in_flight: int = 64
    pack: PackLimits = field(default_factory=PackLimits)
    retry: RetrySettings = field(default_factory=RetrySettings)
    first_guess: int | None = None  # calls at once to begin with, where nobody configured `in_flight`
    quota: QuotaSpec = field(default_factory=QuotaSpec)  # of the whole job; its `in_flight` is for leases only
    costing: Costing = field(default_factory=Costing)
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
    cost: Cost | None = None
    split: Split | None = None  # the refused batch that it is a half of


class _Ended(NamedTuple):
    """A call that came back; it holds its slot until it is journaled."""

    call: _Call
    result: list[Outcome] | Failure
    latency_ms: float
    usage: Usage
    exchange: Exchange | None  # None where nothing was sent


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
        permits: Permits | None = None,
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
        if permits is None and settings.quota.is_metered:
            permits = static_share(settings.quota, settings.in_flight, uniform)
        self.gate = Gate(gate_settings(settings), permits)
        # nothing counts tokens or money: nothing is estimated
        self._costs = Costs(settings.costing) if settings.quota.is_metered else None
        self._ready: deque[_Call] = deque()
        self._due: deque[_Call] = deque()  # again, after a failure
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[_Call, asyncio.TimerHandle] = {}
        self._tasks: dict[_Call, asyncio.Task[None]] = {}
        self._ended: list[_Ended] = []  # in this turn of the loop
        self._linger: asyncio.TimerHandle | None = None
        self._has_met_endpoint = False
        self._is_closed = False
        self.in_flight = 0
        self.peak = settings.in_flight  # most in flight since somebody set it; as many as there may be to begin with
        self.tally = Tally()
        self.stopped: Failure | None = None
        self.crashed: BaseException | None = None

    @property
    def between_attempts(self) -> int:
        """Calls that failed and wait for their next attempt; they hold no slot."""
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
        self._ready.extend(_Call(batch, NOT_SENT) for batch in self._packer.add(fresh))
        if self._linger is not None:
            self._linger.cancel()
        self._linger = self._loop.call_later(LINGER_S, self._flush_if_idle)
        self.pump()

    def _flush_if_idle(self) -> None:
        """A started batch waits on while no slot is free: sent or not, it would wait, and more rows may come."""
        if self.stopped is None and (self._ready or self.in_flight >= self.gate.in_flight_limit):
            self._linger = self._loop.call_later(LINGER_S, self._flush_if_idle)
        else:
            self.flush()

    def flush(self) -> None:
        """Sends a started batch without waiting for more rows."""
        self._ready.extend(_Call(batch, NOT_SENT) for batch in self._packer.flush())
        if self.stopped is not None:
            self._abandon_ready()
        else:
            self.pump()

    def stop(self, failure: Failure) -> None:
        """Nothing is sent any more; what is in flight still finishes, all else ends as not attempted."""
        if self.stopped is not None:
            return
        self.stopped = failure
        self._wake_waiting()
        self._ready.extend(_Call(batch, NOT_SENT) for batch in self._packer.flush())
        self._abandon_ready()

    async def cancel(self) -> None:
        """Gives up everything, in flight included; nothing is reported or sent any more."""
        self._on_finished = lambda outcomes: None
        self._is_closed = True
        self._settle()
        self._ready.clear()
        self._due.clear()
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        for one in (self._linger, self._timer):
            if one is not None:
                one.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- the loop

    def view(self) -> QuotaView:
        """Where admission stands, for people."""
        return self.gate.view(self._loop.time())

    @property
    def waiting(self) -> int:
        """Calls that would start if they might."""
        return len(self._due) + len(self._ready)

    def upcoming(self, most: int) -> list[Cost]:
        """What the calls cost that start next, in order."""
        return [self._cost(call) for call in islice(chain(self._due, self._ready), most)]

    def pump(self) -> None:
        """Starts what may start: retries first, but while the endpoint is down rows that it has cost nothing yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.stopped is not None or self._is_closed:
            return
        gate = self.gate
        now_s = self._loop.time()
        while self._due or self._ready:
            wait_s = math.inf
            # an outage lets fresh rows look; where nobody ever answered one row's attempts are enough to tell
            looks_afresh = gate.is_open and self._has_met_endpoint
            for queue in (self._ready, self._due) if looks_afresh else (self._due, self._ready):
                if not queue:
                    continue
                call = queue[0]
                if len(call.batch) > self._packer.max_rows and not call.attempts.sent:
                    queue.popleft()  # packed before the endpoint refused as many
                    self._halve(call)
                    break
                ticket = gate.admit(self._cost(call), self.in_flight, now_s, is_retry=queue is self._due)
                if isinstance(ticket, Ticket):
                    queue.popleft()
                    self._start(call, ticket)
                    break
                wait_s = min(wait_s, ticket)
            else:
                self._wait(now_s, wait_s)
                return

    def _start(self, call: _Call, ticket: Ticket) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self._tasks[call] = self._loop.create_task(self._run(call, ticket))

    def _wait(self, now_s: float, wait_s: float) -> None:
        reason = self.gate.stop_reason(now_s) if self._has_met_endpoint or not self.gate.is_open else None
        if reason is not None:
            self.stop(Failure(Verdict.STOP, ErrorCode.NOT_ATTEMPTED, reason))
        elif wait_s < math.inf:
            self._timer = self._loop.call_later(max(wait_s, SHORTEST_WAIT_S), self.pump)

    def _cost(self, call: _Call) -> Cost:
        if self._costs is None:
            return ONE_CALL
        if call.cost is None:
            call.cost = self._costs.of(call.batch)
        return call.cost

    async def _run(self, call: _Call, ticket: Ticket) -> None:
        try:
            ended = await self._exchange(call, ticket)
            if not self._ended:
                self._loop.call_soon(self._settle)
            self._ended.append(ended)
        except asyncio.CancelledError:
            self.in_flight -= 1
            raise
        except BaseException as exc:  # noqa: BLE001 - one of ours, and rows must not hang for it
            self.in_flight -= 1
            self._crash(exc, [call])
        finally:
            del self._tasks[call]

    def _settle(self) -> None:
        """Journals what came back in one turn of the loop, in one write; then its rows end or wait for another attempt."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        settled = 0
        try:
            if self._log is not None:
                self._log.append(*[one.exchange for one in ended if one.exchange is not None])
            for one in ended:
                if isinstance(one.result, Failure):
                    self._fail(one.call, one.result)
                else:
                    self._finish(one, one.result)
                settled += 1
        except BaseException as exc:  # noqa: BLE001 - a journal that cannot be written: nothing may be sent unrecorded
            self._crash(exc, [one.call for one in ended[settled:]])
        self.in_flight -= len(ended)
        self.pump()

    def _crash(self, exc: BaseException, calls: Iterable[_Call]) -> None:
        self.crashed = exc
        self.stop(Failure(Verdict.STOP, ErrorCode.INTERNAL, type(exc).__name__))
        for call in calls:
            self._abandon(call.batch.requests)

    async def _exchange(self, call: _Call, ticket: Ticket) -> _Ended:
        """Sends and reads. A failure's attempt is counted in `call` before it is journaled."""
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
            self.gate.abandoned(ticket)
            return _Ended(call, Failure(Verdict.STOP, ErrorCode.AUTHENTICATION, str(exc)), 0.0, NO_USAGE, None)
        self.tally.sent += 1
        try:
            response = await self._transport.send(self._tagged(http_request), headers)
            self._has_met_endpoint = True
        except TransportError as exc:
            result = transport_failure(exc)
            if result.code is not ErrorCode.CONNECT_FAILED:  # somebody is there, who does not answer
                self._has_met_endpoint = True
        latency_ms = (self._loop.time() - started) * 1e3
        if response is not None:
            result = read(self._endpoint, batch, response)
        usage = result.usage if isinstance(result, Failure) else total_usage([outcome.usage for outcome in result])
        self._tell_gate(call, ticket, result, usage, response)
        if isinstance(result, Failure):
            is_parked = self._has_met_endpoint and self.gate.is_down and is_the_endpoints(result.code, call.attempts)
            call.attempts = call.attempts.after(result.code, sent_at_s, is_parked=is_parked)
            is_retry = result.verdict is Verdict.RETRY
            call.wait_s = self._policy.wait_s(call.attempts, result, self._clock(), is_parked) if is_retry else None
        exchange = Exchange(
            request_ids=tuple([request.request_id for request in batch.requests]),
            attempt=call.attempts.sent if isinstance(result, Failure) else call.attempts.sent + 1,
            sent_at_s=sent_at_s,
            latency_ms=latency_ms,
            response=response,
            transport_error=result.code if response is None and isinstance(result, Failure) else None,
            message=result.message if isinstance(result, Failure) else "",
            run_id=self._settings.run_id,
            usage=usage,
            is_final=not isinstance(result, Failure) or self._is_last(call, result),
        )
        return _Ended(call, result, latency_ms, usage, exchange)

    def _tell_gate(
        self, call: _Call, ticket: Ticket, result: list[Outcome] | Failure, usage: Usage, response: HttpResponse | None
    ) -> None:
        failure = result if isinstance(result, Failure) else None
        error = failure.code if failure is not None else None
        used = NOTHING if self._costs is None else self._costs.used(ticket.charged, call.batch, usage, error)
        down_s = self.gate.ended(
            ticket,
            error,
            self._loop.time(),
            used=used,
            others=self.in_flight - len(self._ended) - 1,
            headers=response.headers if response is not None else None,
            wall_s=self._clock(),
            retry_after_s=failure.retry_after_s if failure is not None else None,
        )
        if failure is not None and failure.asks_gently:
            self.gate.go_gently()
        if down_s or self.gate.is_open:
            self._wake_waiting(down_s)  # back again: all that waited; or down: the gate says who looks next

    def _wake_waiting(self, down_s: float = 0.0) -> None:
        """Ends all backoff. The seconds of an outage are taken off what rows have spent of their deadline."""
        for call, timer in self._waiting.items():
            timer.cancel()
            self._due.append(call)
        self._waiting.clear()
        if down_s:
            for call in chain(self._due, [one.call for one in self._ended]):
                call.attempts = call.attempts.without(down_s)

    def _is_last(self, call: _Call, failure: Failure) -> bool:
        """Whether the rows of this exchange end with it."""
        if failure.verdict is Verdict.RETRY:
            return call.wait_s is None
        return failure.verdict is Verdict.REJECT or (failure.verdict is Verdict.SPLIT and len(call.batch) == 1)

    def _tagged(self, request: HttpRequest) -> HttpRequest:
        if not self._settings.sends_run_id:
            return request
        return HttpRequest(request.url, request.body, (*request.headers, ("x-client-run", self._settings.run_id)))

    def _finish(self, ended: _Ended, outcomes: list[Outcome]) -> None:
        call, tally = ended.call, self.tally
        if call.split is not None and (max_rows := call.split.answered()) is not None:
            self._packer.lower(max_rows)
        tally.input_tokens += ended.usage.input_tokens or 0
        tally.output_tokens += ended.usage.output_tokens or 0
        errors = [str(outcome.error.code) for outcome in outcomes if outcome.error is not None]
        tally.answered += len(outcomes) - len(errors)
        if errors:
            tally.failed += len(errors)
            tally.errors.update(errors)
        attempts, latency_ms, now_s = call.attempts.sent + 1, ended.latency_ms, self._clock()
        self._on_finished(
            [o.with_timing(attempts=attempts, latency_ms=latency_ms, completed_at_s=now_s) for o in outcomes]
        )

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
            if call.wait_s is not None and self.gate.is_open:
                # the gate's probes set the pace
                if self._has_met_endpoint:
                    self._due.append(call)
                else:  # the same row looks again, until it is used up: nobody ever answered
                    self._due.appendleft(call)
            elif call.wait_s is not None:
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
        self._ready.extendleft(_Call(half, NOT_SENT, split=split) for half in reversed(call.batch.halves()))

    def _again(self, call: _Call) -> None:
        del self._waiting[call]
        self._due.append(call)
        self.pump()

    # -- out

    def _reject(self, call: _Call, failure: Failure) -> None:
        error = RowError(failure.code, failure.message, failure.status)
        shares = failure.usage.split(len(call.batch))
        now_s = self._clock()
        outcomes = [
            Outcome(request.request_id, error=error, usage=usage, attempts=call.attempts.sent, completed_at_s=now_s)
            for request, usage in zip(call.batch.requests, shares, strict=True)
        ]
        self.tally.failed += len(outcomes)
        self.tally.errors[str(failure.code)] += len(outcomes)
        self._on_finished(outcomes)

    def _abandon_ready(self) -> None:
        for queue in (self._due, self._ready):
            while queue:
                self._abandon(queue.popleft().batch.requests)

    def _abandon(self, requests: Iterable[Request]) -> None:
        reason = self.stopped.message if self.stopped is not None else ""
        error = RowError(ErrorCode.NOT_ATTEMPTED, reason)
        outcomes = [Outcome(request.request_id, error=error, completed_at_s=self._clock()) for request in requests]
        if outcomes:
            self._on_finished(outcomes)


def is_the_endpoints(code: ErrorCode, attempts: Attempts) -> bool:
    """Whether a failure of an endpoint that is down is not the row's own.

    A row that failed twice while others were answered may be what breaks the server: it goes on paying, or it would
    hold up the end of a job for ever.
    """
    return code in (ErrorCode.CONNECT_FAILED, ErrorCode.OVERLOADED) or attempts.counted < 2


def gate_settings(settings: WindowSettings) -> GateSettings:
    """What the gate takes from the window's settings."""
    return GateSettings(
        settings.in_flight, settings.first_guess, settings.retry.outage_limit_s, max(1, settings.quota.workers)
    )


def static_share(quota: QuotaSpec, in_flight: int, uniform: Callable[[float, float], float]) -> StaticShare:
    """A worker's part of the quota where nobody leases it. Which of the parts is chance: they begin at other times."""
    place = int(uniform(0, quota.workers))
    return StaticShare(quota.limits, in_flight, workers=quota.workers, place=place, budget=quota.budget)
