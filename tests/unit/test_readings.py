import numpy as np
import pyarrow as pa
import pytest

from pipeline.conditions import AiFunctionError
from pipeline.readings import Cell, ResultSpec, to_array, value_of
from pipeline.records import Outcome, Usage
from tests.cases import cases

LABELS = ("positive", "Not good")


@cases(
    ("text", "label"),
    [
        ("positive", "positive"),
        (" Positive.\n", "positive"),
        ('"not good"', "Not good"),
        ('{"label": "not good"}', "Not good"),
        ('```json\n{"label": "positive"}\n```', "positive"),
        ('{"label": "other"}', None),
        ('{"label": null}', None),
        ('{"label": "positive", "why": "x"}', None),
        ("I would say positive", None),
        ("", None),
    ],
)
def test_a_label_is_read_bare_or_from_an_object(text, label):
    assert value_of(text, ResultSpec(pa.string(), "label", LABELS)) == label


@cases(("text", "value"), [("true", True), ('{"answer": false}', False), ("perhaps", None)])
def test_a_value_or_null(text, value):
    assert value_of(text, ResultSpec(pa.bool_(), "typed_or_null")) is value


def test_json_is_checked_and_stays_text():
    assert value_of('```\n{"a": 1}\n```', ResultSpec(pa.string(), "json_object")) == '{"a": 1}'
    with pytest.raises(AiFunctionError, match="AI_FUNCTION_HTTP_PARSE_CAST_ERROR"):
        value_of("[1]", ResultSpec(pa.string(), "json_object"))


def test_vectors_of_any_length_and_nulls():
    cells = [
        Cell(np.array([1, 2], np.float32)),
        Cell(),
        Cell(np.array([], np.float32)),
        Cell(np.array([3], np.float32)),
    ]
    spec = ResultSpec(pa.list_(pa.float32()), "vector")
    assert to_array(cells, spec).to_pylist() == [[1.0, 2.0], None, [], [3.0]]
    assert to_array([Cell(), Cell()], spec).to_pylist() == [None, None]
    assert to_array(cells, ResultSpec(pa.list_(pa.float64()), "vector")).type == pa.list_(pa.float64())


def test_the_envelope_is_never_null_and_details_follow():
    outcome = Outcome("id", "x", usage=Usage(input_tokens=3), finish_reason="stop", model="m", attempts=2)
    cells = [Cell("x", None, outcome), Cell(), Cell(None, "why")]
    rows = to_array(cells, ResultSpec(pa.string(), fails=False, has_details=True)).to_pylist()
    assert [(row["result"], row["errorMessage"]) for row in rows] == [("x", None), (None, None), (None, "why")]
    assert rows[0]["usage"]["input_tokens"] == 3
    assert (rows[0]["attempts"], rows[0]["model"], rows[0]["finish_reason"]) == (2, "m", "stop")
    assert rows[1]["attempts"] is None
