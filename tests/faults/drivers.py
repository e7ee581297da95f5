"""The test's side of a driver that may be killed: a process in a session of its own, and a deadline on every wait."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyspark

from tests.faults.processes import of_session

# A start of Spark takes 8 s of CPU; on a machine that others use it has been seen to take a minute.
START_S = 180.0
ANSWER_S = 600.0
_END_S = 20.0
_CHECKOUT = Path(__file__).parents[2]
_SETTINGS = {"spark.default.parallelism": "2", "spark.sql.shuffle.partitions": "2"}


def _spark_home(folder: Path) -> str:
    """The installed Spark by links: the workers of a local cluster write into their Spark's home."""
    home = folder / "spark-home"
    home.mkdir(exist_ok=True)
    installed = Path(pyspark.__file__).parent
    for name in ("bin", "jars", "python"):
        if (installed / name).exists():
            (home / name).symlink_to(installed / name)
    return str(home)


class DriverDied(Exception):
    """The process ended before it answered; the end of its log is in the text."""


class DriverError(Exception):
    """The driver's own words for what it refused."""


class Driver:
    """`with Driver(folder) as driver:`; leaves no process behind."""

    def __init__(self, folder: Path, *, master: str = "local[2,4]", settings: Mapping[str, str] | None = None) -> None:
        self._log_path = folder / f"driver-{os.getpid()}-{id(self)}.log"
        self._log = self._log_path.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.driver_main", json.dumps({**_SETTINGS, **(settings or {})})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            env={
                **os.environ,
                "SPARK_MASTER": master,
                "SPARK_DRIVER_MEMORY": "1g",
                **({"SPARK_HOME": _spark_home(folder)} if master.startswith("local-cluster") else {}),
                "PYSPARK_PYTHON": sys.executable,
                "PYTHONPATH": os.pathsep.join(filter(None, [str(_CHECKOUT), os.environ.get("PYTHONPATH")])),
            },
            start_new_session=True,
        )
        self._replies: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Driver":
        self._get(START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def session_id(self) -> int:
        """Of this driver, its JVM, executors and workers."""
        return self._process.pid

    def ask(self, command: Mapping[str, Any], timeout_s: float = ANSWER_S) -> Any:
        """The answer. Raises DriverError, DriverDied or TimeoutError."""
        self.begin(command)
        return self.answer(timeout_s)

    def begin(self, command: Mapping[str, Any]) -> None:
        """Sends a command without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def is_answered(self) -> bool:
        """Whether `answer` returns at once."""
        return not self._replies.empty()

    def answer(self, timeout_s: float = ANSWER_S) -> Any:
        """As `ask`, for a command that was begun."""
        reply = self._get(timeout_s)
        if "error" in reply:
            raise DriverError(reply["error"])
        return reply["answer"]

    def die(self, command: Mapping[str, Any], timeout_s: float = ANSWER_S) -> None:
        """Waits until a command has killed it. Raises AssertionError where it answered instead."""
        self.begin(command)
        self.await_death(timeout_s)

    def await_death(self, timeout_s: float = ANSWER_S) -> None:
        """As `die`, for a command that was begun."""
        try:
            reply = self._get(timeout_s)
        except DriverDied:
            self.kill()
            return
        raise AssertionError(f"the driver was to die and answered {reply}")

    @property
    def is_alive(self) -> bool:
        """Whether it takes commands."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to driver, JVM and executors; the orphaned Python daemons end by themselves or are ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_END_S)
        for process in of_session(self.session_id):
            process.signal(signal.SIGKILL)
        self._reader.join(_END_S)
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(json.loads(line))
        self._replies.put(None)

    def _get(self, timeout_s: float) -> dict[str, Any]:
        try:
            reply = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"the driver did not answer within {timeout_s:.0f} s; {self._tail()}") from None
        if reply is None:
            self._replies.put(None)
            raise DriverDied(f"the driver ended; {self._tail()}")
        return reply

    def _tail(self) -> str:
        return "its log ends: " + " | ".join(self._log_path.read_text(errors="replace").splitlines()[-15:])
