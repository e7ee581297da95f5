"""The summary of a run, line by line, written out."""

import platform
from dataclasses import replace

from pipeline.report import NormStatistics, Report, versions

LANDED = Report(
    job="docs",
    run_id="r1",
    status="landed",
    source="table docs",
    sink="delta /out",
    state="/state",
    rows_source=12_000,
    rows_landed=10_000,
    rows_failed=30,
    requests_sent=10_050,
    requests_answered=9_990,
    input_tokens=1_234_567,
    output_tokens=8_900,
    calling_s=4.0,
    duration_s=9.94,
)


def test_a_landing_in_reading_order():
    assert LANDED.lines() == [
        ("run", "r1 of docs: landed"),
        ("source", "table docs: 12,000 rows"),
        ("landed", "10,000 rows: 9,970 answered, 30 failed"),
        ("requests", "10,050 sent, 9,990 answered"),
        ("tokens", "1,234,567 in, 8,900 out"),
        ("speed", "2,500 rows/s over 4.0 s (9.9 s in all)"),
        ("results", "delta /out"),
        ("state", "/state"),
    ]


def test_what_is_out_of_the_ordinary_has_its_words():
    report = replace(
        LANDED,
        status="partial",
        stopped="no credit",
        rows_skipped=2_000,
        rows_not_attempted=1_500,
        rows_replayed=40,
        requests_unknown=7,
        notes=["one", "two"],
    )
    added = set(report.lines()) - set(LANDED.lines())
    assert added == {
        ("run", "r1 of docs: partial"),
        ("stopped", "no credit"),
        ("source", "table docs: 12,000 rows, 2,000 landed before"),
        ("not attempted", "1,500 rows; a rerun asks them"),
        ("requests", "10,050 sent, 9,990 answered, 7 of unknown outcome; 40 rows replayed from the journal"),
        ("note", "one"),
        ("note", "two"),
    }
    assert [label for label, _ in report.lines()][:2] == ["run", "stopped"]


def test_errors_come_most_frequent_first():
    report = replace(LANDED, errors={"refusal": 3, "overloaded": 1_200, "bad_request": 7})
    assert [value for label, value in report.lines() if label == "error"] == [
        "1,200 x overloaded",
        "7 x bad_request",
        "3 x refusal",
    ]


def test_norms_of_vectors():
    report = replace(LANDED, norms=NormStatistics(9_970, 256, 1.00004, 0.5, 2.25, 0.998))
    assert ("norms", "mean 1.0000, 0.5000 to 2.2500; 99.8% normalised; 256 dimensions") in report.lines()
    unjudged = replace(LANDED, norms=NormStatistics(9_970, 256, 1.00004, 0.5, 2.25, None))
    assert ("norms", "mean 1.0000, 0.5000 to 2.2500; 256 dimensions") in unjudged.lines()


def test_a_run_that_had_nothing_to_do_counts_nothing():
    for status, words in (("nothing_to_do", "nothing to do"), ("already_landed", "already landed")):
        lines = dict(replace(LANDED, status=status).lines())
        assert lines["run"] == f"r1 of docs: {words}"
        assert set(lines) == {"run", "source", "results", "state"}


def test_no_time_is_no_speed():
    assert replace(LANDED, calling_s=0.0).rows_per_s == 0.0
    assert LANDED.rows_per_s == 2_500.0


def test_versions_name_what_is_installed_and_leave_out_what_is_not():
    found = versions()
    assert found["python"] == platform.python_version()
    assert {"pyarrow", "pyreqwest", "httpx"} <= set(found)
    assert all(found.values())
