"""An open `ai_query` for Apache Spark. Names are resolved on first use: a worker process never loads what the driver needs."""

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.version import VERSION as __version__

if TYPE_CHECKING:
    from pipeline.audit import BillFigures, audit_job
    from pipeline.conditions import AiFunctionError
    from pipeline.config import JobFile, job_from_mapping, load_job
    from pipeline.errors import (
        ConfigError,
        ErrorCode,
        JobStopped,
        LeaseHeld,
        PipelineError,
        SinkError,
        SourceError,
        StateError,
        StatementFailed,
        StatementRefused,
    )
    from pipeline.functions import ai_query
    from pipeline.landed import landed_table
    from pipeline.preview import Preview, preview_job
    from pipeline.report import Report
    from pipeline.run import run_job
    from pipeline.search import SearchResult, job_of_results, nearest_rows, overlap, rank_overlap
    from pipeline.session import open_session
    from pipeline.shelf import journal_report, prune_journals
    from pipeline.sibling_columns import (
        ai_analyze_sentiment,
        ai_classify,
        ai_count_tokens,
        ai_embed,
        ai_extract,
        ai_filter,
        ai_fix_grammar,
        ai_gen,
        ai_mask,
        ai_similarity,
        ai_summarize,
        ai_translate,
    )
    from pipeline.sql_functions import register
    from pipeline.statements import embedded_endpoints, run_sql, split_statements
    from pipeline.tables import SqlResult
    from pipeline.watch import Watcher

__all__ = [
    "AiFunctionError",
    "BillFigures",
    "ConfigError",
    "ErrorCode",
    "JobFile",
    "JobStopped",
    "LeaseHeld",
    "PipelineError",
    "Preview",
    "Report",
    "SearchResult",
    "SinkError",
    "SourceError",
    "SqlResult",
    "StateError",
    "StatementFailed",
    "StatementRefused",
    "Watcher",
    "__version__",
    "ai_analyze_sentiment",
    "ai_classify",
    "ai_count_tokens",
    "ai_embed",
    "ai_extract",
    "ai_filter",
    "ai_fix_grammar",
    "ai_gen",
    "ai_mask",
    "ai_query",
    "ai_similarity",
    "ai_summarize",
    "ai_translate",
    "audit_job",
    "embedded_endpoints",
    "job_from_mapping",
    "job_of_results",
    "journal_report",
    "landed_table",
    "load_job",
    "nearest_rows",
    "open_session",
    "overlap",
    "preview_job",
    "prune_journals",
    "rank_overlap",
    "register",
    "run_job",
    "run_sql",
    "split_statements",
]

_HOMES = {
    "AiFunctionError": "conditions",
    "ai_query": "functions",
    **dict.fromkeys(
        (
            "ai_analyze_sentiment",
            "ai_classify",
            "ai_count_tokens",
            "ai_embed",
            "ai_extract",
            "ai_filter",
            "ai_fix_grammar",
            "ai_gen",
            "ai_mask",
            "ai_similarity",
            "ai_summarize",
            "ai_translate",
        ),
        "sibling_columns",
    ),
    "register": "sql_functions",
    "BillFigures": "audit",
    "audit_job": "audit",
    "journal_report": "shelf",
    "prune_journals": "shelf",
    "JobFile": "config",
    "job_from_mapping": "config",
    "load_job": "config",
    "landed_table": "landed",
    "Preview": "preview",
    "preview_job": "preview",
    "Report": "report",
    "Watcher": "watch",
    "open_session": "session",
    "run_job": "run",
    **dict.fromkeys(("SearchResult", "job_of_results", "nearest_rows", "overlap", "rank_overlap"), "search"),
    "SqlResult": "tables",
    "embedded_endpoints": "statements",
    "run_sql": "statements",
    "split_statements": "statements",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pipeline.{_HOMES.get(name, 'errors')}"), name)
