"""From a path or URI to its store."""

import importlib
from typing import Any

import pyarrow as pa
from pyarrow import fs as arrow_fs

from pipeline.errors import StateError
from pipeline.storage.failures import failed
from pipeline.storage.local import LocalStore
from pipeline.storage.remote import RemoteStore
from pipeline.storage.spec import Store

# FUSE mounts of object stores: they look local, but neither append nor lock. Source: Databricks, "What are volumes?".
_MOUNTS = ("/Volumes/", "/dbfs/")


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
        raise failed("open", path_or_uri, exc) from exc
    return RemoteStore(filesystem, folder, path_or_uri)


def _from_fsspec(uri: str) -> tuple[Any, str]:
    try:  # optional: only for schemes that pyarrow does not know
        filesystem, folder = importlib.import_module("fsspec.core").url_to_fs(uri)
    except (ImportError, ValueError, OSError) as exc:
        raise StateError(f"cannot open {uri}: neither pyarrow nor fsspec knows such an address here: {exc}") from exc
    return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(filesystem)), folder
