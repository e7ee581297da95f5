"""Compares a job's books: `python -m jobs.audit conf/job.toml`."""

import json
import urllib.request
from typing import Annotated

import typer

from jobs.command_line import Conf, Limit, Set, exit_status, new_app, overrides
from pipeline import BillFigures, PipelineError, Watcher, audit_job, load_job, open_session

HELP = """Compares rows in the source, requests sent, answers received and rows landed, and says what differs.

Nothing is sent to the endpoint. With --bill and the address of the simulator its bill is compared too.

Exit status: 0 the books agree; 1 something differs; 2 the job file or a table cannot be read.
"""

app = new_app()


@app.command(help=HELP)
def main(
    conf: Conf,
    limit: Limit = None,
    set_: Set = None,
    bill: Annotated[
        str | None, typer.Option(help="Address of the simulator, like http://127.0.0.1:8200.", metavar="URL")
    ] = None,
) -> None:
    """See HELP."""
    with exit_status(refused=(PipelineError, OSError)):
        job = load_job(conf, overrides(limit, set_))
        figures = _bill(bill) if bill is not None else None
        audit = audit_job(job, open_session(job.job.name), figures)
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
