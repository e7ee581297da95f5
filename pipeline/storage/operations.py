"""The calls to the operating system, one by one."""

import fcntl
import os


class FileOps:
    """The calls to the operating system that the local store makes, one method each; tests fail them one by one."""

    def open(self, path: str, flags: int) -> int:
        """See `os.open`."""
        return os.open(path, flags | os.O_CLOEXEC, 0o640)

    def close(self, fd: int) -> None:
        """See `os.close`."""
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """See `os.write`; may write less than asked."""
        return os.write(fd, data)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """See `os.pread`; may read less than asked."""
        return os.pread(fd, length, offset)

    def truncate(self, fd: int, size: int) -> None:
        """See `os.ftruncate`."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """See `os.fsync`."""
        os.fsync(fd)

    def rename(self, old: str, new: str) -> None:
        """See `os.replace`."""
        os.replace(old, new)

    def link(self, old: str, new: str) -> None:
        """See `os.link`."""
        os.link(old, new)

    def unlink(self, path: str) -> None:
        """See `os.unlink`."""
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        """See `os.rmdir`."""
        os.rmdir(path)

    def makedirs(self, path: str) -> None:
        """See `os.makedirs`."""
        os.makedirs(path, mode=0o750, exist_ok=True)

    def stat(self, path: str) -> os.stat_result:
        """See `os.stat`."""
        return os.stat(path)

    def entries(self, path: str) -> list[os.DirEntry[str]]:
        """See `os.scandir`."""
        with os.scandir(path) as found:
            return list(found)

    def lock(self, fd: int) -> None:
        """See `fcntl.flock`: exclusive, at once or BlockingIOError."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
