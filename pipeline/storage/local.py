"""Files of this machine: atomic replacement, hard links, locks, appending."""

import contextlib
import itertools
import os
from collections.abc import Iterator

from pipeline.storage.failures import Errors, failed
from pipeline.storage.handles import AppendFile, FileLock
from pipeline.storage.names import TEMPORARY, check_name
from pipeline.storage.operations import FileOps
from pipeline.storage.spec import StoredFile


class LocalStore:
    """A folder of this machine, or of a network file system that behaves like one. Safe to share between threads."""

    def __init__(self, root: str, ops: FileOps | None = None) -> None:
        self.root = os.path.abspath(root)
        self._ops = ops or FileOps()
        self._counter = itertools.count()

    def read(self, name: str) -> bytes:
        """See `Store.read`."""
        return self.read_range(name, 0, -1)

    def find(self, name: str) -> bytes | None:
        """See `Store.find`."""
        try:
            return self._read(self._path(name), 0, -1)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise failed("read", self._path(name), exc) from exc

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """See `Store.read_range`; a negative length reads to the end."""
        with self._errors("read", name) as path:
            return self._read(path, offset, length)

    def _read(self, path: str, offset: int, length: int) -> bytes:
        fd = self._ops.open(path, os.O_RDONLY)
        try:
            pieces = []
            wanted = length if length >= 0 else 1 << 20
            while wanted > 0 and (piece := self._ops.pread(fd, wanted, offset)):
                pieces.append(piece)
                offset += len(piece)
                wanted = wanted - len(piece) if length >= 0 else 1 << 23
            return b"".join(pieces)
        finally:
            self._ops.close(fd)

    def write_atomic(self, name: str, data: bytes) -> None:
        """See `Store.write_atomic`."""
        with self._errors("write", name) as path:
            temporary = self._write_temporary(path, data)
            try:
                self._ops.rename(temporary, path)
            except OSError:
                self._remove_quietly(temporary)
                raise
            self._sync_folder(path)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """See `Store.put_if_absent`: a hard link, which no other process can overtake."""
        with self._errors("create", name) as path:
            temporary = self._write_temporary(path, data)
            try:
                self._ops.link(temporary, path)
            except FileExistsError:
                return False
            finally:
                self._remove_quietly(temporary)
            self._sync_folder(path)
        return True

    def list(self, folder: str) -> list[StoredFile]:
        """See `Store.list`."""
        with self._errors("list", folder) as path:
            return sorted(_files_below(self._ops, path, f"{folder}/" if folder else ""))

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        try:
            self._ops.stat(self._path(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as exc:
            raise failed("look at", self._path(name), exc) from exc
        return True

    def size(self, name: str) -> int:
        """See `Store.size`."""
        with self._errors("look at", name) as path:
            return self._ops.stat(path).st_size

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        with self._errors("delete", name) as path, contextlib.suppress(FileNotFoundError):
            self._ops.unlink(path)

    def delete_tree(self, folder: str) -> None:
        """See `Store.delete_tree`."""
        with self._errors("delete", folder) as path:
            self._delete_tree(path)

    def _delete_tree(self, path: str) -> None:
        try:
            entries = self._ops.entries(path)
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                self._delete_tree(entry.path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    self._ops.unlink(entry.path)
        with contextlib.suppress(FileNotFoundError):
            self._ops.rmdir(path)

    def rename(self, old: str, new: str) -> None:
        """Moves a file over another name."""
        with self._errors("rename", old) as path:
            self._ops.rename(path, self._path(new))

    def create(self, name: str) -> AppendFile:
        """A new file to append to; StateError where the name is taken."""
        with self._errors("create", name) as path:
            self._make_folder(path)
            fd = self._ops.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            return AppendFile(self._ops, fd, path, 0)

    def append_to(self, name: str, size: int) -> AppendFile:
        """An existing file to append to, cut to `size` bytes."""
        with self._errors("repair", name) as path:
            fd = self._ops.open(path, os.O_WRONLY | os.O_APPEND)
            try:
                self._ops.truncate(fd, size)
            except OSError:
                self._ops.close(fd)
                raise
            return AppendFile(self._ops, fd, path, size)

    def try_lock(self, name: str) -> FileLock | None:
        """The lock on a file, created where it is missing; None while another process or lock object holds it.

        The kernel frees it with the last descriptor, so a killed holder never blocks.
        """
        with self._errors("lock", name) as path:
            self._make_folder(path)
            fd = self._ops.open(path, os.O_RDWR | os.O_CREAT)
            try:
                self._ops.lock(fd)
            except BlockingIOError:
                self._ops.close(fd)
                return None
            except OSError:
                self._ops.close(fd)
                raise
            return FileLock(self._ops, fd, path)

    def _path(self, name: str) -> str:
        return os.path.join(self.root, check_name(name)) if name else self.root

    def _errors(self, action: str, name: str) -> Errors:
        path = self._path(name)
        return Errors(action, path, path)

    def _make_folder(self, path: str) -> None:
        self._ops.makedirs(os.path.dirname(path))

    def _write_temporary(self, path: str, data: bytes) -> str:
        temporary = f"{path}{TEMPORARY}{os.getpid()}-{next(self._counter)}"
        self._make_folder(path)
        fd = self._ops.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            view = memoryview(data)
            while view:
                view = view[self._ops.write(fd, view) :]
            self._ops.sync(fd)
        except OSError:
            self._remove_quietly(temporary)
            raise
        finally:
            self._ops.close(fd)
        return temporary

    def _sync_folder(self, path: str) -> None:
        fd = self._ops.open(os.path.dirname(path), os.O_RDONLY)
        try:
            self._ops.sync(fd)
        finally:
            self._ops.close(fd)

    def _remove_quietly(self, path: str) -> None:
        with contextlib.suppress(OSError):  # a left-over temporary file is hidden from listings
            self._ops.unlink(path)


def _files_below(ops: FileOps, path: str, prefix: str) -> Iterator[StoredFile]:
    try:
        entries = ops.entries(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(ops, entry.path, f"{prefix}{entry.name}/")
        elif TEMPORARY not in entry.name:
            with contextlib.suppress(FileNotFoundError):  # gone since the listing
                status = ops.stat(entry.path)
                yield StoredFile(prefix + entry.name, status.st_size, status.st_mtime)
