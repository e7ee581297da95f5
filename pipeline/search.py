"""The rows of a results table that are nearest to a text, embedded as the table's rows were."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType

from pipeline import embedding_plans, plans
from pipeline.config import JobFile, job_from_mapping, load_job
from pipeline.errors import ConfigError, SourceError
from pipeline.landed import landed_table
from pipeline.landing import absolute
from pipeline.long_texts import LongTexts
from pipeline.nearest import SCORE, Nearest, rank_biased_overlap
from pipeline.prompts import prompt_columns
from pipeline.records import Task
from pipeline.servers import served
from pipeline.spark import first_line, quoted
from pipeline.storage import Store, open_store
from pipeline.vector_types import SCALED
from pipeline.vectors import Matrix
from pipeline.worker import run_partition

_JOB = "job.json"


@dataclass(frozen=True, slots=True)
class Found:
    """One row: its cosine to the text, its key as text, and the columns that were embedded."""

    score: float
    key: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The nearest rows, the nearest first; `columns` are the names of `Found.texts`."""

    columns: tuple[str, ...]
    rows: list[Found]


def note_job(state: Store, job: JobFile) -> None:
    """Leaves the job beside its results, so that a search needs only their path; references, never secrets."""
    state.write_atomic(_JOB, orjson.dumps(job.model_dump(mode="json", exclude_unset=True)))


def job_of_results(results: str) -> JobFile:
    """The job behind a results table, by the table's path or the job's file. Raises ConfigError."""
    if results.endswith(".toml"):
        return load_job(results)
    path = f"{results.rstrip('/')}.state"
    found = open_store(absolute(path)).find(_JOB)
    if found is None:
        raise ConfigError(f"{results}: there is no {path}/{_JOB}, which a run leaves; give the job file instead")
    return job_from_mapping(orjson.loads(found), f"{path}/{_JOB}")


def nearest_rows(
    job: JobFile, text: str, spark: SparkSession, k: int = 10, instruction: str | None = None
) -> SearchResult:
    """The `k` rows nearest to the text. Raises ConfigError, SinkError, or SourceError where it got no vector.

    `instruction` is put before the text instead of what the job or its model says of queries.
    """
    if job.request.task is not Task.EMBEDDING:
        raise ConfigError(f'job {job.job.name}: [request] task is "{job.request.task}"; only vectors can be searched')
    query = embed_query(job, text, instruction)
    prefix, kind = job.sink.prefix, job.embedding.type
    table = landed_table(spark, job).where(F.col(f"{prefix}error").isNull())
    asked = prompt_columns(plans.prompt_spec(job))
    shown = [name for name in asked if name in table.columns]
    chunk = [f"{prefix}chunk_text"] if f"{prefix}chunk_text" in table.columns else []
    keys = list(job.source.key) or shown
    scale = f"{prefix}scale" if kind in SCALED else None
    vectors = [f"{prefix}response", *([scale] if scale else [])]
    names = list(dict.fromkeys([*keys, *shown, *chunk]))
    nearest = Nearest(query, k, kind, f"{prefix}response", scale)
    rows = _collected(table.select(*[F.col(quoted(name)) for name in [*names, *vectors]]), nearest, names)
    rows.sort(key=lambda row: (-row[SCORE], str([row[name] for name in keys])))
    return SearchResult(
        (*shown, *chunk),
        [
            Found(
                row[SCORE],
                " · ".join(str(row[name]) for name in keys),
                tuple("" if row[name] is None else str(row[name]) for name in [*shown, *chunk]),
            )
            for row in rows[:k]
        ],
    )


def overlap(ours: SearchResult, theirs: SearchResult) -> float:
    """The share of our rows that are among theirs, by key."""
    keys = {row.key for row in theirs.rows}
    return sum(row.key in keys for row in ours.rows) / max(1, len(ours.rows))


def rank_overlap(ours: SearchResult, theirs: SearchResult) -> float:
    """How much the two orders agree, by key: rank-biased overlap, 0 to 1, the first rows counting most."""
    return rank_biased_overlap([row.key for row in ours.rows], [row.key for row in theirs.rows])


def embed_query(job: JobFile, text: str, instruction: str | None = None) -> Matrix:
    """The text's vector, shape (dimensions,), by the job's endpoint and contract, behind the instruction for queries."""
    with served(job) as base_url:
        plan = plans.worker_plan(job, base_url, "search", plans.quota_spec(job, 1, None))
        if instruction is None:
            instruction = embedding_plans.instruction(job, role="query")
        prompt = replace(plan.prompt, template="{{ text }}", instruction=instruction, long_texts=LongTexts())
        plan = replace(plan, prompt=prompt, prefix="", vectors="float")
        rows = [row for part in run_partition([_one(text)], plan) for row in part.to_pylist()]
    if not rows or rows[0]["error"] is not None:
        why = rows[0]["error"]["message"] if rows else "the endpoint refused to answer"
        raise SourceError(f"the text got no vector from {job.endpoint.name}: {why}")
    return np.array(rows[0]["response"], np.float32)


def _one(text: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": [text]})


def _collected(table: DataFrame, nearest: Nearest, names: Sequence[str]) -> list[dict[str, Any]]:
    kept = [table.schema[name] for name in names]
    schema = StructType([*kept, StructField(SCORE, DoubleType())])
    try:
        return [row.asDict() for row in table.mapInArrow(nearest, schema).collect()]
    except PySparkException as exc:
        raise SourceError(f"the table cannot be searched: {first_line(exc)}") from exc
