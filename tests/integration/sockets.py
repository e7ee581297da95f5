"""Peers that no server would be."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def swallowing() -> Iterator[tuple[str, int]]:
    """An address that answers nothing to who connects, neither yes nor no."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):  # fills the queue: further connections hang
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield full.getsockname()
