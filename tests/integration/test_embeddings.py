"""Embedding jobs over Spark: vectors bit for bit whatever happens on the way, types, long texts, drift."""

import contextlib
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pyspark.sql import DataFrame, SparkSession

from pipeline import audit_job, run_job
from pipeline.canary import TEXTS
from pipeline.columns import ARROW_TYPES
from pipeline.config import JobFile
from pipeline.landed import landed_table, runs_spec
from pipeline.simulator import Simulator, SimulatorSettings, canned_vector
from pipeline.simulator.handle import Handle
from pipeline.sinks import open_sink
from pipeline.vector_types import from_column
from tests.jobs import embedding_sections, make_job, numbered, write_source

pytestmark = pytest.mark.spark
DIMENSIONS = 64


def job_of(folder: Path, base_url: str, **sections: Any) -> JobFile:
    base = embedding_sections(encoding_format="base64")
    merged = {
        **base,
        "sink": {"format": "parquet"},
        "limits": {"in_flight": 4, "max_batch_rows": 16},
        "embedding": {"dimensions": DIMENSIONS},
    }
    for name, values in sections.items():
        merged[name] = {**merged.get(name, {}), **values}
    return make_job(folder, base_url, **merged)


def kill_a_worker(simulator: Handle, killed: list[int]) -> None:
    """In the middle of the job, a Python worker of Spark; notes its process id."""
    until_s = time.monotonic() + 60
    while simulator.bill().requests < 12 and time.monotonic() < until_s:
        time.sleep(0.005)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # one that has just ended
            family = (process, process.parent() or process)
            if not killed and all("daemon pyspark.worker" in " ".join(one.cmdline()) for one in family):
                process.send_signal(signal.SIGKILL)
                killed.append(process.pid)


def assert_exact(table: DataFrame, rows: list[dict[str, Any]], seed: int = 0) -> None:
    landed = {row["id"]: row for row in table.collect()}
    assert sorted(landed) == sorted(row["id"] for row in rows)
    for row in rows:
        vector = np.array(landed[row["id"]]["response"], np.float32)
        assert vector.tobytes() == canned_vector(row["doc"], DIMENSIONS, seed).tobytes(), row["id"]


def test_vectors_are_exact_under_faults_and_a_kill_and_a_changed_model_stops_the_next_run(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = numbered(300)
    rows[17]["doc"] = "[[fault:bad_request]] never"  # its batch is refused until it is alone
    write_source(tmp_path, rows)
    faults = {"wrong_order": 0.4, "error_500": 0.05, "rate_429": 0.05}
    settings = SimulatorSettings(
        canned_vectors=DIMENSIONS, faults=faults, latency_ms=40, retry_after="0", retry_after_s=0
    )
    with Simulator(settings) as simulator:
        job = job_of(tmp_path, simulator.base_url)
        killer = threading.Thread(target=kill_a_worker, args=(simulator, killed := []))
        killer.start()
        report = run_job(job, spark)
        killer.join()
        assert len(killed) == 1
        assert (report.status, report.rows_landed, report.errors) == ("landed", 300, {"bad_request": 1})
        table = landed_table(spark, job)
        assert_exact(table.where("error IS NULL"), [row for row in rows if row is not rows[17]])
        assert [text for text in audit_job(job, spark).differences if "more than once" not in text] == []
        norms = report.norms
        assert norms is not None
        vectors = np.array([canned_vector(row["doc"], DIMENSIONS) for row in rows if row is not rows[17]])
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        assert (norms.vectors, norms.dimensions) == (299, DIMENSIONS)
        assert norms.p1 == pytest.approx(np.sort(lengths)[2], rel=1e-6)
        assert norms.p99 == pytest.approx(np.sort(lengths)[296], rel=1e-6)
        assert norms.mean_vector == pytest.approx(np.linalg.norm(vectors.mean(axis=0)), rel=1e-4)

        write_source(tmp_path, [*rows, *numbered(20, start=300)])
        assert run_job(job, spark).rows_landed == 20  # the same model: its fixed texts are where they were
        runs_table = open_sink(runs_spec(job)).landed(spark)
        assert runs_table is not None
        assert runs_table.where("norms.mean_vector IS NOT NULL AND norms.p99 > norms.p1").count() == 2

    with Simulator(SimulatorSettings(canned_vectors=DIMENSIONS, seed=1)) as changed:
        write_source(tmp_path, [*rows, *numbered(40, start=300)])
        job = job_of(tmp_path, changed.base_url)
        stopped = run_job(job, spark)
        assert (stopped.status, stopped.rows_landed) == ("failed", 0)
        assert "32 of 32 fixed texts moved" in stopped.stopped
        assert changed.bill().requests == len(TEXTS) // 16  # and not one for the rows
        warned = run_job(job_of(tmp_path, changed.base_url, embedding={"drift": "warn"}), spark)
        assert (warned.status, warned.rows_landed) == ("landed", 20)
        assert any("32 of 32 fixed texts moved" in note for note in warned.notes)


@pytest.mark.parametrize("kind", ["double", "int8"])
def test_types_and_parts_of_long_texts_land_in_both_sinks(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    sentence = "This sentence has exactly fifty characters in it. "
    rows = [{"id": "short", "doc": "Short."}, {"id": "long", "doc": sentence * 5}, {"id": "none", "doc": None}]
    write_source(tmp_path, rows)
    is_rows = kind == "double"
    embedding = {
        "type": kind,
        "drift": "off",
        "long_text": "chunk",
        "max_text_tokens": 30,
        "chunks": "rows" if is_rows else "pooled",
        "truncate_to": 16,
    }
    with Simulator(SimulatorSettings(canned_vectors=DIMENSIONS)) as simulator:
        job = job_of(
            tmp_path, simulator.base_url, embedding=embedding, sink={"format": "parquet" if is_rows else "delta"}
        )
        report = run_job(job, spark)
        assert (report.status, report.errors) == ("landed", {"empty_input": 1})
        assert not audit_job(job, spark).differences
    found = landed_table(spark, job).orderBy("id", *(["chunk_index"] if is_rows else [])).toArrow()
    texts = [(sentence * 2).strip(), (sentence * 2).strip(), sentence.strip()]
    heads = [canned_vector(text, DIMENSIONS)[:16] for text in [*texts, "Short."]]
    expected = [head / np.linalg.norm(head) for head in heads]
    if is_rows:
        assert found.column("id").to_pylist() == ["long", "long", "long", "none", "short"]
        assert found.column("chunk_index").to_pylist() == [0, 1, 2, 0, 0]
        assert found.column("chunk_text").to_pylist() == [*texts, None, None]
    else:
        mean = np.average(expected[:3], axis=0, weights=[25, 25, 12])
        expected = [mean / np.linalg.norm(mean), expected[3]]
        assert found.column("id").to_pylist() == ["long", "none", "short"]
        assert found.column("chunk_count").to_pylist() == [3, 1, 1]
    answered = found.filter(found.column("error").is_null())
    column = answered.column("response").combine_chunks().cast(ARROW_TYPES[kind])  # type: ignore[index]
    scales = None if is_rows else answered.column("scale").combine_chunks()
    vectors = from_column(column, kind, scales)  # type: ignore[arg-type]
    np.testing.assert_allclose(vectors, expected, atol=1e-6 if is_rows else 5e-3)
