"""The whole path on this machine, without account, key or cost: a real table, two jobs, and what came of them."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.command_line import exit_status, new_app
from jobs.stdlib_table import write_stdlib_table
from pipeline import (
    ConfigError,
    JobFile,
    Report,
    Watcher,
    landed_table,
    load_job,
    open_session,
    run_job,
)

HELP = """Asks about every documented function and class of Python's standard library, and shows what came of it.

\b
1. writes a table of them: out/docstrings (module, name, kind, signature, doc);
2. runs conf/docstring_summaries.toml: a chat model puts each docstring into one sentence, into a Delta table;
3. runs conf/docstring_embeddings.toml: an embedding model makes a vector of each one, into a Parquet table;
4. shows rows of both tables, counts, tokens and norms, and three commands to go on with.

The endpoint is the simulator, started with each job: its chat model picks the sentence that says most of a text, its
embedding model is a small real one. Everything lands in out/ of the current folder. Run it again and it asks nothing,
since every row has landed: that is what a rerun of any job does.

Exit status: as of jobs.run.
"""

CONF = Path(__file__).parents[1] / "conf"
SUMMARIES, EMBEDDINGS = CONF / "docstring_summaries.toml", CONF / "docstring_embeddings.toml"
OUT = Path("out")

# Shown first where they have landed: short docstrings whose summary is not simply their first line.
KNOWN = (
    "argparse.Namespace",
    "asyncio.locks.Condition",
    "asyncio.locks.Event",
    "collections.Counter.most_common",
    "fractions.Fraction.as_integer_ratio",
)
SHOWN = 5
DOC_CHARS, SUMMARY_CHARS, LINE_CHARS = 60, 120, 110

app = new_app()


@app.command(help=HELP)
def main(
    rows: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="At most N rows for each job; default: as its file says (summaries 2,000)."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete what an earlier quick start left, and begin anew.")
    ] = False,
) -> None:
    """See HELP."""
    watcher = Watcher()
    with exit_status(interrupted="Broken off; a rerun resumes from the journal."):
        jobs = load_jobs(rows)
        if fresh:
            delete_outputs(jobs)
        docs = write_stdlib_table(Path(str(jobs[0].source.path)))
        watcher.say(f"{docs:,} documented functions and classes of Python {_python()} are in {jobs[0].source.path}.")
        watcher.say("Starting Spark (the first start on a machine fetches Delta, about half a minute).")
        spark = open_session("quickstart")
        reports = run_jobs(jobs, spark, watcher, rows)
        if all(report.status in ("landed", "nothing_to_do") for report in reports):
            show(jobs, reports, spark, watcher)
    if watcher.is_interrupted:
        raise typer.Exit(130)
    raise typer.Exit(1 if any(report.status in ("failed", "partial") for report in reports) else 0)


def load_jobs(rows: int | None = None) -> list[JobFile]:
    """The two jobs, with at most `rows` source rows each."""
    overrides = [f"source.limit={rows}"] if rows is not None else []
    return [load_job(conf, overrides) for conf in (SUMMARIES, EMBEDDINGS)]


def run_jobs(jobs: list[JobFile], spark: Any, watcher: Watcher, rows: int | None = None) -> list[Report]:
    """Runs the jobs one after the other in one session, each under the command that a user would type; ends early
    where one does not land."""
    reports = []
    for job, conf in zip(jobs, (SUMMARIES, EMBEDDINGS), strict=True):
        watcher.say()
        watcher.say(f"$ {_command(conf, *([f'--limit {rows}'] if rows is not None else []))}", is_heading=True)
        report = run_job(job, spark, watch=watcher)
        watcher.summary(report)
        reports.append(report)
        if report.status == "nothing_to_do":
            watcher.say(f"All {report.rows_source:,} rows have landed already, so nothing was asked.")
        elif report.status != "landed":
            break
    return reports


def show(jobs: list[JobFile], reports: list[Report], spark: Any, watcher: Watcher) -> None:
    """Rows of both tables, what both hold, and where to go on."""
    summaries, embeddings = (landed_table(spark, job) for job in jobs)
    watcher.say()
    watcher.say("A docstring and its summary", is_heading=True)
    watcher.table(
        ("name", "doc", "summary"),
        [
            (row["name"], _begin(row["doc"], DOC_CHARS), _begin(row["response"], SUMMARY_CHARS))
            for row in _some(summaries, "doc", "response")
        ],
        wrap=("doc", "summary"),
    )
    watcher.say("A docstring and its vector", is_heading=True)
    watcher.table(
        ("name", "dimensions", "norm", "is_normalized"),
        [tuple(row) for row in _some(embeddings, "size(response) AS dimensions", "norm", "is_normalized")],
    )
    watcher.say("The tables, all runs together", is_heading=True)
    watcher.table(
        ("table", "rows", "answered", "failed", "input tokens", "output tokens", "rows/s of this run"),
        [
            (job.sink.path, *_counts(table), f"{report.rows_per_s:,.0f}" if report.rows_per_s else "nothing asked")
            for job, table, report in zip(jobs, (summaries, embeddings), reports, strict=True)
        ],
    )
    watcher.pairs(_places(jobs, embeddings))
    watcher.say()
    watcher.say("What to try next", is_heading=True)
    for purpose, command in _next_commands():
        watcher.say(f"# {purpose}")
        watcher.say(command)


def delete_outputs(jobs: list[JobFile]) -> None:
    """Deletes the tables and states of the quick start, and nothing outside out/. Raises ConfigError for other places."""
    places = [Path(str(jobs[0].source.path))]
    for job in jobs:
        sink = Path(str(job.sink.path))
        places += [sink, sink.with_name(f"{sink.name}_runs"), Path(job.state_path)]
    for place in places:
        if OUT.resolve() not in place.resolve().parents:
            raise ConfigError(f"--fresh deletes only folders in {OUT}/, and {place} is not one; delete it yourself")
    for place in places:
        if place.exists():
            shutil.rmtree(place)


def _some(table: Any, *columns: str) -> list[Any]:
    """A few answered rows, the known names first: name and the columns given."""
    known = ", ".join(f"'{name}'" for name in KNOWN)
    place = f"coalesce(nullif(array_position(array({known}), name), 0), {len(KNOWN) + 1}) AS place"
    rows = table.where("response IS NOT NULL").selectExpr("name", *columns, place)
    found: list[Any] = rows.orderBy("place", "name").limit(SHOWN).drop("place").collect()
    return found


def _counts(table: Any) -> tuple[int, ...]:
    row = table.selectExpr(
        "count(*)",
        "count(response)",
        "count(error)",
        "coalesce(sum(usage.input_tokens), 0)",
        "coalesce(sum(usage.output_tokens), 0)",
    ).first()
    return tuple(int(value) for value in row)


def _places(jobs: list[JobFile], embeddings: Any) -> list[tuple[str, str]]:
    norms = embeddings.where("response IS NOT NULL").selectExpr(
        "avg(norm)", "min(norm)", "max(norm)", "avg(CAST(is_normalized AS double))"
    )
    mean, lowest, highest, share = norms.first()
    return [
        ("norms", f"mean {mean:.4f}, {lowest:.4f} to {highest:.4f}; {share:.1%} normalised (norm within 0.001 of 1)"),
        *[(str(job.sink.format), f"{job.sink.path}; its runs in {job.sink.path}_runs") for job in jobs],
        *[("state", f"{job.state_path}: journal of {job.job.name}") for job in jobs],
    ]


def _next_commands() -> list[tuple[str, str]]:
    return [
        (
            "More rows: those that have landed are not asked again.",
            _command(SUMMARIES, "--limit 4000"),
        ),
        (
            "Vectors scaled to length 1: replayed from the journal, no row is asked again.",
            _command(EMBEDDINGS, "--set embedding.normalization=normalize", "--set job.mode=overwrite"),
        ),
        (
            "A real model: any server that speaks OpenAI's protocol (here Ollama's address, and a model that it has).",
            _command(
                SUMMARIES,
                "--limit 20",
                "--set endpoint.base_url=http://127.0.0.1:11434/v1",
                "--set endpoint.name=llama3.2",
                "--set sink.path=out/my_summaries",
            ),
        ),
    ]


def _command(conf: Path, *options: str) -> str:
    """What to type; one option per line where it would not fit into one."""
    words = [f"{_interpreter()} -m jobs.run {os.path.relpath(conf)}", *options]
    line = " ".join(words)
    return line if len(line) <= LINE_CHARS else " \\\n    ".join(words)


def _interpreter() -> str:
    """This interpreter as it is typed from here; one of a virtual environment that nobody activated is not on the path."""
    here = Path(sys.executable)
    return os.path.relpath(here) if here.is_relative_to(Path.cwd()) else "python"


def _begin(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1].rstrip() + "…"


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


if __name__ == "__main__":
    app()
