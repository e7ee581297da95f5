"""A driver whose JVM can write nothing from a step of publishing on: every file operation of a sink fails from there."""

import resource
from typing import Any

from pyspark.sql import SparkSession

from pipeline.errors import PipelineError
from tests.faults.here import DriverHere
from tests.faults.stops import stopping_at

_FULL = "File too large"


class DriverOnFullDisk(DriverHere):
    """`Mortal` that survives: it must say in our words what failed, and end the run."""

    def __init__(self, spark: SparkSession) -> None:
        super().__init__(spark)
        self._spark = spark
        jvm: Any = spark.sparkContext._jvm
        self._jvm_pid = int(jvm.java.lang.ProcessHandle.current().pid())

    def die(self, command: dict[str, Any]) -> None:
        """Runs with the limit of file sizes at zero from the step on. AssertionError where nobody is told."""
        before = resource.prlimit(self._jvm_pid, resource.RLIMIT_FSIZE)

        def fill() -> None:
            resource.prlimit(self._jvm_pid, resource.RLIMIT_FSIZE, (0, before[1]))

        told = ""
        report = None
        try:
            with stopping_at(self._spark, command["die_at"], fill):
                report = self.ask({**command, "die_at": None})
        except PipelineError as exc:
            told = str(exc)
        finally:
            resource.prlimit(self._jvm_pid, resource.RLIMIT_FSIZE, before)
        assert "\n" not in told, f"more than a sentence: {told}"
        if report is not None and report["status"] == "failed":
            assert report["stopped"], f"a run that failed without a reason: {report}"
        elif report is not None:
            assert all(_FULL in what for what in report["unbooked"]), f"not what failed: {report}"
