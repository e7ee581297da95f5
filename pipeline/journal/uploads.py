"""Sealed segments on their way from the local folder to the remote store, on a thread of their own."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable

from pipeline.errors import StateError
from pipeline.storage import LocalStore, Store

# Failures in a row before appending stops: the file systems retry by themselves, so three are an outage.
MAX_FAILURES = 3


class Uploads:
    """The segments that are sealed and not yet uploaded."""

    def __init__(self, files: LocalStore, store: Store) -> None:
        self._files = files
        self._store = store
        self._waiting: deque[str] = deque()
        self._running = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._failure: StateError | None = None

    def keep(self, name: str, data: bytes) -> None:
        """A local copy of a segment that is in the store, to be read from."""
        file = self._files.create(name)
        try:
            file.append(data)
        finally:
            file.close()

    def add(self, name: str) -> None:
        """Takes a sealed segment."""
        self._waiting.append(name)

    def run(self) -> None:
        """Uploads what waits, in order; a failure is kept for `check`, and the segment stays first in the row."""
        with self._running:
            try:
                while self._waiting:
                    self._upload(self._waiting[0])
                    self._waiting.popleft()
                    self._failures, self._failure = 0, None
            except StateError as exc:
                self._failures += 1
                self._failure = exc

    def check(self, *, is_last: bool = False) -> None:
        """StateError after too many failures in a row, or after any where there will be no further try."""
        failure = self._failure
        if failure is not None and (is_last or self._failures >= MAX_FAILURES):
            raise StateError(f"{len(self._waiting)} journal segments are not uploaded: {failure}") from failure

    def start(self, tick: Callable[[], None], every_s: float) -> None:
        """Calls `tick` again and again on a thread."""

        def run() -> None:
            while not self._stopped.wait(every_s):
                with contextlib.suppress(StateError):  # a segment that cannot be sealed fails in the next append too
                    tick()

        self._thread = threading.Thread(target=run, name="journal-uploads", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; what waits stays."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _upload(self, name: str) -> None:
        data = self._files.read(name)
        # a put that failed may have arrived: the same bytes under this attempt's own name are its own
        if not self._store.put_if_absent(name, data) and self._store.read(name) != data:
            raise StateError(f"cannot create {self._store.root}/{name}: another attempt uses this name")
