"""An open `ai_query` for Apache Spark. Names are resolved on first use: a worker process never loads what the driver needs."""

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.version import VERSION as __version__

if TYPE_CHECKING:
    from pipeline.config import JobFile, job_from_mapping, load_job
    from pipeline.errors import (
        ConfigError,
        ErrorCode,
        JobStopped,
        PipelineError,
        SinkError,
        SourceError,
        StateError,
    )
    from pipeline.report import Report
    from pipeline.run import run_job
    from pipeline.session import open_session
    from pipeline.watch import Watcher

__all__ = [
    "ConfigError",
    "ErrorCode",
    "JobFile",
    "JobStopped",
    "PipelineError",
    "Report",
    "SinkError",
    "SourceError",
    "StateError",
    "Watcher",
    "__version__",
    "job_from_mapping",
    "load_job",
    "open_session",
    "run_job",
]

_HOMES = {
    "JobFile": "config",
    "job_from_mapping": "config",
    "load_job": "config",
    "Report": "report",
    "Watcher": "watch",
    "open_session": "session",
    "run_job": "run",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pipeline.{_HOMES.get(name, 'errors')}"), name)
