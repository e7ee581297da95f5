"""Whether anybody still reads what this Python worker writes.

Spark closes the socket of a task whose rows it wants no more; without this a worker learns of it at its next write,
which may be a whole call later.
"""

import select
from collections.abc import Callable
from typing import BinaryIO

_poll: Callable[[int], list[tuple[int, int]]] | None = None


def watch(stream: BinaryIO) -> None:
    """The socket to the reader; what is watched from now on."""
    global _poll
    poller = select.poll()
    poller.register(stream, select.POLLRDHUP)  # a hang-up or an error is always told
    _poll = poller.poll


def is_gone() -> bool:
    """True once the reader has closed its end; never where nothing is watched."""
    return _poll is not None and bool(_poll(0))
