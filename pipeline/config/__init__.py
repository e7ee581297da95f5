"""The job file: what a person may write, checked before anything is read or sent."""

from pipeline.config.endpoints_file import EndpointsFile, NamedEndpointTable, endpoints_from_mapping, load_endpoints
from pipeline.config.job_file import JobFile
from pipeline.config.load import job_from_mapping, load_job, read_toml
from pipeline.config.models import (
    EMBEDDED,
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
from pipeline.config.prices_file import load_prices
from pipeline.references import parse_reference

__all__ = [
    "EMBEDDED",
    "AuthTable",
    "BudgetSection",
    "EmbeddingSection",
    "EndpointSection",
    "EndpointsFile",
    "JobFile",
    "JobSection",
    "LimitsSection",
    "NamedEndpointTable",
    "RequestSection",
    "RetrySection",
    "SinkSection",
    "SourceSection",
    "StateSection",
    "endpoints_from_mapping",
    "job_from_mapping",
    "load_endpoints",
    "load_job",
    "load_prices",
    "parse_reference",
    "read_toml",
]
