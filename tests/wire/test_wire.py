"""Every JSON case beside this file, through `build` and `parse`.

A case gives `spec`, `requests` and `response` (`body` as JSON, `body_text`, or `body_base64`), and expects a request
and either `outcomes` or a `failure`. What a case does not mention is not compared, except usage: a counter that it
leaves out must be None.
"""

import json
import pickle
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.records import Batch, Failure, HttpResponse, Outcome, Request, Task, Usage
from pipeline.vectors import EmbeddingContract

CASES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(Path(__file__).parent.glob("*.json"))}


def to_spec(case):
    fields = dict(case["spec"])
    contract = fields.pop("contract", None)
    return EndpointSpec(
        task=Task(case["task"]), api=case["api"], contract=contract and EmbeddingContract(**contract), **fields
    )


def to_batch(case):
    return Batch(
        tuple(
            Request(
                request_id=f"{position:064x}",
                messages=tuple(request["messages"]) if "messages" in request else None,
                text=request.get("text"),
                input_tokens=request["input_tokens"],
            )
            for position, request in enumerate(case["requests"])
        )
    )


def to_response(response):
    if "body" in response:
        body = json.dumps(response["body"]).encode()
    elif "body_text" in response:
        body = response["body_text"].encode()
    else:
        body = b64decode(response["body_base64"])
    return HttpResponse(status=response["status"], body=body, headers=response["headers"])


def assert_message(message, expected):
    assert len(message) <= 500
    assert message.isprintable()
    if "message" in expected:
        assert message == expected["message"]
    assert expected.get("message_has", "") in message


def assert_failure(failure, expected):
    assert isinstance(failure, Failure), failure
    assert (failure.verdict, failure.code) == (expected["verdict"], expected["code"])
    assert failure.usage == Usage(**expected.get("usage", {}))
    for name in ("status", "retry_after_s"):
        if name in expected:
            assert getattr(failure, name) == expected[name]
    assert_message(failure.message, expected)


def assert_outcome(outcome, expected):
    assert isinstance(outcome, Outcome)
    assert outcome.usage == Usage(**expected["usage"])
    for name in ("finish_reason", "model", "is_normalized"):
        if name in expected:
            assert getattr(outcome, name) == expected[name], name
    if "norm" in expected:
        assert outcome.norm == pytest.approx(expected["norm"], abs=1e-6)
    if "error" in expected:
        assert outcome.response is None
        assert outcome.error.code == expected["error"]["code"]
        assert outcome.error.is_retryable == expected["error"].get("retryable", outcome.error.is_retryable)
        assert_message(outcome.error.message, expected["error"])
    elif isinstance(expected["response"], str):
        assert (outcome.response, outcome.error) == (expected["response"], None)
    else:
        assert outcome.error is None
        assert outcome.response.dtype == np.float32
        np.testing.assert_allclose(outcome.response, expected["response"], rtol=1e-6)


def test_there_are_cases_for_every_task_and_api():
    assert {(case["task"], case["api"]) for case in CASES.values()} == {
        *((task, api) for task in ("chat", "embedding", "completion") for api in ("openai", "databricks")),
        ("custom", "databricks"),  # nobody else serves them
    }


@pytest.mark.parametrize("name", CASES)
def test_a_case_names_itself_and_its_source(name):
    assert CASES[name]["name"] == name
    assert CASES[name]["source"]


@pytest.mark.parametrize("name", CASES)
def test_the_request_is_what_the_case_expects(name):
    case = CASES[name]
    request = open_endpoint(to_spec(case)).build(to_batch(case))
    assert request.url == case["expect_request"]["url"]
    assert json.loads(request.body) == case["expect_request"]["body"]


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_what_the_case_expects(name):
    case = CASES[name]
    batch = to_batch(case)
    spec = pickle.loads(pickle.dumps(to_spec(case)))  # as it reaches an executor
    result = open_endpoint(spec).parse(batch, to_response(case["response"]))
    if "failure" in case["expect"]:
        assert_failure(result, case["expect"]["failure"])
        return
    assert not isinstance(result, Failure), result
    assert [outcome.request_id for outcome in result] == [request.request_id for request in batch.requests]
    for outcome, expected in zip(result, case["expect"]["outcomes"], strict=True):
        assert_outcome(outcome, expected)
