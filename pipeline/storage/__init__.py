"""Named byte strings under one root, local or remote. The only door to file systems for state; errors name the path."""

from pipeline.storage.handles import AppendFile, FileLock
from pipeline.storage.local import LocalStore
from pipeline.storage.names import check_name
from pipeline.storage.opening import open_store
from pipeline.storage.operations import FileOps
from pipeline.storage.remote import RemoteStore
from pipeline.storage.spec import Store, StoredFile

__all__ = [
    "AppendFile",
    "FileLock",
    "FileOps",
    "LocalStore",
    "RemoteStore",
    "Store",
    "StoredFile",
    "check_name",
    "open_store",
]
