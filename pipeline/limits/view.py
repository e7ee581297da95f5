"""What a person is shown of limits and budget; numbers only. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(slots=True)
class QuotaView:
    """Where one worker's admission stands, or the sum over workers."""

    in_flight_limit: int = 0  # calls at once that are admitted now: the smaller of lease and what AIMD found
    retries: int = 0
    retries_held: int = 0  # times the retry budget made one wait
    outages: int = 0  # times the circuit breaker opened
    outage_s: float = 0.0  # how long the endpoint has been failing now; 0 while it answers
    probes: int = 0
    tolerated_drops: float = 0.0  # the share of 429s and the like that was found not to depend on our load
    leased: int = 0  # 1: the job's quota server says what may start
    unleased: int = 0  # 1: it could never be reached, the worker lived on its static share

    def of_ended(self) -> "QuotaView":
        """What still counts once the worker has ended."""
        return replace(self, in_flight_limit=0, outage_s=0.0, leased=0)


def added_views(views: Iterable[QuotaView]) -> QuotaView:
    """The sum; the longest outage and the largest tolerated share."""
    total = QuotaView()
    for view in views:
        total.in_flight_limit += view.in_flight_limit
        total.retries += view.retries
        total.retries_held += view.retries_held
        total.outages += view.outages
        total.outage_s = max(total.outage_s, view.outage_s)
        total.probes += view.probes
        total.tolerated_drops = max(total.tolerated_drops, view.tolerated_drops)
        total.leased += view.leased
        total.unleased += view.unleased
    return total


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit or cap of the job, as the quota server counts it."""

    name: str  # as in the job file
    used: float  # in the last window; for a budget, in all runs
    amount: float

    @property
    def share(self) -> float:
        """0 to 1."""
        return min(1.0, self.used / self.amount) if self.amount else 1.0
