"""From what a file system raises to a StateError that names the path and what to do."""

import errno
import os

import pyarrow as pa

from pipeline.errors import StateError

_HINTS = {
    errno.ENOSPC: "the disk is full: free space there or move [state] path, then start again",
    errno.EDQUOT: "the disk quota is used up: free space there or move [state] path, then start again",
    errno.EACCES: "permission denied: the user that runs the job must be able to read and write there",
    errno.EPERM: "not permitted: the user that runs the job must be able to read and write there",
    errno.EROFS: "the file system is read-only: move [state] path",
    errno.EIO: "the device reported an input/output error",
}


def failed(action: str, path: str, exc: Exception) -> StateError:
    """The error of an action on a path."""
    number = getattr(exc, "errno", None)
    reason = _HINTS.get(number or 0) or (os.strerror(number) if number else str(exc) or type(exc).__name__)
    code = f" ({errno.errorcode[number]})" if number and number in errno.errorcode else ""
    return StateError(f"cannot {action} {path}: {reason}{code}")


class Errors:
    """Turns what a file system raises into a StateError; gives the path."""

    def __init__(self, action: str, path: str, shown: str) -> None:
        self._action = action
        self._path = path
        self._shown = shown

    def __enter__(self) -> str:
        return self._path

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, OSError | pa.ArrowException):
            raise failed(self._action, self._shown, exc) from exc
