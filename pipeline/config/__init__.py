"""The job file: what a person may write, checked before anything is read or sent."""

from pipeline.config.endpoints_file import EndpointsFile, NamedEndpointTable, endpoints_from_mapping, load_endpoints
from pipeline.config.job_file import JobFile
from pipeline.config.known_models import KnownModel, find_model
from pipeline.config.load import job_from_mapping, load_job, read_toml
from pipeline.config.models import (
    EMBEDDED,
    LOCAL,
    AuthTable,
    BudgetSection,
    EmbeddingSection,
    EndpointSection,
    JobSection,
    LimitsSection,
    RequestSection,
    RetrySection,
    SinkSection,
    SourceSection,
    StateSection,
)
from pipeline.config.presets import PRESETS, ProviderLimits
from pipeline.config.prices_file import load_prices
from pipeline.references import parse_reference

__all__ = [
    "EMBEDDED",
    "LOCAL",
    "PRESETS",
    "AuthTable",
    "BudgetSection",
    "EmbeddingSection",
    "EndpointSection",
    "EndpointsFile",
    "JobFile",
    "JobSection",
    "KnownModel",
    "LimitsSection",
    "NamedEndpointTable",
    "ProviderLimits",
    "RequestSection",
    "RetrySection",
    "SinkSection",
    "SourceSection",
    "StateSection",
    "endpoints_from_mapping",
    "find_model",
    "job_from_mapping",
    "load_endpoints",
    "load_job",
    "load_prices",
    "parse_reference",
    "read_toml",
]
