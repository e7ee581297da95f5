"""Zip archives on the module path, read again only when they changed; no Spark.

Spark puts every jar of `spark.jars.packages` on the path of Python, and has each fresh worker forget what it knows of
the path: Python then reads the directories of all these archives again, 0.5 s of CPU before the first call.
"""

import importlib
import os
import zipimport

_forget = zipimport.zipimporter.invalidate_caches
_known: dict[str, tuple[int, int]] = {}  # by path: (time of change in ns, bytes)


def read_once() -> None:
    """From now on an archive whose time and size are those of its last reading is not read again; forks know too."""
    zipimport.zipimporter.invalidate_caches = _forget_changed  # type: ignore[method-assign,assignment]
    importlib.invalidate_caches()


def _forget_changed(importer: zipimport.zipimporter) -> None:
    path = importer.archive
    try:
        found = os.stat(path)
    except OSError:
        _known.pop(path, None)
    else:
        stamp = found.st_mtime_ns, found.st_size
        if _known.get(path) == stamp:
            return
        _known[path] = stamp
    _forget(importer)
