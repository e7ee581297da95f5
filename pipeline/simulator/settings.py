"""Every knob of the simulator, as one frozen value. Pure."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from pipeline.simulator.quotas import Quotas

ModelKind = Literal["extract", "canned_chat", "wordllama", "wordllama_normalized", "canned_vectors", "sums"]

Overload = Literal["503", "429", "529", "queue"]

MODELS: dict[str, ModelKind] = {
    "local-chat": "extract",
    "canned-chat": "canned_chat",
    "local-embedding": "wordllama",
    "local-embedding-normalized": "wordllama_normalized",
    "canned-embedding": "canned_vectors",
    "local-custom": "sums",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """What the simulator serves, how slowly, and how badly. Raises ValueError where a number makes no sense."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one
    token: str | None = field(default=None, repr=False)  # None: nobody is asked for one
    models: Mapping[str, ModelKind] = field(default_factory=lambda: dict(MODELS))
    seed: int = 0  # of jitter, faults and canned vectors

    latency_ms: float = 0.0
    per_token_ms: float = 0.0  # per output token
    jitter: float = 0.0  # share of the latency (uniform) or sigma of its logarithm (lognormal); the mean stays
    jitter_shape: Literal["uniform", "lognormal"] = "uniform"

    quotas: Quotas = field(default_factory=Quotas)
    slots: int | None = None  # calls worked on at once; None: all of them
    overload: Overload = "503"  # what becomes of more: refused with this status, or they wait for a slot

    faults: Mapping[str, float] = field(default_factory=dict)  # fault name -> share of the calls
    log_requests: bool = False  # count the SHA-256 of each prompt or text

    summary_sentences: int = 1
    canned_answer: str = "A fixed answer, for measurements."
    canned_vectors: int = 1024  # dimensions of `canned-embedding`

    max_body_bytes: int = 4_000_000  # wire_formats 1.11
    max_inputs: int = 2048  # per embeddings call, wire_formats 4.2
    retry_after: str = "1"  # as the header goes out: seconds or an HTTP date
    retry_after_s: float = 1.0  # as the Databricks body says it
    hang_s: float = 600.0
    huge_body_bytes: int = 64 * 1024 * 1024
    bomb_bytes: int = 256 * 1024 * 1024  # after decompression
    drip_bytes: int = 16
    drip_interval_s: float = 0.1

    def __post_init__(self) -> None:
        for name in ("latency_ms", "per_token_ms", "jitter", "retry_after_s", "hang_s", "drip_interval_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)!r}")
        for name in ("summary_sentences", "canned_vectors", "max_body_bytes", "max_inputs", "drip_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if self.slots is not None and self.slots < 1:
            raise ValueError(f"slots must be at least 1, got {self.slots!r}; leave it out for no bound")
        if self.overload not in get_args(Overload):
            raise ValueError(f"overload is one of {', '.join(get_args(Overload))}, got {self.overload!r}")
        if self.jitter_shape == "uniform" and self.jitter > 1:
            raise ValueError(f"jitter must be at most 1 where jitter_shape is uniform, got {self.jitter!r}")

    def with_changes(self, changes: Mapping[str, Any]) -> "SimulatorSettings":
        """The same settings with some fields changed. Raises ValueError for a field that does not exist."""
        known = {item.name for item in fields(self)}
        if unknown := set(changes) - known:
            raise ValueError(f"unknown settings {sorted(unknown)}; known: {sorted(known)}")
        return replace(self, **changes)

    def to_json(self) -> str:
        """All fields, the token too: for the pipe to a child process, never for a log."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "SimulatorSettings":
        """The inverse of `to_json`."""
        document = json.loads(text)
        return cls().with_changes({**document, "quotas": Quotas(**document["quotas"])})
