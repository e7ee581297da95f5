"""When the endpoint is away, and in which way. Pure, time is an argument."""

from dataclasses import dataclass
from math import inf
from typing import Literal

Outage = Literal["none", "unavailable", "reset", "refuse"]


@dataclass(frozen=True, slots=True)
class OutageSpan:
    """One way to be away, from one moment of the loop's clock to another."""

    mode: Outage = "none"
    begins_s: float = -inf
    ends_s: float = inf

    def at(self, now_s: float) -> Outage:
        """The mode now; `none` outside the span."""
        return self.mode if self.begins_s <= now_s < self.ends_s else "none"

    def next_change_s(self, now_s: float) -> float | None:
        """When the mode changes next by itself."""
        return next((at_s for at_s in (self.begins_s, self.ends_s) if now_s < at_s < inf), None)


def span(mode: Outage, after_s: float, for_s: float | None, now_s: float) -> OutageSpan:
    """An outage that begins in `after_s` and lasts `for_s`, without end where None.

    Raises ValueError for times that make no sense.
    """
    if not 0 <= after_s < inf or not (for_s is None or 0 < for_s < inf):
        raise ValueError(f"after_s is at least 0 and for_s more than 0, got {after_s!r} and {for_s!r}")
    begins_s = now_s + after_s if after_s else -inf
    return OutageSpan(mode, begins_s, inf if for_s is None else now_s + after_s + for_s)
