"""What a person sees while a run goes on: a live line on a terminal, plain lines in a pipe. The only door to rich."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pipeline.board import Board
from pipeline.limits import LimitUse
from pipeline.prices import money
from pipeline.report import Report
from pipeline.worker import Progress as Totals

PLAIN_EVERY_S = 5.0
LIVE_EVERY_S = 0.5
PIPE_WIDTH = 120


class Watcher:
    """Shows progress and turns Ctrl-C into an orderly stop: the first asks, the second breaks off."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.is_interrupted = False

    @contextlib.contextmanager
    def __call__(self, board: Board, rows: int) -> Iterator[None]:
        """Watches one run of `rows` rows."""
        ended = threading.Event()
        show = self._live if self.console.is_terminal else self._plain
        thread = threading.Thread(target=show, args=(board, rows, ended), name="pipeline-watch", daemon=True)
        thread.start()
        try:
            with self._interrupts(board):
                yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def _interrupts(self, board: Board) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self.is_interrupted:
                raise KeyboardInterrupt
            self.is_interrupted = True
            board.request_stop("interrupted by Ctrl-C")
            self.console.print("Stopping: calls in flight finish and land. Ctrl-C again breaks off (a rerun resumes).")

        before: Any = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _live(self, board: Board, rows: int, ended: threading.Event) -> None:
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
        )
        pace = _Pace()
        with _Live(*columns, console=self.console, transient=True, refresh_per_second=4) as progress:
            bar = progress.add_task("rows", total=rows)
            while not ended.wait(LIVE_EVERY_S):
                done, progress.below = pace.lines(board, rows)
                if done >= rows:
                    progress.below = [*progress.below, "landing"]
                progress.update(bar, completed=done)

    def _plain(self, board: Board, rows: int, ended: threading.Event) -> None:
        pace = _Pace()
        while not ended.wait(PLAIN_EVERY_S):
            done, details = pace.lines(board, rows)
            left = pace.left_s(rows - done)
            print(
                f"rows {done:,}/{rows:,} ({done / max(1, rows):.0%}) · {' · '.join(details)} · left {left}",
                file=sys.stderr,
                flush=True,
            )

    @contextlib.contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Says on a terminal that something goes on, and for how long; a pipe hears nothing."""
        if not self.console.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            progress.add_task(doing, total=None)
            yield

    @contextlib.contextmanager
    def rows(self, doing: str, rows: int, *, is_shown: bool = True) -> Iterator[Callable[[int], None]]:
        """A bar of rows, on a terminal or in a notebook; what it gives is told how many more are done."""
        if not (is_shown and (self.console.is_terminal or self.console.is_jupyter)):
            yield lambda done: None
            return
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, transient=True, refresh_per_second=4) as progress:
            bar = progress.add_task(doing, total=rows)
            yield lambda done: progress.advance(bar, done)

    def summary(self, report: Report) -> None:
        """The report as two aligned columns, on standard output."""
        self.pairs(report.lines())

    def pairs(self, lines: Sequence[tuple[str, str]]) -> None:
        """(label, text) as two aligned columns, on standard output."""
        page = _Page()
        if not page.is_terminal:  # whole lines for whoever reads the pipe
            width = max((len(label) for label, _ in lines), default=0)
            for label, text in lines:
                print(f"{label:<{width}} {text}", flush=True)
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for label, text in lines:
            table.add_row(label, text)
        page.print(table)

    def table(self, names: Sequence[str], rows: Sequence[Sequence[object]], *, wrap: Sequence[str] = ()) -> None:
        """Rows under a header, on standard output; columns in `wrap` share the room that is left. Numbers to the right."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, name in enumerate(names):
            is_number = all(isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in rows)
            table.add_column(
                name, justify="right" if is_number else "left", no_wrap=name not in wrap, overflow="ellipsis"
            )
        for row in rows:
            table.add_row(*[_cell(value) for value in row])
        _Page().print(table)

    def say(self, text: str = "", *, is_heading: bool = False) -> None:
        """One line, on standard output."""
        _Page().print(Text(text, style="bold" if is_heading else ""), soft_wrap=True)


class _Live(Progress):
    """A bar with lines of figures below it, which would leave it no room beside it."""

    below: Sequence[str] = ()

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar, then the lines, each cut where the terminal ends."""
        yield from super().get_renderables()
        yield from [Text(f"     {line}", no_wrap=True, overflow="ellipsis", style="dim") for line in self.below]


class _Page(Console):
    """Standard output without rich's reading of square brackets, which are data here."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False, emoji=False)
        if not self.is_terminal:
            self.width = PIPE_WIDTH


class _Pace:
    """Rows per second over the last quarter minute."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = [(time.monotonic(), 0)]
        self.rows_per_s = 0.0

    def lines(self, board: Board, rows: int) -> tuple[int, list[str]]:
        """Rows that are done, and the figures: of the pace, and of what is used and spent."""
        total = board.total()
        done = total.rows_done
        now_s = time.monotonic()
        if not total.rows_in:  # Spark reads and shuffles the source first; the pace begins with the first row
            self._points = [(now_s, 0)]
            return 0, ["starting"]
        self._points = [*[p for p in self._points if now_s - p[0] < 15][-60:], (now_s, done)]
        first_s, first_done = self._points[0]
        self.rows_per_s = (done - first_done) / (now_s - first_s) if now_s > first_s else 0.0
        words = [pace_words(total, self.rows_per_s), limit_words(board.limits_used()), spend_words(total, rows)]
        return done, [" · ".join(line) for line in words if line]

    def left_s(self, rows: int) -> str:
        if self.rows_per_s <= 0:
            return "?"
        seconds = round(rows / self.rows_per_s)
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def pace_words(total: Totals, rows_per_s: float) -> list[str]:
    """How fast it goes, and what is in the way."""
    found = f" of {total.quota.in_flight_limit:,}" if total.quota.in_flight_limit else ""
    words = [f"{rows_per_s:,.0f} rows/s", f"{total.in_flight:,}{found} in flight", f"{total.rows_failed:,} rows failed"]
    if total.tally.rate_limited:
        words.append(f"{total.tally.rate_limited:,} x 429")
    if total.quota.outage_s:
        words.append(f"the endpoint is down since {total.quota.outage_s:,.0f} s")
    return words


def limit_words(limits: Sequence[LimitUse]) -> list[str]:
    """How much of each limit and cap is used."""
    return [f"{limit.name.replace('_per_', '/').replace('_', ' ')} {limit.share:.0%}" for limit in limits]


def spend_words(total: Totals, rows: int) -> list[str]:
    """What was used and spent."""
    words = [f"tokens {_short(total.tally.input_tokens)} in, {_short(total.tally.output_tokens)} out"]
    if total.cost:
        words.append(f"spent {spent(total, rows)}")
    return words


def spent(total: Totals, rows: int) -> str:
    """What was spent, and what all of `rows` will cost if the rest is like those that were bought so far."""
    so_far = money(total.cost, total.currency)
    bought = total.rows_done - total.rows_replayed
    if not bought or total.rows_done >= rows:
        return so_far
    return f"{so_far} of about {money(total.cost + total.cost / bought * (rows - total.rows_done), total.currency)}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _short(number: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)
