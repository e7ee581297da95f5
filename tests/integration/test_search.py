"""Real vectors without a server: the standard library's docstrings, embedded in the workers and searched."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs.search import app
from jobs.stdlib_table import write_stdlib_table
from pipeline import job_of_results, load_job, nearest_rows, overlap, rank_overlap, run_job
from pipeline.errors import ConfigError

pytestmark = pytest.mark.spark

CONF = Path(__file__).parents[2] / "conf" / "docstring_embeddings.toml"


def test_the_nearest_rows_mean_what_was_asked(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = write_stdlib_table(tmp_path / "docs")
    results = str(tmp_path / "results")
    report = run_job(
        load_job(CONF, [f"source.path={tmp_path}/docs", f"sink.path={results}", "endpoint.base_url=local"]), spark
    )
    assert (report.status, report.rows_landed, report.errors) == ("landed", docs, {})
    assert report.rows_per_s > 500  # 3,000 and more on two idle cores; this machine is never idle

    found = nearest_rows(job_of_results(results), "copy a file", spark, k=10)
    assert "shutil.copyfile" in [row.key for row in found.rows]
    assert [row.score for row in found.rows] == sorted((row.score for row in found.rows), reverse=True)
    assert found.columns == ("doc", "name")
    other = nearest_rows(job_of_results(results), "parse command line arguments", spark, k=10)
    assert any(row.key.startswith("argparse.") for row in other.rows)
    assert overlap(found, found) == 1.0
    assert overlap(found, other) == 0.0
    assert (rank_overlap(found, found), rank_overlap(found, other)) == (pytest.approx(1.0), 0.0)

    shown = CliRunner().invoke(app, [results, "copy a file", "--k", "5", "--compare", results, "--instruction", ""])
    assert shown.exit_code == 0, shown.output
    printed = shown.output + capsys.readouterr().out
    assert "shutil.copyfile" in printed
    assert "Of 5 rows 100% are found in both; rank-biased overlap 1.00, where 1 is the same order." in printed

    with pytest.raises(ConfigError, match=r"there is no .*nowhere.state/job.json"):
        job_of_results(str(tmp_path / "nowhere"))
