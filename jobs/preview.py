"""Looks at a job before it runs: `python -m jobs.preview conf/job.toml`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline import (
    ConfigError,
    PipelineError,
    Preview,
    SinkError,
    SourceError,
    Watcher,
    load_job,
    open_session,
    preview_job,
)

HELP = """Renders the prompts of the rows that a run would ask, and says what the whole job will send, use, cost and take.

One request is sent, to see that the endpoint answers; with --send as many as --rows says. What was sent is in the
journal of the job: the run that follows has its answers and does not buy them again. Nothing lands. Without any call:
python -m jobs.run CONF.toml --dry-run.

Exit status: 0 the endpoint answered; 1 it did not; 2 the job file, the source or the table is wrong.
"""

QUESTION_CHARS, ANSWER_CHARS = 160, 200

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=HELP)
def main(
    conf: Annotated[Path, typer.Argument(help="The job file.", metavar="CONF.toml")],
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Rows to show, spread from short to long.")] = 20,
    send: Annotated[bool, typer.Option("--send", help="Send all of them, not only one.")] = False,
    limit: Annotated[
        int | None, typer.Option(help="At most this many source rows; same as --set source.limit=N.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.key=value over the file; repeatable.", metavar="SECTION.KEY=VALUE"),
    ] = None,
) -> None:
    """See HELP."""
    overrides = [*(set_ or []), *([f"source.limit={limit}"] if limit is not None else [])]
    try:
        job = load_job(conf, overrides)
        preview = preview_job(job, open_session(job.job.name), rows=rows, calls=rows if send else 1)
    except (ConfigError, SourceError, SinkError) as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(2) from None
    except PipelineError as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(1) from None
    show(preview, Watcher())
    raise typer.Exit(1 if preview.problem else 0)


def show(preview: Preview, watcher: Watcher) -> None:
    """Questions beside answers, then the figures, on standard output."""
    rows = [
        (
            row.key,
            _begin(row.question, QUESTION_CHARS),
            _begin(row.answer, ANSWER_CHARS) if row.is_sent else "(not sent)",
            "" if row.input_tokens is None else row.input_tokens,
            "" if row.output_tokens is None else row.output_tokens,
        )
        for row in preview.rows
    ]
    if rows:
        watcher.table(("row", "question", "answer", "in", "out"), rows, wrap=("question", "answer"))
    watcher.pairs(preview.lines())


def _begin(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1].rstrip() + "…"


if __name__ == "__main__":
    app()
