"""Parquet: a run is staged out of sight and published by one directory rename to `run_id=<id>`.

Atomic on local disks and HDFS. On object stores a rename is copy and delete: readers can see a part meanwhile.
"""

import uuid
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipeline.errors import SinkError
from pipeline.part_files import HIDDEN
from pipeline.sinks.folders import Folder
from pipeline.sinks.kinds import Mode, RunKey, SinkSpec, Stage, lacking, require_results_table, require_same_columns

_INFERENCE = "spark.sql.sources.partitionColumnTypeInference.enabled"
# Spark skips names that begin with an underscore, so nothing in here is ever read as data.
_STAGING = "_staging"
_REPLACED = "_replaced"


class ParquetSink:
    """A folder with one sub-folder per landed run."""

    def __init__(self, spec: SinkSpec) -> None:
        if spec.path is None:
            raise SinkError("[sink] format = parquet needs a path")
        self._spec = spec
        self._path = spec.path.rstrip("/")
        self._run_column = spec.run_column
        self._run_folder = f"{spec.run_column}="

    def prepare(self, spark: SparkSession, schema: StructType, mode: Mode) -> None:
        """See `Sink.prepare`."""
        folder = Folder(spark, self._path)
        if folder.exists() and not folder.is_directory():
            raise SinkError(f"[sink] {self._path} is a file, not a folder")
        foreign = [name for name in folder.children() if not name.startswith((self._run_folder, "_", "."))]
        if foreign:
            raise SinkError(
                f"[sink] {self._path} holds files that no job of ours wrote ({', '.join(foreign[:3])}); "
                "choose an empty or new folder"
            )
        folder.require_writable()
        landed = self.landed(spark)
        if landed is None:
            return
        if mode == "overwrite":
            require_results_table(self._path, landed.schema)
        else:
            require_same_columns(self._spec, schema, landed.schema)

    def landed(self, spark: SparkSession) -> DataFrame | None:
        """See `Sink.landed`."""
        if not self._runs(spark):
            return None
        inference = spark.conf.get(_INFERENCE)
        spark.conf.set(_INFERENCE, "false")  # a run id such as 7 or 2026-11-21 stays text
        try:
            return spark.read.option("mergeSchema", "false").parquet(self._path)
        finally:
            spark.conf.set(_INFERENCE, str(inference))

    def has_landed(self, spark: SparkSession, run: RunKey) -> bool:
        """See `Sink.has_landed`."""
        return Folder(spark, self._published(run)).exists()

    def is_direct(self, mode: Mode) -> bool:
        """Every append is whole by itself; an overwrite replaces what was there."""
        return mode == "append"

    def land(self, spark: SparkSession, frame: DataFrame, mode: Mode, run: RunKey) -> None:
        """See `Sink.land`. A staging path is used by one attempt only: Spark's committer publishes a dead one's files."""
        if self.has_landed(spark, run):
            return
        attempt = self._stage(spark, mode, run)
        frame.drop(*self._left_out(spark, frame.schema, mode)).write.parquet(attempt.path)
        self._publish(spark, attempt, mode, run)

    def open_stage(self, spark: SparkSession, schema: StructType, mode: Mode, run: RunKey) -> Stage | None:
        """See `Sink.open_stage`."""
        attempt = self._stage(spark, mode, run)
        if not attempt.is_local or self.has_landed(spark, run):
            return None
        attempt.make()
        return Stage(attempt.local_path, self._left_out(spark, schema, mode))

    def publish(self, spark: SparkSession, stage: str, files: Sequence[str], mode: Mode, run: RunKey) -> None:
        """See `Sink.publish`. A file is shown before its folder is, and a dead attempt can only make hidden ones."""
        for name in files:
            Folder(spark, f"{stage}/{name}").rename_to(Folder(spark, f"{stage}/{name.lstrip(HIDDEN)}"))
        attempt = Folder(spark, stage)
        for name in attempt.children():
            if name.startswith(HIDDEN):
                Folder(spark, f"{stage}/{name}").delete()
        self._publish(spark, attempt, mode, run)

    def _left_out(self, spark: SparkSession, schema: StructType, mode: Mode) -> tuple[str, ...]:
        """The run, which is in the folder's name, and what a table lacks that was made before a column was."""
        landed = self.landed(spark) if mode != "overwrite" else None
        # files of one folder have one schema: such a table keeps its shape
        return (self._run_column, *(lacking(self._spec, schema, landed.schema) if landed is not None else ()))

    def _stage(self, spark: SparkSession, mode: Mode, run: RunKey) -> Folder:
        if mode == "overwrite":  # now, since this run may fail, too
            self._put_back(spark)
        return Folder(spark, f"{self._path}/{_STAGING}/{run.run_id}/{uuid.uuid4().hex}")

    def _publish(self, spark: SparkSession, attempt: Folder, mode: Mode, run: RunKey) -> None:
        published = Folder(spark, self._published(run))
        if mode == "overwrite":
            self._set_aside(spark, run)
        if not attempt.rename_to(published) and not published.exists():
            raise SinkError(f"[sink] {self._path}: the staged run cannot be renamed to {published.path}")
        Folder(spark, f"{self._path}/{_STAGING}/{run.run_id}").delete()
        Folder(spark, f"{self._path}/{_REPLACED}").delete()

    def _set_aside(self, spark: SparkSession, run: RunKey) -> None:
        for name in self._runs(spark):
            if name != f"{self._run_folder}{run.run_id}":
                aside = Folder(spark, f"{self._path}/{_REPLACED}/{run.run_id}/{name}")
                aside.delete()
                Folder(spark, f"{self._path}/{name}").rename_to(aside)

    def _put_back(self, spark: SparkSession) -> None:
        """What a driver set aside that died before it published; of one that did publish only this was left to do."""
        for run_id in Folder(spark, f"{self._path}/{_REPLACED}").children():
            aside = Folder(spark, f"{self._path}/{_REPLACED}/{run_id}")
            if not Folder(spark, f"{self._path}/{self._run_folder}{run_id}").exists():
                for name in aside.children():
                    Folder(spark, f"{aside.path}/{name}").rename_to(Folder(spark, f"{self._path}/{name}"))
            aside.delete()

    def _runs(self, spark: SparkSession) -> list[str]:
        return [name for name in Folder(spark, self._path).children() if name.startswith(self._run_folder)]

    def _published(self, run: RunKey) -> str:
        return f"{self._path}/{self._run_folder}{run.run_id}"
