"""The places in the publishing of a run at which a driver can be made to die, by name."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from pyspark.sql import SparkSession

from pipeline import landed
from pipeline.runs import RunBook
from pipeline.sinks.delta import DeltaSink
from pipeline.sinks.folders import Folder
from pipeline.sinks.parquet import ParquetSink

Stop = Callable[[], None]


def die() -> None:
    """SIGKILL to this process, its JVM and their executors."""
    os.killpg(0, signal.SIGKILL)


def _before(owner: Any, name: str) -> Callable[[SparkSession, Stop], contextlib.AbstractContextManager[Any]]:
    def install(spark: SparkSession, stop: Stop) -> contextlib.AbstractContextManager[Any]:
        original = getattr(owner, name)

        def patched(*args: Any, **kwargs: Any) -> Any:
            stop()
            return original(*args, **kwargs)

        return mock.patch.object(owner, name, patched)

    return install


def _after(owner: Any, name: str) -> Callable[[SparkSession, Stop], contextlib.AbstractContextManager[Any]]:
    def install(spark: SparkSession, stop: Stop) -> contextlib.AbstractContextManager[Any]:
        original = getattr(owner, name)

        def patched(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            stop()
            return result

        return mock.patch.object(owner, name, patched)

    return install


def _rename(when: str, target_part: str) -> Callable[[SparkSession, Stop], contextlib.AbstractContextManager[Any]]:
    """Before or after the first rename whose target has this in its path."""

    def install(spark: SparkSession, stop: Stop) -> contextlib.AbstractContextManager[Any]:
        original = Folder.rename_to

        def patched(self: Folder, target: Folder) -> bool:
            is_it = target_part in target.path
            if is_it and when == "before":
                stop()
            result = original(self, target)
            if is_it and when == "after":
                stop()
            return result

        return mock.patch.object(Folder, "rename_to", patched)

    return install


class _Observer:
    """Delta's own hook into its transactions, as its phase-locking tests use it."""

    def __init__(self, phase: str, stop: Stop) -> None:
        self._phase = phase
        self._stop = stop

    def _at(self, phase: str) -> None:
        if phase == self._phase:
            self._stop()

    def createChild(self) -> "_Observer":
        return self

    def startingTransaction(self, begin: Any) -> Any:
        return begin.apply()

    def preparingCommit(self, prepare: Any) -> Any:
        return prepare.apply()

    def beginDoCommit(self) -> None:
        self._at("begin")

    def beginBackfill(self) -> None:
        """Only for commits that a catalog coordinates."""

    def beginPostCommit(self) -> None:
        self._at("written")

    def transactionCommitted(self) -> None:
        self._at("committed")

    def transactionAborted(self) -> None:
        """Nothing to stop at."""

    def advanceToNextThreadObserver(self) -> None:
        """There is none."""

    class Java:
        """For Py4J."""

        implements = ("org.apache.spark.sql.delta.TransactionExecutionObserver",)


def _transaction(phase: str) -> Callable[[SparkSession, Stop], contextlib.AbstractContextManager[Any]]:
    @contextlib.contextmanager
    def install(spark: SparkSession, stop: Stop) -> Iterator[None]:
        from pyspark.java_gateway import ensure_callback_server_started

        gateway: Any = spark.sparkContext._gateway
        ensure_callback_server_started(gateway)
        observers = gateway.jvm.org.apache.spark.sql.delta.TransactionExecutionObserver
        before = observers.getObserver()
        observers.setObserver(_Observer(phase, stop))
        try:
            yield
        finally:
            observers.setObserver(before)

    return install


STOPS: dict[str, Callable[[SparkSession, Stop], contextlib.AbstractContextManager[Any]]] = {
    "delta staged": _before(DeltaSink, "_save"),
    "delta staged for merge": _before(DeltaSink, "_merge"),
    "delta before the commit": _transaction("begin"),
    "delta commit written": _transaction("written"),
    "delta commit acknowledged": _transaction("committed"),
    "delta landed": _after(DeltaSink, "land"),
    "parquet staged": _rename("before", "="),
    "parquet set aside": _rename("after", "/_replaced/"),
    "parquet before the rename": _rename("before", "/results/run_id="),
    "parquet renamed": _rename("after", "/results/run_id="),
    "parquet landed": _after(ParquetSink, "_publish"),  # of the results, which come before the runs table
    "run record unwritten": _before(RunBook, "end"),
    "run record written": _after(RunBook, "end"),
    "runs table unwritten": _before(landed, "record_run"),
    "runs table written": _after(landed, "record_run"),
}


@contextlib.contextmanager
def stopping_at(spark: SparkSession, name: str | None, stop: Stop) -> Iterator[None]:
    """Within the block `stop` is called at the place of this name; nowhere for None."""
    if name is None:
        yield
        return
    with STOPS[name](spark, stop):
        yield
