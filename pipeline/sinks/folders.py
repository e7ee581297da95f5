"""Folders on whatever file system Spark writes to: the only door to Hadoop's FileSystem."""

import uuid
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from pipeline.errors import SinkError


class Folder:
    """One folder; every call goes to the file system."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        self._jvm: Any = spark.sparkContext._jvm
        self._conf: Any = spark.sparkContext._jsc.hadoopConfiguration()
        self.path = path
        self._path: Any = self._jvm.org.apache.hadoop.fs.Path(path)
        try:
            self._fs: Any = self._path.getFileSystem(self._conf)
        except Py4JJavaError as exc:
            raise SinkError(f"[sink] {path}: {_reason(exc)}") from None

    @property
    def is_local(self) -> bool:
        """Whether it is on a file system of this machine, as Spark sees it."""
        return str(self._fs.getUri().getScheme()) == "file"

    @property
    def local_path(self) -> str:
        """The path as this machine's own calls take it; only where `is_local`."""
        return str(self._fs.makeQualified(self._path).toUri().getPath())

    def exists(self) -> bool:
        """Whether there is anything at this path."""
        return bool(self._call("exists", self._path))

    def children(self) -> list[str]:
        """Names in the folder; empty where it is missing."""
        if not self.exists():
            return []
        return sorted(status.getPath().getName() for status in self._call("listStatus", self._path))

    def is_directory(self) -> bool:
        """Whether the path is a folder."""
        return self.exists() and bool(self._call("getFileStatus", self._path).isDirectory())

    def make(self) -> None:
        """Creates the folder and its parents."""
        self._call("mkdirs", self._path)

    def delete(self) -> None:
        """Removes the folder with everything in it; missing is fine."""
        self._call("delete", self._path, True)

    def rename_to(self, target: "Folder") -> bool:
        """One rename; False where the target exists. Atomic on local disks and HDFS, a copy on object stores."""
        if target.exists():  # Hadoop would move the source inside it
            return False
        self._jvm.org.apache.hadoop.fs.Path(target.path)
        target._call("mkdirs", target._path.getParent())
        return bool(self._call("rename", self._path, target._path))

    def require_writable(self) -> None:
        """Raises SinkError unless a file can be created in the folder or, where it is missing, beside it."""
        place = self._path
        while not self._call("exists", place):
            if place.getParent() is None:
                raise SinkError(f"[sink] {self.path}: no part of the path exists")
            place = place.getParent()
        if not self._call("getFileStatus", place).isDirectory():
            raise SinkError(f"[sink] {self.path}: {place.toUri().getPath()} is a file, not a folder")
        probe = self._jvm.org.apache.hadoop.fs.Path(place, f"_writable-{uuid.uuid4().hex}")
        self._call("create", probe, False).close()
        self._call("delete", probe, False)

    def _call(self, method: str, *args: Any) -> Any:
        try:
            return getattr(self._fs, method)(*args)
        except Py4JJavaError as exc:
            raise SinkError(f"[sink] {self.path}: {_reason(exc)}") from None


def _reason(exc: Py4JJavaError) -> str:
    cause = exc.java_exception
    return f"{cause.getClass().getSimpleName()}: {cause.getMessage()}".split("\n")[0][:300]
