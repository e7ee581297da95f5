"""Shows what a job's journal holds, and removes old journals: `python -m jobs.journal conf/job.toml`."""

import re
import time
from typing import Annotated

import typer

from jobs.command_line import Conf, Set, exit_status, new_app
from pipeline import PipelineError, Watcher, journal_report, load_job, prune_journals

HELP = """Shows what the journal of a job holds: requests, answers, tokens, bytes and age.

A journal is what a rerun replays instead of buying again. One belongs to one question: change the endpoint name, the
prompt or the parameters, and a new one begins. Removing a journal loses no results; it only forgets what was answered
and has not landed.
"""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

app = new_app()


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no age: a number and s, m, h, d or w, like 30d")
    return float(match[1]) * _UNITS_S[match[2]]


@app.command(help=HELP)
def main(
    conf: Conf,
    set_: Set = None,
    prune: Annotated[
        str | None,
        typer.Option(
            help="Remove journals in which nothing was written for this long, like 30d.", metavar="OLDER_THAN"
        ),
    ] = None,
) -> None:
    """See HELP."""
    age_s = _seconds(prune) if prune is not None else None
    with exit_status(refused=(PipelineError,)):
        job = load_job(conf, set_ or ())
        lines = journal_report(job, time.time()) if age_s is None else prune_journals(job, age_s, time.time())
    Watcher().pairs(lines)


if __name__ == "__main__":
    app()
