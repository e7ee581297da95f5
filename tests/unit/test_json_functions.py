"""Version 2 of ai_classify and ai_extract: what is asked, what an answer becomes, what is refused."""

import json

import pyarrow as pa
import pytest

from pipeline.arguments import MapValue
from pipeline.calls import Place
from pipeline.catalog import open_catalog
from pipeline.column_worker import run_columns
from pipeline.conditions import AiFunctionError
from pipeline.json_functions import plan_classify, plan_extract
from pipeline.loop import LoopThread
from pipeline.records import HttpResponse
from tests.cases import cases
from tests.unit.test_worker import Fake, refused

PLACE = Place(
    catalog=open_catalog(
        {
            "default_endpoint": "e",
            "endpoints": {"e": {"kind": "chat", "base_url": "http://127.0.0.1:1/v1", "retry": {"max_attempts": 1}}},
        }
    )
)
LABELS = json.dumps({"city": "a large town", "land": None, "sea": ""})


class Says(Fake):
    """Answers a text that ends in it with what is behind the last newline of the prompt; keeps what it was asked."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.bodies = answers, []

    async def send(self, request, auth_headers):
        body = json.loads(request.body)
        self.bodies.append(body)
        text = body["messages"][-1]["content"].rsplit("\n", 1)[-1]
        answer = self.answers[text]
        if isinstance(answer, HttpResponse):
            return answer
        choice = {"message": {"content": answer}, "finish_reason": "stop"}
        return HttpResponse(200, json.dumps({"choices": [choice]}).encode())


@pytest.fixture(scope="module")
def loop():
    thread = LoopThread()
    yield thread
    thread.close()


def told(plan, answers, loop):
    fake = Says(answers)
    arrays = run_columns([pa.array([*answers, None, " "])], plan, loop=loop, transport=fake)
    values = [value and json.loads(value) for array in arrays for value in array.to_pylist()]
    assert values[-2:] == [None, None]
    return values[:-2], fake.bodies


def test_labels_come_back_as_they_were_given(loop):
    values, bodies = told(
        plan_classify(PLACE, {"labels": LABELS}),
        {"a": '{"labels": ["CITY"]}', "b": '{"labels": []}', "c": '```json\n{"labels": ["land"]}\n```'},
        loop,
    )
    assert values == [
        {"response": ["city"], "error_message": None},
        {"response": [], "error_message": None},
        {"response": ["land"], "error_message": None},
    ]
    prompt = bodies[0]["messages"][0]["content"]
    assert "Which one of these labels fits the text below best?\n- city: a large town\n- land\n- sea\n" in prompt
    (schema,) = [bodies[0]["response_format"]["json_schema"]["schema"]]
    assert schema["properties"]["labels"]["items"]["enum"] == ["city", "land", "sea"]


@cases(
    ("answer", "message"),
    [
        ('{"labels": ["moon"]}', "names a label that is none of the given ones"),
        ('{"labels": ["city", "land"]}', "names 2 labels where one was asked for"),
        ('{"labels": "city"}', "has no array of labels"),
        ("city", "the answer is not JSON"),
        (refused(400), "bad_request, HTTP 400"),
    ],
)
def test_what_is_no_label_is_an_error_message(loop, answer, message):
    (value,), _ = told(plan_classify(PLACE, {"labels": LABELS}), {"x": answer}, loop)
    assert value["response"] is None
    assert message in value["error_message"]
    assert "moon" not in value["error_message"]


def test_several_labels_and_instructions(loop):
    options = MapValue(multilabel="true", instructions="Think of maps.")
    plan = plan_classify(PLACE, {"labels": '["city", "land"]', "options": options})
    (value,), bodies = told(plan, {"x": '{"labels": ["land", "city", "land"]}'}, loop)
    assert value == {"response": ["land", "city"], "error_message": None}
    assert bodies[0]["messages"][0]["content"].startswith(
        "Think of maps.\n\nWhich of these labels fit the text below?\n"
    )


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "of the guest"},
        "age": {"type": "integer"},
        "mood": {"type": "enum", "labels": ["good", "bad"]},
        "stays": {"type": "array", "items": {"type": "object", "properties": {"city": {"type": "string"}}}},
    },
}
GUEST = {"name": "Ann", "age": None, "mood": "good", "stays": [{"city": "Rome"}]}


@pytest.mark.parametrize("schema", [SCHEMA, SCHEMA["properties"]])
def test_fields_come_back_typed_and_checked(loop, schema):
    plan = plan_extract(PLACE, {"labels": json.dumps(schema), "options": MapValue(instructions="Only guests.")})
    values, bodies = told(plan, {"a": json.dumps(GUEST), "b": json.dumps({**GUEST, "age": "old"}), "c": "no"}, loop)
    assert values[0] == {"response": GUEST, "error_message": None}
    assert [value["response"] for value in values[1:]] == [None, None]
    assert "the answer breaks the schema's properties/age/type" in values[1]["error_message"]
    assert "the answer is not JSON" in values[2]["error_message"]
    sent = bodies[0]["response_format"]["json_schema"]["schema"]
    assert sent["required"] == ["name", "age", "mood", "stays"]
    assert sent["properties"]["mood"] == {"type": ["string", "null"], "enum": ["good", "bad", None]}
    assert bodies[0]["messages"][0]["content"].startswith("Only guests.\n\n")


def test_names_alone_are_strings(loop):
    (value,), _ = told(plan_extract(PLACE, {"labels": '["a", "b"]'}), {"x": '{"a": "1", "b": null}'}, loop)
    assert value == {"response": {"a": "1", "b": None}, "error_message": None}


DEEP = {"type": "string"}
for _ in range(13):
    DEEP = {"type": "object", "properties": {"x": DEEP}}
LONG = "x" * 151


@cases(
    ("plan", "values", "message"),
    [
        (plan_classify, {"labels": "one"}, "an ARRAY<STRING>, or JSON in a STRING"),
        (plan_classify, {"labels": '["one"]'}, "2 to 500 different labels"),
        (plan_classify, {"labels": '["one", "ONE"]'}, "2 to 500 different labels"),
        (plan_classify, {"labels": json.dumps([str(i) for i in range(501)])}, "2 to 500 different labels"),
        (plan_classify, {"labels": "[1, 2]"}, "a JSON array of labels, or an object of label and description"),
        (plan_classify, {"labels": '{"a": 1, "b": 2}'}, "a JSON array of labels, or an object"),
        (plan_classify, {"labels": json.dumps([LONG, "b"])}, "labels of 1 to 100 characters"),
        (plan_classify, {"labels": json.dumps({"a": "d" * 1001, "b": ""})}, "described in at most 1,000 characters"),
        (plan_classify, {"labels": LABELS, "options": {}}, "must be a MAP<STRING, STRING>"),
        (plan_classify, {"labels": LABELS, "options": MapValue(multilabel="yes")}, "multilabel of 'true' or 'false'"),
        (
            plan_classify,
            {"labels": LABELS, "options": MapValue(best="1")},
            "a MAP of version, instructions, multilabel",
        ),
        (plan_classify, {"labels": LABELS, "options": MapValue(version="1.0")}, "of version 2.0 where"),
        (
            plan_classify,
            {"labels": LABELS, "options": MapValue(instructions="x" * 20_001)},
            "at most 20,000 characters",
        ),
        (plan_classify, {"labels": LABELS, "options": MapValue(version=None)}, "a MAP<STRING, STRING> without NULL"),
        (plan_extract, {"labels": "[]"}, "is no JSON array of field names and no object of fields"),
        (plan_extract, {"labels": '"name"'}, "is no JSON array of field names and no object of fields"),
        (plan_extract, {"labels": '{"a": "string"}'}, "describes a field by something else than an object"),
        (plan_extract, {"labels": '{"a": {"type": "date"}}'}, "has a `type` that is none of string, integer"),
        (plan_extract, {"labels": '{"a": {"type": "enum"}}'}, "has an enum that is not 1 to 500 strings"),
        (plan_extract, {"labels": json.dumps({"a": DEEP})}, "is nested deeper than 12 levels"),
        (plan_extract, {"labels": json.dumps([str(i) for i in range(257)])}, "has more than 256 fields"),
        (plan_extract, {"labels": '["a"]', "options": MapValue(multilabel="true")}, "a MAP of version, instructions"),
    ],
)
def test_what_cannot_be_asked_is_refused(plan, values, message):
    with pytest.raises(AiFunctionError) as caught:
        plan(PLACE, values)
    assert caught.value.condition == "DATATYPE_MISMATCH"
    assert message in str(caught.value)
