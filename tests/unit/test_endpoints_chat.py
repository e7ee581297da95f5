import json
import pickle
from types import MappingProxyType

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.records import Batch, Failure, HttpResponse, Outcome, Request, Task
from tests.cases import cases

BATCH = Batch((Request("r", messages=({"role": "user", "content": "Is it good?"},)),))
CHAT = open_endpoint(EndpointSpec(Task.CHAT, "m", "openai", "http://127.0.0.1:1/v1/"))

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=20)
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "error", "code", "type", "text"]), inner, max_size=4
        )
    ),
    max_leaves=4,
)
blocks = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "reasoning", "refusal"]) | json_values, "text": json_values}
    )
    | json_values,
    max_size=3,
)
choices = st.fixed_dictionaries(
    {
        "message": st.fixed_dictionaries({"content": blocks | json_values, "refusal": json_values}) | json_values,
        "finish_reason": json_values,
    }
)
answers = st.fixed_dictionaries(
    {
        "choices": st.lists(choices, max_size=2) | json_values,
        "usage": st.dictionaries(
            st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details", "cache_read_input_tokens"]),
            json_values,
        )
        | json_values,
        "model": json_values,
        "error": json_values,
    }
)
statuses = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 404, 413, 429, 500, 503, 529])


def assert_sound(result):
    """A result that every table takes."""
    if isinstance(result, Failure):
        texts, usage = [result.message], result.usage
        assert 0 < len(result.message) <= 500
    else:
        (outcome,) = result
        assert isinstance(outcome, Outcome)
        assert (outcome.response is None) != (outcome.error is None)
        texts = [outcome.response, outcome.error and outcome.error.message, outcome.finish_reason, outcome.model]
        usage = outcome.usage
    pa.array(texts, pa.string())
    counters = [usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cached_input_tokens]
    pa.array([*counters, usage.reasoning_tokens], pa.int64())


@given(statuses, st.binary(max_size=200))
def test_no_bytes_make_parse_raise(status, body):
    assert_sound(CHAT.parse(BATCH, HttpResponse(status, body)))


@given(statuses, answers | json_values)
def test_no_json_makes_parse_raise(status, answer):
    assert_sound(CHAT.parse(BATCH, HttpResponse(status, json.dumps(answer).encode())))


@cases("status", [200, 400, 429, 500])
@cases("opening", [b"[", b'{"error":', b'{"choices":[', b'{"message":"'])
def test_100_000_levels_are_a_failure(status, opening):
    result = CHAT.parse(BATCH, HttpResponse(status, opening * 100_000))
    assert isinstance(result, Failure)
    assert_sound(result)


def test_build_sends_nothing_that_was_not_asked_for():
    assert json.loads(CHAT.build(BATCH).body).keys() == {"model", "messages"}


def test_parameters_cannot_replace_the_model_or_the_question():
    spec = EndpointSpec(Task.CHAT, "m", "openai", "http://h", {"model": "x", "messages": [], "seed": 1})
    body = json.loads(open_endpoint(spec).build(BATCH).body)
    assert body == {"model": "m", "messages": [{"role": "user", "content": "Is it good?"}], "seed": 1}


def test_read_only_mappings_travel():
    message = MappingProxyType({"role": "user", "content": MappingProxyType({"a": "\ud800"})})
    body = json.loads(CHAT.build(Batch((Request("r", messages=(message,)),))).body)
    assert body["messages"] == [{"role": "user", "content": {"a": "\ufffd"}}]


def test_an_endpoint_survives_pickling():
    assert pickle.loads(pickle.dumps(CHAT)) == CHAT


def test_a_refusal_does_not_repeat_the_question():
    question = "Write down the private address of Ada Lovelace."
    batch = Batch((Request("r", messages=({"role": "user", "content": question},)),))
    answer = {"choices": [{"message": {"content": None, "refusal": f"I will not: {question}"}}]}
    (outcome,) = CHAT.parse(batch, HttpResponse(200, json.dumps(answer).encode()))
    assert outcome.error.message == "I will not: <input>"
