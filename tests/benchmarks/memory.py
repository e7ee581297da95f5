"""How large the Python workers of Spark are while a job runs."""

import itertools
import threading

import psutil


class Memory:
    """The largest resident size of any Python worker of Spark, in MB: after a fifth of its life, and at most."""

    def __init__(self) -> None:
        self._sizes: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def early_mb(self) -> float:
        return max(self._sizes[: max(1, len(self._sizes) // 5)], default=0.0)

    @property
    def peak_mb(self) -> float:
        return max(self._sizes, default=0.0)

    def _watch(self) -> None:
        workers: list[psutil.Process] = []
        for turn in itertools.count():
            if self._ended.wait(0.25):
                return
            if turn % 8 == 0:  # looking at every process of the machine costs more than asking two for their size
                workers = [p for p in psutil.Process().children(recursive=True) if _is_worker(p)]
            sizes = [size for size in map(_resident_mb, workers) if size]
            if sizes:
                self._sizes.append(max(sizes))


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "daemon pyspark.worker" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _resident_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / 2**20)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0.0
