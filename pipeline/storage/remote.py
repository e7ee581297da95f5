"""Files of an object store or another remote file system, through pyarrow."""

import contextlib
import errno
import os
from typing import Any

import pyarrow as pa
from pyarrow import fs as arrow_fs

from pipeline.storage.failures import Errors, failed
from pipeline.storage.names import TEMPORARY, check_name
from pipeline.storage.spec import StoredFile


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
            raise failed("read", self._shown(name), exc) from exc

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
            temporary = f"{path}{TEMPORARY}{os.getpid()}"
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
            if info.type == arrow_fs.FileType.File and TEMPORARY not in info.path
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

    def _errors(self, action: str, name: str) -> Errors:
        return Errors(action, self._path(name), self._shown(name))


def _changed_at_s(info: Any) -> float:
    return info.mtime.timestamp() if info.mtime is not None else 0.0
