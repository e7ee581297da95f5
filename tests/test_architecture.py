"""The floors, the doors and the public names, read from the syntax trees."""

import ast
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).parents[1]

# A new module is named here; its floor says what it may import.
FLOORS: dict[int, set[str]] = {
    0: {"errors", "records", "version"},
    1: {
        "json_schemas",
        *("arguments", "batching", "columns", "conditions", "config", "ddl", "decoding"),
        *("estimates", "identity", "limits", "long_texts", "messages", "model_parameters", "moments", "prices"),
        *("prompts", "references", "result_types", "retry", "tokens", "vector_types", "vectors"),
    },
    2: {"answer_types", "endpoints", "local_functions", "questions", "readings"},
    3: {"auth", "journal", "quota", "storage", "transports", "vocabularies", "workspace_auth"},
    4: {
        "json_functions",
        *("board", "calibrations", "calls", "canary", "catalog", "column_plan", "column_rows"),
        *(
            "column_worker",
            "engine",
            "exchanges",
            "late_calls",
            "loop",
            "module_path",
            "nearest",
            "part_files",
            "query_failure",
        ),
        *("query_memory", "rendering", "replay", "response_cache", "runs", "settings", "siblings"),
        *("task", "templates", "worker", "worker_plan", "progress", "pieces", "reader", "vector_ring"),
    },
    5: {
        *(
            "fixed_functions",
            "functions",
            "guard",
            "session",
            "sibling_columns",
            "simulator",
            "sinks",
            "spark",
            "sql_functions",
        ),
        "worker_daemon",
    },
    6: {
        *("audit", "embedding_plans", "landed", "landing", "leasing", "pandas_api", "pandas_calls", "pending"),
        *("plans", "preview", "report", "run", "search", "servers", "shelf"),
        *("statements", "stream", "tables", "watch"),
    },
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}

# One door per outside library: the modules that may import it, by prefix.
SPARK = tuple(f"pipeline.{name}" for floor in (5, 6) for name in sorted(FLOORS[floor] - {"simulator"}))
DOORS: dict[str, tuple[str, ...]] = {
    "aiohappyeyeballs": ("pipeline.transports.dialing",),
    "certifi": ("pipeline.transports.tls",),
    "databricks": ("pipeline.workspace_auth",),
    "delta": SPARK,
    "google_crc32c": ("pipeline.journal",),
    "httptools": ("pipeline.simulator.connection", "pipeline.transports.connection"),
    "httpx": ("pipeline.transports.httpx",),
    "jinja2": ("pipeline.prompts",),
    "jsonschema": ("pipeline.json_schemas",),
    "numpy": ("pipeline",),
    "orjson": ("pipeline", "jobs"),
    "pandas": ("pipeline.pandas_api", "pipeline.pandas_calls", "pipeline.worker_daemon"),
    "py4j": SPARK,
    "pyarrow": ("pipeline", "jobs"),
    "pybase64": ("pipeline.decoding",),
    "pydantic": ("pipeline.config",),
    "pydantic_core": ("pipeline.config",),
    "pyreqwest": ("pipeline.transports.reqwest",),
    "pyspark": SPARK,
    "referencing": ("pipeline.json_schemas",),
    "rich": ("pipeline.watch",),
    "tenacity": ("pipeline.retry",),
    "tiktoken": ("pipeline.vocabularies",),
    "typer": ("jobs",),
    "uvloop": ("pipeline.loop", "pipeline.simulator"),
    "wordllama": ("pipeline.simulator", "pipeline.transports.local"),
}
# Imported where they are used, since they may be missing.
OPTIONAL = {"databricks.sdk.core", "pybase64", "tiktoken", "uvloop", "wordllama"}

IMPURE = {
    *("asyncio", "fcntl", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets"),
    *("shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "uuid"),
}
# Configuration is read where it is checked.
IMPURE_ALLOWED = {("pipeline.config.load", "pathlib")}
IMPURE_CALLS = {"now", "utcnow", "today", "open", "print", "input", "getenv"}


@dataclass(frozen=True)
class Import:
    """One imported module. `is_lazy`: within a function; `is_typing`: for type checkers only."""

    target: str
    names: tuple[str, ...] = ()
    level: int = 0
    is_lazy: bool = False
    is_typing: bool = False


def imports_of(tree: ast.AST, is_lazy: bool = False, is_typing: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), 0, is_lazy, is_typing)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", tuple(alias.name for alias in node.names), node.level, is_lazy, is_typing)
        else:
            inside = is_lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            yield from imports_of(node, inside, is_typing or typing_only)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {
    module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path))
    for folder in ("pipeline", "jobs")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
IMPORTS = {name: list(imports_of(tree)) for name, tree in TREES.items()}
PIPELINE = sorted(name for name in TREES if name.startswith("pipeline."))
JOBS = sorted(name for name in TREES if name.startswith("jobs."))


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def own_targets(imported: Import) -> list[str]:
    """The modules of this package that an import names; `from pipeline import columns` names a module."""
    if imported.target.split(".")[0] != "pipeline":
        return []
    inner = [f"{imported.target}.{name}" for name in imported.names if f"{imported.target}.{name}" in TREES]
    return inner or [imported.target]


def edges(name: str) -> set[str]:
    return {target for imported in IMPORTS[name] if not imported.is_typing for target in own_targets(imported)}


def unit(name: str) -> str:
    """The part that has a floor: `pipeline.journal.index` belongs to `journal`."""
    return name.split(".")[1]


def test_the_reader_sees_lazy_relative_and_typing_imports():
    source = """
from typing import TYPE_CHECKING
import a.b, c
from . import d
if TYPE_CHECKING:
    from e import f
try:
    import g
except ImportError:
    def late():
        from h.i import j, k
"""
    assert list(imports_of(ast.parse(source))) == [
        Import("typing", ("TYPE_CHECKING",)),
        Import("a.b"),
        Import("c"),
        Import("", ("d",), level=1),
        Import("e", ("f",), is_typing=True),
        Import("g"),
        Import("h.i", ("j", "k"), is_lazy=True),
    ]


def test_every_module_has_a_floor():
    assert {unit(name) for name in PIPELINE} - set(FLOOR_OF) == set(), "name the floor of these in FLOORS"
    assert sum(len(names) for names in FLOORS.values()) == len(FLOOR_OF), "a module has one floor"


def test_imports_point_down():
    for name in PIPELINE:
        for target in edges(name):
            assert target != "pipeline", "the roof is not for the floors below it"
            assert FLOOR_OF[unit(target)] <= FLOOR_OF[unit(name)], f"{name} imports {target}, which is above it"


def test_doors_do_not_know_each_other():
    for name in [name for name in PIPELINE if FLOOR_OF[unit(name)] == 3]:
        others = {unit(target) for target in edges(name) if FLOOR_OF[unit(target)] == 3} - {unit(name)}
        assert others <= {"journal": {"storage"}, "workspace_auth": {"auth"}}.get(unit(name), set()), name


def test_the_simulator_shares_no_mistake_with_the_client():
    for name in [name for name in PIPELINE if unit(name) == "simulator"]:
        assert {unit(target) for target in edges(name)} <= {"simulator", "records"}, name


def test_imports_are_absolute_and_at_module_level():
    for name in TREES:
        for imported in IMPORTS[name]:
            assert imported.level == 0, f"{name}: relative import of {imported.names}"
            assert not imported.is_lazy or imported.target in OPTIONAL, f"{name}: lazy import of {imported.target}"
            assert not imported.is_typing or name == "pipeline", (
                f"{name}: an import for type checkers only hides a cycle"
            )


def test_outside_libraries_come_through_their_door():
    for name in TREES:
        for imported in IMPORTS[name]:
            library = imported.target.split(".")[0]
            if library in sys.stdlib_module_names or library in ("pipeline", "jobs"):
                continue
            assert within(name, DOORS.get(library, ())), f"{name} imports {library}; its doors are {DOORS.get(library)}"


def test_every_door_is_in_use():
    found = {imported.target.split(".")[0] for imports in IMPORTS.values() for imported in imports}
    assert set(DOORS) <= found


def test_lower_floors_touch_no_clock_chance_environment_network_or_file():
    for name in [name for name in PIPELINE if FLOOR_OF[unit(name)] <= 2]:
        touched = {imported.target.split(".")[0] for imported in IMPORTS[name]} & IMPURE
        assert {(name, library) for library in touched} <= IMPURE_ALLOWED
        assert "urllib.request" not in {imported.target for imported in IMPORTS[name]}, name
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in IMPURE_CALLS, f"{name}, line {node.lineno}: {called}()"


def test_no_imports_in_a_circle():
    try:
        order = list(TopologicalSorter({name: edges(name) for name in TREES}).static_order())
    except CycleError as exc:
        pytest.fail(" -> ".join(exc.args[1]))
    assert order.index("pipeline.records") < order.index("pipeline.engine") < order.index("pipeline.run")


def test_jobs_use_public_names_only():
    for name in JOBS:
        for imported in IMPORTS[name]:
            if imported.target == "pipeline":
                assert set(imported.names) <= set(pipeline.__all__), name
            elif imported.target.startswith("pipeline."):
                assert (name, imported.target) == ("jobs.serve", "pipeline.simulator")
                assert set(imported.names) <= set(importlib.import_module("pipeline.simulator").__all__)
            elif imported.target.split(".")[0] == "jobs":
                assert imported.target in TREES, name


def test_the_public_names_are_exactly_what_type_checkers_see():
    typed = [name for imported in IMPORTS["pipeline"] if imported.is_typing for name in imported.names]
    assert sorted([*typed, "__version__"]) == sorted(pipeline.__all__)
    assert len(set(pipeline.__all__)) == len(pipeline.__all__)


def test_a_public_name_is_the_one_of_its_home():
    for name in pipeline.__all__:
        found = getattr(pipeline, name)
        (home,) = [i.target for i in IMPORTS["pipeline"] if name in i.names] or ["pipeline.version"]
        assert found is getattr(importlib.import_module(home), "VERSION" if name == "__version__" else name), name


def test_what_is_not_public_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'secret'"):
        _ = pipeline.secret


def test_no_module_is_named_like_the_standard_librarys():
    for name in TREES:
        # running a script in that folder would import it instead
        last = name.split(".")[-1]
        assert last == "__main__" or last not in sys.stdlib_module_names, name


def test_every_module_says_what_it_is():
    for name in [name for name, tree in TREES.items() if tree.body]:
        docstring = ast.get_docstring(TREES[name])
        assert docstring, name
        assert docstring.splitlines()[0].endswith((".", ":")), name


def test_only_the_engine_and_the_worker_catch_everything():
    for name in [name for name in PIPELINE if FLOOR_OF[unit(name)] != 4]:
        if unit(name) == "simulator":
            continue
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception":
                pytest.fail(f"{name}, line {node.lineno}: except Exception")
