import datetime
import zoneinfo
from decimal import Decimal

import pyarrow as pa
import pytest

from pipeline.result_types import NotOfType, has_map, json_text, parse, to_json_schema, unfenced
from tests.cases import cases

ROW = pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))])
MOMENT = pa.timestamp("us", tz="UTC")


@cases(
    ("text", "wanted", "value"),
    [
        ("any text", pa.string(), "any text"),
        ("```json\n{}\n```", pa.string(), "```json\n{}\n```"),
        ("7", pa.int32(), 7),
        (" 7\n", pa.int64(), 7),
        ("7.0", pa.int32(), 7),
        ('"7"', pa.int32(), 7),
        ("null", pa.int32(), None),
        ("0.25", pa.float32(), 0.25),
        ("3", pa.float64(), 3.0),
        ("12.345", pa.decimal128(10, 2), Decimal("12.35")),
        ("true", pa.bool_(), True),
        ("False", pa.bool_(), False),
        ('{"answer": 5}', pa.int32(), 5),
        ("2026-11-21", pa.date32(), datetime.date(2026, 11, 21)),
        ("2026-11-21T10:00:00", pa.timestamp("us"), datetime.datetime(2026, 11, 21, 10)),
        ("2026-11-21T10:00:00Z", MOMENT, datetime.datetime(2026, 11, 21, 10, tzinfo=datetime.UTC)),
        ("1795255200", MOMENT, datetime.datetime(2026, 11, 21, 10, tzinfo=datetime.UTC)),
        ('"aGk="', pa.binary(), b"hi"),
        ('{"a": 1, "b": ["x"], "c": 9}', ROW, {"a": 1, "b": ["x"]}),
        ('{"a": null}', ROW, {"a": None, "b": None}),
        ('```json\n{"a": 1}\n```', ROW, {"a": 1, "b": None}),
        ('```\n{"a": 1}```', ROW, {"a": 1, "b": None}),
        ('[{"a": 1}, {"a": 2}]', pa.list_(ROW), [{"a": 1, "b": None}, {"a": 2, "b": None}]),
        ('{"a": 1}', pa.list_(ROW), [{"a": 1, "b": None}]),
        ('{"x": 1, "y": 2}', pa.map_(pa.string(), pa.int32()), [("x", 1), ("y", 2)]),
        ('{"b": [{"k": 1.5}, 2, null]}', ROW, {"a": None, "b": ['{"k": 1.5}', "2", None]}),
    ],
)
def test_answers_are_read_as_from_json_would(text, wanted, value):
    assert parse(text, wanted) == value
    assert pa.array([parse(text, wanted)], type=wanted).to_pylist() == [value]


@cases(
    ("text", "wanted", "message", "is_columns"),
    [
        ("seven", pa.int32(), "the answer is a string, not INT32", False),
        ("1.5", pa.int32(), "the answer is a number, not INT32", False),
        ("3000000000", pa.int32(), "the answer is a number, not INT32", False),
        ("1e999", pa.float64(), "the answer is a number, not DOUBLE", False),
        ("1234.5", pa.decimal128(4, 1), "not DECIMAL128", False),
        ("maybe", pa.bool_(), "not BOOL", False),
        ('{"a": 1, "b": 2}', pa.int32(), "the answer has 2 columns, INT32 is one", True),
        ("{}", pa.int32(), "has 0 columns", True),
        ("not json", ROW, "the answer is not JSON", False),
        ("[1]", ROW, "the answer is an array, not STRUCT", False),
        ('{"a": "x"}', ROW, "$.a of the answer is a string, not INT32", False),
        ('{"b": [1], "a": [2]}', ROW, "$.a of the answer is an array, not INT32", False),
        ("[1, 2]", pa.map_(pa.string(), pa.int32()), "not MAP", False),
        ("2026-11-21 10:00:00Z", pa.timestamp("us"), "the answer is a string, not TIMESTAMP[US]", False),
        ("2026-11-21 10:00:00", MOMENT, "the answer is a string, not TIMESTAMP[US, TZ=UTC]", False),
        ("1e300", MOMENT, "the answer is a number, not TIMESTAMP[US, TZ=UTC]", False),
        ("9" * 30, MOMENT, "the answer is a number, not TIMESTAMP[US, TZ=UTC]", False),
        ("[" * 100_000, ROW, "the answer is not JSON", False),
    ],
)
def test_what_does_not_fit_says_where_and_shows_no_answer(text, wanted, message, is_columns):
    with pytest.raises(NotOfType) as caught:
        parse(text, wanted)
    assert message in str(caught.value)
    assert caught.value.is_columns is is_columns


def test_times_without_a_zone_are_of_the_given_one_at_every_depth():
    kind = pa.struct([("all", pa.list_(pa.map_(pa.string(), MOMENT)))])
    moment = datetime.datetime(2024, 5, 1, 10, tzinfo=datetime.UTC)
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    assert parse('{"all": [{"at": "2024-05-01 12:00:00"}]}', kind, berlin) == {"all": [[("at", moment)]]}


def test_json_stays_text():
    assert json_text('```json\n{"a": 1.50}\n```', is_object=True) == '{"a": 1.50}'
    assert json_text(" [1] ", is_object=False) == "[1]"
    with pytest.raises(NotOfType, match="a JSON array, not an object"):
        json_text("[1]", is_object=True)
    with pytest.raises(NotOfType, match="not JSON"):
        json_text("Sure! Here it is.", is_object=False)


def test_only_a_whole_fence_is_taken_off():
    assert unfenced("see ```x\ny\n```") == "see ```x\ny\n```"
    assert unfenced("```sql\nselect 1\n```\n") == "select 1"


def test_a_type_has_a_strict_schema():
    kind = pa.struct([("name", pa.string()), ("tags", pa.list_(pa.float32())), ("on", pa.date32())])
    assert to_json_schema(kind) == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "number"}},
            "on": {"type": "string", "format": "date"},
        },
        "required": ["name", "tags", "on"],
        "additionalProperties": False,
    }
    assert not has_map(kind)
    assert has_map(pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.int32()))])))
    with pytest.raises(ValueError, match="has no form in JSON"):
        to_json_schema(pa.binary())
