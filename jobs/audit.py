"""Compares a job's books: `python -m jobs.audit conf/job.toml`."""

import json
import sys
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from pipeline import BillFigures, PipelineError, Watcher, audit_job, load_job, open_session

HELP = """Compares rows in the source, requests sent, answers received and rows landed, and says what differs.

Nothing is sent to the endpoint. With --bill and the address of the simulator its bill is compared too.

Exit status: 0 the books agree; 1 something differs; 2 the job file or a table cannot be read.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=HELP)
def main(
    conf: Annotated[Path, typer.Argument(help="The job file.", metavar="CONF.toml")],
    bill: Annotated[
        str | None, typer.Option(help="Address of the simulator, like http://127.0.0.1:8200.", metavar="URL")
    ] = None,
) -> None:
    """See HELP."""
    try:
        job = load_job(conf)
        figures = _bill(bill) if bill is not None else None
        audit = audit_job(job, open_session(job.job.name), figures)
    except (PipelineError, OSError) as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(2) from None
    verdict = [("differs", text) for text in audit.differences] or [("verdict", "the books agree")]
    Watcher().pairs([*audit.figures, *verdict])
    raise typer.Exit(1 if audit.differences else 0)


def _bill(address: str) -> BillFigures:
    if not address.startswith(("http://", "https://")):
        raise OSError(f"--bill {address}: an address begins with http://")
    with urllib.request.urlopen(f"{address.rstrip('/')}/bill", timeout=10) as answer:  # noqa: S310 - http only, see above
        bill = json.load(answer)
    return BillFigures(bill["requests"], bill["answers"], bill["input_tokens"], bill["output_tokens"])


if __name__ == "__main__":
    app()
