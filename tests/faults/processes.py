"""Processes of one session as /proc shows them: who they are, whose children, and how to stop them. Linux only."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_DAEMON = "daemon pyspark.worker"  # of Spark's module or of ours


@dataclass(frozen=True, slots=True)
class Process:
    """One process; it may be gone by now."""

    pid: int
    parent: int
    command: str

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal; False where the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False


def of_session(session_id: int) -> list[Process]:
    """All living processes of a session; zombies are not alive."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent, _, session = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            if int(session) == session_id and state != "Z":
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(Process(int(folder.name), int(parent), command))
    return found


def python_workers(session_id: int) -> list[Process]:
    """Spark's Python workers: forked by a daemon, so they carry its command line."""
    processes = of_session(session_id)
    daemons = {process.pid for process in processes if _DAEMON in process.command}
    return [process for process in processes if process.pid in daemons and process.parent in daemons]


def executors(session_id: int) -> list[Process]:
    """Executor JVMs of a local cluster."""
    return [
        process
        for process in of_session(session_id)
        if "CoarseGrainedExecutorBackend" in process.command and "java" in process.command.split(" ", 1)[0]
    ]


def workers_of(executor: Process, session_id: int) -> list[Process]:
    """The Python workers below one executor."""
    parents = {process.pid: process.parent for process in of_session(session_id)}
    return [worker for worker in python_workers(session_id) if parents.get(worker.parent) == executor.pid]
