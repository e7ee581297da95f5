"""Rows as text: JSON and CSV for programs, cells for people.."""

import base64
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pipeline.prices import money

_MOST_NUMBERS = 4  # of a vector, in a table for people


@dataclass(frozen=True, slots=True)
class SqlResult:
    """The rows of one statement, in the order of `columns`, and what its calls used; structs are dicts."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool = False  # the statement may have more rows
    duration_s: float = 0.0
    calls: int = 0  # answered or not
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Mapping[str, float] = field(default_factory=dict)  # by currency, of the models whose price is known
    unpriced: Mapping[str, int] = field(default_factory=dict)  # calls by model, of those whose price is not

    def cost_text(self) -> str:
        """Like `0.0123 USD`; empty where no price is known."""
        return ", ".join(money(amount, currency) for currency, amount in self.cost.items())

    def to_json(self) -> str:
        """An array with an object per row, a row on a line."""
        lines = [_json(dict(zip(self.columns, row, strict=True))) for row in self.rows]
        return "[" + ",\n ".join(lines) + "]"

    def to_csv(self) -> str:
        """A header and a line per row: text as it is, nested values as JSON, NULL as nothing."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_field(value) for value in row] for row in self.rows)
        return text.getvalue().removesuffix("\n")

    def cells(self) -> list[list[Any]]:
        """Numbers as they are, all else as text; a vector by its first numbers."""
        return [[_cell(value) for value in row] for row in self.rows]


def _json(value: Any) -> str:
    return json.dumps(value, default=_jsonable, ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    """What JSON has no form of."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def _field(value: Any) -> Any:
    if value is None or isinstance(value, str | Decimal):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return _json(value) if isinstance(value, bool | dict | list) else _jsonable(value)


def _cell(value: Any) -> Any:
    if value is None:
        return "NULL"
    if isinstance(value, list) and len(value) > _MOST_NUMBERS and all(isinstance(each, float) for each in value):
        return f"[{', '.join(f'{each:.4f}' for each in value[:_MOST_NUMBERS])}, … {len(value):,} numbers]"
    return _field(value)
