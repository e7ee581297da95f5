"""What a sink is, and what all sinks check alike."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipeline.errors import SinkError

Mode = Literal["append", "overwrite", "merge"]


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """Where results land. Exactly one of `path` and `table`."""

    format: str
    path: str | None = None
    table: str | None = None
    key: tuple[str, ...] = ()
    run_column: str = "run_id"
    later: tuple[str, ...] = ()  # columns that a table may lack since it was made before they were
    stage_path: str = ""  # where a run is staged that must not be seen before it is whole

    def __str__(self) -> str:
        """What a person calls it."""
        return self.path or self.table or "?"


@dataclass(frozen=True, slots=True)
class RunKey:
    """The identity of one landing: `sequence` was handed out durably before the run and grows with every new run."""

    app_id: str
    sequence: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A new folder of this machine for files that tasks write, and the columns that they leave out."""

    folder: str
    left_out: tuple[str, ...]

    def remove(self) -> None:
        """Deletes it with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Sink(Protocol):
    """One table."""

    def prepare(self, spark: SparkSession, schema: StructType, mode: Mode) -> None:
        """Raises SinkError unless results of this schema can be landed; nothing was sent yet."""
        ...

    def landed(self, spark: SparkSession) -> DataFrame | None:
        """All landed rows; None where there is no table yet."""
        ...

    def has_landed(self, spark: SparkSession, run: RunKey) -> bool:
        """Whether this run is in the table already."""
        ...

    def land(self, spark: SparkSession, frame: DataFrame, mode: Mode, run: RunKey) -> None:
        """Evaluates `frame` exactly once and lands it atomically; a run that has landed is skipped unevaluated."""
        ...

    def open_stage(self, spark: SparkSession, schema: StructType, mode: Mode, run: RunKey) -> Stage | None:
        """Where tasks write Parquet files of these columns themselves; None where Spark must write."""
        ...

    def publish(self, spark: SparkSession, stage: str, files: Sequence[str], mode: Mode, run: RunKey) -> None:
        """Lands exactly these files of the stage; what else is there was written by dead attempts."""
        ...

    def is_direct(self, mode: Mode) -> bool:
        """Whether `land` writes into the table itself, so that a part of the rows would replace or miss others."""
        ...


def lacking(spec: SinkSpec, ours: StructType, theirs: StructType) -> list[str]:
    """Which of the later columns a table lacks."""
    there = {field.name.lower() for field in theirs.fields}
    return [field.name for field in ours.fields if field.name in spec.later and field.name.lower() not in there]


def require_same_columns(spec: SinkSpec, ours: StructType, theirs: StructType) -> None:
    """Raises SinkError that names both schemas where names or types differ; order and nullability do not matter.

    The later columns may be lacking there.
    """
    missing = lacking(spec, ours, theirs)
    ours = StructType([field for field in ours.fields if field.name not in missing])

    def comparable(schema: StructType) -> dict[str, str]:
        return {f.name.lower(): f.dataType.simpleString() for f in schema.fields}

    mine, other = comparable(ours), comparable(theirs)
    if mine == other:
        return
    differences = [
        f"{name}: {other.get(name, 'missing')} there, {mine.get(name, 'not written')} here"
        for name in sorted(mine.keys() | other.keys())
        if mine.get(name) != other.get(name)
    ]
    raise SinkError(
        f"[sink] {spec} has other columns than this job writes ({'; '.join(differences)}). "
        f"There: {theirs.simpleString()}. Here: {ours.simpleString()}. "
        "Choose another [sink] path or table, or make [source] select match."
    )


def require_results_table(where: str, theirs: StructType) -> None:
    """Raises SinkError for a table that no job of ours wrote: overwrite must not destroy a stranger's data."""
    names = {field.name.lower() for field in theirs.fields}
    if not any(name.endswith("request_id") for name in names) or not any(name.endswith("error") for name in names):
        raise SinkError(
            f"[sink] {where} is not a results table (no request_id, no error column), so overwrite would destroy other "
            f"data. It has: {', '.join(sorted(names))}. Choose another [sink] path or table."
        )
