"""The job file: what a person may write, checked before anything is read or sent."""

from pipeline.config.job_file import JobFile
from pipeline.config.load import job_from_mapping, load_job
from pipeline.config.models import (
    EMBEDDED,
    AuthTable,
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
from pipeline.config.references import parse_reference

__all__ = [
    "EMBEDDED",
    "AuthTable",
    "EmbeddingSection",
    "EndpointSection",
    "JobFile",
    "JobSection",
    "LimitsSection",
    "RequestSection",
    "RetrySection",
    "SinkSection",
    "SourceSection",
    "StateSection",
    "job_from_mapping",
    "load_job",
    "parse_reference",
]
