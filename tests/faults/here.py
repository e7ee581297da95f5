"""A driver in this process that dies in name only: an exception unwinds it. Cheap, and blind to what only SIGKILL shows."""

from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from tests.faults.driver_main import COMMANDS
from tests.faults.stops import stopping_at
from tests.jobs import make_job


class _Dead(BaseException):
    """Not an Exception, so that nothing in between takes it for a failure of the job."""


def _die() -> None:
    raise _Dead


class DriverHere:
    """`Mortal` in this process."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def ask(self, command: dict[str, Any]) -> Any:
        """See `Mortal.ask`."""
        job = make_job(Path(command["folder"]), command["base_url"], **command["sections"])
        return COMMANDS[command["do"]](self._spark, job, command)

    def die(self, command: dict[str, Any]) -> None:
        """See `Mortal.die`."""
        try:
            with stopping_at(self._spark, command["die_at"], _die):
                answer = self.ask({**command, "die_at": None})
        except _Dead:
            return
        raise AssertionError(f"the driver was to die in {command} and answered {answer}")
