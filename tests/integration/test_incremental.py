"""Runs after the first: changed rows, failed rows, streams and change feeds; each buys only what is new."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipeline import ConfigError, audit_job, run_job
from pipeline.config import JobFile
from pipeline.pending import pending_rows
from pipeline.plans import prompt_spec, sink_spec, source_spec
from pipeline.shelf import journal_report, prune_journals
from pipeline.simulator import Simulator, SimulatorSettings
from pipeline.simulator.handle import Handle
from pipeline.sinks import open_sink
from pipeline.spark import read_source
from tests.jobs import figures, make_job, numbered, write_source

pytestmark = pytest.mark.spark

DELTA = {"format": "delta"}  # rows are replaced


@pytest.fixture
def simulator() -> Iterator[Handle]:
    with Simulator(SimulatorSettings(log_requests=True)) as handle:
        yield handle


def landed(spark: SparkSession, job: JobFile) -> dict[str, object]:
    frame = open_sink(sink_spec(job)).landed(spark)
    assert frame is not None
    rows = frame.collect()
    assert len({row["id"] for row in rows}) == len(rows), "a key landed twice"
    return {row["id"]: row for row in rows}


def test_changed_rows_are_asked_again_and_replaced(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    job = make_job(tmp_path, simulator.base_url, job={"mode": "merge"}, source={"changed": True}, sink=DELTA)
    rows = numbered(12)
    rows[5]["doc"] = None
    write_source(tmp_path, rows)
    assert run_job(job, spark).rows_landed == 12
    replaced = landed(spark, job)["k00002"]["usage"]  # type: ignore[index]
    rows = numbered(13)
    rows[5]["doc"] = None
    rows[2]["doc"] = "Something else."
    write_source(tmp_path, rows)
    report = run_job(job, spark)
    assert (report.status, report.rows_landed, report.requests_sent) == ("landed", 2, 2)
    assert landed(spark, job)["k00002"]["doc"] == "Something else."  # type: ignore[index]
    assert run_job(job, spark).status == "nothing_to_do"
    audit = audit_job(job, spark, figures(simulator))
    assert audit.differences == []
    # the answer that was replaced is in the journal and on the bill, no more in the table
    assert [value for _, value in audit.figures if "in no row" in value] == [
        f"{replaced['input_tokens']} input tokens were bought and are in no row: replaced, or of no use",
        f"{replaced['output_tokens']} output tokens were bought and are in no row: replaced, or of no use",
    ]


def test_rows_that_landed_with_an_error_are_replaced(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    rows = numbered(10)
    rows[1]["doc"] = "One [[fault:error_500:2]]"
    rows[2]["doc"] = "Two [[fault:bad_request]]"
    write_source(tmp_path, rows)
    job = make_job(tmp_path, simulator.base_url, retry={"max_attempts": 2}, sink=DELTA)
    assert run_job(job, spark).errors == {"server_error": 1, "bad_request": 1}
    assert run_job(job, spark).status == "nothing_to_do"

    again = run_job(job, spark, retry_errors="transient")
    assert (again.status, again.rows_landed, again.requests_sent) == ("landed", 1, 1)
    table = landed(spark, job)
    assert table["k00001"]["error"] is None  # type: ignore[index]
    assert table["k00002"]["error"]["code"] == "bad_request"  # type: ignore[index]
    assert run_job(job, spark, retry_errors="transient").status == "nothing_to_do"
    source, sink = read_source(spark, source_spec(job)), open_sink(sink_spec(job))
    assert pending_rows(spark, job, source, sink, prompt_spec(job), "all").rows == 1


def test_retrying_errors_needs_a_table_that_can_replace_rows(
    spark: SparkSession, tmp_path: Path, simulator: Handle
) -> None:
    write_source(tmp_path, numbered(3))
    job = make_job(tmp_path, simulator.base_url)
    run_job(job, spark)
    with pytest.raises(ConfigError, match=r"--retry-errors .*delta"):
        run_job(job, spark, retry_errors="all")


def test_a_fresh_run_buys_anew_and_a_changed_prompt_says_so(
    spark: SparkSession, tmp_path: Path, simulator: Handle
) -> None:
    write_source(tmp_path, numbered(4))
    job = make_job(tmp_path, simulator.base_url, job={"mode": "overwrite"})
    run_job(job, spark)
    assert run_job(job, spark).requests_sent == 0
    assert run_job(job, spark, fresh=True).requests_sent == 4
    assert run_job(job, spark).requests_sent == 0
    other = make_job(
        tmp_path, simulator.base_url, job={"mode": "overwrite"}, request={"prompt": "Other: {{ doc }}"},
        limits={"in_flight": 3},
    )  # fmt: skip
    report = run_job(other, spark)
    assert report.requests_sent == 4
    assert any("what is asked changed" in note for note in report.notes)
    lines = journal_report(other, now_s=2e9)
    assert sum("journal (" in value for _, value in lines) == 3
    assert len(prune_journals(other, 1.0, now_s=4e9)) == 3
    assert "nothing was asked yet" in journal_report(other, now_s=2e9)[-1][1]


@pytest.mark.parametrize("sink", ["delta", "parquet"])
def test_a_stream_of_files_lands_once_per_batch(
    spark: SparkSession, tmp_path: Path, simulator: Handle, sink: str
) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    write_source(folder, numbered(8), "a.parquet")
    job = make_job(
        tmp_path,
        simulator.base_url,
        source={"path": str(folder), "trigger": "available_now"},
        sink={"format": sink},
    )
    first = run_job(job, spark)
    assert (first.status, first.rows_landed) == ("landed", 8)
    assert run_job(job, spark).status == "nothing_to_do"
    write_source(folder, numbered(5, start=8), "b.parquet")
    second = run_job(job, spark)
    assert (second.status, second.rows_landed, second.requests_sent) == ("landed", 5, 5)
    assert len(landed(spark, job)) == 13
    assert simulator.bill().requests == 13


def test_a_stopped_batch_is_replayed_by_the_next_run(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    rows = numbered(30)
    rows[20]["doc"] = "Stop [[fault:quota_exhausted:1]]"  # once: Spark tries the task again, which then sends nothing
    write_source(folder, rows, "a.parquet")
    job = make_job(
        tmp_path, simulator.base_url, source={"path": str(folder), "trigger": "available_now"}, limits={"in_flight": 2}
    )
    report = run_job(job, spark)
    assert report.status == "failed"
    assert "quota" in report.stopped
    again = run_job(job, spark)
    assert (again.status, again.rows_landed) == ("landed", 30)
    assert max(simulator.texts().bought.values()) == 1


def test_a_change_feed_asks_what_changed(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    source = str(tmp_path / "source_table")
    frame = spark.createDataFrame(numbered(6), "id string, doc string")
    frame.write.format("delta").save(source)
    # the table is older than its feed
    spark.sql(f"ALTER TABLE delta.`{source}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    job = make_job(
        tmp_path,
        simulator.base_url,
        job={"mode": "merge"},
        sink=DELTA,
        source={"format": "delta", "path": source, "trigger": "available_now", "change_feed": True},
    )
    assert run_job(job, spark).rows_landed == 6
    spark.sql(f"UPDATE delta.`{source}` SET doc = 'New text.' WHERE id = 'k00002'")
    spark.sql(f"DELETE FROM delta.`{source}` WHERE id = 'k00003'")
    report = run_job(job, spark)
    assert (report.status, report.rows_landed, report.requests_sent) == ("landed", 1, 1)
    assert landed(spark, job)["k00002"]["doc"] == "New text."  # type: ignore[index]


def test_the_books_agree_after_an_ordinary_run(spark: SparkSession, tmp_path: Path, simulator: Handle) -> None:
    rows = numbered(20)
    rows[3]["doc"] = "Bad [[fault:unprocessable_422]]"
    write_source(tmp_path, rows)
    job = make_job(tmp_path, simulator.base_url)
    run_job(job, spark)
    audit = audit_job(job, spark, figures(simulator))
    assert audit.differences == []
    assert any("20 requests sent" in value for _, value in audit.figures)
