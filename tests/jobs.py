"""Small jobs over small tables, for the tests that need Spark."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import BillFigures
from pipeline.config import JobFile, job_from_mapping
from pipeline.simulator import Handle


def write_source(folder: Path, rows: list[dict[str, Any]], name: str = "source.parquet") -> str:
    """A Parquet file of these rows; returns its path."""
    path = folder / name
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def numbered(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows with a key and a text of their own."""
    return [{"id": f"k{i:05d}", "doc": f"Row {i} says hello. It is short."} for i in range(start, start + count)]


def make_job(folder: Path, base_url: str, **sections: Mapping[str, Any]) -> JobFile:
    """A chat job over `source.parquet` into Parquet, which takes a third of Delta's time.

    Sections given here are merged over the defaults, None removes.
    """
    document: dict[str, dict[str, Any]] = {
        "job": {"name": "test"},
        "source": {"format": "parquet", "path": str(folder / "source.parquet"), "key": ["id"]},
        "request": {"task": "chat", "prompt": "Say: {{ doc }}", "parameters": {"max_tokens": 20}},
        "endpoint": {"name": "canned-chat", "api": "openai", "base_url": base_url, "send_run_id": True},
        "limits": {"in_flight": 16},
        "retry": {"base_s": 0.01},
        "sink": {"format": "parquet", "path": str(folder / "results")},
    }
    for section, values in sections.items():
        merged = {**document.get(section, {}), **values}
        document[section] = {name: value for name, value in merged.items() if value is not None}
    return job_from_mapping(document, "test.toml")


def write_conf(folder: Path, base_url: str, rows: int, *, name: str = "test", in_flight: int = 8) -> str:
    """The job file of a chat job over `rows` numbered rows into Parquet, and its source; returns its path."""
    source = write_source(folder, numbered(rows))
    conf = folder / "job.toml"
    conf.write_text(
        f"""
[job]
name = "{name}"
[source]
format = "parquet"
path = "{source}"
key = ["id"]
[request]
task = "chat"
prompt = "Say: {{{{ doc }}}}"
[endpoint]
name = "canned-chat"
api = "openai"
base_url = "{base_url}"
[limits]
in_flight = {in_flight}
[sink]
format = "parquet"
path = "{folder / "results"}"
""",
        encoding="utf-8",
    )
    return str(conf)


def figures(simulator: Handle) -> BillFigures:
    """The simulator's own count, as the audit takes it."""
    bill = simulator.bill()
    return BillFigures(bill.requests, bill.answers, bill.input_tokens, bill.output_tokens)


def embedding_sections(**parameters: Any) -> dict[str, dict[str, Any]]:
    """What turns `make_job` into an embedding job over canned vectors."""
    return {
        "request": {"task": "embedding", "prompt": None, "text": "{{ doc }}", "parameters": parameters},
        "endpoint": {"name": "canned-embedding"},
    }
