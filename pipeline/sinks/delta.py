"""Delta: appends carry an application transaction, so a repeated one is skipped before anything is evaluated."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipeline.errors import SinkError
from pipeline.session import delta_package
from pipeline.sinks.folders import Folder
from pipeline.sinks.kinds import Mode, RunKey, SinkSpec, Stage, lacking, require_results_table, require_same_columns

_DELTA_LOG = "org.apache.spark.sql.delta.DeltaLog"
_TXN_APP = "spark.databricks.delta.write.txnAppId"
# A first run that died before its commit leaves data files without a log. They are no rows of any table, and Delta's
# vacuum removes them; a finished output of somebody else has a _SUCCESS beside them.
_LEFT_BY_A_DEAD_RUN = ("part-", "_delta_log")
_TXN_VERSION = "spark.databricks.delta.write.txnVersion"


def require_delta(spark: SparkSession, what: str) -> None:
    """Raises SinkError in a session, say of spark-submit, that was started without Delta."""
    jvm: Any = spark.sparkContext._jvm
    if not jvm.org.apache.spark.util.Utils.classIsLoadable(_DELTA_LOG):
        raise SinkError(
            f"[sink] {what}: this Spark session has no Delta. Start it with --packages {delta_package()}, "
            'or take [sink] format = "parquet"'
        )


class DeltaSink:
    """A Delta table by path or by name."""

    def __init__(self, spec: SinkSpec) -> None:
        self._spec = spec

    def prepare(self, spark: SparkSession, schema: StructType, mode: Mode) -> None:
        """See `Sink.prepare`."""
        require_delta(spark, str(self._spec))
        table = self._table(spark)
        if table is not None:
            theirs = table.toDF().schema
            if mode == "overwrite":
                require_results_table(str(self._spec), theirs)
            else:
                require_same_columns(self._spec, schema, theirs)
            if self._spec.path is not None:
                Folder(spark, self._spec.path).require_writable()
            return
        if self._spec.path is not None:
            folder = Folder(spark, self._spec.path)
            if any(not name.startswith(_LEFT_BY_A_DEAD_RUN) for name in folder.children()):
                raise SinkError(
                    f"[sink] {self._spec.path} holds files and is no Delta table; choose an empty or new folder"
                )
            folder.require_writable()

    def landed(self, spark: SparkSession) -> DataFrame | None:
        """See `Sink.landed`."""
        table = self._table(spark)
        return None if table is None else table.toDF()

    def has_landed(self, spark: SparkSession, run: RunKey) -> bool:
        """See `Sink.has_landed`: the table's log records the newest sequence of each application."""
        table = self._table(spark)
        if table is None:
            return False
        location = self._spec.path or table.detail().select("location").collect()[0][0]
        jvm: Any = spark.sparkContext._jvm
        session: Any = spark._jsparkSession
        log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(session, location)
        defaults = [getattr(log, f"update$default${i}")() for i in (1, 2, 3)]  # Scala's default arguments
        versions = log.update(*defaults).transactions()
        return bool(versions.contains(run.app_id)) and int(versions.apply(run.app_id)) >= run.sequence

    def open_stage(self, spark: SparkSession, schema: StructType, mode: Mode, run: RunKey) -> Stage | None:
        """See `Sink.open_stage`: files get into a Delta table through its log, which Spark writes."""
        return None

    def publish(self, spark: SparkSession, stage: str, files: Sequence[str], mode: Mode, run: RunKey) -> None:
        """See `Sink.publish`; there is never a stage."""
        raise SinkError(f"[sink] {self._spec}: files cannot be published into a Delta table")

    def is_direct(self, mode: Mode) -> bool:
        """Appends go straight into the table; overwrite and merge take the whole run from a stage."""
        return mode == "append"

    def land(self, spark: SparkSession, frame: DataFrame, mode: Mode, run: RunKey) -> None:
        """See `Sink.land`. MERGE may read its source several times, so it reads a stage, never a frame that calls."""
        if self.has_landed(spark, run):
            return
        if mode != "overwrite":
            self._widen(spark, frame.schema)
        if self.is_direct(mode):
            self._save(frame, "append", run)
            return
        stage = Folder(spark, f"{self._spec.stage_path}/{run.run_id}/{uuid.uuid4().hex}")
        frame.write.parquet(stage.path)
        staged = spark.read.schema(frame.schema).parquet(stage.path)
        if mode == "merge" and self._table(spark) is not None:
            self._merge(spark, staged, run)
        else:
            self._save(staged, "append" if mode == "merge" else "overwrite", run)
        Folder(spark, f"{self._spec.stage_path}/{run.run_id}").delete()

    def _widen(self, spark: SparkSession, ours: StructType) -> None:
        """Adds the later columns that the table lacks: null in the rows that are there. Touches no data."""
        table = self._table(spark)
        missing = lacking(self._spec, ours, table.toDF().schema) if table is not None else []
        if missing:
            name = self._spec.table or f"delta.{_quoted(str(self._spec.path))}"
            added = ", ".join(f"{_quoted(column)} {ours[column].dataType.simpleString()}" for column in missing)
            spark.sql(f"ALTER TABLE {name} ADD COLUMNS ({added})")

    def _save(self, frame: DataFrame, mode: str, run: RunKey) -> None:
        writer = (
            frame.write.format("delta")
            .mode(mode)
            .option("txnAppId", run.app_id)
            .option("txnVersion", str(run.sequence))
        )
        if mode == "overwrite":
            writer = writer.option("overwriteSchema", "true")
        if self._spec.path is not None:
            writer.save(self._spec.path)
        else:
            assert self._spec.table is not None
            writer.saveAsTable(self._spec.table)

    def _merge(self, spark: SparkSession, staged: DataFrame, run: RunKey) -> None:
        table = self._table(spark)
        assert table is not None
        condition = " AND ".join(f"landed.{_quoted(name)} <=> staged.{_quoted(name)}" for name in self._spec.key)
        with _transaction(spark, run):
            (
                table.alias("landed")
                .merge(staged.alias("staged"), condition)
                .whenMatchedUpdateAll()
                .whenNotMatchedInsertAll()
                .execute()
            )

    def _table(self, spark: SparkSession) -> DeltaTable | None:
        try:
            if self._spec.path is not None:
                if not DeltaTable.isDeltaTable(spark, self._spec.path):
                    return None
                return DeltaTable.forPath(spark, self._spec.path)
            assert self._spec.table is not None
            if not spark.catalog.tableExists(self._spec.table):
                return None
            return DeltaTable.forName(spark, self._spec.table)
        except (AnalysisException, PySparkException) as exc:
            raise SinkError(f"[sink] {self._spec}: {str(exc).splitlines()[0]}") from exc


@contextlib.contextmanager
def _transaction(spark: SparkSession, run: RunKey) -> Iterator[None]:
    """MERGE takes its application transaction from the session, which must not leak into the next write."""
    spark.conf.set(_TXN_APP, run.app_id)
    spark.conf.set(_TXN_VERSION, str(run.sequence))
    try:
        yield
    finally:
        spark.conf.unset(_TXN_APP)
        spark.conf.unset(_TXN_VERSION)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
