"""Vectors of one task in a file of bounded size that others read: through SQLite each took four times its own call."""

import os
import struct
import zlib
from pathlib import Path

# The newest half is always whole; its owner forgets what is older.
RING_BYTES = 64 * 2**20
_PLACE = struct.Struct("<QII")  # offset, length, CRC-32


class VectorRing:
    """One task's file, and those of others. Writers and readers take turns: both hold the database's write lock."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._owner = owner
        self._end = 0
        self._files: dict[str, int] = {}

    def put(self, data: bytes) -> bytes:
        """Writes a vector; its place, for `get`. OSError where it cannot be written."""
        if self._end + len(data) > RING_BYTES:
            self._end = 0
        place = _PLACE.pack(self._end, len(data), zlib.crc32(data))
        os.pwrite(self._file(self._owner, os.O_RDWR | os.O_CREAT), data, self._end)
        self._end += len(data)
        return place

    def get(self, owner: str, place: bytes) -> bytes | None:
        """The vector at a place; None where something else is there: its writer was killed before it said so."""
        offset, length, checksum = _PLACE.unpack(place)
        try:
            data = os.pread(self._file(owner, os.O_RDONLY), length, offset)
        except OSError:
            return None
        return data if zlib.crc32(data) == checksum else None

    def close(self) -> None:
        """Lets go of all files; they stay for the tasks that come."""
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def _file(self, owner: str, flags: int) -> int:
        if owner not in self._files:
            self._files[owner] = os.open(self._folder / f"{owner}.vectors", flags | os.O_CLOEXEC, 0o600)
        return self._files[owner]
