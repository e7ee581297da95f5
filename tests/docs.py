"""The examples in docs/: read from the pages, run, and written back with `python -m tests.docs`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import pipeline.pandas_api
from pipeline import StatementFailed, StatementRefused, embedded_endpoints, open_session, register, run_sql
from pipeline.tables import SqlResult

FOLDER = Path(__file__).parents[1] / "docs"
PAGES = sorted(FOLDER.glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
_BLOCK = re.compile(r"```(?P<kind>sql|python)\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One block of a page; `output` is what stands below it, None where nothing does."""

    kind: str
    code: str
    output: str | None
    end: int  # of the code block, in the page


def examples(text: str) -> Iterator[Example]:
    """The blocks of a page, in order."""
    for found in _BLOCK.finditer(text):
        yield Example(found["kind"], found["code"], found["output"], text.index("```\n", found.start("code")) + 4)


def outcome(spark: SparkSession, example: Example) -> str:
    """What the page should show: the rows, or the error's sentence; nothing for Python and for statements."""
    if example.kind == "python":
        names: dict[str, Any] = {"spark": spark, "F": F, "pd": pd, "reviews": spark.table("reviews")}
        exec(compile(example.code, "docs", "exec"), names)
        return ""
    try:
        return as_text(run_sql(spark, example.code, rows=None))
    except (StatementFailed, StatementRefused) as exc:
        return f"{exc}\n"


def as_text(result: SqlResult) -> str:
    """Rows in aligned columns under a header."""
    if not result.columns:
        return ""
    lines = [list(result.columns), *[[str(cell) for cell in row] for row in result.cells()]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(result.columns))]
    lines.insert(1, ["-" * width for width in widths])
    padded = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "".join(f"{line.rstrip()}\n" for line in padded)


def rewritten(spark: SparkSession, text: str) -> str:
    """The page with the outputs of now."""
    made, at = "", 0
    for found, example in zip(_BLOCK.finditer(text), examples(text), strict=True):
        made += text[at : example.end]
        said = outcome(spark, example)
        made += f"\n```text\n{said}```\n" if said else ""
        at = found.end()
    return made + text[at:]


def main() -> None:
    spark = open_session("docs")
    with embedded_endpoints() as endpoints:
        register(spark, endpoints)
        pipeline.pandas_api.configure(endpoints)
        for page in PAGES:
            page.write_text(rewritten(spark, page.read_text()))


if __name__ == "__main__":
    main()
