"""Finds the rows nearest to a text: `python -m jobs.search RESULTS "text"`."""

from typing import Annotated

import typer

from jobs.command_line import exit_status, new_app, shortened
from pipeline import (
    PipelineError,
    SearchResult,
    Watcher,
    job_of_results,
    nearest_rows,
    open_session,
    overlap,
    rank_overlap,
)

HELP = """Embeds the text as the rows of a results table were embedded, and shows the rows nearest to it.

RESULTS is the table's path, or the file of the job that made it. The score is the cosine of the two vectors: how a person
sees in a minute that the vectors mean something. With --compare the same text is searched in another table, of another
model or another run: the overlap is the share of rows that both find, and rank-biased overlap says how much the two
orders agree, the first rows counting most.

Exit status: 0 shown; 2 the table, the job or the endpoint cannot be used.
"""

TEXT_CHARS = 90

app = new_app()


@app.command(help=HELP)
def main(
    results: Annotated[str, typer.Argument(metavar="RESULTS", help="Path of the table, or the job file.")],
    text: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("--k", min=1, max=1000, help="How many rows.")] = 10,
    compare: Annotated[
        str | None, typer.Option(metavar="RESULTS", help="Another table, searched the same way.")
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help='Put before the text, "" for none; default: what job or model says of queries.'
        ),
    ] = None,
) -> None:
    """See HELP."""
    watcher = Watcher()
    with exit_status(refused=(PipelineError,)):
        jobs = [job_of_results(path) for path in (results, compare) if path is not None]
        spark = open_session("search")
        found = [nearest_rows(job, text, spark, k, instruction) for job in jobs]
    for path, result in zip((results, compare), found, strict=False):
        watcher.say(f"{path}: nearest to {text!r}", is_heading=True)
        watcher.table(("rank", "score", "key", *result.columns), _rows(result), wrap=result.columns)
    if len(found) == 2:
        watcher.say(
            f"Of {len(found[0].rows)} rows {overlap(*found):.0%} are found in both; rank-biased overlap "
            f"{rank_overlap(*found):.2f}, where 1 is the same order."
        )


def _rows(result: SearchResult) -> list[tuple[object, ...]]:
    return [
        (rank, row.score, row.key, *[shortened(text, TEXT_CHARS) for text in row.texts])
        for rank, row in enumerate(result.rows, 1)
    ]


if __name__ == "__main__":
    app()
