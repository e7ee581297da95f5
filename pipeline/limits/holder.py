"""A worker's side of the leases: the starts that it was granted, what it gives back, and its share without a server.

Pure; time is an argument, and whoever carries questions and grants is not known here.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence

from pipeline.limits.amounts import NOTHING, Cost
from pipeline.limits.book import REFRESH_S, QuotaSpec
from pipeline.limits.leases import MOST_CALLS, MOST_CREDITS, Ask, Credit, Grant
from pipeline.limits.permits import StaticShare

# A budget is never spent without the server that counts it: so long a worker waits for it to come back.
BUDGET_PATIENCE_S = 60.0
# Others may have had more calls on their way than their part: so long nobody takes more slots than the server gave.
GROWS_AFTER_S = 10.0
# Calls charged to the same quarter of a second are given back together.
CREDIT_GRAIN_S = 0.25
# Slots that are to change hands are asked about so soon, then half as often each time: long calls keep them long.
SETTLE_S = 0.05
# What older calls taught about estimates fades by this with each call.
MEMORY = 0.99


class LeaseHolder:
    """`Permits` from grants. Without contact it uses what it was granted, then its part of the whole quota."""

    def __init__(self, spec: QuotaSpec) -> None:
        self._spec = spec
        self._is_metered, self._lateness_s = spec.is_metered, spec.lateness_s  # asked for at every call
        self.charged, self.charged_s = NOTHING, 0.0
        self.on_hungry: Callable[[], object] = lambda: None  # a call must wait for the server's word
        self.is_leased = False  # the last word came from the server
        self.was_leased = False
        self._lost_since_s: float | None = None
        self._in_flight = 0
        self._starts: deque[tuple[float, Cost]] = deque()  # granted, not used; in the order of time
        self._credits: dict[int, Credit] = {}  # by the moment to which they were charged
        self._safe: StaticShare | None = None
        self._share, self._index = spec.workers, 0
        self._spent: str | None = None
        self._is_unmet = False
        self._asked_s = -math.inf
        self._unsettled = 0  # grants in a row that leave slots to change hands
        self._not_before_s = 0.0
        self._sums = [1.0, 1.0, 1.0, 1.0]  # input charged, used, output charged, used; fading

    @property
    def is_alone(self) -> bool:
        """Whether the server was looked for and never found."""
        return self._lost_since_s is not None and not self.was_leased

    # -- what the gate asks

    @property
    def in_flight(self) -> int:
        """See `Permits.in_flight`."""
        return self._safe.in_flight if self._safe is not None else self._in_flight

    def take(self, cost: Cost, now_s: float) -> float:
        """See `Permits.take`."""
        if not self._is_metered:
            self.charged, self.charged_s = cost, now_s
            return 0.0
        self._give_back_late(now_s)
        for place, (start_s, granted) in enumerate(self._starts):
            if start_s > now_s:
                if place == 0:
                    return start_s - now_s
                break
            if granted.covers(cost):
                del self._starts[place]
                self.charged, self.charged_s = granted, start_s
                return 0.0
        if self._starts:  # granted for other calls: for those that come first now, ask anew
            self._is_unmet = True
            self.on_hungry()
            return self._starts[-1][0] + self._lateness_s + 0.001 - now_s
        if self._safe is not None:
            wait_s = self._safe.take(cost, now_s)
            self.charged, self.charged_s = self._safe.charged, now_s
            return wait_s
        self.on_hungry()
        return math.inf

    def lacks_slots(self) -> None:
        """See `Permits.lacks_slots`."""
        if self._in_flight < self._fair_slots:
            self.on_hungry()

    def settle(self, charged: Cost, used: Cost, charged_s: float) -> None:
        """See `Permits.settle`."""
        if not self._is_metered:
            return
        if used.requests:
            amounts = (charged.input_tokens, used.input_tokens, charged.output_tokens, used.output_tokens)
            self._sums = [MEMORY * old + new for old, new in zip(self._sums, amounts, strict=True)]
        if self._safe is not None:
            self._safe.settle(charged, used, charged_s)
        moment = int(charged_s / CREDIT_GRAIN_S)
        before = self._credits.get(moment, Credit(0.0, NOTHING, NOTHING))
        self._credits[moment] = Credit(0.0, before.charged + charged, before.used + used)

    def spent(self) -> str | None:
        """See `Permits.spent`."""
        return self._spent

    # -- what the connection carries

    def ask_in_s(self, now_s: float, waiting: int) -> float:
        """Seconds until the next question is due, with `waiting` calls that want to start."""
        if self._is_unmet or (self._is_metered and waiting > len(self._starts)):
            ends_s = self._starts[-1][0] if self._starts else now_s
            due_s = now_s if self._is_unmet else max(self._not_before_s, ends_s - REFRESH_S / 2)
            return max(0.0, min(due_s, self._asked_s + self._refresh_s(waiting)) - now_s)
        return max(0.0, self._asked_s + self._refresh_s(waiting) - now_s)

    @property
    def _fair_slots(self) -> int:
        return max(1, self._spec.in_flight // self._share)

    def _refresh_s(self, waiting: int) -> float:
        is_short = waiting > 0 and self._in_flight < self._fair_slots
        return min(REFRESH_S, SETTLE_S * 2.0**self._unsettled) if self._unsettled or is_short else REFRESH_S

    def ask(self, now_s: float, in_flight: int, wants_in_flight: int, demand: int, calls: Sequence[Cost]) -> Ask:
        """The next question; `calls` are the costs at the head of the queue, those granted already included."""
        self._give_back_late(now_s)
        skipped = 0 if self._is_unmet else len(self._starts)
        self._is_unmet = False
        self._asked_s = now_s
        fresh = tuple(calls[skipped : skipped + MOST_CALLS]) if self._is_metered else ()
        in_charged, in_used, out_charged, out_used = self._sums
        return Ask(
            in_flight,
            wants_in_flight,
            self._in_flight,
            max(0, demand - len(self._starts)),
            fresh,
            self._credits_of(now_s),
            in_used / in_charged if in_charged else 1.0,
            out_used / out_charged if out_charged else 1.0,
        )

    def last_credits(self, now_s: float) -> tuple[Credit, ...]:
        """When the worker ends: everything that it can give back."""
        self._starts_back(math.inf)
        return self._credits_of(now_s)

    def granted(self, ask: Ask, grant: Grant, now_s: float) -> None:
        """The answer to a question, at the moment of its arrival: starts count from here, never from earlier."""
        self.is_leased = self.was_leased = True
        self._lost_since_s = self._safe = None
        self._in_flight = grant.in_flight
        self._share, self._index = grant.share, grant.index
        self._starts.extend(
            (now_s + start_s, cost) for start_s, cost in zip(grant.starts_in_s, ask.calls, strict=False)
        )
        self._not_before_s = now_s + grant.wait_s
        is_settled = ask.in_flight <= grant.in_flight >= min(ask.wants_in_flight, self._fair_slots)
        self._unsettled = 0 if is_settled else self._unsettled + 1
        caps = self._spec.budget.caps
        if 0 < grant.spent <= len(caps):
            self._spent = caps[grant.spent - 1][0]

    def lost(self, now_s: float) -> None:
        """The server cannot be reached, or not any more: its part of the whole, but never of a budget."""
        if self._lost_since_s is None:
            self._lost_since_s = now_s
        self.is_leased = False
        share = max(1, self._spec.in_flight // self._share)
        if self._safe is not None and now_s - self._lost_since_s >= GROWS_AFTER_S:
            self._safe.in_flight = share
        if self._safe is None and not self._spec.budget.caps:
            last_s = self._starts[-1][0] if self._starts else now_s
            self._safe = StaticShare(
                self._spec.limits,
                min(share, self._in_flight) if self.was_leased else share,
                workers=self._share,
                place=self._index + 1,  # not right after the last place that the server gave away
                first_s=max(now_s, last_s),
            )

    def is_stranded(self, now_s: float) -> bool:
        """See `Permits.is_stranded`: where a budget has gone uncounted for a while."""
        return (
            self._lost_since_s is not None
            and bool(self._spec.budget.caps)
            and now_s - self._lost_since_s > BUDGET_PATIENCE_S
        )

    # -- what was not used

    def _give_back_late(self, now_s: float) -> None:
        if self._starts and self._starts[0][0] + self._lateness_s < now_s:
            self._starts_back(now_s - self._lateness_s)

    def _starts_back(self, before_s: float) -> None:
        while self._starts and self._starts[0][0] < before_s:
            start_s, cost = self._starts.popleft()
            self.settle(cost, NOTHING, start_s)

    def _credits_of(self, now_s: float) -> tuple[Credit, ...]:
        credits = []
        for moment in sorted(self._credits)[:MOST_CREDITS]:
            credit = self._credits.pop(moment)
            credits.append(Credit(max(0.0, now_s - moment * CREDIT_GRAIN_S), credit.charged, credit.used))
        return tuple(credits)
