"""What a partition is told: everything that a worker needs, as values that travel."""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.auth import Credentials
from pipeline.columns import ResultShape
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.prices import Price
from pipeline.prompts import PromptSpec
from pipeline.quota import QuotaLink
from pipeline.replay import RetryFailed
from pipeline.tokens import NO_CALIBRATION, Calibration
from pipeline.transports import TransportSpec
from pipeline.vector_types import VectorType


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a worker needs, frozen and picklable; holds references to secrets, never secrets."""

    prompt: PromptSpec
    endpoint: EndpointSpec
    window: WindowSettings = field(default_factory=WindowSettings)
    transport_kind: str = "httptools"
    transport: TransportSpec = field(default_factory=TransportSpec)
    credentials: Credentials | None = None
    retry_failed: RetryFailed = "transient"
    asks_unknown_again: bool = False  # a person asked for it, past max_unknown_resends
    run_id: str = ""
    prefix: str = ""
    link: QuotaLink | None = None  # to the job's quota server; None: this worker's static share
    vectors: VectorType = "float"
    max_error_ratio: float | None = None  # share of vectors that break the contract
    price: Price | None = None  # of the model, where one is known
    calibration: Calibration = field(default_factory=lambda: NO_CALIBRATION)  # of token estimates, by earlier runs
    on_unfinished: Literal["drop", "raise"] = "drop"  # raise: a sink that must not publish a part of the rows

    @property
    def shape(self) -> ResultShape:
        """Which columns are added."""
        long_texts = self.prompt.long_texts
        return ResultShape(self.prompt.task, self.prefix, self.vectors, long_texts.policy, long_texts.is_pooled)
