import json

import pytest

from pipeline.json_schemas import check_schema, mistake
from tests.cases import cases

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "n": {"type": "integer", "minimum": 0},
        "next": {"$ref": "#/$defs/stop"},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"stop": {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}}},
}


@cases(
    ("value", "rule"),
    [
        ({"city": "Rome", "n": 1, "next": {"city": "Oslo"}}, None),
        ({"city": "Rome"}, None),
        ({"n": 1}, "required"),
        ({"city": "secret", "other": 1}, "additionalProperties"),
        ({"city": 7}, "properties/city/type"),
        ({"city": "Rome", "n": -1}, "properties/n/minimum"),
        ({"city": "Rome", "n": 1.0}, None),
        ({"city": "Rome", "next": {"city": "secret"}}, "properties/next/properties/city/enum"),
        (["secret"], "type"),
        (None, "type"),
    ],
)
def test_the_rule_that_an_answer_breaks_is_told_and_nothing_of_the_answer(value, rule):
    told = mistake(value, json.dumps(CITY))
    assert told == (rule and f"the answer breaks the schema's {rule}")


@cases(
    ("schema", "why"),
    [
        (CITY, None),
        ({}, None),
        ({"type": "strong"}, "the schema is wrong at type: "),
        ({"properties": []}, "the schema is wrong at properties: "),
        ({"$ref": "http://127.0.0.1:1/schema"}, "refers to 'http://127.0.0.1:1/schema'; only references within it"),
        ({"items": {"$ref": "#/$defs/nothing"}}, "refers to '#/$defs/nothing', which is not in it"),
    ],
)
def test_what_is_no_schema_is_refused(schema, why):
    if why is None:
        check_schema(schema)
        return
    with pytest.raises(ValueError) as caught:
        check_schema(schema)
    assert why in str(caught.value)


def test_a_schema_without_bottom_is_refused():
    schema: dict = {}
    for _ in range(80):
        schema = {"items": schema}
    with pytest.raises(ValueError, match="deeper than 64"):
        check_schema(schema)
