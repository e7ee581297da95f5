"""What a store of named byte strings can do."""

from typing import NamedTuple, Protocol


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
