"""Runs one job: `python -m jobs.run conf/job.toml`."""

from enum import StrEnum
from typing import Annotated, Any

import typer
import typer.core

from jobs.command_line import Conf, Limit, Set, exit_status, new_app, overrides
from jobs.preview import show
from pipeline import Watcher, load_job, open_session, preview_job, run_job

HELP = """Reads a table, asks an endpoint about every row, and lands answers, token counts and errors.

The job is a TOML file; conf/docstring_summaries.toml explains every option. Run it again and only rows that have not
landed are asked; what an interrupted run had already been answered is replayed from its journal, not bought again.

Exit status: 0 landed (or nothing to do); 1 the run failed or stopped, or rows failed under on_error = "fail";
2 refused before anything was sent; 130 interrupted, what was finished has landed.
"""


class RetryErrors(StrEnum):
    """Which failed rows are asked again."""

    transient = "transient"
    all = "all"


class _Command(typer.core.TyperCommand):
    """`--retry-errors` alone means the transient ones; Typer has no option whose value may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place, (word, following) in enumerate(zip(args, [*args[1:], ""], strict=True)):
            if word == "--retry-errors" and following not in list(RetryErrors):
                args[place] = f"{word}={RetryErrors.transient}"
        return super().parse_args(ctx, args)


app = new_app()


@app.command(help=HELP, cls=_Command)
def main(
    conf: Conf,
    limit: Limit = None,
    set_: Set = None,
    run_id: Annotated[
        str | None, typer.Option(help="A name for this run; a run that has landed under it is not run again.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ignore what the journal holds: buy every pending row anew.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing: show prompts and what the job will send, use and cost.")
    ] = False,
    retry_errors: Annotated[
        RetryErrors | None,
        typer.Option(
            help="Ask only rows that landed with an error, and replace them: transient (as without a value) or all."
        ),
    ] = None,
) -> None:
    """See HELP."""
    watcher = Watcher()
    with exit_status(interrupted="Broken off; a rerun resumes from the journal."):
        job = load_job(conf, overrides(limit, set_))
        spark = open_session(job.job.name)
        if dry_run:
            show(preview_job(job, spark, rows=3), watcher)
            raise typer.Exit(0)
        report = run_job(
            job,
            spark,
            run_id=run_id,
            fresh=fresh,
            retry_errors=retry_errors.value if retry_errors is not None else None,
            watch=watcher,
        )
    watcher.summary(report)
    if watcher.is_interrupted:
        raise typer.Exit(130)
    is_refused = job.job.on_error == "fail" and report.rows_failed > 0
    raise typer.Exit(1 if report.status in ("failed", "partial") or is_refused or report.unbooked else 0)


if __name__ == "__main__":
    app()
