"""One Spark session per process of a test run, and the flag for the long versions."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # half of what the pure floors take would be its import
    from pyspark.sql import SparkSession

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
# The sessions' own options, and another collector: after four files of tests G1 had taken a sixth of the JVM's CPU, most of
# it for marking, which a heap of tables with twelve rows never needs. The processes that tests start inherit them.
os.environ.setdefault(
    "SPARK_DRIVER_JAVA_OPTIONS",
    "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC -XX:MetaspaceSize=400m -Xms512m",
)
# Workers of Spark and processes that tests start import the package from this checkout, wherever they run.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long versions of the tests too")


def pytest_configure(config: pytest.Config) -> None:
    """Laws are tried with few examples; with --long, with as many as a nightly run can afford."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # tries none itself: its workers would start a quarter of a second later
    from hypothesis import settings

    settings.register_profile("short", max_examples=30, deadline=None)
    settings.register_profile("long", max_examples=2000, deadline=None)
    settings.load_profile("long" if config.getoption("--long") else "short")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="long version; run with --long"))


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SparkSession]":
    """Two slots, as everywhere in the figures; four attempts per task, since a local master allows only one."""
    from pipeline import open_session

    os.environ["SPARK_MASTER"] = "local[2,4]"
    settings = {
        "spark.default.parallelism": "2",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),  # another process has its own
    }
    session = open_session("tests", settings=settings)
    yield session
    session.stop()
