"""What a person gets wrong: one sentence, the right exit status, and nothing lost."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE, Popen

import pyspark
import pytest
from pyspark.sql import SparkSession

from pipeline import ConfigError, SinkError, SourceError, run_job
from pipeline.plans import sink_spec
from pipeline.simulator import Simulator, SimulatorProcess, SimulatorSettings
from pipeline.sinks import open_sink
from tests.jobs import make_job, numbered, write_conf, write_source

pytestmark = pytest.mark.spark
_SPARK_SUBMIT = str(Path(pyspark.__file__).parent / "bin" / "spark-submit")
_RUN = str(Path(__file__).parents[2] / "jobs" / "run.py")
NOWHERE = "http://127.0.0.1:9/v1"  # nothing may be sent: nobody would answer


def test_a_missing_source_is_named(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"\[source\].*source\.parquet"):
        run_job(make_job(tmp_path, NOWHERE), spark)


def test_a_column_that_the_prompt_reads_and_the_source_lacks(spark: SparkSession, tmp_path: Path) -> None:
    write_source(tmp_path, numbered(3))
    with pytest.raises(SourceError, match=r"no column document; it has doc, id"):
        run_job(make_job(tmp_path, NOWHERE, request={"prompt": "{{ document }}"}), spark)


def test_templates_tell_capitals_apart(spark: SparkSession, tmp_path: Path) -> None:
    write_source(tmp_path, numbered(3))
    with pytest.raises(SourceError, match=r"no column Doc, but doc; templates tell capitals apart"):
        run_job(make_job(tmp_path, NOWHERE, request={"prompt": "{{ Doc }}"}), spark)


@pytest.mark.parametrize("run_id", ["manual__2026-11-21T10:00:00+00:00", "a/b", "", "x" * 129])
def test_a_run_id_that_cannot_name_a_folder_is_refused(spark: SparkSession, tmp_path: Path, run_id: str) -> None:
    write_source(tmp_path, numbered(3))
    with pytest.raises(ConfigError, match="--run-id"):
        run_job(make_job(tmp_path, NOWHERE), spark, run_id=run_id)
    assert not (tmp_path / "state").exists()


def test_a_key_that_is_not_unique_is_shown(spark: SparkSession, tmp_path: Path) -> None:
    write_source(tmp_path, [*numbered(3), *numbered(1)])
    with pytest.raises(SourceError, match=r"not unique: 4 rows have 3 keys, for example id = 'k00000' \(2 rows\)"):
        run_job(make_job(tmp_path, NOWHERE), spark)


def test_a_column_that_collides_names_the_way_out(spark: SparkSession, tmp_path: Path) -> None:
    write_source(tmp_path, [{"id": "a", "doc": "b", "Response": "c"}])
    with pytest.raises(ConfigError, match=r"Response.*prefix"):
        run_job(make_job(tmp_path, NOWHERE), spark)
    with Simulator() as simulator:
        job = make_job(tmp_path, simulator.base_url, sink={"prefix": "ai_", "format": "parquet"})
        assert run_job(job, spark).rows_landed == 1
    table = open_sink(sink_spec(job)).landed(spark)
    assert table is not None
    assert {"Response", "ai_response", "ai_run_id", "ai_request_id"} <= set(table.columns)


@pytest.mark.parametrize("sink", ["delta", "parquet"])
def test_a_sink_that_cannot_be_written_is_refused_first(spark: SparkSession, tmp_path: Path, sink: str) -> None:
    write_source(tmp_path, numbered(3))
    (tmp_path / "file").write_text("not a folder")
    job = make_job(tmp_path, NOWHERE, sink={"format": sink, "path": str(tmp_path / "file" / "results")})
    with pytest.raises(SinkError, match=r"\[sink\].*file"):
        run_job(job, spark)


def test_a_session_without_delta_says_how_to_get_it(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path, numbered(3))
    monkeypatch.setattr("pipeline.sinks.delta._DELTA_LOG", "org.apache.spark.sql.delta.NotThere")
    with pytest.raises(SinkError, match=r"no Delta\. Start it with --packages io\.delta:delta-spark_"):
        run_job(make_job(tmp_path, NOWHERE, sink={"format": "delta"}), spark)


@pytest.mark.parametrize("sink", ["delta", "parquet"])
def test_a_table_with_other_columns_is_refused_with_both_schemas(
    spark: SparkSession, tmp_path: Path, sink: str
) -> None:
    write_source(tmp_path, numbered(3))
    path = str(tmp_path / "results")
    target = path if sink == "delta" else f"{path}/run_id=other"
    spark.range(3).withColumnRenamed("id", "number").write.format(sink).save(target)
    with pytest.raises(SinkError, match=r"number: bigint there, not written here.*There: struct<.*Here: struct<"):
        run_job(make_job(tmp_path, NOWHERE, sink={"format": sink}), spark)
    with pytest.raises(SinkError, match="not a results table"):
        run_job(make_job(tmp_path, NOWHERE, sink={"format": sink}, job={"mode": "overwrite"}), spark)


def test_a_prompt_of_three_megabytes_is_a_row_like_any_other(spark: SparkSession, tmp_path: Path) -> None:
    rows = numbered(3)
    rows[1]["doc"] = "x" * 3_000_000
    rows[2]["doc"] = "y" * 5_000_000
    write_source(tmp_path, rows)
    with Simulator() as simulator:
        report = run_job(make_job(tmp_path, simulator.base_url), spark)
        assert simulator.bill().requests == 2
    assert report.rows_landed == 3
    assert report.errors == {"input_too_large": 1}


def _run(arguments: list[str], folder: Path, by: Sequence[str] = (sys.executable, "-m", "jobs.run")) -> "Popen[str]":
    return Popen(
        [*by, *arguments],
        cwd=folder, stdout=PIPE, stderr=PIPE, text=True,
        env={**os.environ, "SPARK_MASTER": "local[2]", "PYSPARK_PYTHON": sys.executable},
    )  # fmt: skip


def test_a_job_file_with_mistakes_exits_with_2_and_one_line_each(tmp_path: Path) -> None:
    conf = write_conf(tmp_path, NOWHERE, 2_000)
    done = _run([conf, "--set", "limits.in_fligth=3", "--set", "job.mode=append2"], tmp_path)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 2
    assert "in_flight" in err
    assert len(err.strip().splitlines()) == 2, err
    assert out == ""


def test_ctrl_c_lands_what_is_finished_and_a_rerun_by_spark_submit_buys_only_the_rest(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = 400
    with SimulatorProcess(SimulatorSettings(latency_ms=200, log_requests=True)) as simulator:
        conf = write_conf(tmp_path, simulator.base_url, rows)  # of which 8 are in flight at once: 10 s of calls
        process = _run([conf], tmp_path)
        deadline = time.monotonic() + 120
        while simulator.bill().requests < 50:
            assert time.monotonic() < deadline, "no request arrived"
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 130, err
        assert "interrupted by Ctrl-C" in out
        done = spark.read.parquet(str(tmp_path / "results")).count()
        assert 0 < done < rows

        simulator.set_latency(latency_ms=0)
        lightly = ["--driver-java-options", os.environ["SPARK_DRIVER_JAVA_OPTIONS"], "--conf", "spark.ui.enabled=false"]
        process = _run([conf], tmp_path, [_SPARK_SUBMIT, "--master", "local[2]", *lightly, _RUN])
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
        assert "landed" in out
        assert spark.read.parquet(str(tmp_path / "results")).select("id").distinct().count() == rows
        assert max(simulator.texts().bought.values()) == 1
