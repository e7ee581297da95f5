"""Zip archives on the module path, read as seldom as may be; no Spark.

Spark puts pyspark as a zip before all else on the path of its Python daemon. Python compiles what it loads from a zip every
time (1.1 s of CPU), and reads the zip's directory again for each of its packages when a fresh worker forgets what it knows
of the path (0.3 s).
"""

import importlib
import os
import zipimport
from collections.abc import Sequence
from pathlib import Path

_forget = zipimport.zipimporter.invalidate_caches
_known: dict[tuple[str, str], tuple[int, int]] = {}  # by archive and folder in it: (time of change in ns, bytes)


def sooner(path: Sequence[str]) -> list[str]:
    """A module path with the same modules: installed packages before jars, and pyspark as installed, not as its own zip."""
    installed = [entry for entry in path if not _is_copy(Path(entry), path)]
    return sorted(installed, key=lambda entry: entry.endswith(".jar"))


def _is_copy(archive: Path, path: Sequence[str]) -> bool:
    """Whether this is the zip that pip's pyspark carries, and pyspark itself is on the path."""
    if archive.parts[-4:] != ("pyspark", "python", "lib", "pyspark.zip"):
        return False
    packages = archive.parents[3]
    return str(packages) in path and (packages / "pyspark" / "worker.py").exists()


def read_once() -> None:
    """From now on an archive whose time and size are those of its last reading is not read again; forks know too."""
    zipimport.zipimporter.invalidate_caches = _forget_changed  # type: ignore[method-assign,assignment]
    importlib.invalidate_caches()


def _forget_changed(importer: zipimport.zipimporter) -> None:
    place = importer.archive, importer.prefix  # each folder of an archive has an importer, with what it knows
    try:
        found = os.stat(importer.archive)
    except OSError:
        _known.pop(place, None)
        _forget(importer)
        return
    stamp = found.st_mtime_ns, found.st_size
    if _known.get(place) != stamp:
        _known[place] = stamp
        _forget(importer)
        importer.find_spec(
            "_"
        )  # since Python 3.13 the directory is read by whoever asks next, which would be each fork
