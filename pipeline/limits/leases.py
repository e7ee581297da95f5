"""What a worker asks the job's quota for and is granted; frozen values, and their form on the wire. Pure.

Only numbers travel. Amounts are [requests, input tokens, output tokens, millionths of the currency, the larger of both
kinds of tokens].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.limits.amounts import Cost

# Calls named in one question, and starts that one grant may hold: both stay well below a frame of 4 KiB.
MOST_CALLS = 64
MOST_CREDITS = 24


@dataclass(frozen=True, slots=True)
class Credit:
    """Calls that ended: what was charged for them and what they used; `age_s` since they started."""

    age_s: float
    charged: Cost
    used: Cost

    def to_wire(self) -> list[Any]:
        """As JSON's numbers and lists."""
        return [round(self.age_s, 2), _amounts(self.charged), _amounts(self.used)]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a worker has in flight, wants to start next, and knows of what it started."""

    in_flight: int = 0  # calls on their way
    wants_in_flight: int = 0  # calls that it could have on their way
    holds_in_flight: int = 0  # its present share of the slots
    demand: int = 0  # calls that it could start until the next question
    calls: tuple[Cost, ...] = ()  # the first of them, in order
    credits: tuple[Credit, ...] = ()
    input_ratio: float = 1.0  # what calls use by what is charged for them, as learned
    output_ratio: float = 1.0

    def to_wire(self) -> list[Any]:
        """As JSON's numbers and lists."""
        return [
            self.in_flight,
            self.wants_in_flight,
            self.holds_in_flight,
            self.demand,
            [_amounts(cost) for cost in self.calls],
            [credit.to_wire() for credit in self.credits],
            round(self.input_ratio, 4),
            round(self.output_ratio, 4),
        ]


def to_ask(value: Any) -> Ask:
    """An ask from the wire. Raises ValueError for everything that is not one."""
    fields = _list(value, 8)
    calls = _list(fields[4])
    if len(calls) > MOST_CALLS:
        raise ValueError("too many calls")
    in_flight, wants, holds, demand = (_count(field) for field in fields[:4])
    return Ask(
        in_flight,
        wants,
        holds,
        demand,
        tuple(_cost(call) for call in calls),
        to_credits(fields[5]),
        _number(fields[6]),
        _number(fields[7]),
    )


def to_credits(value: Any) -> tuple[Credit, ...]:
    """Credits from the wire. Raises ValueError for everything that is none."""
    credits = [_list(credit, 3) for credit in _list(value)]
    if len(credits) > MOST_CREDITS:
        raise ValueError("too many credits")
    return tuple(Credit(_number(age_s), _cost(charged), _cost(used)) for age_s, charged, used in credits)


@dataclass(frozen=True, slots=True)
class Grant:
    """When the calls that were asked for may start, in their order, and what else the job's quota says."""

    starts_in_s: tuple[float, ...] = ()  # for the first of the calls asked for
    in_flight: int = 0  # share of the slots from now on
    wait_s: float = 0.0  # before asking again, where less was granted than asked for
    share: int = 1  # this worker's part of the quota where the server is lost: one of `share`
    index: int = 0  # which of them
    spent: int = 0  # 1 + place of the budget's cap that is used up; 0 while none is

    def to_wire(self) -> list[Any]:
        """As JSON's numbers and lists."""
        starts = [round(start_s, 4) for start_s in self.starts_in_s]
        return [starts, self.in_flight, round(self.wait_s, 4), self.share, self.index, self.spent]


def to_grant(value: Any) -> Grant:
    """A grant from the wire. Raises ValueError for everything that is not one."""
    starts, in_flight, wait_s, share, index, spent = _list(value, 6)
    return Grant(
        tuple(_number(start_s) for start_s in _list(starts)),
        _count(in_flight),
        _number(wait_s),
        max(1, _count(share)),
        _count(index),
        _count(spent),
    )


def _amounts(cost: Cost) -> list[int]:
    return [cost.requests, cost.input_tokens, cost.output_tokens, cost.micros, cost.larger_tokens]


def _cost(value: Any) -> Cost:
    return Cost(*(_count(amount) for amount in _list(value, 5)))


def _list(value: Any, length: int | None = None) -> Sequence[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ValueError("not a list of the right length")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("not a count")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value < 1e9:
        raise ValueError("not a number from 0 to a thousand million")
    return float(value)
