"""A Spark session that is quiet, has Delta where it is needed, and runs workers on this Python."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyspark
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from pipeline.errors import SourceError

# delta-spark 4.4.0 publishes a jar per Spark line; 4.4.1 has a wheel but no jar.
DELTA_VERSION = "4.4.0"
_DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
_DELTA_CATALOG = "org.apache.spark.sql.delta.catalog.DeltaCatalog"

# Of what Delta's package names as its own: Spark's jars have these, in versions of its choice. Without them a first start
# fetches 14 MB and not 89, and each start takes about a seventh less CPU (10.7 s and 13.1, 9.8 and 11.3).
_SPARK_HAS = (
    "com.fasterxml.jackson.core:*", "com.github.luben:zstd-jni", "io.airlift:aircompressor", "org.apache.hadoop:*",
    "org.apache.logging.log4j:*", "org.apache.parquet:*", "org.locationtech.jts:jts-core", "org.roaringbitmap:*",
    "org.scala-lang:*", "org.slf4j:slf4j-api", "org.xerial.snappy:snappy-java",
)  # fmt: skip

# Spark's default redaction misses these names; it is what keeps values out of the event log.
_REDACTED = r"(?i)secret|password|token|access[.]?key|credential|api[._-]?key|authorization|bearer"


# Calls, not the JVM, decide how long these programs run, and the JVM's optimising compiler never earns back what it takes
# from the workers' cores: of 60,000 rows at 100 ms a first job took 473 us of JVM per row with it and 210 without, a
# fourth one 73 and 63 (2 busy cores). Who computes much around the calls gives `SPARK_DRIVER_JAVA_OPTIONS` another value.
# The second option: alone, that compiler gets 48 MB for its code, of which tests used 46.
_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"


def open_session(app_name: str, *, cores: str = "*", settings: dict[str, str] | None = None) -> SparkSession:
    """The active session if there is one (a notebook, spark-submit), else a local one with Delta.

    A session made here writes Spark's own log to a file, which an error names; the terminal stays the job's.
    """
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit made the JVM: master and jars are its own
        return _submitted(builder).getOrCreate()
    builder = (
        _with_delta(builder)
        .master(os.environ.get("SPARK_MASTER", f"local[{cores}]"))
        .config("spark.jars.packages", delta_package())
        .config("spark.python.daemon.module", "pipeline.worker_daemon")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.memory", os.environ.get("SPARK_DRIVER_MEMORY", "2g"))
        .config("spark.driver.defaultJavaOptions", os.environ.get("SPARK_DRIVER_JAVA_OPTIONS", _JAVA_OPTIONS))
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.redaction.regex", _REDACTED)
        .config("spark.sql.debug.maxToStringFields", "200")
        .config("spark.databricks.delta.snapshotPartitions", "2")  # the default of 50 is for cluster-sized tables
        .config("spark.sql.shuffle.partitions", "8")
    )
    if not _asks_for_packages(settings or {}):  # Ivy would take them out of those packages too
        builder = builder.config("spark.jars.excludes", ",".join(_SPARK_HAS))
    for name, value in (settings or {}).items():
        builder = builder.config(name, value)
    log_file = Path(tempfile.gettempdir()) / f"spark-ai-query-{os.getpid()}.log"
    try:
        with _stderr_to(log_file):
            return builder.getOrCreate()
    except (PySparkException, OSError, RuntimeError) as exc:
        raise SourceError(_why_no_session(exc, log_file)) from exc


def _asks_for_packages(settings: dict[str, str]) -> bool:
    """Whether anything but Delta comes with the session: by its settings or as Spark's own start is told."""
    return "spark.jars.packages" in settings or "--packages" in os.environ.get("PYSPARK_SUBMIT_ARGS", "")


def delta_package() -> str:
    """The Maven coordinate of Delta for the installed Spark."""
    line = ".".join(pyspark.__version__.split(".")[:2])
    return f"io.delta:delta-spark_{line}_2.13:{DELTA_VERSION}"


def _submitted(builder: SparkSession.Builder) -> SparkSession.Builder:
    """A catalog whose class is not on the class path would break every query, Parquet's too."""
    SparkContext._ensure_initialized()
    jvm = SparkContext._jvm
    assert jvm is not None
    if jvm.org.apache.spark.util.Utils.classIsLoadable(_DELTA_CATALOG):
        builder = _with_delta(builder)
    if jvm.java.lang.System.getProperty("spark.log.level") is None:
        builder = builder.config("spark.log.level", "WARN")
    return builder


@contextlib.contextmanager
def without_query_log() -> Iterator[None]:
    """Keeps the Java stack trace that Spark logs for every wrong statement off the screen; the caller says it."""
    log = PySparkLogger.getLogger("SQLQueryContextLogger")
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_disabled


def _with_delta(builder: SparkSession.Builder) -> SparkSession.Builder:
    return builder.config("spark.sql.extensions", _DELTA_EXTENSION).config(
        "spark.sql.catalog.spark_catalog", _DELTA_CATALOG
    )


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """The JVM and its Python workers inherit this stderr for their whole life; ours comes back."""
    sys.stderr.flush()
    saved = os.dup(2)
    with path.open("ab") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


def _why_no_session(exc: Exception, log_file: Path) -> str:
    tail = log_file.read_text(errors="replace").strip().splitlines()[-1:] if log_file.exists() else []
    hint = ""
    if "JAVA" in str(exc).upper() or any("java" in line.lower() for line in tail):
        hint = " Spark 4 needs Java 17: install it, or set JAVA_HOME to it."
    reason = str(exc).splitlines()[0].rstrip(".") if str(exc) else type(exc).__name__
    return f"Spark did not start: {reason}.{hint} Its log: {log_file}"
