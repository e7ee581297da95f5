"""A driver that a test can kill: takes commands as lines of JSON, one Spark session for all of them."""

import json
import os
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from pipeline import open_session, run_job
from pipeline.config import JobFile
from pipeline.errors import PipelineError
from pipeline.landed import landed_table, runs_spec
from pipeline.pieces import BUCKET_COLUMN
from pipeline.plans import prompt_spec, sink_spec
from pipeline.prompts import prompt_columns
from pipeline.sinks import open_sink
from pipeline.spark import bucketed
from tests.faults.stops import die, stopping_at
from tests.jobs import make_job


def _run(spark: SparkSession, job: JobFile, command: dict[str, Any]) -> dict[str, Any]:
    with stopping_at(spark, command.get("die_at"), die):
        report = run_job(job, spark, run_id=command.get("run_id"))
    names = ("status", "run_id", "stopped", "notes", "rows_landed", "rows_replayed", "requests_sent", "unbooked")
    return {name: getattr(report, name) for name in names}


def _buckets(spark: SparkSession, job: JobFile, command: dict[str, Any]) -> dict[str, int]:
    names = prompt_columns(prompt_spec(job))
    frame = bucketed(spark.read.parquet(str(job.source.path)), names, int(job.job.buckets or 1))
    return {row["id"]: row[BUCKET_COLUMN] for row in frame.select("id", BUCKET_COLUMN).collect()}


def _table(spark: SparkSession, job: JobFile, command: dict[str, Any]) -> dict[str, Any]:
    sink = open_sink(sink_spec(job))
    landed = sink.landed(spark)
    path = str(job.sink.path)
    runs = open_sink(runs_spec(job)).landed(spark)
    return {
        "rows": []
        if landed is None
        else [[row["id"], row["failed"]] for row in landed.selectExpr("id", "error is not null failed").collect()],
        "version": None
        if landed is None
        else max(int(commit.stem) for commit in Path(path, "_delta_log").glob("*.json"))  # asking Spark takes a second
        if job.sink.format == "delta"
        else sorted(str(file.relative_to(path)) for file in Path(path).glob("*=*/*.parquet")),
        "runs": [] if runs is None else [[r["run_id"], r["status"]] for r in runs.orderBy("sequence").collect()],
    }


def _vectors(spark: SparkSession, job: JobFile, command: dict[str, Any]) -> list[list[str | None]]:
    """Per landed row its key, its error's code and the bytes of its vector in base64."""
    table = landed_table(spark, job).selectExpr("id", "error.code", "response").toArrow()
    keys, codes = table.column("id").to_pylist(), table.column("code").to_pylist()
    vectors = [
        b64encode(np.asarray(vector.values, "<f4").tobytes()).decode() if vector.is_valid else None
        for vector in table.column("response")
    ]
    return [list(row) for row in zip(keys, codes, vectors, strict=True)]


COMMANDS: dict[str, Callable[[SparkSession, JobFile, dict[str, Any]], Any]] = {
    "run": _run,
    "buckets": _buckets,
    "table": _table,
    "vectors": _vectors,
}


def main() -> None:
    """Serves until its input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Spark prints must not be taken for a reply
    spark = open_session("faults", settings=json.loads(sys.argv[1]))
    replies.write(json.dumps({"ready": os.getpid()}) + "\n")
    for line in sys.stdin:
        command = json.loads(line)
        job = make_job(Path(command["folder"]), command["base_url"], **command["sections"])
        try:
            answer = {"answer": COMMANDS[command["do"]](spark, job, command)}
        except PipelineError as exc:
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        replies.write(json.dumps(answer) + "\n")
    spark.stop()


if __name__ == "__main__":
    main()
