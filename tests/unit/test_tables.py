import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

from pipeline.tables import SqlResult

VECTOR = [0.5, -0.25, 1.0, 2.0, 3.0]
ROW = ("a,b", None, 7, 2.5, True, Decimal("1.50"), {"x": [1, None]}, VECTOR, b"\x00\xff", date(2026, 1, 2), "é\n")
RESULT = SqlResult(tuple("abcdefghijk"), [ROW])


def test_json_has_an_object_per_row_and_keeps_types() -> None:
    (found,) = json.loads(RESULT.to_json())
    assert list(found.values()) == [
        "a,b", None, 7, 2.5, True, 1.5, {"x": [1, None]}, VECTOR, "AP8=", "2026-01-02", "é\n"
    ]  # fmt: skip
    assert SqlResult(("a",), []).to_json() == "[]"
    assert SqlResult(("a",), [(1,), (2,)]).to_json().count("\n") == 1


def test_csv_quotes_what_must_be_and_writes_nested_values_as_json() -> None:
    header, row = csv.reader(io.StringIO(RESULT.to_csv()))
    assert header == list("abcdefghijk")
    assert row == [
        "a,b", "", "7", "2.5", "true", "1.50", '{"x": [1, null]}', json.dumps(VECTOR), "AP8=", "2026-01-02", "é\n"
    ]  # fmt: skip


def test_cells_keep_numbers_name_nulls_and_shorten_vectors() -> None:
    (cells,) = RESULT.cells()
    assert cells[:4] == ["a,b", "NULL", 7, 2.5]
    assert cells[7] == "[0.5000, -0.2500, 1.0000, 2.0000, … 5 numbers]"
    assert SqlResult(("t",), [(datetime(2026, 1, 2, 3, 4, tzinfo=UTC),)]).cells() == [["2026-01-02T03:04:00+00:00"]]


def test_cost_is_a_sum_per_currency_and_nothing_where_no_price_is_known() -> None:
    assert SqlResult((), []).cost_text() == ""
    assert SqlResult((), [], cost={"USD": 0.01234, "EUR": 12.0}).cost_text() == "0.0123 USD, 12.00 EUR"
