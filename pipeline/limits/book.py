"""The job's quota: who may start which calls when, so that the sum over all workers is never above it. Pure.

Every start has a place on one time line per limit. A worker asks for the calls at the head of its queue and gets the
next free places, as far ahead as `horizon_s`; whoever has more to do gets more of them at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.limits.amounts import NOTHING, Budget, Cost, Limit, total
from pipeline.limits.leases import Ask, Credit, Grant
from pipeline.limits.windows import PacedWindow

# How often workers ask, and how far ahead places are given away: what a worker that vanishes can waste.
REFRESH_S = 2.0
HORIZON_S = 2.0
# No worker asks more often than this.
SOONEST_S = 0.05
# So long after the start the slots of workers that have not come yet are kept for them.
ARRIVAL_S = 5.0
# A worker whose connection stays open and silent may live behind a broken network, on its own share.
SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class QuotaSpec:
    """What one job may do, over all workers and, for the budget, all runs."""

    in_flight: int = 256
    limits: tuple[Limit, ...] = ()
    budget: Budget = field(default_factory=Budget)
    spent: Cost = NOTHING  # by earlier runs
    workers: int = 1  # that run at once at most

    @property
    def is_metered(self) -> bool:
        """Whether a call needs more than a free slot."""
        return bool(self.limits or self.budget.caps)

    @property
    def counts_tokens(self) -> bool:
        """Whether estimates of tokens decide when a call may start."""
        meters = [limit.meter for limit in self.limits] + [meter for _, meter, _ in self.budget.caps]
        return any(meter != "requests" for meter in meters)

    @property
    def lateness_s(self) -> float:
        """How long after its place a call may start."""
        return min((limit.lateness_s for limit in self.limits), default=HORIZON_S)


@dataclass(slots=True)
class _Worker:
    index: int
    seen_s: float
    slots: int = 0  # of those in flight, the most that it may have now
    wants: int = 0
    demand: int = 0
    open: Cost = NOTHING  # charged for calls that have not ended


class QuotaBook:
    """One book per job; every method takes the time, in seconds of any one clock."""

    def __init__(self, spec: QuotaSpec, now_s: float, *, is_restart: bool = False) -> None:
        self.spec = spec
        self._caps = spec.budget.caps
        # after a restart places that the last book gave away may still be used: begin behind them
        first_s = now_s + (HORIZON_S + spec.lateness_s if is_restart else 0.0)
        self.windows = [PacedWindow(limit, first_s=first_s) for limit in spec.limits]
        self.spent = spec.spent  # with what is reserved for calls on their way
        self._learning_until_s = first_s
        self._full_house_s = first_s + ARRIVAL_S
        self._workers: dict[int, _Worker] = {}
        self._hungry: dict[int, float] = {}  # refused, in the order of their first refusal

    @property
    def workers(self) -> int:
        """Workers that are known now."""
        return len(self._workers)

    @property
    def reserved(self) -> Cost:
        """Charged for calls on their way."""
        return total(worker.open for worker in self._workers.values())

    def join(self, number: int, now_s: float) -> None:
        """A worker has come. `number` is the caller's name for it."""
        taken = {worker.index for worker in self._workers.values()}
        index = next(place for place in range(len(taken) + 1) if place not in taken)
        self._workers[number] = _Worker(index, now_s)

    def leave(self, number: int, credits: Sequence[Credit], now_s: float) -> None:
        """A worker has gone. What it held in flight is free; what it did not account for stays charged."""
        worker = self._workers.pop(number)
        self._hungry.pop(number, None)
        self._settle(worker, credits, now_s)

    def ask(self, number: int, ask: Ask, now_s: float) -> Grant:
        """What this worker may do next."""
        worker = self._workers[number]
        worker.seen_s = now_s
        worker.demand = max(ask.demand, len(ask.calls))
        self._settle(worker, ask.credits, now_s)
        slots = self._slots(worker, ask, now_s)
        starts, wait_s, spent = self._place(number, worker, ask, now_s)
        return Grant(tuple(starts), slots, wait_s, max(self.spec.workers, len(self._workers)), worker.index, spent)

    # -- slots in flight

    def _slots(self, worker: _Worker, ask: Ask, now_s: float) -> int:
        """Its part of the slots; what others still hold is theirs until they have given it back."""
        worker.wants = max(ask.wants_in_flight, ask.in_flight)
        held = sum(other.slots for other in self._workers.values() if other is not worker)
        if now_s < self._learning_until_s:
            worker.slots = max(ask.holds_in_flight, ask.in_flight)
            return worker.slots
        wants = [other.wants for other in self._workers.values()]
        if now_s < self._full_house_s:
            wants += [self.spec.in_flight] * (self.spec.workers - len(wants))
        slots = max(0, min(worker.wants, level(wants, self.spec.in_flight), self.spec.in_flight - held))
        worker.slots = max(slots, ask.in_flight)
        return slots

    # -- places on the time lines

    def _place(self, number: int, worker: _Worker, ask: Ask, now_s: float) -> tuple[list[float], float, int]:
        starts: list[float] = []
        if not ask.calls:
            self._hungry.pop(number, None)
        demand = sum(other.demand for other in self._workers.values())
        if now_s < self._full_house_s:
            demand += worker.demand * max(0, self.spec.workers - len(self._workers))
        slower = self._kept_for_the_silent(now_s)
        fair_s = REFRESH_S * worker.demand / max(1, demand)
        taken_s = 0.0
        for cost in ask.calls:
            spent, is_waiting = self._over_budget(cost)
            if spent:
                return starts, SOONEST_S, 0 if is_waiting or starts else spent
            paced = _expected(cost, ask)
            at_s = max((w.next_s(cost.of(w.limit.meter), now_s) for w in self.windows), default=now_s)
            lasts_s = max((w.duration_s(paced.of(w.limit.meter) * slower) for w in self.windows), default=0.0)
            ahead_s = lasts_s * self._ahead_of(number)
            too_far_s = at_s + ahead_s - now_s - HORIZON_S
            if too_far_s > 0:
                if not starts:
                    self._hungry.setdefault(number, now_s)
                # whoever comes too early waits once more; too late would leave a gap
                return starts, max(SOONEST_S, 0.75 * too_far_s), 0
            if taken_s and taken_s + lasts_s / 2 > fair_s:
                return starts, 0.0, 0
            for window in self.windows:
                meter = window.limit.meter
                window.charge(cost.of(meter), at_s, paced=paced.of(meter) * slower)
            self._hungry.pop(number, None)
            self.spent += cost
            worker.open += cost
            taken_s += lasts_s
            starts.append(at_s - now_s)
        return starts, 0.0, 0

    def _ahead_of(self, number: int) -> int:
        """Workers that were refused before this one, and have not been served since."""
        for place, hungry in enumerate(self._hungry):
            if hungry == number:
                return place
        return len(self._hungry)

    def _kept_for_the_silent(self, now_s: float) -> float:
        """By how much the pace slows down for workers that may be living on their own share."""
        silence = (now_s - worker.seen_s for worker in self._workers.values())
        silent = sum(3 * REFRESH_S < silent_s < SILENT_S for silent_s in silence)
        return len(self._workers) / max(1, len(self._workers) - silent)

    def _over_budget(self, cost: Cost) -> tuple[int, bool]:
        """(1 + place of the cap that this call would break, or 0; whether calls on their way may give enough back)."""
        for place, (_, meter, most) in enumerate(self._caps, start=1):
            over = self.spent.of(meter) + cost.of(meter) - most
            if over > 0:
                return place, self.reserved.of(meter) > 0
        return 0, False

    def _settle(self, worker: _Worker, credits: Sequence[Credit], now_s: float) -> None:
        for credit in credits:
            back = credit.charged - credit.used
            worker.open -= credit.charged
            self.spent -= back
            for window in self.windows:
                meter = window.limit.meter
                if amount := back.of(meter):
                    window.credit(amount, now_s - credit.age_s)


def level(wants: Sequence[int], whole: int) -> int:
    """The most that each gets, so that all who want less get what they want and the sum is not above the whole."""
    left = whole
    for place, want in enumerate(sorted(wants)):
        share = left // (len(wants) - place)
        if want > share:
            return share
        left -= want
    return whole


def _expected(cost: Cost, ask: Ask) -> Cost:
    """What a call uses in the end, by what calls of this worker have used so far."""
    return Cost(
        cost.requests,
        round(cost.input_tokens * ask.input_ratio),
        round(cost.output_tokens * ask.output_ratio),
        cost.micros,
        cost.larger_tokens,
    )
