"""That a query has failed, told to every task of it on this machine: a retried attempt ends before it asks anything.

Light on purpose: a worker that is only there to fail again loads nothing else.
"""

import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.conditions import AiFunctionError

_MARKER = "failed"


def folder_of(query: str) -> Path:
    """Where the tasks of a query on this machine meet; nobody else may read it. May not exist yet."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir()) / f"spark-ai-query-{user}" / query


def own_folder(folder: Path) -> Path | None:
    """The folder, made where it is missing; None where it cannot be made or belongs to somebody else."""
    try:
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, exist_ok=True)
            if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
                return None
    except OSError:
        return None
    return folder


def remember_failure(folder: Path, failure: AiFunctionError) -> None:
    """Tells the other tasks; the first failure stays."""
    marker = folder / _MARKER
    if own_folder(folder) is None or marker.exists():
        return
    condition, sentence = failure.args
    draft = folder / f"{_MARKER}.{os.getpid()}"
    try:
        draft.write_text(f"{condition}\n{sentence}", encoding="utf-8")
        draft.replace(marker)
    except OSError:  # then a retried attempt finds out by itself
        return


def failure_of(folder: Path) -> AiFunctionError | None:
    """The failure that some task of the query has met."""
    try:
        condition, _, sentence = (folder / _MARKER).read_text(encoding="utf-8").partition("\n")
    except OSError:
        return None
    return AiFunctionError(condition, sentence)


def unless_failed(query: str, packed: bytes, batches: Iterable[Any]) -> Iterator[Any]:
    """What the packed function gives over the batches, its `folder` that of the query.

    Raises AiFunctionError at once where the query has failed, and tells the other tasks where it fails here. `packed`
    comes from `pack`: unpacking it is what loads the engine.
    """
    folder = folder_of(query)
    if (known := failure_of(folder)) is not None:
        raise known
    function: Callable[..., Iterator[Any]] = pickle.loads(packed)  # noqa: S301 - came with the task, like its code
    try:
        yield from function(batches, folder=folder)
    except AiFunctionError as failure:
        remember_failure(folder, failure)
        raise


def pack(function: Callable[..., Iterator[Any]]) -> bytes:
    """A function and what is bound to it, as bytes that load nothing until they are needed."""
    return pickle.dumps(function)
