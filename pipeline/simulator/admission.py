"""Whether a call fits into all quotas, and how much of each is used second by second. Pure, time is an argument."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.simulator.quotas import WINDOWS_S, Quotas
from pipeline.simulator.windows import Bucket, Charge, Gate, Window

Kind = Literal["requests", "input", "output", "tokens"]
_KEPT_S = 7200  # of the use by second


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What was used of one limit: admitted amounts, less what was credited back, by second since the first call."""

    quota: float
    window_s: float
    refused: int  # calls that this limit refused
    per_second: tuple[float, ...]

    def utilisation(self, from_s: int = 0, to_s: int | None = None) -> float:
        """Used share of the quota between two seconds since the first call; the last, unfinished one is left out."""
        part = self.per_second[from_s : len(self.per_second) - 1 if to_s is None else to_s]
        return sum(part) / (self.quota * len(part) / self.window_s) if part else 0.0

    def windows(self) -> list[float]:
        """The used share of each whole window, one after the other."""
        length = int(self.window_s)
        starts = range(0, len(self.per_second) - length + 1, length)
        return [sum(self.per_second[start : start + length]) / self.quota for start in starts]

    def to_json(self) -> dict[str, Any]:
        """As `GET /bill` shows it."""
        return {
            "quota": self.quota,
            "window_s": self.window_s,
            "refused": self.refused,
            "utilisation": self.windows(),
            "per_second": self.per_second,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "LimitUse":
        """The inverse of `to_json`."""
        return cls(document["quota"], document["window_s"], document["refused"], tuple(document["per_second"]))


class Limit:
    """One limit with its gates; all must admit."""

    def __init__(self, name: str, quota: float, quotas: Quotas, now_s: float) -> None:
        window_s = WINDOWS_S[name]
        self.name = name
        self.quota = quota
        self.kind: Kind = name.split("_", 1)[0]  # type: ignore[assignment] # the names of WINDOWS_S begin with it
        self._window_s = window_s
        self._gates: list[Gate] = []
        if quotas.enforce in ("window", "both"):
            self._gates.append(Window(quota, window_s))
        if quotas.enforce in ("bucket", "both"):
            per_s = quota / window_s
            # a bucket that holds less than one could never admit a request
            self._gates.append(Bucket(max(1.0, per_s * min(quotas.burst_s, window_s)), per_s, now_s))
        if quotas.slice_s is not None and window_s == 60:
            self._gates.append(Window(max(1.0, quota * quotas.slice_s / window_s), quotas.slice_s))
        self._used: defaultdict[int, float] = defaultdict(float)  # whole second -> amount
        self.refused = 0

    def wait_s(self, cost: float, now_s: float) -> float:
        """Seconds until all gates admit; inf where one never will."""
        return max([gate.wait_s(cost, now_s) for gate in self._gates])

    def take(self, cost: float, now_s: float) -> Charge:
        """Count it in all gates."""
        charge = Charge(now_s, cost)
        for gate in self._gates:
            gate.take(charge)
        self._used[int(now_s)] += cost
        if len(self._used) > _KEPT_S:
            del self._used[min(self._used)]
        return charge

    def settle(self, charge: Charge, amount: float, now_s: float) -> None:
        """`amount` was used in the end: credit the rest of the charge back, or charge what it did not cover."""
        back = charge.amount - amount
        if back < 0:
            self.take(-back, now_s)
        if back <= 0:
            return
        for gate in self._gates:
            gate.credit(charge, back, now_s)
        charge.amount = amount
        if (second := int(charge.at_s)) in self._used:
            self._used[second] -= back

    def free(self, now_s: float) -> float:
        """What fits now."""
        return min([gate.free(now_s) for gate in self._gates])

    def full_again_s(self, now_s: float) -> float:
        """Seconds until nothing of it is in use."""
        return max([gate.full_again_s(now_s) for gate in self._gates])

    def use(self) -> LimitUse:
        """What was used so far."""
        first, last = (min(self._used), max(self._used)) if self._used else (0, -1)
        per_second = tuple(self._used.get(second, 0.0) for second in range(max(first, last - _KEPT_S), last + 1))
        return LimitUse(self.quota, self._window_s, self.refused, per_second)

    def reset_use(self) -> None:
        """Begin the count anew; what the gates remember stays."""
        self._used.clear()
        self.refused = 0


@dataclass(frozen=True, slots=True)
class Refusal429:
    """Which limit refused a call, and what it would have needed."""

    limit: Limit
    cost: float
    wait_s: float  # inf: the call alone is larger than the limit


@dataclass(slots=True)
class Ticket:
    """The charges of one admitted call."""

    charges: dict[str, Charge]  # by limit
    input_tokens: int
    output_tokens: int = 0  # made for it, once it is known


class Admission:
    """All limits of the endpoint."""

    def __init__(self, quotas: Quotas, now_s: float) -> None:
        self._quotas = quotas
        given = {name: getattr(quotas, name) for name in WINDOWS_S}
        self.limits = [Limit(name, quota, quotas, now_s) for name, quota in given.items() if quota is not None]

    def admit(self, input_tokens: int, max_tokens: int | None, now_s: float) -> Ticket | Refusal429:
        """Charge the call to all limits, or to none of them and name the limit that takes longest to admit it.

        `max_tokens` is None where the call asked for none, and 0 where it makes no output.
        """
        if not self.limits:
            return Ticket({}, input_tokens)
        costs = {limit.name: self._cost(limit.kind, input_tokens, max_tokens) for limit in self.limits}
        waits = [(limit.wait_s(costs[limit.name], now_s), limit) for limit in self.limits]
        wait_s, slowest = max(waits, key=lambda pair: pair[0])
        if wait_s > 0:
            slowest.refused += 1
            if self._quotas.refused_count:
                for limit in self.limits:
                    if limit.kind == "requests":
                        limit.take(1, now_s)
            return Refusal429(slowest, costs[slowest.name], wait_s)
        return Ticket({limit.name: limit.take(costs[limit.name], now_s) for limit in self.limits}, input_tokens)

    def settle(self, ticket: Ticket, now_s: float) -> None:
        """The call ended: credit back what was reserved and not made, or charge what was made and not reserved."""
        output_tokens = ticket.output_tokens
        for limit in self.limits:
            charge = ticket.charges.get(limit.name)
            if charge is None or limit.kind in ("requests", "input"):
                continue
            if self._quotas.reserve == "max_tokens":
                made = output_tokens if limit.kind == "output" else ticket.input_tokens + output_tokens
                limit.settle(charge, made, now_s)
            elif output_tokens and (limit.kind == "output" or self._quotas.reserve == "none"):
                limit.take(output_tokens, now_s)

    def use(self) -> dict[str, LimitUse]:
        """Limit -> what was used of it."""
        return {limit.name: limit.use() for limit in self.limits}

    def reset_use(self) -> None:
        """Begin the counts anew."""
        for limit in self.limits:
            limit.reset_use()

    def _cost(self, kind: Kind, input_tokens: int, max_tokens: int | None) -> float:
        reserved = self._quotas.default_reserve_tokens if max_tokens is None else max_tokens
        rule = self._quotas.reserve
        if kind == "requests":
            return 1
        if kind == "input":
            return input_tokens
        if kind == "output":
            return reserved if rule == "max_tokens" else 0
        if rule == "larger":  # without max_tokens OpenAI has only its estimate to go by
            return max(input_tokens, max_tokens or 0)
        return input_tokens + (reserved if rule == "max_tokens" else 0)
