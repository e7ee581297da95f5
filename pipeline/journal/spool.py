"""The local folder in which segments of a remote journal are written and read; it outlives a killed process."""

import hashlib
import os
import stat
import tempfile

from pipeline.errors import StateError
from pipeline.journal.segments import SUFFIX, read_segment, repair
from pipeline.storage import FileLock, LocalStore, Store


class Spool:
    """One attempt's files; a lock says that the attempt lives."""

    def __init__(self, store: Store, folder: str, attempt: str, parent: str | None = None) -> None:
        """`parent` is the folder of all spools of this machine, by default one of this user's below the temporary."""
        key = hashlib.sha256(f"{store.root}\0{folder}".encode()).hexdigest()[:32]
        self._store = store
        self._attempt = attempt
        self._bucket = LocalStore(os.path.join(parent or _own_folder(), key))
        lock = self._bucket.try_lock(f"{attempt}/lock")
        if lock is None:
            raise StateError(f"{self._bucket.root}/{attempt} is in use: an attempt's name is used by no other")
        self._lock: FileLock = lock
        self.files = LocalStore(os.path.join(self._bucket.root, attempt))

    def recover(self) -> int:
        """Uploads what dead attempts on this machine wrote and did not upload; the number of segments.

        A kill of the process then costs no answer, only the loss of the machine does. Only for the holder of the lease.
        """
        recovered = 0
        attempts = {file.name.split("/", 1)[0] for file in self._bucket.list("")} - {self._attempt}
        for attempt in sorted(attempts):
            lock = self._bucket.try_lock(f"{attempt}/lock")
            if lock is None:
                continue  # it lives, and uploads by itself
            try:
                recovered += self._recover(LocalStore(os.path.join(self._bucket.root, attempt)))
                self._bucket.delete_tree(attempt)
            finally:
                lock.release()
        return recovered

    def _recover(self, files: LocalStore) -> int:
        recovered = 0
        for name in [file.name for file in files.list("") if file.name.endswith(SUFFIX)]:
            if not self._store.exists(name):
                segment = read_segment(name, files.read(name))
                if not segment.is_sealed:
                    repair(files, segment)
                recovered += self._store.put_if_absent(name, files.read(name))
        return recovered

    def discard(self) -> None:
        """Removes the files: all of them are uploaded."""
        self._bucket.delete_tree(self._attempt)

    def release(self) -> None:
        """Lets another attempt recover what is left."""
        self._lock.release()


def _own_folder() -> str:
    """A folder that no other user can read or put there beforehand."""
    path = os.path.join(tempfile.gettempdir(), f"ai-query-journal-{os.getuid()}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as exc:
        raise StateError(f"cannot create {path}: {exc.strerror}") from exc
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise StateError(f"{path} must be a folder that only its owner, this user, may enter; remove it")
    return path
