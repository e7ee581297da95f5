"""What admits amounts over time: the sliding window and the token bucket. Pure, time is an argument."""

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Protocol


@dataclass(slots=True)
class Charge:
    """An admitted amount. It shrinks when a part of it is credited back."""

    at_s: float
    amount: float


class Gate(Protocol):
    """Admits or says how long to wait."""

    def wait_s(self, cost: float, now_s: float) -> float:
        """Seconds until `cost` fits if nothing else comes; 0 where it fits now, inf where it never will."""

    def take(self, charge: Charge) -> None:
        """Count a charge, whether it fits or not."""

    def credit(self, charge: Charge, back: float, now_s: float) -> None:
        """Give `back` of this charge back; its amount is still the old one."""

    def free(self, now_s: float) -> float:
        """What fits now."""

    def full_again_s(self, now_s: float) -> float:
        """Seconds until all of it is free again."""


class Window:
    """At most `quota` within any `length_s` seconds: charge by charge, no fixed grid."""

    def __init__(self, quota: float, length_s: float) -> None:
        self._quota = quota
        self._length_s = length_s
        self._charges: deque[Charge] = deque()
        self._used = 0.0

    def wait_s(self, cost: float, now_s: float) -> float:
        """As Gate has it."""
        self._expire(now_s)
        missing = self._used + cost - self._quota
        if missing <= 0:
            return 0.0
        if cost > self._quota:
            return inf
        for charge in self._charges:
            missing -= charge.amount
            if missing <= 0:
                return charge.at_s + self._length_s - now_s
        return inf  # unreachable: the charges sum to what is used

    def take(self, charge: Charge) -> None:
        """As Gate has it."""
        self._charges.append(charge)
        self._used += charge.amount

    def credit(self, charge: Charge, back: float, now_s: float) -> None:
        """Nothing comes back of a charge that has left the window."""
        self._expire(now_s)
        if charge.at_s > now_s - self._length_s:
            self._used -= back

    def free(self, now_s: float) -> float:
        """As Gate has it."""
        self._expire(now_s)
        return max(0.0, self._quota - self._used)

    def full_again_s(self, now_s: float) -> float:
        """When the youngest charge leaves."""
        self._expire(now_s)
        return self._charges[-1].at_s + self._length_s - now_s if self._charges else 0.0

    def _expire(self, now_s: float) -> None:
        charges = self._charges
        while charges and charges[0].at_s <= now_s - self._length_s:
            self._used -= charges.popleft().amount
        if not charges:
            self._used = 0.0  # sums of fractions leave a rest


class Bucket:
    """Refills at `per_s` up to `capacity`; starts full. Charges made without asking may overdraw it."""

    def __init__(self, capacity: float, per_s: float, now_s: float) -> None:
        self._capacity = capacity
        self._per_s = per_s
        self._level = capacity
        self._at_s = now_s

    def wait_s(self, cost: float, now_s: float) -> float:
        """As Gate has it."""
        self._refill(now_s)
        if cost > self._capacity:
            return inf
        return max(0.0, cost - self._level) / self._per_s

    def take(self, charge: Charge) -> None:
        """As Gate has it."""
        self._refill(charge.at_s)
        self._level -= charge.amount

    def credit(self, charge: Charge, back: float, now_s: float) -> None:
        """As Gate has it; what runs over is lost."""
        self._refill(now_s)
        self._level = min(self._capacity, self._level + back)

    def free(self, now_s: float) -> float:
        """As Gate has it."""
        self._refill(now_s)
        return max(0.0, self._level)

    def full_again_s(self, now_s: float) -> float:
        """As Gate has it."""
        self._refill(now_s)
        return (self._capacity - self._level) / self._per_s

    def _refill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._level = min(self._capacity, self._level + (now_s - self._at_s) * self._per_s)
            self._at_s = now_s
