"""Permission to start calls: what the gate asks, and the share of a worker that nobody coordinates. Pure."""

import math
from typing import Protocol

from pipeline.limits.amounts import NOTHING, Budget, Cost, Limit
from pipeline.limits.windows import PacedWindow


class Permits(Protocol):
    """Who says when a call may start under the job's limits and budget."""

    @property
    def in_flight(self) -> int:
        """Calls that may be on their way at once."""
        ...

    @property
    def charged(self) -> Cost:
        """What was charged for the call that `take` let start last."""
        ...

    @property
    def charged_s(self) -> float:
        """When that call was to start."""
        ...

    def take(self, cost: Cost, now_s: float) -> float:
        """Seconds until a call of this cost may start; 0 starts and charges it. Infinite: until something changes."""
        ...

    def lacks_slots(self) -> None:
        """A call would start, and `in_flight` are on their way."""
        ...

    def settle(self, charged: Cost, used: Cost, charged_s: float) -> None:
        """A call ended: what it was charged and when, and what it used."""
        ...

    def spent(self) -> str | None:
        """The budget's cap that is used up, as the job file names it."""
        ...

    def is_stranded(self, now_s: float) -> bool:
        """Whether nobody can say any more what may be spent."""
        ...


class StaticShare:
    """A fixed part of every limit: one of `workers` that do not know of each other.

    `place` spreads the first starts of the workers over the time that one call takes, so that their sum is even.
    """

    def __init__(
        self,
        limits: tuple[Limit, ...],
        in_flight: int,
        *,
        workers: int = 1,
        place: int = 0,
        first_s: float | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.in_flight = in_flight
        self.charged, self.charged_s = NOTHING, 0.0
        self._caps = (budget or Budget()).caps
        self._spent = NOTHING
        self._on_their_way = 0
        self._over: str | None = None
        self._windows = [PacedWindow(_whole(limit.share(workers))) for limit in limits]
        self._first_s: float | None = first_s  # None: when the first call comes
        self._turn = place / workers
        self._is_first = True

    def take(self, cost: Cost, now_s: float) -> float:
        """See `Permits.take`."""
        for name, meter, most in self._caps:
            if self._spent.of(meter) + cost.of(meter) > most:
                if not self._on_their_way:
                    self._over = name
                return math.inf
        at_s = max((window.next_s(cost.of(window.limit.meter), now_s) for window in self._windows), default=now_s)
        if self._is_first:
            lasts_s = max((w.duration_s(cost.of(w.limit.meter)) for w in self._windows), default=0.0)
            self._first_s = now_s if self._first_s is None else self._first_s
            at_s = max(at_s, self._first_s + self._turn * lasts_s)
        if at_s > now_s:
            return at_s - now_s
        self._is_first = False
        for window in self._windows:
            window.charge(cost.of(window.limit.meter), now_s)
        self._spent += cost
        self._on_their_way += 1
        self.charged, self.charged_s = cost, now_s
        return 0.0

    def settle(self, charged: Cost, used: Cost, charged_s: float) -> None:
        """See `Permits.settle`."""
        self._on_their_way -= 1
        back = charged - used
        self._spent -= back
        for window in self._windows:
            window.credit(back.of(window.limit.meter), charged_s)

    def lacks_slots(self) -> None:
        """See `Permits.lacks_slots`; nobody could give more."""

    def spent(self) -> str | None:
        """See `Permits.spent`."""
        return self._over

    def is_stranded(self, now_s: float) -> bool:
        """Never: it asks nobody."""
        return False


def _whole(share: Limit) -> Limit:
    """Requests are counted: the fractions of many workers would add up to one call too many."""
    if share.meter != "requests" or share.amount < 1:
        return share
    return Limit(share.name, share.meter, math.floor(share.amount), share.window_s)
