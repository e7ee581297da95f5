"""Open local files: one that only grows, and one that is a lock."""

from pipeline.storage.failures import failed
from pipeline.storage.operations import FileOps


class AppendFile:
    """A local file that only grows, by whole pieces: what does not fit is taken back."""

    def __init__(self, ops: FileOps, fd: int, path: str, size: int) -> None:
        self._ops = ops
        self._fd = fd
        self._path = path
        self.size = size
        self.is_broken = False  # a part of a piece could not be taken back: nothing more may be appended

    def append(self, data: bytes) -> None:
        """Hands the piece to the kernel: all of it, or none and StateError."""
        try:
            written = self._ops.write(self._fd, data)
            while written < len(data):
                written += self._ops.write(self._fd, memoryview(data)[written:])
        except OSError as exc:
            self._take_back()
            raise failed("write", self._path, exc) from exc
        self.size += len(data)

    def _take_back(self) -> None:
        try:
            self._ops.truncate(self._fd, self.size)
        except OSError:
            self.is_broken = True

    def sync(self) -> None:
        """Forces what was appended to the disk."""
        try:
            self._ops.sync(self._fd)
        except OSError as exc:
            raise failed("force to the disk", self._path, exc) from exc

    def close(self) -> None:
        """Lets go of the file."""
        try:
            self._ops.close(self._fd)
        except OSError as exc:
            raise failed("close", self._path, exc) from exc


class FileLock:
    """A held lock; freed by `release` or by the end of the process."""

    def __init__(self, ops: FileOps, fd: int, path: str) -> None:
        self._ops = ops
        self._fd = fd
        self._path = path

    def release(self) -> None:
        """Frees the lock."""
        try:
            self._ops.close(self._fd)
        except OSError as exc:
            raise failed("unlock", self._path, exc) from exc
