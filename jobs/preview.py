"""Looks at a job before it runs: `python -m jobs.preview conf/job.toml`."""

from typing import Annotated

import typer

from jobs.command_line import Conf, Limit, Set, exit_status, new_app, overrides, shortened
from pipeline import Preview, Watcher, load_job, open_session, preview_job

HELP = """Renders the prompts of the rows that a run would ask, and says what the whole job will send, use, cost and take.

One request is sent, to see that the endpoint answers; with --send as many as --rows says. What was sent is in the
journal of the job: the run that follows has its answers and does not buy them again. Nothing lands. Without any call:
python -m jobs.run CONF.toml --dry-run.

Exit status: 0 the endpoint answered; 1 it did not; 2 the job file, the source or the table is wrong.
"""

QUESTION_CHARS, ANSWER_CHARS = 160, 200

app = new_app()


@app.command(help=HELP)
def main(
    conf: Conf,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Rows to show, spread from short to long.")] = 20,
    send: Annotated[bool, typer.Option("--send", help="Send all of them, not only one.")] = False,
    limit: Limit = None,
    set_: Set = None,
) -> None:
    """See HELP."""
    with exit_status(interrupted="Broken off; what was answered is in the journal."):
        job = load_job(conf, overrides(limit, set_))
        preview = preview_job(job, open_session(job.job.name), rows=rows, calls=rows if send else 1)
    show(preview, Watcher())
    raise typer.Exit(1 if preview.problem else 0)


def show(preview: Preview, watcher: Watcher) -> None:
    """Questions beside answers, then the figures, on standard output."""
    rows = [
        (
            row.key,
            shortened(row.question, QUESTION_CHARS),
            shortened(row.answer, ANSWER_CHARS) if row.is_sent else "(not sent)",
            "" if row.input_tokens is None else row.input_tokens,
            "" if row.output_tokens is None else row.output_tokens,
        )
        for row in preview.rows
    ]
    if rows:
        watcher.table(("row", "question", "answer", "in", "out"), rows, wrap=("question", "answer"))
    watcher.pairs(preview.lines())


if __name__ == "__main__":
    app()
