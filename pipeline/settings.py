"""From the sections that job files and endpoints files share to the values that the parts below take."""

import os
from collections.abc import Mapping
from typing import Any

from pipeline.auth import Credentials
from pipeline.config import (
    PRESETS,
    AuthTable,
    EmbeddingSection,
    EndpointSection,
    LimitsSection,
    NamedEndpointTable,
    RetrySection,
)
from pipeline.limits import Limit, Meter, ReserveOutput
from pipeline.records import Task
from pipeline.retry import RetrySettings
from pipeline.transports import TransportSpec
from pipeline.vectors import EmbeddingContract
from pipeline.version import VERSION

# What each rate of `[limits]` counts, and over how many seconds.
_RATES: tuple[tuple[str, Meter, float], ...] = (
    ("requests_per_second", "requests", 1.0),
    ("requests_per_minute", "requests", 60.0),
    ("requests_per_hour", "requests", 3600.0),
    ("input_tokens_per_minute", "input_tokens", 60.0),
    ("output_tokens_per_minute", "output_tokens", 60.0),
    ("tokens_per_minute", "tokens", 60.0),
)


def rate_limits(limits: LimitsSection) -> tuple[Limit, ...]:
    """The rates of `[limits]`: those given, over those of the preset; the provider's rule says how tokens count."""
    preset = PRESETS[limits.preset].amounts if limits.preset is not None else {}
    amounts = {name: getattr(limits, name) or preset.get(name) for name, _, _ in _RATES}
    of_both: Meter = "larger_tokens" if reserve_output(limits) == "larger" else "tokens"
    return tuple(
        Limit(name, of_both if meter == "tokens" else meter, amount, window_s)
        for name, meter, window_s in _RATES
        if (amount := amounts[name])
    )


def reserve_output(limits: LimitsSection) -> ReserveOutput:
    """The provider's rule for output that has not come yet; Databricks' where nobody says."""
    preset = PRESETS[limits.preset].reserve_output if limits.preset is not None else "max_tokens"
    return limits.reserve_output or preset


def longest_output(task: Task, parameters: Mapping[str, Any]) -> int | None:
    """Tokens of one answer at most, where the request says; 0 for embeddings."""
    if task is Task.EMBEDDING:
        return 0
    said = (parameters.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    return next((value for value in said if isinstance(value, int)), None)


def retry_settings(retry: RetrySection) -> RetrySettings:
    """`[retry]`."""
    return RetrySettings(
        max_attempts=retry.max_attempts,
        base_s=retry.base_s,
        max_wait_s=retry.max_wait_s,
        deadline_s=retry.deadline_s,
        max_unknown_resends=retry.max_unknown_resends,
        max_invalid_resends=retry.max_invalid_resends,
        outage_limit_s=retry.outage_limit_s,
    )


def embedding_contract(embedding: EmbeddingSection) -> EmbeddingContract:
    """`[embedding]`."""
    return EmbeddingContract(
        normalization=embedding.normalization,
        tolerance=embedding.tolerance,
        dimensions=embedding.dimensions,
        finite=embedding.finite,
        non_zero=embedding.non_zero,
        model=embedding.model,
    )


def transport_spec(
    endpoint: EndpointSection | NamedEndpointTable, *, in_flight: int, response_bytes: int
) -> TransportSpec:
    """How a server is reached, by one worker that has `in_flight` calls open at most."""
    return TransportSpec(
        timeout_s=endpoint.timeout_s,
        connect_timeout_s=endpoint.connect_timeout_s,
        read_timeout_s=endpoint.read_timeout_s,
        max_response_bytes=response_bytes,
        in_flight=in_flight,
        ca_bundle=os.path.abspath(endpoint.ca_bundle) if endpoint.ca_bundle else None,
        user_agent=f"spark-ai-query/{VERSION}",
    )


def credentials_of(auth: AuthTable | None) -> Credentials | None:
    """`auth`; a reference, nothing is resolved."""
    return Credentials.parse(auth.scheme, auth.secret) if auth else None
