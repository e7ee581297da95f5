"""What the journal answers and what it leaves to be asked, with a real journal in a folder."""

import json

import numpy as np
import pytest

from pipeline.endpoints import EndpointSpec, open_endpoint
from pipeline.errors import ErrorCode
from pipeline.records import Batch, Exchange, HttpResponse, Request, Task, Usage
from pipeline.replay import Replay
from tests.unit.journals import local_store, open_bucket, request_id

CHAT = open_endpoint(EndpointSpec(Task.CHAT, "m", "openai", "http://127.0.0.1:1/v1"))
EMBEDDING = open_endpoint(EndpointSpec(Task.EMBEDDING, "m", "openai", "http://127.0.0.1:1/v1"))

A, B, C = (
    Request(request_id(i), messages=({"role": "user", "content": f"A question, number {i}, of some length"},))
    for i in range(3)
)
X, Y = (Request(request_id(i), text=f"A text, number {i}, of some length", input_tokens=i) for i in (1, 3))


def answered(text: str, usage: dict[str, int] | None = None) -> HttpResponse:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    usage = usage or {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return HttpResponse(200, json.dumps({"choices": [choice], "model": "m-1", "usage": usage}).encode())


def refused(status: int, message: str = "no", code: str | None = None) -> HttpResponse:
    return HttpResponse(status, json.dumps({"error": {"message": message, "code": code}}).encode())


def exchange(requests, response=None, error=None, **more) -> Exchange:
    ids = tuple(request.request_id for request in requests)
    return Exchange(ids, 1, 1_000.0, 250.0, response=response, transport_error=error, run_id="run-1", **more)


@pytest.fixture
def journal(tmp_path):
    journal = open_bucket(local_store(tmp_path))
    yield journal
    journal.close()


def divided(journal, requests, *, endpoint=CHAT, retry_failed="transient", max_unknown_resends=1):
    """Outcomes by request, and what is left to ask with the unknown outcomes it brings along."""
    replayed, calls = Replay(journal, endpoint, retry_failed, max_unknown_resends).divide(requests)
    assert {o.request_id for o in replayed} | {r.request_id for r, _ in calls} == {r.request_id for r in requests}
    assert len(replayed) + len(calls) == len(requests)
    return {o.request_id: o for o in replayed}, {request.request_id: attempts.unknown for request, attempts in calls}


def test_an_empty_journal_leaves_everything_to_be_asked(journal):
    replayed, calls = divided(journal, [A, B])
    assert replayed == {}
    assert calls == {A.request_id: 0, B.request_id: 0}


def test_an_answer_is_replayed_as_it_was_live(journal):
    response = answered("Yes.")
    journal.append(exchange([A], response, usage=Usage(5, 2, 7), is_final=True)._replace(attempt=3))
    (live,) = CHAT.parse(Batch((A,)), response)
    replayed, calls = divided(journal, [A, B])
    assert list(calls) == [B.request_id]
    expected = live.with_timing(attempts=3, latency_ms=250.0, completed_at_s=1_000.25, is_replayed=True)
    assert replayed == {A.request_id: expected}


def test_an_answered_request_is_never_asked_again_whatever_came_after(journal):
    journal.append(exchange([A], answered("Yes."), is_final=True))
    journal.append(exchange([A], refused(500)))
    replayed, _ = divided(journal, [A], retry_failed="all")
    assert replayed[A.request_id].response == "Yes."


LASTING = (refused(400, "too long", "context_length_exceeded"), ErrorCode.CONTEXT_LENGTH)
PASSING = (refused(500), ErrorCode.SERVER_ERROR)


@pytest.mark.parametrize(
    ("retry_failed", "answer", "is_asked"),
    [
        ("transient", LASTING, False),
        ("transient", PASSING, True),
        ("all", LASTING, True),
        ("all", PASSING, True),
        ("none", LASTING, False),
        ("none", PASSING, False),
    ],
)
def test_failed_rows_are_asked_again_by_policy(journal, retry_failed, answer, is_asked):
    response, code = answer
    journal.append(exchange([A], response, is_final=True))
    replayed, calls = divided(journal, [A], retry_failed=retry_failed)
    assert list(calls) == ([A.request_id] if is_asked else [])
    assert [o.error.code for o in replayed.values()] == ([] if is_asked else [code])


def test_a_row_that_was_killed_between_two_attempts_is_asked_again(journal):
    journal.append(exchange([A], refused(500)))
    _, calls = divided(journal, [A], retry_failed="none")
    assert list(calls) == [A.request_id]


@pytest.mark.parametrize("retry_failed", ["transient", "all", "none"])
@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_job_that_was_told_to_stop_has_refused_no_row(journal, status, retry_failed):
    journal.append(exchange([A], refused(status)))
    replayed, calls = divided(journal, [A], retry_failed=retry_failed)
    assert replayed == {}
    assert list(calls) == [A.request_id]


@pytest.mark.parametrize("retry_failed", ["transient", "all", "none"])
def test_a_batch_that_was_refused_as_a_whole_has_refused_no_row(journal, retry_failed):
    journal.append(exchange([X, Y], refused(400)))
    _, calls = divided(journal, [X, Y], endpoint=EMBEDDING, retry_failed=retry_failed)
    assert list(calls) == [X.request_id, Y.request_id]


def test_a_row_that_was_refused_alone_is(journal):
    journal.append(exchange([X, Y], refused(400)))
    journal.append(exchange([X], refused(400)))
    replayed, calls = divided(journal, [X, Y], endpoint=EMBEDDING)
    assert replayed[X.request_id].error.code is ErrorCode.BAD_REQUEST
    assert list(calls) == [Y.request_id]


@pytest.mark.parametrize("error", [ErrorCode.UNKNOWN_OUTCOME, ErrorCode.DEADLINE_EXCEEDED])
@pytest.mark.parametrize(("times", "most", "is_asked"), [(1, 0, False), (1, 1, True), (2, 1, False), (2, 2, True)])
def test_unknown_outcomes_are_counted_over_runs(journal, error, times, most, is_asked):
    for _ in range(times):
        journal.append(exchange([A], error=error, message="it broke"))
    replayed, calls = divided(journal, [A], max_unknown_resends=most)
    if is_asked:
        assert calls == {A.request_id: times}
    else:
        assert (replayed[A.request_id].error.code, replayed[A.request_id].error.message) == (error, "it broke")


def test_a_connection_that_was_never_made_counts_for_nothing(journal):
    for _ in range(3):
        journal.append(exchange([A], error=ErrorCode.CONNECT_FAILED, message="refused"))
    assert divided(journal, [A], max_unknown_resends=0)[1] == {A.request_id: 0}


def test_the_tokens_of_an_answer_that_was_no_good_are_on_the_row(journal):
    journal.append(exchange([X, Y], HttpResponse(200, b"{}"), usage=Usage(7, 0, 7), is_final=True))
    replayed, _ = divided(journal, [X, Y], endpoint=EMBEDDING, retry_failed="none")
    assert [o.error.code for o in replayed.values()] == [ErrorCode.INVALID_RESPONSE] * 2
    assert [o.usage.input_tokens for o in replayed.values()] == [4, 3]


def test_each_text_of_a_batch_gets_its_own_vector_and_its_share_of_the_tokens(journal):
    data = [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 0.0]}]
    usage = {"prompt_tokens": 40, "total_tokens": 40}
    response = HttpResponse(200, json.dumps({"data": data, "model": "m", "usage": usage}).encode())
    journal.append(exchange([X, Y], response, usage=Usage(40, None, 40), is_final=True))
    replayed, _ = divided(journal, [Y, X], endpoint=EMBEDDING)
    np.testing.assert_array_equal(replayed[X.request_id].response, [3.0, 0.0])
    np.testing.assert_array_equal(replayed[Y.request_id].response, [0.0, 2.0])
    live = EMBEDDING.parse(Batch((X, Y)), response)
    assert [replayed[o.request_id].usage for o in live] == [o.usage for o in live]


def test_a_message_that_repeats_the_prompt_is_cut_as_it_was_live(journal):
    prompt = A.messages[0]["content"]
    journal.append(exchange([A], refused(400, f"cannot read: {prompt}")))
    replayed, _ = divided(journal, [A])
    assert replayed[A.request_id].error.message == "cannot read: <input>"


def test_a_batch_is_parsed_once_while_its_rows_pass_by(journal):
    parsed = []

    class Counting:
        def build(self, batch):
            raise AssertionError

        def parse(self, batch, response):
            parsed.append(len(batch))
            return EMBEDDING.parse(batch, response)

    requests = [Request(request_id(i), text=f"t{i}") for i in range(20)]
    data = [{"embedding": [1.0, float(i)]} for i in range(20)]
    response = HttpResponse(200, json.dumps({"data": data, "model": "m"}).encode())
    journal.append(exchange(requests, response, is_final=True))
    replay = Replay(journal, Counting(), "transient", 1)
    outcomes = [replay.divide([request])[0][0] for request in requests]
    assert [o.response[1] for o in outcomes] == list(range(20))
    assert parsed == [20]


def test_what_another_attempt_wrote_is_replayed(tmp_path):
    store = local_store(tmp_path)
    first = open_bucket(store, "a1")
    first.append(exchange([A], answered("Yes."), is_final=True))
    first.close()
    second = open_bucket(store, "a2")
    try:
        assert divided(second, [A])[0][A.request_id].response == "Yes."
    finally:
        second.close()


def test_the_order_of_the_requests_is_kept(journal):
    journal.append(exchange([B], answered("b"), is_final=True))
    replay = Replay(journal, CHAT, "transient", 1)
    assert [request for request, _ in replay.divide([C, B, A])[1]] == [C, A]
