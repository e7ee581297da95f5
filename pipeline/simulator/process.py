"""The simulator in a process of its own, so that it takes no time from its client: for measurements."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import orjson

from pipeline.simulator.handle import Handle
from pipeline.simulator.settings import SimulatorSettings

_STOP_S = 5.0


class SimulatorProcess:
    """`with SimulatorProcess(settings) as sim:` serves until the block ends, or until this process dies."""

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self._settings = settings or SimulatorSettings()

    def __enter__(self) -> Handle:
        """Start, and wait until it listens. Raises RuntimeError with the child's own words where it does not."""
        root = Path(__file__).parents[2]
        paths = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.simulator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            # settings by pipe: an argument list is there for all to read, and the token is among them
            self._process.stdin.write(self._settings.to_json().encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BaseException:
            self._end()
            raise
        if not line:
            self._end()
            raise RuntimeError(f"the simulator did not start (exit code {self._process.returncode}); see stderr")
        ready = orjson.loads(line)
        self._handle = Handle(self._settings.host, ready["port"], ready["control_port"])
        return self._handle

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and wait; kill what does not stop."""
        try:
            self._handle.freeze()
        except OSError:
            pass  # it died before; the exit below collects it
        finally:
            self._end()

    @property
    def pid(self) -> int:
        """For measuring its CPU and memory."""
        return self._process.pid

    def _end(self) -> None:
        """Closing its standard input tells the child to stop."""
        try:
            self._process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
