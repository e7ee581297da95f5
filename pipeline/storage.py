"""Named byte strings under one root, local or remote. The only door to file systems for state; errors name the path."""

import contextlib
import errno
import fcntl
import importlib
import itertools
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from pyarrow import fs as arrow_fs

from pipeline.errors import StateError

_NAME = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*", re.ASCII)
_TEMPORARY = ".tmp-"
# FUSE mounts of object stores: they look local, but neither append nor lock. Source: Databricks, "What are volumes?".
_MOUNTS = ("/Volumes/", "/dbfs/")
_HINTS = {
    errno.ENOSPC: "the disk is full: free space there or move [state] path, then start again",
    errno.EDQUOT: "the disk quota is used up: free space there or move [state] path, then start again",
    errno.EACCES: "permission denied: the user that runs the job must be able to read and write there",
    errno.EPERM: "not permitted: the user that runs the job must be able to read and write there",
    errno.EROFS: "the file system is read-only: move [state] path",
    errno.EIO: "the device reported an input/output error",
}


class StoredFile(NamedTuple):
    """One file of a listing. `changed_at_s` is 0.0 where the file system does not say."""

    name: str
    size: int
    changed_at_s: float


class Store(Protocol):
    """Files by relative name: letters, digits and `._=-`, folders by `/`. Every failure is a StateError."""

    root: str

    def read(self, name: str) -> bytes:
        """The whole file; StateError where there is none."""
        ...

    def find(self, name: str) -> bytes | None:
        """The whole file; None where there is none."""
        ...

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; fewer at the end of the file."""
        ...

    def write_atomic(self, name: str, data: bytes) -> None:
        """Replaces the file; a reader sees the old bytes or the new ones, never a part."""
        ...

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Creates the file, whole; False where the name is taken."""
        ...

    def list(self, folder: str) -> list[StoredFile]:
        """All files below a folder, by name; empty where there is no such folder. "" is the root."""
        ...

    def exists(self, name: str) -> bool:
        """True where there is such a file."""
        ...

    def size(self, name: str) -> int:
        """Bytes of the file; StateError where there is none."""
        ...

    def delete(self, name: str) -> None:
        """Removes the file, if it is there."""
        ...

    def delete_tree(self, folder: str) -> None:
        """Removes a folder and all below it, if it is there."""
        ...


def open_store(path_or_uri: str) -> Store:
    """The store of a folder: a local path, or a URI that pyarrow or fsspec understands. Creates nothing yet."""
    if path_or_uri.startswith(_MOUNTS):
        return RemoteStore(arrow_fs.LocalFileSystem(), path_or_uri, path_or_uri)
    if "://" not in path_or_uri:
        return LocalStore(path_or_uri)
    if path_or_uri.startswith("file://"):
        return LocalStore(path_or_uri.removeprefix("file://"))
    try:
        filesystem, folder = arrow_fs.FileSystem.from_uri(path_or_uri)
    except pa.ArrowInvalid:
        filesystem, folder = _from_fsspec(path_or_uri)
    except (OSError, pa.ArrowException) as exc:
        raise _failed("open", path_or_uri, exc) from exc
    return RemoteStore(filesystem, folder, path_or_uri)


def _from_fsspec(uri: str) -> tuple[Any, str]:
    try:  # optional: only for schemes that pyarrow does not know
        filesystem, folder = importlib.import_module("fsspec.core").url_to_fs(uri)
    except (ImportError, ValueError, OSError) as exc:
        raise StateError(f"cannot open {uri}: neither pyarrow nor fsspec knows such an address here: {exc}") from exc
    return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(filesystem)), folder


def check_name(name: str) -> str:
    """The name itself; StateError where it could leave the root or needs quoting somewhere."""
    if not _NAME.fullmatch(name) or any(part in (".", "..") or _TEMPORARY in part for part in name.split("/")):
        raise StateError(f"{name!r} is no name for a state file: letters, digits and ._=- only, folders by /, no '..'")
    return name


def _failed(action: str, path: str, exc: Exception) -> StateError:
    number = getattr(exc, "errno", None)
    reason = _HINTS.get(number or 0) or (os.strerror(number) if number else str(exc) or type(exc).__name__)
    code = f" ({errno.errorcode[number]})" if number and number in errno.errorcode else ""
    return StateError(f"cannot {action} {path}: {reason}{code}")


class _Errors:
    """Turns what a file system raises into a StateError; gives the path."""

    def __init__(self, action: str, path: str, shown: str) -> None:
        self._action = action
        self._path = path
        self._shown = shown

    def __enter__(self) -> str:
        return self._path

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, OSError | pa.ArrowException):
            raise _failed(self._action, self._shown, exc) from exc


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
            raise _failed("read", self._path(name), exc) from exc

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
            raise _failed("look at", self._path(name), exc) from exc
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

    def create(self, name: str) -> "AppendFile":
        """A new file to append to; StateError where the name is taken."""
        with self._errors("create", name) as path:
            self._make_folder(path)
            fd = self._ops.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            return AppendFile(self._ops, fd, path, 0)

    def append_to(self, name: str, size: int) -> "AppendFile":
        """An existing file to append to, cut to `size` bytes."""
        with self._errors("repair", name) as path:
            fd = self._ops.open(path, os.O_WRONLY | os.O_APPEND)
            try:
                self._ops.truncate(fd, size)
            except OSError:
                self._ops.close(fd)
                raise
            return AppendFile(self._ops, fd, path, size)

    def try_lock(self, name: str) -> "FileLock | None":
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

    def _errors(self, action: str, name: str) -> "_Errors":
        path = self._path(name)
        return _Errors(action, path, path)

    def _make_folder(self, path: str) -> None:
        self._ops.makedirs(os.path.dirname(path))

    def _write_temporary(self, path: str, data: bytes) -> str:
        temporary = f"{path}{_TEMPORARY}{os.getpid()}-{next(self._counter)}"
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
        elif _TEMPORARY not in entry.name:
            with contextlib.suppress(FileNotFoundError):  # gone since the listing
                status = ops.stat(entry.path)
                yield StoredFile(prefix + entry.name, status.st_size, status.st_mtime)


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
            raise _failed("write", self._path, exc) from exc
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
            raise _failed("force to the disk", self._path, exc) from exc

    def close(self) -> None:
        """Lets go of the file."""
        try:
            self._ops.close(self._fd)
        except OSError as exc:
            raise _failed("close", self._path, exc) from exc


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
            raise _failed("unlock", self._path, exc) from exc


class RemoteStore:
    """A folder behind a pyarrow file system: object stores, HDFS, and through fsspec whatever it knows."""

    def __init__(self, filesystem: Any, folder: str, root: str) -> None:
        self.root = root
        self._fs = filesystem
        self._folder = folder.rstrip("/")

    def read(self, name: str) -> bytes:
        """See `Store.read`."""
        with self._errors("read", name) as path, self._fs.open_input_stream(path) as stream:
            return bytes(stream.read())

    def find(self, name: str) -> bytes | None:
        """See `Store.find`."""
        try:
            with self._fs.open_input_stream(self._path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as exc:
            raise _failed("read", self._shown(name), exc) from exc

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """See `Store.read_range`."""
        with self._errors("read", name) as path, self._fs.open_input_file(path) as file:
            available = max(0, file.size() - offset)
            return bytes(file.read_at(min(length, available), offset)) if available else b""

    def write_atomic(self, name: str, data: bytes) -> None:
        """See `Store.write_atomic`: object stores show a put whole; elsewhere a move does it."""
        with self._errors("write", name) as path:
            if self._puts_are_atomic():
                self._put(path, data)
                return
            temporary = f"{path}{_TEMPORARY}{os.getpid()}"
            self._put(temporary, data)
            self._fs.move(temporary, path)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """See `Store.put_if_absent`.

        Through fsspec the store itself decides where it can; pyarrow has no conditional put, so there the check comes
        first and two writers may overtake each other: callers use names that no other attempt uses, or read back.
        """
        with self._errors("create", name) as path:
            if isinstance(self._fs, arrow_fs.PyFileSystem):
                try:
                    self._fsspec().pipe_file(path, data, mode="create")
                except FileExistsError:
                    return False
                except (TypeError, NotImplementedError):
                    pass  # a kind without exclusive creation
                else:
                    return True
            if self._fs.get_file_info(path).type != arrow_fs.FileType.NotFound:
                return False
            self._put(path, data)
        return True

    def list(self, folder: str) -> list[StoredFile]:
        """See `Store.list`."""
        with self._errors("list", folder) as path:
            selector = arrow_fs.FileSelector(path, allow_not_found=True, recursive=True)
            infos = self._fs.get_file_info(selector)
        below = self._folder.lstrip("/")
        return sorted(
            StoredFile(info.path.lstrip("/")[len(below) :].lstrip("/"), int(info.size or 0), _changed_at_s(info))
            for info in infos
            if info.type == arrow_fs.FileType.File and _TEMPORARY not in info.path
        )

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        with self._errors("look at", name) as path:
            return bool(self._fs.get_file_info(path).type == arrow_fs.FileType.File)

    def size(self, name: str) -> int:
        """See `Store.size`."""
        with self._errors("look at", name) as path:
            info = self._fs.get_file_info(path)
            if info.type != arrow_fs.FileType.File:
                raise FileNotFoundError(errno.ENOENT, "no such file")
            return int(info.size)

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        with self._errors("delete", name) as path, contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(path)

    def delete_tree(self, folder: str) -> None:
        """See `Store.delete_tree`."""
        with self._errors("delete", folder) as path, contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(path)

    def _puts_are_atomic(self) -> bool:
        # pyarrow's names of the kinds that show a file before it is whole; fsspec's are object stores or test doubles
        return not isinstance(self._fs, arrow_fs.LocalFileSystem) and self._fs.type_name not in (
            "hdfs",
            "py::fsspec+hdfs",
        )

    def _put(self, path: str, data: bytes) -> None:
        if not self._fs.type_name.startswith(("s3", "gcs")):  # those have no folders to make
            self._fs.create_dir(path.rsplit("/", 1)[0], recursive=True)
        with self._fs.open_output_stream(path) as stream:
            stream.write(data)

    def _fsspec(self) -> Any:
        return self._fs.handler.fs

    def _path(self, name: str) -> str:
        return f"{self._folder}/{check_name(name)}" if name else self._folder

    def _shown(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _errors(self, action: str, name: str) -> "_Errors":
        return _Errors(action, self._path(name), self._shown(name))


def _changed_at_s(info: Any) -> float:
    return info.mtime.timestamp() if info.mtime is not None else 0.0
