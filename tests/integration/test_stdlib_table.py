import importlib
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.stdlib_table import SCHEMA, stdlib_rows, write_stdlib_table


@pytest.fixture(scope="module")
def rows():
    return stdlib_rows()


def test_there_are_thousands_of_them_under_unique_names_in_order(rows):
    names = [row["name"] for row in rows]
    assert 3_000 < len(names) < 20_000
    assert names == sorted(set(names))


def test_each_is_documented_and_has_exactly_the_columns(rows):
    assert all(list(row) == SCHEMA.names and row["doc"].strip() == row["doc"] != "" for row in rows)
    assert {row["kind"] for row in rows} == {"function", "class"}


def test_functions_classes_and_methods_are_there_and_what_a_module_imports_is_not(rows):
    by_name = {row["name"]: row for row in rows}
    assert by_name["bisect.bisect_left"]["kind"] == "function"
    assert by_name["collections.Counter"]["kind"] == "class"
    assert by_name["collections.Counter.most_common"]["signature"] == "(self, n=None)"
    assert by_name["functools.lru_cache"]["doc"].startswith("Least-recently-used cache decorator.")
    assert by_name["datetime.datetime.fromisoformat"]["module"] == "datetime"
    assert "dataclasses.FunctionType" not in by_name
    assert "os.fspath" not in by_name or by_name["os.fspath"]["module"] == "os"
    assert not {row["module"].split(".")[0] for row in rows} & {"antigravity", "this", "idlelib", "test"}


def test_a_class_without_a_docstring_of_its_own_does_not_show_its_parents(rows):
    wrong = []
    for row in rows:
        if row["kind"] == "class":
            value = importlib.import_module(row["module"])
            for part in row["name"].removeprefix(f"{row['module']}.").split("."):
                value = getattr(value, part, None)  # pyexpat's classes are known under other names than their own
            if value is not None and "__doc__" not in vars(value):
                wrong.append(row["name"])
    assert wrong == []


def test_signatures_show_neither_addresses_nor_the_environment(rows):
    signatures = "\n".join(row["signature"] for row in rows)
    assert " at 0x" not in signatures
    assert "environ(" not in signatures
    assert sys.prefix not in signatures


def test_the_same_rows_come_out_of_another_process(rows, tmp_path):
    code = (
        "import sys; from pathlib import Path; from jobs.stdlib_table import write_stdlib_table;"
        "write_stdlib_table(Path(sys.argv[1]))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "docs")], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    theirs = pq.read_table(tmp_path / "docs").to_pylist()
    # the test run itself replaces some functions of loaded modules, so a few rows may differ
    ours = {row["name"]: row for row in rows}
    assert sum(ours.get(row["name"]) != row for row in theirs) < 20


def test_the_table_is_written_once_for_each_python(tmp_path):
    folder = tmp_path / "docs"
    count = write_stdlib_table(folder)
    (file,) = folder.iterdir()
    assert pq.read_metadata(file).num_rows == count
    before = file.stat().st_mtime_ns
    assert write_stdlib_table(folder) == count
    assert file.stat().st_mtime_ns == before
    pq.write_table(pq.read_table(file).slice(0, 10).replace_schema_metadata({"python": "2.7"}), file)
    assert write_stdlib_table(folder) == count
