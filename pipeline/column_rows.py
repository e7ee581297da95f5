"""The rows of one partition in input order: equal questions share an answer, finished rows leave from the front."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipeline.conditions import AiFunctionError, row_failure
from pipeline.readings import Cell, ResultSpec, to_array, value_of
from pipeline.records import NO_USAGE, Outcome, Request, RowError

# Rows of one piece of the output at most.
PIECE_ROWS = 256
# Answers kept for later rows of the same partition that ask the same.
MOST_REMEMBERED = 4096


class _Row:
    """A place in the output; `cell` is set once it is finished."""

    __slots__ = ("cell",)

    def __init__(self, cell: Cell | None = None) -> None:
        self.cell = cell


class Rows:
    """One per partition; used by its thread alone."""

    def __init__(self, result: ResultSpec) -> None:
        self._result = result
        self._rows: deque[_Row] = deque()
        self._asking: dict[str, list[_Row]] = {}
        self._prompt_of: dict[str, str] = {}
        self._remembered: OrderedDict[str, Outcome] = OrderedDict()
        self._ready: list[Cell] = []

    def __len__(self) -> int:
        """Rows that have not left, the finished ones at the front aside."""
        return len(self._rows)

    @property
    def is_waiting(self) -> bool:
        """Whether some row is not finished."""
        return bool(self._asking)

    @property
    def has_ready(self) -> bool:
        """Whether some row could leave."""
        return bool(self._ready) or bool(self._rows and self._rows[0].cell is not None)

    def take(self, questions: Sequence[Request | RowError | None]) -> list[Request]:
        """Adds rows; the requests that none before them asks. Raises AiFunctionError, see `settle`."""
        fresh: list[Request] = []
        for question in questions:
            row = _Row()
            self._rows.append(row)
            if question is None:
                row.cell = Cell()
            elif isinstance(question, RowError):
                self._end(row, Outcome("", error=question))
            elif known := self._remembered.get(question.request_id):
                self._end(row, known)
            elif waiting := self._asking.get(question.request_id):
                waiting.append(row)
            else:
                self._asking[question.request_id] = [row]
                if prompt := _prompt(question):
                    self._prompt_of[question.request_id] = prompt
                fresh.append(question)
        return fresh

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Finishes the rows of these requests. Raises AiFunctionError where a failed row fails the query."""
        for outcome in outcomes:
            # a call is charged to one row; rows that share its answer cost nothing
            shared = outcome.with_usage(NO_USAGE)
            first, *others = self._asking.pop(outcome.request_id)
            self._end(first, outcome)
            for row in others:
                self._end(row, shared)
            self._prompt_of.pop(outcome.request_id, None)
            if outcome.error is None:
                self._remembered[outcome.request_id] = shared
                if len(self._remembered) > MOST_REMEMBERED:
                    self._remembered.popitem(last=False)

    def pieces(self, is_due: bool) -> Iterator[pa.Array]:
        """Finished rows from the front: whole pieces, and the rest of them if it is due."""
        while self._rows and (cell := self._rows[0].cell) is not None:
            self._rows.popleft()
            self._ready.append(cell)
        while len(self._ready) >= PIECE_ROWS or (is_due and self._ready):
            cells, self._ready = self._ready[:PIECE_ROWS], self._ready[PIECE_ROWS:]
            yield to_array(cells, self._result)

    def _end(self, row: _Row, outcome: Outcome) -> None:
        try:
            if outcome.error is not None:
                raise row_failure(outcome.error, outcome.attempts, self._prompt_of.get(outcome.request_id))
            row.cell = Cell(value_of(outcome.response, self._result), None, outcome)
        except AiFunctionError as failure:
            if self._result.fails:
                raise
            row.cell = Cell(None, str(failure), outcome if outcome.request_id else None)


def _prompt(request: Request) -> str | None:
    if request.text is not None:
        return request.text
    content: Any = request.messages[-1].get("content") if request.messages else None
    return content if isinstance(content, str) else None
