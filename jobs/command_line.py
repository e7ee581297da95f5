"""What the commands share: options of a job file, exit statuses, texts in one line."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline import ConfigError, LeaseHeld, PipelineError, SinkError, SourceError

Conf = Annotated[Path, typer.Argument(help="The job file.", metavar="CONF.toml")]
Limit = Annotated[int | None, typer.Option(help="At most this many source rows; same as --set source.limit=N.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value over the file; repeatable.", metavar="SECTION.KEY=VALUE"),
]

REFUSED = (ConfigError, SourceError, SinkError, LeaseHeld)


def new_app() -> typer.Typer:
    """A command without colours and without tracebacks."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def overrides(limit: int | None, settings: Sequence[str] | None) -> list[str]:
    """What lies over the job file."""
    return [*(settings or []), *([f"source.limit={limit}"] if limit is not None else [])]


@contextlib.contextmanager
def exit_status(refused: tuple[type[Exception], ...] = REFUSED, interrupted: str = "Broken off.") -> Iterator[None]:
    """Says on standard error why a command ends: 2 refused, 1 failed, 130 interrupted."""
    try:
        yield
    except refused as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(2) from None
    except PipelineError as exc:
        print(exc, file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        raise typer.Exit(130) from None


def shortened(text: str, chars: int) -> str:
    """The text in one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1].rstrip() + "…"
