"""Limits of providers by name, as data. Figures change and depend on the account: a preset is where to start. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Preset = Literal[
    "databricks-pay-per-token",
    "databricks-provisioned-throughput",
    "databricks-gte",
    "databricks-bge",
    "openai",
    "anthropic",
]


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What a provider admits: amounts by the names of `[limits]`, its rule for output, and where that was read."""

    source: str
    reserve_output: Literal["max_tokens", "larger", "estimate", "none"] = "max_tokens"
    amounts: Mapping[str, float] = field(default_factory=dict)


PRESETS: Mapping[Preset, ProviderLimits] = {
    "databricks-pay-per-token": ProviderLimits(
        "Databricks, Foundation Model APIs limits, 2026-06-18: separate input and output tokens per minute and requests "
        "per hour, max_tokens reserved and credited back; 200,000 is the documentation's own example, 2 a second and "
        "1,200 an hour are its 2025 figures for Llama 3.3 70B",
        "max_tokens",
        {"requests_per_second": 2, "requests_per_hour": 1_200, "input_tokens_per_minute": 200_000},
    ),
    "databricks-provisioned-throughput": ProviderLimits(
        "Databricks, Foundation Model APIs limits, 2026-06-18: no token limits, 200 requests a second per workspace",
        "none",
        {"requests_per_second": 200},
    ),
    "databricks-gte": ProviderLimits(
        "Databricks' 2025 figure for GTE, as quoted in lotus-data/lotus#138", "none", {"requests_per_second": 150}
    ),
    "databricks-bge": ProviderLimits(
        "Databricks' 2025 figure for BGE, as quoted in lotus-data/lotus#138", "none", {"requests_per_second": 600}
    ),
    "openai": ProviderLimits(
        "OpenAI, Rate limits: a call is charged the larger of max_tokens and an estimate from its characters; amounts "
        "depend on the tier",
        "larger",
    ),
    "anthropic": ProviderLimits(
        "Anthropic: max_tokens does not count toward output tokens per minute; amounts depend on the tier", "none"
    ),
}
