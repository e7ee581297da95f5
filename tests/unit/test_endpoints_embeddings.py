import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Failure, HttpResponse, Request, Task
from pipeline.vectors import EmbeddingContract
from tests.cases import cases


def opened(contract=None):
    return open_endpoint(EndpointSpec(Task.EMBEDDING, "m", "openai", "http://127.0.0.1:1/v1", contract=contract))


def batch_of(count):
    return Batch(tuple(Request(f"r{at}", text=f"text {at}", input_tokens=at) for at in range(count)))


def answered(items, **fields):
    return HttpResponse(200, json.dumps({"data": items, **fields}).encode())


def to_base64(row):
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()


@given(
    np_st.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-9, 9, width=32)),
    st.randoms(),
    st.integers(0, 10**6),
)
def test_every_text_gets_its_own_vector_in_any_order_and_form(matrix, random, tokens):
    items = [
        {"index": at, "embedding": to_base64(row) if random.random() < 0.5 else row.astype(float).tolist()}
        for at, row in enumerate(matrix)
    ]
    random.shuffle(items)
    contract = EmbeddingContract(non_zero=False)
    outcomes = opened(contract).parse(batch_of(len(matrix)), answered(items, usage={"prompt_tokens": tokens}))
    assert [outcome.request_id for outcome in outcomes] == [f"r{at}" for at in range(len(matrix))]
    np.testing.assert_array_equal([outcome.response for outcome in outcomes], matrix)
    assert sum(outcome.usage.input_tokens for outcome in outcomes) == tokens


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["data", "embedding", "index", "error", "code"]), inner, max_size=4)
    ),
    max_leaves=4,
)
numbers = st.floats() | st.integers() | st.none() | st.booleans()
vectors = st.lists(numbers, max_size=3) | st.binary(max_size=12).map(lambda raw: base64.b64encode(raw).decode())
items = st.fixed_dictionaries({"embedding": vectors | json_values}, optional={"index": st.integers(0, 2) | json_values})
answers = st.fixed_dictionaries({"data": st.lists(items, min_size=2, max_size=2) | json_values, "usage": json_values})
contracts = st.builds(
    EmbeddingContract,
    normalization=st.sampled_from(["check", "require", "normalize", "off"]),
    dimensions=st.none() | st.integers(1, 3),
    finite=st.booleans(),
    non_zero=st.booleans(),
)


def assert_sound(result):
    if isinstance(result, Failure):
        assert 0 < len(result.message) <= 500
        return
    assert len(result) == 2
    for outcome in result:
        assert (outcome.response is None) != (outcome.error is None)
        if outcome.response is not None:
            assert outcome.response.dtype == np.float32
            assert outcome.response.ndim == 1
            assert len(outcome.response) > 0


@given(st.sampled_from([200, 200, 400, 422, 429, 500]), st.binary(max_size=200), contracts)
def test_no_bytes_make_parse_raise(status, body, contract):
    assert_sound(opened(contract).parse(batch_of(2), HttpResponse(status, body)))


@given(answers | json_values, contracts)
def test_no_json_makes_parse_raise(answer, contract):
    assert_sound(opened(contract).parse(batch_of(2), HttpResponse(200, json.dumps(answer).encode())))


def test_vectors_are_views_of_one_matrix():
    rows = [{"embedding": to_base64([1, 0])}, {"embedding": to_base64([0, 1])}]
    first, second = opened().parse(batch_of(2), answered(rows))
    assert first.response.base is second.response.base is not None


def test_a_model_that_is_not_named_breaks_a_contract_on_the_model():
    (outcome,) = opened(EmbeddingContract(model="e")).parse(batch_of(1), answered([{"embedding": [1.0]}]))
    assert outcome.error.code is ErrorCode.WRONG_MODEL
    assert outcome.response is None


@cases(
    ("contract", "embedding", "message"),
    [
        (EmbeddingContract(dimensions=3), [1.0], "1 dimensions, expected 3"),
        (EmbeddingContract(dimensions=3), to_base64([1.0, 2.0]), "2 dimensions, expected 3"),
        (EmbeddingContract(truncate_to=3), [3.0, 4.0], "2 dimensions, expected at least 3, which truncate_to keeps"),
        (EmbeddingContract(dimensions=2, truncate_to=2), [3.0], "1 dimensions, expected 2"),
        (EmbeddingContract("require"), [3.0, 4.0], "norm 5 is not within 0.001 of 1"),
    ],
)
def test_a_row_error_says_what_was_found(contract, embedding, message):
    (outcome,) = opened(contract).parse(batch_of(1), answered([{"embedding": embedding}]))
    assert outcome.error.message == message


@cases("numbers", [[3.0, 4.0], [3.0, 4.0, 12.0]], ids=["as many", "more"])
def test_the_first_numbers_are_scaled_also_where_they_are_all(numbers):
    (outcome,) = opened(EmbeddingContract(truncate_to=2)).parse(batch_of(1), answered([{"embedding": numbers}]))
    np.testing.assert_allclose(outcome.response, [0.6, 0.8], rtol=1e-6)
    assert outcome.is_normalized is True


def test_normalising_reports_the_vector_as_it_lands():
    (outcome,) = opened(EmbeddingContract("normalize")).parse(batch_of(1), answered([{"embedding": [30.0, 40.0]}]))
    assert outcome.norm == pytest.approx(1.0)
    assert outcome.is_normalized is True
