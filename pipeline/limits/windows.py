"""One limit, kept: evenly paced starts, and no window of the endpoint's above the amount. Pure; time is an argument."""

from collections import deque

from pipeline.limits.amounts import Limit

# A ledger of this many parts per window; its grain is part of what the pace gives away.
GRAINS = 240
MOST_GRAIN_S = 1.0


class PacedWindow:
    """Places calls on a time line.

    The pace (each call after the last by its cost over the rate, with `lateness_s` of slack so that two limits that
    bind in turn lose nothing) keeps slices of a window even, which providers enforce too. The ledger beside it
    remembers for a window what was charged and what came back, so that reservations, credits and estimates that were
    too low never add up to more than the amount. A call that starts up to `limit.lateness_s` after its slot is covered.
    """

    def __init__(self, limit: Limit, *, first_s: float = 0.0) -> None:
        self.limit = limit
        self._grain_s = min(MOST_GRAIN_S, limit.window_s / GRAINS)
        self._hold_s = limit.window_s + limit.lateness_s + self._grain_s
        self.rate = limit.amount / self._hold_s  # per second
        self._free_s = first_s  # when the pace allows the next call
        self._ledger: deque[list[float]] = deque()  # [grain number, amount], oldest first
        self._held = 0.0

    def next_s(self, amount: float, now_s: float) -> float:
        """The first moment, not before `now_s`, at which a call of this amount may start.

        A call above the whole limit may start once the ledger is empty: it would never fit.
        """
        self._forget(now_s)
        at_s = max(now_s, self._free_s)
        excess = self._held + min(amount, self.limit.amount) - self.limit.amount
        if excess > 1e-9:
            for grain, used in self._ledger:
                excess -= used
                if excess <= 1e-9:
                    return max(at_s, grain * self._grain_s + self._hold_s)
        return at_s

    def charge(self, amount: float, at_s: float, *, paced: float | None = None) -> None:
        """A call starts at `at_s`. `paced` is what it is expected to use in the end, where less is known to come."""
        self._free_s = (
            max(self._free_s, at_s - self.limit.lateness_s) + (amount if paced is None else paced) / self.rate
        )
        self._add(amount, at_s)

    def credit(self, amount: float, at_s: float) -> None:
        """What a call that started at `at_s` did not use after all; negative where it used more."""
        self._add(-amount, at_s)

    def used(self, now_s: float) -> float:
        """What the last window holds, what was handed out for the next seconds included."""
        self._forget(now_s)
        return self._held

    def duration_s(self, amount: float) -> float:
        """How much of the time line a call takes."""
        return amount / self.rate

    def _add(self, amount: float, at_s: float) -> None:
        grain = at_s // self._grain_s
        ledger = self._ledger
        place = len(ledger)
        while place and ledger[place - 1][0] > grain:
            place -= 1
        if amount >= 0:
            if place and ledger[place - 1][0] == grain:
                ledger[place - 1][1] += amount
            else:
                ledger.insert(place, [grain, amount])
            self._held += amount
            return
        while amount < 0 and place:
            # what comes back leaves the grain it was charged to or older ones, and never more than is there
            place -= 1
            entry = ledger[place]
            change = max(amount, -entry[1])
            entry[1] += change
            self._held += change
            amount -= change

    def _forget(self, now_s: float) -> None:
        ledger = self._ledger
        while ledger and ledger[0][0] * self._grain_s + self._hold_s <= now_s:
            self._held -= ledger.popleft()[1]
        if not ledger:
            self._held = 0.0
