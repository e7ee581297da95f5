"""Which quotas the simulator enforces, and after whose rules: settings. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any, Literal, get_args

Reserve = Literal["max_tokens", "larger", "none"]
Enforce = Literal["window", "bucket", "both"]
RateHeaders = Literal["none", "retry_after", "openai", "azure", "anthropic"]
DatabricksBody = Literal["documented", "seen"]

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "reserve": get_args(Reserve),
    "enforce": get_args(Enforce),
    "headers": get_args(RateHeaders),
    "databricks_body": get_args(DatabricksBody),
}
WINDOWS_S: Mapping[str, float] = {  # limit -> what it is counted over
    "requests_per_second": 1,
    "requests_per_minute": 60,
    "requests_per_hour": 3600,
    "input_tokens_per_minute": 60,
    "output_tokens_per_minute": 60,
    "tokens_per_minute": 60,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """One quota for all models; None: no such limit. Raises ValueError for what makes no sense.

    `reserve` is what an admitted call takes of the output's limit, and of `tokens_per_minute` (wire_formats 4):
    `max_tokens`: input and `max_tokens`, the unused part credited back when the call ends (Databricks);
    `larger`: the larger of input and `max_tokens`, never credited back (OpenAI; of `tokens_per_minute` only,
    output is charged when it is made); `none`: output is charged when it is made (Anthropic).
    """

    requests_per_second: float | None = None
    requests_per_minute: float | None = None
    requests_per_hour: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    tokens_per_minute: float | None = None

    reserve: Reserve = "max_tokens"
    default_reserve_tokens: int = 1000  # of a call without max_tokens; Databricks does not say its own
    enforce: Enforce = "window"  # sliding windows, token buckets, or both at once
    burst_s: float = 60.0  # a full bucket holds this many seconds of the quota
    slice_s: float | None = None  # minute limits also hold in proportion over each slice: 60 a minute are 1 a second
    refused_count: bool = False  # refused calls use up the request limits too (OpenAI)
    headers: RateHeaders = "retry_after"  # on refusals; those of a provider on answers too
    databricks_body: DatabricksBody = "documented"  # which of the two 429 bodies Databricks' routes send

    def __post_init__(self) -> None:
        for name in WINDOWS_S:
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise ValueError(f"{name} must be positive and finite, got {value!r}; leave it out for no limit")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not isinstance(self.refused_count, bool):
            raise ValueError(f"refused_count is true or false, got {self.refused_count!r}")
        if not 0 < self.burst_s < inf:
            raise ValueError(f"burst_s must be positive and finite, got {self.burst_s!r}")
        if self.slice_s is not None and not 0 < self.slice_s < 60:
            raise ValueError(f"slice_s must lie between 0 and 60, got {self.slice_s!r}")
        if self.default_reserve_tokens < 0:
            raise ValueError(f"default_reserve_tokens must not be negative, got {self.default_reserve_tokens!r}")

    def with_changes(self, changes: Mapping[str, Any]) -> "Quotas":
        """The same quotas with some fields changed. Raises ValueError for a field that does not exist."""
        known = [item.name for item in fields(self)]
        if unknown := sorted(set(changes) - set(known)):
            raise ValueError(f"unknown quota settings {unknown}; known: {', '.join(known)}")
        try:
            return replace(self, **changes)
        except TypeError:
            raise ValueError(f"a quota is a number, got {dict(changes)}") from None
