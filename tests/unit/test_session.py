"""What comes with a local session; the session itself is the integration tests'."""

import pytest

from pipeline.session import _asks_for_packages


@pytest.mark.parametrize(
    ("settings", "submit", "asks"),
    [
        ({}, None, False),
        ({"spark.sql.shuffle.partitions": "2"}, "--master local[2] pyspark-shell", False),
        ({"spark.jars.packages": "org.apache.hadoop:hadoop-aws:3.4.2"}, None, True),
        ({}, "--packages org.apache.hadoop:hadoop-aws:3.4.2 pyspark-shell", True),
    ],
)
def test_packages_of_ones_own_keep_their_jars(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], submit: str | None, asks: bool
) -> None:
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
    if submit is not None:
        monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", submit)
    assert _asks_for_packages(settings) is asks
