"""Whether a call may start now: every reason to wait, in one place. Pure; time is an argument."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import ErrorCode
from pipeline.limits.aimd import Aimd, Signal
from pipeline.limits.amounts import NOTHING, Cost
from pipeline.limits.breaker import Breaker
from pipeline.limits.headers import pause_s
from pipeline.limits.permits import Permits
from pipeline.limits.retry_budget import RetryBudget
from pipeline.limits.view import QuotaView

# Failures that say "perhaps too much at once".
_DROPPED = frozenset(
    {ErrorCode.RATE_LIMITED, ErrorCode.OVERLOADED, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.REQUEST_TIMEOUT}
)
# Failures to answer at all. A rate limit is an answer: somebody counts over there.
_DOWN = frozenset(
    {
        ErrorCode.OVERLOADED,
        ErrorCode.SERVER_ERROR,
        ErrorCode.BACKEND_FAILED,
        ErrorCode.REQUEST_TIMEOUT,
        ErrorCode.CONNECT_FAILED,
        ErrorCode.UNKNOWN_OUTCOME,
        ErrorCode.DEADLINE_EXCEEDED,
    }
)

# So many rate limits in a row, with a wait and with nothing else between them, say that the quota is used up for every
# call and not for one row: then all wait. A single one says nothing of the sort: where 10 % of the answers are 429
# whatever the load, a gate that obeyed each of them would stand still most of the time. Chance does not make 20.
REFUSED_IN_A_ROW = 20
# Providers count by the minute: so long everything waits at most, then the next calls find out.
LONGEST_HOLD_S = 60.0

# After a shorter one the endpoint takes what it took before.
SHORT_OUTAGE_S = 5.0


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What the gate of one worker knows from the start."""

    in_flight: int = 64
    first_guess: int | None = None  # None: the number in flight was configured, and is where to start
    outage_limit_s: float = 0.0  # 0: nothing pauses, rows fail by their own attempts (functions, which people wait for)
    sharers: int = 1  # workers that use the same quota, for what headers say is left of it


class Ticket(NamedTuple):
    """A call that may start, as the gate needs it back when the call ends."""

    epoch: int
    started_s: float
    charged: Cost = NOTHING
    charged_s: float = 0.0
    is_probe: bool = False


class Gate:
    """One per window. `admit` before every attempt, `ended` after it; whoever has `inf` to wait is woken by either."""

    def __init__(self, settings: GateSettings, permits: Permits | None = None) -> None:
        self._settings = settings
        self._permits = permits
        self._aimd = Aimd(settings.in_flight, start=settings.first_guess)
        self._breaker = Breaker()
        self._retry_budget = RetryBudget()
        self._paused_until_s = 0.0
        self._held_until_s = 0.0
        self._refused_in_a_row = 0
        self._limit_before = self._aimd.limit
        self._retries = 0

    @property
    def in_flight_limit(self) -> int:
        """Calls at once that are admitted now."""
        found = int(self._aimd.limit)
        return found if self._permits is None else min(found, self._permits.in_flight)

    @property
    def found(self) -> int:
        """Calls at once that the endpoint takes, as far as is known."""
        return int(self._aimd.limit)

    @property
    def is_down(self) -> bool:
        """Whether the endpoint fails so that no row should pay for it with an attempt."""
        return self._breaker.is_suspect

    @property
    def is_open(self) -> bool:
        """Whether only probes go out."""
        return self._breaker.is_open

    def admit(self, cost: Cost, in_flight: int, now_s: float, *, is_retry: bool = False) -> Ticket | float:
        """A ticket, or seconds to wait; `in_flight` are the calls on their way beside this one."""
        if self._breaker.is_open:
            wait_s = self._breaker.probe_wait_s(now_s)
            if wait_s > 0:
                return wait_s
            return self._started(cost, in_flight, now_s, is_retry, is_probe=True)
        if in_flight >= self.in_flight_limit:
            if self._permits is not None and in_flight >= self._permits.in_flight:
                self._permits.lacks_slots()
            return math.inf
        wait_s = self._breaker.suspect_wait_s(now_s, in_flight)
        if wait_s > 0:
            return wait_s
        wait_s = max(self._paused_until_s, self._held_until_s) - now_s
        if wait_s > 0:
            return wait_s
        if is_retry and self._breaker.fails_most:
            wait_s = self._retry_budget.take(now_s)
            if wait_s > 0:
                return wait_s
        return self._started(cost, in_flight, now_s, is_retry, is_probe=False)

    def _started(self, cost: Cost, in_flight: int, now_s: float, is_retry: bool, *, is_probe: bool) -> Ticket | float:
        charged, charged_s = NOTHING, 0.0
        if self._permits is not None:
            wait_s = self._permits.take(cost, now_s)
            if wait_s > 0:
                if is_probe:
                    self._breaker.probe_ignored()
                return wait_s
            charged, charged_s = self._permits.charged, self._permits.charged_s
        if is_retry:
            self._retries += 1
        else:
            self._retry_budget.first_attempt()
        self._breaker.started()
        return Ticket(self._aimd.started(in_flight + 1, now_s), now_s, charged, charged_s, is_probe)

    def ended(
        self,
        ticket: Ticket,
        error: ErrorCode | None,
        now_s: float,
        *,
        used: Cost = NOTHING,
        others: int = 0,
        headers: Mapping[str, str] | None = None,
        wall_s: float = 0.0,
        retry_after_s: float | None = None,
    ) -> float:
        """A call ended, with `others` still on their way. Seconds of the outage that it ended, 0 else.

        `wall_s` is seconds since the epoch, which moments in headers are compared with.
        """
        if self._permits is not None:
            self._permits.settle(ticket.charged, used, ticket.charged_s)
        if headers:
            asked_s = pause_s(headers, ticket.charged, self._settings.sharers, wall_s)
            self._paused_until_s = max(self._paused_until_s, now_s + asked_s)
        if error is ErrorCode.RATE_LIMITED:
            self._refused(retry_after_s, now_s)
        else:
            self._refused_in_a_row = 0
        self._breaker.left(ticket.started_s)
        if error in _DOWN and self._settings.outage_limit_s:
            was_open = self._breaker.is_open
            if not self._breaker.is_suspect:
                self._limit_before = self._aimd.limit
            self._breaker.failed(now_s, others=others)
            if was_open or self._breaker.is_open:
                return 0.0
        else:
            down_s = self._breaker.succeeded(now_s, ticket.started_s)
            if down_s > SHORT_OUTAGE_S:
                self._aimd.restart(self._limit_before)
            if down_s:
                return down_s
        signal = Signal.SUCCESS if error is None else Signal.DROPPED if error in _DROPPED else Signal.IGNORE
        self._aimd.ended(signal, ticket.epoch, ticket.started_s, now_s)
        return 0.0

    def _refused(self, retry_after_s: float | None, now_s: float) -> None:
        """A rate limit. After many in a row all calls wait: as long as the least patient of these answers says."""
        self._refused_in_a_row += 1
        if self._refused_in_a_row < REFUSED_IN_A_ROW or not retry_after_s:
            return
        until_s = now_s + min(retry_after_s, LONGEST_HOLD_S)
        self._held_until_s = until_s if now_s >= self._held_until_s else min(until_s, self._held_until_s)

    def go_gently(self) -> None:
        """The provider asked for a slower start (`slow_down`)."""
        self._aimd.go_gently()

    def abandoned(self, ticket: Ticket) -> None:
        """A call that got a ticket was not sent after all."""
        if self._permits is not None:
            self._permits.settle(ticket.charged, NOTHING, ticket.charged_s)
        self._breaker.left(ticket.started_s)
        if ticket.is_probe:
            self._breaker.probe_ignored()

    def stop_reason(self, now_s: float) -> str | None:
        """Why nothing should be sent any more; None while that is not so."""
        if self._permits is not None and self._permits.is_stranded(now_s):
            return "[budget] is counted by the driver, which this task cannot reach; nothing is spent uncounted"
        spent = self._permits.spent() if self._permits is not None else None
        if spent is not None:
            return f"[budget] {spent} is used up; what was answered has landed, raise it and run again for the rest"
        down_s = self._breaker.down_s(now_s)
        if down_s > self._settings.outage_limit_s:
            return (
                f"the endpoint has answered nothing for {down_s:,.0f} s ([retry] outage_limit_s); no row failed for it, "
                "run again once it is back"
            )
        return None

    def view(self, now_s: float) -> QuotaView:
        """For people."""
        return QuotaView(
            in_flight_limit=self.in_flight_limit,
            retries=self._retries,
            retries_held=self._retry_budget.refused,
            outages=self._breaker.times_opened,
            outage_s=self._breaker.down_s(now_s),
            probes=self._breaker.probes,
            tolerated_drops=self._aimd.tolerated,
        )
