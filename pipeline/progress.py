"""What a partition tells, and how it is told to stop."""

from dataclasses import dataclass, field
from typing import Protocol

from pipeline.engine import Tally
from pipeline.limits import QuotaView
from pipeline.tokens import Calibration


@dataclass(slots=True)
class Progress:
    """Where a partition stands; numbers only."""

    rows_in: int = 0
    rows_done: int = 0
    rows_failed: int = 0
    rows_replayed: int = 0
    rows_not_attempted: int = 0
    rows_broken: int = 0  # whose vector broke the contract
    vectors_summed: int = 0
    vector_sum: list[float] = field(default_factory=list)  # of the landed vectors, once the partition is finished
    in_flight: int = 0
    journal_damage: int = 0  # frames that were found damaged and not served
    tally: Tally = field(default_factory=Tally)
    quota: QuotaView = field(default_factory=QuotaView)
    calibration: Calibration = field(default_factory=dict)  # added here
    cost: float = 0.0  # of the answers so far, where the model has a price
    currency: str = ""
    stopped: str = ""
    stopped_code: str = ""
    is_finished: bool = False


class Control(Protocol):
    """The wire between a partition and the driver."""

    def report(self, progress: Progress) -> None:
        """Publishes where the partition stands."""
        ...

    def stop_reason(self) -> str | None:
        """Why the job wants this partition to send nothing more; None while it may go on."""
        ...


class NoControl:
    """Nobody watches and nobody stops."""

    def report(self, progress: Progress) -> None:
        """Ignored."""

    def stop_reason(self) -> str | None:
        """Never."""
        return None
