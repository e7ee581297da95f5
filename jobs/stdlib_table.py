"""The quick start's input: every documented function and class of this Python's standard library, as a Parquet table."""

import contextlib
import importlib
import inspect
import io
import os
import pkgutil
import platform
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([(name, pa.string()) for name in ("module", "name", "kind", "signature", "doc")])

# Importing these prints, opens a browser or a window, starts a tool, or finds tests instead of a library.
_SKIPPED = frozenset(
    {"antigravity", "this", "idlelib", "lib2to3", "test", "tests", "tkinter", "turtle", "turtledemo", "pydoc_data"}
)
# Whoever runs this may have put its own function in their place, and the table must not depend on that.
_HOOKS = frozenset({"displayhook", "excepthook", "breakpointhook", "unraisablehook"})
_PLAIN_TYPES = (bool, int, float, str, bytes, type(None))
_FILE = "docstrings.parquet"
_PYTHON = b"python"


def write_stdlib_table(folder: Path) -> int:
    """Writes `folder`/docstrings.parquet where it is missing or of another Python; returns its rows.

    Columns: module, name (unique: module.qualname), kind (function | class), signature (empty where Python does not
    know it), doc (without indentation).
    """
    file = folder / _FILE
    version = platform.python_version().encode()
    if file.exists():
        known = pq.ParquetFile(file)
        if (known.schema_arrow.metadata or {}).get(_PYTHON) == version:
            return int(known.metadata.num_rows)
    rows = stdlib_rows()
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({_PYTHON: version}))
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{_FILE}.part"  # Spark skips names that begin with a dot
    pq.write_table(table, part)
    part.replace(file)
    return len(rows)


def stdlib_rows() -> list[dict[str, str]]:
    """One row per documented object, ordered by name."""
    rows: dict[str, dict[str, str]] = {}
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        warnings.simplefilter("ignore")
        for module in _modules():
            with contextlib.suppress(Exception):
                for row in _rows_of(module):
                    rows.setdefault(row["name"], row)
    return [rows[name] for name in sorted(rows)]


def _module_names() -> Iterator[str]:
    """Public modules and packages, each package followed by its direct children (the caller has imported it by then)."""
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in _SKIPPED:
            continue
        yield name
        for child in pkgutil.iter_modules(getattr(sys.modules.get(name), "__path__", ())):
            if not child.name.startswith("_") and child.name not in _SKIPPED:
                yield f"{name}.{child.name}"


def _modules() -> list[ModuleType]:
    """All imported before the first is looked at: a child may take the name of a function of its package."""
    found = []
    for name in _module_names():
        with contextlib.suppress(Exception):  # whatever one module does, the others are worth a table
            found.append(importlib.import_module(name))
    return found


def _rows_of(module: ModuleType) -> Iterator[dict[str, str]]:
    """The module's own classes, their methods, and its functions; what it imports belongs to another module."""
    own = {module.__name__, f"_{module.__name__}"}  # bisect is written in C as _bisect
    for attribute, value in sorted(vars(module).items()):
        if attribute.startswith("_") or attribute in _HOOKS or getattr(value, "__module__", None) not in own:
            continue
        if inspect.isclass(value):
            yield from _row(module, value, "class")
            for name, member in sorted(vars(value).items()):
                method = getattr(member, "__func__", member)  # behind staticmethod and classmethod
                if not name.startswith("_") and inspect.isroutine(method):
                    yield from _row(module, method, "function", f"{value.__qualname__}.{name}")
        elif inspect.isroutine(value):
            yield from _row(module, value, "function")


def _row(module: ModuleType, value: Any, kind: str, qualname: str | None = None) -> Iterator[dict[str, str]]:
    # a class inherits its docstring through the attribute, and that one describes another class
    doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    if isinstance(doc, str) and doc.strip():
        yield {
            "module": module.__name__,
            "name": f"{module.__name__}.{qualname or value.__qualname__}",
            "kind": kind,
            "signature": _signature(value),
            "doc": inspect.cleandoc(doc).strip(),
        }


def _signature(value: Any) -> str:
    """Names and plain defaults only: other defaults show addresses, and os.environ (a default in `cgi`) shows secrets."""
    try:
        signature = inspect.signature(value)
    except (ValueError, TypeError):  # written in C without a text signature
        return ""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty, default=_plain(parameter.default))
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(parameters))


def _plain(default: Any) -> Any:
    is_path = isinstance(default, str) and len(default) > 1 and os.path.isabs(default)
    if default is inspect.Parameter.empty or (type(default) in _PLAIN_TYPES and not is_path):
        return default
    name = getattr(default, "__name__", "")
    return _Named(name if name.isidentifier() else "...")


class _Named:
    """A default that a signature shows by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name
