"""The quick start, small, in the session of the tests."""

from pathlib import Path

import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner

from jobs import quickstart
from jobs.stdlib_table import write_stdlib_table
from pipeline import ConfigError, Watcher, landed_table

ROWS = 40


def _placed(job, folder):
    """Under `folder`: the session's JVM keeps the working folder that it was started in."""
    source = job.source.model_copy(update={"path": str(folder / job.source.path)})
    return job.model_copy(
        update={"source": source, "sink": job.sink.model_copy(update={"path": str(folder / job.sink.path)})}
    )


def _run(spark, capsys, folder):
    jobs = [_placed(job, folder) for job in quickstart.load_jobs(ROWS)]
    write_stdlib_table(Path(jobs[0].source.path))
    watcher = Watcher()
    reports = quickstart.run_jobs(jobs, spark, watcher, ROWS)
    quickstart.show(jobs, reports, spark, watcher)
    return jobs, reports, capsys.readouterr().out


@pytest.mark.spark
def test_both_tables_land_and_a_second_run_asks_nothing(spark, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    jobs, reports, text = _run(spark, capsys, tmp_path)

    assert [(report.status, report.rows_landed, report.rows_failed) for report in reports] == [("landed", ROWS, 0)] * 2
    assert all(report.input_tokens > 0 for report in reports)
    docs = ds.dataset("out/docstrings").to_table().to_pylist()
    first = sorted(row["name"] for row in docs if len(row["doc"]) > 40)[:ROWS]
    summaries = {row["name"]: row for row in landed_table(spark, jobs[0]).collect()}
    assert sorted(summaries) == first
    assert all(row["response"] and row["error"] is None for row in summaries.values())
    assert not any("Summarise in one sentence" in row["response"] for row in summaries.values())
    vectors = landed_table(spark, jobs[1]).collect()
    assert [len(row["response"]) for row in vectors] == [256] * ROWS
    assert not any(row["is_normalized"] for row in vectors)
    assert all(row["norm"] == pytest.approx(sum(x * x for x in row["response"]) ** 0.5, rel=1e-4) for row in vectors)
    assert f"docstring_summaries.toml --limit {ROWS}" in text
    assert text.count("$ python -m jobs.run ") == 2

    _, again, text = _run(spark, capsys, tmp_path)
    assert [(report.status, report.requests_sent) for report in again] == [("nothing_to_do", 0)] * 2
    assert text.count(f"All {ROWS} rows have landed already, so nothing was asked.") == 2
    assert landed_table(spark, jobs[0]).count() == landed_table(spark, jobs[1]).count() == ROWS
    assert "is_normalized" in text

    Path("out/mine").mkdir()
    quickstart.delete_outputs(jobs)
    assert [path.name for path in Path("out").iterdir()] == ["mine"]


def test_fresh_deletes_nothing_outside_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    precious = tmp_path / "precious"
    precious.mkdir()
    jobs = quickstart.load_jobs()
    away = jobs[0].model_copy(update={"sink": jobs[0].sink.model_copy(update={"path": str(precious)})})
    (tmp_path / "out" / "docstrings").mkdir(parents=True)
    with pytest.raises(ConfigError, match="precious"):
        quickstart.delete_outputs([away, jobs[1]])
    assert precious.exists()
    assert (tmp_path / "out" / "docstrings").exists()


def test_help_says_what_will_happen_and_zero_rows_are_refused():
    shown = CliRunner().invoke(quickstart.app, ["--help"])
    assert shown.exit_code == 0
    assert all(
        word in shown.output for word in ("out/docstrings", "conf/docstring_embeddings.toml", "--fresh", "--rows")
    )
    assert CliRunner().invoke(quickstart.app, ["--rows", "0"]).exit_code == 2
