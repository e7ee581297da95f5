"""The simulator over loopback, seen by a plain HTTP client."""

import base64
import dataclasses
import json
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import isnan, log
from pathlib import Path
from statistics import mean, stdev

import httpx
import numpy as np
import pytest

from pipeline.records import Task
from pipeline.simulator import (
    FAULTS,
    Bill,
    Handle,
    Simulator,
    SimulatorProcess,
    SimulatorSettings,
    canned_pool,
    canned_vector,
    marker,
    text_digest,
)
from pipeline.simulator.answers import count_tokens, sentences, summarize
from pipeline.simulator.faults import applies_to
from pipeline.simulator.latency import LatencyModel
from pipeline.simulator.spoils import SPOILS

SMALL = SimulatorSettings(
    hang_s=0.2,
    huge_body_bytes=300_000,
    bomb_bytes=5_000_000,
    drip_bytes=64,
    drip_interval_s=0.002,
    canned_vectors=8,
    retry_after="7",
    retry_after_s=3.0,
)
TEXT = (
    "Compute the matrix product of two arrays. The product of two matrix arrays follows the broadcasting rules of"
    " arrays. Scalars are refused. See also dot.\n\nExamples are short."
)


# httpx prepares TLS for each call unless it is given
UNUSED_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture(scope="module")
def shared():
    with Simulator(SMALL) as sim:
        yield sim


@pytest.fixture
def sim(shared: Handle):
    shared.reset_bill()
    return shared


def chat(sim: Handle, text: str, model: str = "canned-chat", path: str = "/v1/chat/completions", **more):
    extra = {name: more.pop(name) for name in ("headers", "timeout") if name in more}
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(sim.host_url + path, json=body, verify=UNUSED_TLS, **extra)


def embed(sim: Handle, texts, model: str = "canned-embedding", path: str = "/v1/embeddings", **more):
    extra = {name: more.pop(name) for name in ("headers", "timeout") if name in more}
    return httpx.post(sim.host_url + path, json={"model": model, "input": texts, **more}, verify=UNUSED_TLS, **extra)


def decoded(value) -> np.ndarray:
    return np.frombuffer(base64.b64decode(value), dtype="<f4")


# --- what each fault looks like from outside -------------------------------------------------------------------------

REFUSED = {  # name -> status, a function of the response that must be true
    "rate_429": (429, lambda r: r.headers["retry-after"] == "7" and code(r) == "rate_limit_exceeded"),
    "rate_429_databricks": (429, lambda r: r.json()["error"]["retry_after"] == 3.0 and "retry-after" not in r.headers),
    "rate_429_platform": (429, lambda r: r.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"),
    "rate_429_bare": (429, lambda r: r.content == b"" and "retry-after" not in r.headers),
    "quota_exhausted": (429, lambda r: code(r) == "insufficient_quota"),
    "bad_request": (400, lambda r: r.json()["error"]["type"] == "invalid_request_error"),
    "bad_request_nested": (400, lambda r: "error" in json.loads(r.json()["message"])),
    "context_length": (400, lambda r: code(r) == "context_length_exceeded"),
    "context_length_nested": (400, lambda r: "too long" in json.loads(r.json()["message"])["message"]),
    "content_filter": (400, lambda r: code(r) == "content_filter"),
    "unauthorized_401": (401, lambda r: code(r) == "invalid_api_key"),
    "forbidden_403": (403, lambda r: code(r) == "permission_denied"),
    "not_found_404": (404, lambda r: code(r) == "model_not_found"),
    "timeout_408": (408, lambda r: "error" in r.json()),
    "conflict_409": (409, lambda r: "error" in r.json()),
    "too_large_413": (413, lambda r: "error" in r.json()),
    "unprocessable_422": (422, lambda r: r.json()["code"] == 422),
    "backend_424": (424, lambda r: r.json()["type"] == "Backend"),
    "error_500": (500, lambda r: "error" in r.json()),
    "error_502": (502, lambda r: r.headers["content-type"].startswith("text/html")),
    "unavailable_503": (503, lambda r: "error" in r.json()),
    "overloaded_529": (529, lambda r: r.json()["error"]["type"] == "overloaded_error"),
    "error_200": (200, lambda r: "choices" not in r.json() and "error" in r.json()),
    "login_page_200": (200, lambda r: b"Sign in" in r.content and "html" in r.headers["content-type"]),
    "empty_body": (200, lambda r: r.content == b""),
}

SPOILED = {  # name -> a function of the response's text that must be true; chat, or embedding of three texts
    "malformed": lambda t: raises(json.JSONDecodeError, t),
    "empty_choices": lambda t: json.loads(t)["choices"] == [],
    "null_content": lambda t: message(t)["content"] is None,
    "refusal": lambda t: message(t)["content"] is None and message(t)["refusal"],
    "content_filter_200": lambda t: json.loads(t)["choices"][0]["finish_reason"] == "content_filter",
    "surrogate": lambda t: "\\ud800" in t and "\\u0000" in t,
    "block_content": lambda t: [block["type"] for block in message(t)["content"]] == ["reasoning", "text"],
    "reasoning_content": lambda t: message(t)["content"] and message(t)["reasoning_content"],
    "wrong_order": lambda t: [item["index"] for item in json.loads(t)["data"]] == [1, 2, 0],
    "shuffled_order": lambda t: sorted(item["index"] for item in json.loads(t)["data"]) == [0, 1, 2],
    "wrong_count": lambda t: len(json.loads(t)["data"]) == 2,
    "wrong_dimension": lambda t: [len(item["embedding"]) for item in json.loads(t)["data"]] == [8, 8, 7],
    "nan": lambda t: all(isnan(item["embedding"][0]) for item in json.loads(t)["data"]),
    "zero_vector": lambda t: all(set(item["embedding"]) == {0.0} for item in json.loads(t)["data"]),
    "huge_usage": lambda t: json.loads(t)["usage"]["total_tokens"] == 2**70,
    "negative_usage": lambda t: json.loads(t)["usage"]["prompt_tokens"] < 0,
    "no_usage": lambda t: "usage" not in json.loads(t),
}

BROKEN = {"reset", "hang", "truncated", "huge_body", "gzip_bomb", "slow_drip"}  # each has a test of its own


def code(response):
    return response.json()["error"]["code"]


def message(text):
    return json.loads(text)["choices"][0]["message"]


def raises(kind, text):
    try:
        json.loads(text)
    except kind:
        return True
    return False


def test_every_fault_of_the_table_is_observed_here():
    assert set(FAULTS) == set(REFUSED) | set(SPOILED) | BROKEN


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_costs_nothing(sim, name):
    status, is_right = REFUSED[name]
    response = chat(sim, f"a {marker(name)}")
    assert response.status_code == status
    assert is_right(response)
    bill = sim.bill()
    assert (bill.requests, bill.answers, bill.input_tokens, bill.output_tokens) == (1, 0, 0, 0)
    assert bill.refused == ({} if status == 200 else {status: 1})
    assert bill.useless == (status == 200)
    assert bill.faults == {name: 1}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_answer_is_billed(sim, name):
    text = f"abcd {marker(name)}"
    if applies_to(FAULTS[name], Task.CHAT):
        response, inputs, tokens = chat(sim, text), 1, count_tokens(text)
    else:
        response, inputs, tokens = embed(sim, [text, "b", "c"]), 3, count_tokens(text) + 2
    assert response.status_code == 200
    assert SPOILED[name](response.text)
    bill = sim.bill()
    assert (bill.requests, bill.inputs, bill.input_tokens) == (1, inputs, tokens)
    assert (bill.answers, bill.useless) == ((1, 0) if SPOILS[name].is_usable else (0, 1))


def test_nan_and_zero_reach_base64_too(sim):
    spoiled = embed(sim, [marker("nan"), "b"], encoding_format="base64").json()["data"]
    assert all(np.isnan(decoded(item["embedding"])[0]) for item in spoiled)
    zero = embed(sim, [marker("zero_vector")], encoding_format="base64").json()["data"]
    assert not decoded(zero[0]["embedding"]).any()


@pytest.mark.parametrize("fault", ["wrong_order", "shuffled_order"])
def test_another_order_keeps_the_right_index(sim, fault):
    texts = ["a", marker(fault), *"cdefgh"]
    data = embed(sim, texts).json()["data"]
    answered = {item["index"]: item["embedding"] for item in data}
    assert list(answered) != sorted(answered)
    for index, text in enumerate(texts):
        assert np.array_equal(np.float32(answered[index]), canned_vector(text, 8))


def test_reset_breaks_the_connection_and_is_unknown(sim):
    with pytest.raises(httpx.ReadError):
        chat(sim, marker("reset"))
    assert eventually(lambda: sim.bill().in_flight == 0)
    assert (sim.bill().unknown, sim.bill().input_tokens, sim.bill().in_flight) == (1, 0, 0)


def test_hang_ends_after_its_time_without_an_answer(sim):
    started = time.monotonic()
    with pytest.raises(httpx.ReadError):
        chat(sim, marker("hang"))
    assert time.monotonic() - started >= 0.2
    assert eventually(lambda: sim.bill().unknown == 1)


def test_hang_ends_when_the_client_leaves():
    with Simulator(SimulatorSettings(hang_s=3600)) as sim:
        with pytest.raises(httpx.ReadTimeout):
            chat(sim, marker("hang"), timeout=0.1)
        assert eventually(lambda: sim.bill().in_flight == 0)
        assert sim.bill().unknown == 1


def test_truncated_promises_more_than_it_sends_and_is_billed(sim):
    with pytest.raises(httpx.RemoteProtocolError):
        chat(sim, marker("truncated"))
    assert eventually(lambda: sim.bill().in_flight == 0)
    bill = sim.bill()
    assert (bill.useless, bill.unknown) == (1, 0)
    assert bill.output_tokens > 0


def test_huge_body_has_the_configured_size(sim):
    assert len(chat(sim, marker("huge_body")).content) == 300_000
    assert eventually(lambda: sim.bill().useless == 1)


def test_gzip_bomb_is_small_on_the_wire_and_large_inside(sim):
    body = {"model": "canned-chat", "messages": [{"role": "user", "content": marker("gzip_bomb")}]}
    with httpx.stream("POST", f"{sim.base_url}/chat/completions", json=body) as response:
        wire = sum(map(len, response.iter_raw()))
    assert wire < 20_000
    assert len(chat(sim, marker("gzip_bomb")).content) == 5_000_000


def test_slow_drip_arrives_whole_in_many_pieces(sim):
    started = time.monotonic()
    response = chat(sim, marker("slow_drip"))
    assert message(response.text)["content"] == SMALL.canned_answer
    assert time.monotonic() - started >= 0.002 * (len(response.content) // 64)
    assert eventually(lambda: sim.bill().answers == 1)


def test_a_client_that_leaves_a_drip_is_billed_with_unknown_outcome():
    with Simulator(SimulatorSettings(drip_bytes=1, drip_interval_s=0.01)) as sim:
        with pytest.raises(httpx.ReadTimeout):
            chat(sim, marker("slow_drip"), timeout=httpx.Timeout(1, read=0.005))
        assert eventually(lambda: sim.bill().unknown == 1)
        assert sim.bill().output_tokens > 0


def test_a_marker_with_a_number_fails_only_the_first_attempts(sim):
    text = f"only twice {marker('error_500', 2)} for me"
    assert [chat(sim, text).status_code for _ in range(4)] == [500, 500, 200, 200]
    assert chat(sim, text + "!").status_code == 500  # attempts are counted per text


def test_one_marked_element_fails_the_batch_and_markers_can_follow_each_other(sim):
    bad = f"x {marker('rate_429', 1)} {marker('error_500', 2)}"
    assert [embed(sim, ["a", bad, "c"]).status_code for _ in range(3)] == [429, 500, 200]
    assert embed(sim, ["a", "c"]).status_code == 200


@pytest.mark.parametrize(("name", "ask"), [("no_such_fault", chat), ("nan", chat), ("refusal", embed)])
def test_a_marker_that_means_nothing_here_is_refused_instead_of_ignored(sim, name, ask):
    response = ask(sim, marker(name))
    assert response.status_code == 400
    assert name in response.json()["error"]["message"]


def statuses(seed: int) -> list[int]:
    settings = SimulatorSettings(faults={"rate_429": 0.3, "error_500": 0.2}, seed=seed)
    with Simulator(settings) as sim, httpx.Client() as client:
        body = {"model": "canned-chat", "messages": [{"role": "user", "content": "x"}]}
        return [client.post(f"{sim.base_url}/chat/completions", json=body).status_code for _ in range(200)]


def test_shares_are_seeded_and_met():
    first, again, other = statuses(1), statuses(1), statuses(2)
    assert first == again != other
    counts = Counter(first)
    assert 40 <= counts[429] <= 80
    assert 25 <= counts[500] <= 55


@pytest.mark.parametrize("faults", [{"nope": 0.1}, {"reset": 1.5}, {"reset": 0.6, "hang": 0.6}, {"reset": -0.1}])
def test_wrong_shares_are_refused_at_the_start(faults):
    with pytest.raises(ValueError, match="fault"), Simulator(SimulatorSettings(faults=faults)):
        pass


# --- wire shapes -----------------------------------------------------------------------------------------------------


def test_openai_chat_shape(sim):
    document = chat(sim, "abcdefgh").json()
    assert document["object"] == "chat.completion"
    assert document["id"].startswith("chatcmpl-")
    assert document["choices"][0]["finish_reason"] == "stop"
    assert document["usage"]["prompt_tokens"] == 2
    assert document["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}


@pytest.mark.parametrize("path", ["/serving-endpoints/canned-chat/invocations", "/serving-endpoints/chat/completions"])
def test_databricks_chat_shape(sim, path):
    document = chat(sim, "abcdefgh", path=path).json()
    assert document["id"] is None
    assert message(json.dumps(document)) == {"role": "assistant", "content": SMALL.canned_answer}
    assert set(document["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/serving-endpoints/embeddings", "/serving-endpoints/canned-embedding/invocations"]
)
def test_embedding_shape(sim, path):
    document = embed(sim, ["abcd", "efghi"], path=path).json()
    assert document["object"] == "list"
    assert [item["index"] for item in document["data"]] == [0, 1]
    assert document["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_an_invocation_needs_no_model_in_the_body(sim):
    url = f"{sim.host_url}/serving-endpoints/canned-embedding/invocations"
    assert httpx.post(url, json={"input": "one"}).status_code == 200


def test_an_unknown_model_is_404_in_the_callers_shape(sim):
    assert code(chat(sim, "x", model="nope")) == "model_not_found"
    response = chat(sim, "x", path="/serving-endpoints/nope/invocations")
    assert (response.status_code, response.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("/v1/chat/completions", b"{", "JSON"),
        ("/v1/chat/completions", b"[]", "object"),
        ("/v1/chat/completions", b'{"model": "canned-chat"}', "messages"),
        ("/v1/chat/completions", b'{"model": "canned-chat", "messages": [1]}', "messages"),
        ("/v1/chat/completions", b'{"model": "canned-chat", "messages": [{"role": "user"}]}', "content"),
        (
            "/v1/chat/completions",
            b'{"model": "canned-chat", "messages": [{"role": "user", "content": ""}], "max_tokens": 0}',
            "max_tokens",
        ),
        ("/v1/chat/completions", b'{"model": "canned-embedding", "messages": []}', "does not serve"),
        ("/v1/embeddings", b'{"model": "canned-embedding"}', "'$.input' is invalid"),
        ("/v1/embeddings", b'{"model": "canned-embedding", "input": []}', "'$.input' is invalid"),
        ("/v1/embeddings", b'{"model": "canned-embedding", "input": ["a", ""]}', "'$.input' is invalid"),
        ("/v1/embeddings", b'{"model": "canned-embedding", "input": [1]}', "'$.input' is invalid"),
        ("/v1/embeddings", b'{"model": "canned-embedding", "input": "a", "dimensions": 9}', "dimensions"),
        ("/v1/embeddings", b'{"model": "canned-embedding", "input": "a", "encoding_format": "x"}', "encoding_format"),
    ],
)
def test_a_wrong_request_is_400_with_the_reason_and_no_charge(sim, path, body, part):
    response = httpx.post(sim.host_url + path, content=body)
    assert response.status_code == 400
    assert part in response.json()["error"]["message"]
    assert (sim.bill().refused, sim.bill().input_tokens) == ({400: 1}, 0)


def test_2048_inputs_pass_and_2049_do_not(sim):
    assert len(embed(sim, ["a"] * 2048).json()["data"]) == 2048
    assert embed(sim, ["a"] * 2049).status_code == 400


@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_body_limit_is_exact(is_chunked):
    head, tail = b'{"model": "canned-chat", "messages": [{"role": "user", "content": "', b'"}]}'
    with Simulator(SimulatorSettings(max_body_bytes=10_000)) as sim:
        for size, status in ((10_000, 200), (10_001, 413)):
            body = head + b"x" * (size - len(head) - len(tail)) + tail
            content = iter([body]) if is_chunked else body
            assert httpx.post(f"{sim.base_url}/chat/completions", content=content).status_code == status


def test_models_are_listed(sim):
    listed = httpx.get(f"{sim.base_url}/models").json()
    assert {"local-chat", "local-embedding", "canned-chat"} <= {model["id"] for model in listed["data"]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer s3cret"}, 200),
        ({"Authorization": "Basic " + base64.b64encode(b"token:s3cret").decode()}, 200),
        ({"api-key": "s3cret"}, 200),
        ({}, 401),
        ({"Authorization": "Bearer s3cre"}, 401),
        ({"Authorization": "s3cret"}, 401),
        ({"api-key": "other"}, 401),
    ],
)
def test_a_configured_token_is_asked_for(headers, status):
    with Simulator(SimulatorSettings(token="s3cret")) as sim:
        assert chat(sim, "x", headers=headers).status_code == status
        databricks = chat(sim, "x", headers=headers, path="/serving-endpoints/canned-chat/invocations")
        assert databricks.status_code == status
        if status == 401:
            assert databricks.json()["error_code"] == "UNAUTHENTICATED"
        assert sim.bill().refused.get(401, 0) == (2 if status == 401 else 0)


def test_the_token_is_not_in_the_settings_repr():
    assert "s3cret" not in repr(SimulatorSettings(token="s3cret"))


def test_a_path_may_be_quoted_and_have_a_query():
    with Simulator(SimulatorSettings(models={"my model": "canned_chat"})) as sim:
        assert chat(sim, "x", path="/serving-endpoints/my%20model/invocations?trace=1").status_code == 200


def test_a_request_that_never_becomes_whole_is_unknown_and_no_incident(sim, caplog):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    with caplog.at_level(logging.DEBUG, logger="pipeline.simulator"):
        with socket.create_connection((sim.host, sim.port)) as peer:
            peer.sendall(head)
            assert eventually(lambda: sim.bill().in_flight == 1)
        assert eventually(lambda: sim.bill().unknown == 1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# --- what HTTP asks of a server --------------------------------------------------------------------------------------


def exchanged(sim: Handle, sent: bytes, until: Callable[[bytes], bool] = lambda received: False) -> bytes:
    """All that comes back over one connection, until its end or until it is enough."""
    received = b""
    with socket.create_connection((sim.host, sim.port), timeout=10) as peer:
        peer.sendall(sent)
        while not until(received) and (part := peer.recv(65536)):
            received += part
    return received


def chat_head(body: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    head = (b"POST /v1/chat/completions HTTP/" + version, b"Host: x", b"Content-Length: %d" % len(body), *lines)
    return b"\r\n".join(head) + b"\r\n\r\n"


def asking(text: str) -> bytes:
    return json.dumps({"model": "local-chat", "messages": [{"role": "user", "content": text}]}).encode()


def test_requests_that_do_not_wait_for_answers_get_them_in_order(sim):
    bodies = [asking(f"number {i}") for i in range(20)]
    received = exchanged(sim, b"".join(chat_head(body) + body for body in bodies), lambda r: r.count(b"HTTP/1.1") == 20)
    assert re.findall(rb'"content":"number (\d+)"', received) == [b"%d" % i for i in range(20)]


def test_a_request_may_come_byte_by_byte(sim):
    body = asking("slowly")
    received = b""
    with socket.create_connection((sim.host, sim.port), timeout=10) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in chat_head(body) + body:
            peer.sendall(bytes((byte,)))
        received = peer.recv(65536)
    assert received.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(("lines", "version"), [((b"Connection: close",), b"1.1"), ((), b"1.0")])
def test_a_connection_ends_where_the_client_wants_it(sim, lines, version):
    body = asking("once")
    received = exchanged(sim, chat_head(body, *lines, version=version) + body)  # returns at the end of the connection
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in received


def test_a_client_that_asks_first_is_told_to_go_on(sim):
    head = chat_head(asking("x"), b"Expect: 100-continue")
    assert exchanged(sim, head, lambda r: r.endswith(b"\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"this is no HTTP\r\n\r\n", b"400 Bad Request"),
        (chat_head(b"", b"Content-Length: many"), b"400 Bad Request"),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 70_000, b"431 Request Header Fields Too Large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"501 Not Implemented"),
    ],
)
def test_what_is_no_request_for_it_is_refused_and_the_connection_ends(sim, sent, status):
    assert exchanged(sim, sent).startswith(b"HTTP/1.1 " + status)


def test_a_body_that_is_too_long_is_refused_before_it_has_come():
    with Simulator(SimulatorSettings(max_body_bytes=10_000)) as sim:
        received = exchanged(sim, chat_head(b"x" * 10_001, b"Connection: close"))
        assert received.startswith(b"HTTP/1.1 413")
        assert b"Connection: close" in received


def test_an_order_that_is_too_long_is_not_carried_out():
    with Simulator(SimulatorSettings(max_body_bytes=1_000, faults={"error_500": 1.0})) as sim:
        head = b"POST /admin/faults HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n"
        assert exchanged(sim, head).startswith(b"HTTP/1.1 413")
        assert chat(sim, "x").status_code == 500


def test_an_answer_to_head_has_no_body(sim):
    received = exchanged(sim, b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 404")
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("schema", [5, {}, {"enum": 1}, {"type": "object", "properties": 3}, {"type": ["null"]}])
def test_a_strange_schema_is_no_server_error(sim, schema):
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    content = message(chat(sim, "x", response_format=wanted).text)["content"]
    assert json.loads(content) in (SMALL.canned_answer, {}, None)


# --- models ----------------------------------------------------------------------------------------------------------


def test_base64_equals_floats_bit_for_bit_and_the_public_function(sim):
    texts = ["a", "b", "ä ö \U0001f600"]
    floats = embed(sim, texts).json()["data"]
    packed = embed(sim, texts, encoding_format="base64").json()["data"]
    for text, as_floats, as_base64 in zip(texts, floats, packed, strict=True):
        expected = canned_vector(text, 8)
        assert np.float32(as_floats["embedding"]).tobytes() == expected.tobytes()
        assert decoded(as_base64["embedding"]).tobytes() == expected.tobytes()


def test_dimensions_cut_the_vector(sim):
    vector = embed(sim, "a", dimensions=3).json()["data"][0]["embedding"]
    assert np.array_equal(np.float32(vector), canned_vector("a", 8)[:3])


def test_canned_vectors_follow_the_seed():
    assert np.array_equal(canned_pool(8, 1), canned_pool(8, 1))
    assert not np.array_equal(canned_pool(8, 1), canned_pool(8, 2))


def test_local_embeddings_mean_something_and_are_the_same_in_every_batch(sim):
    pytest.importorskip("wordllama")
    texts = ["the matrix product of two arrays", "multiply matrices", "the dog barks at night"]
    raw = [np.float32(item["embedding"]) for item in embed(sim, texts, model="local-embedding").json()["data"]]
    alone = embed(sim, texts[0], model="local-embedding").json()["data"][0]["embedding"]
    assert raw[0].shape == (256,)
    assert np.array_equal(raw[0], np.float32(alone))
    unit = [vector / np.linalg.norm(vector) for vector in raw]
    assert unit[0] @ unit[1] > unit[0] @ unit[2]
    assert not any(abs(np.linalg.norm(vector) - 1) < 1e-3 for vector in raw)
    normalized = embed(sim, texts, model="local-embedding-normalized", dimensions=64, encoding_format="base64").json()
    for item, vector in zip(normalized["data"], raw, strict=True):
        expected = vector[:64] / np.linalg.norm(vector[:64])
        assert np.allclose(decoded(item["embedding"]), expected, atol=1e-6)


def test_a_lone_empty_string_is_embedded_as_zero(sim):
    pytest.importorskip("wordllama")
    vector = embed(sim, "", model="local-embedding-normalized").json()["data"][0]["embedding"]
    assert set(vector) == {0.0}


def test_the_summary_is_one_of_the_sentences(sim):
    answers = {message(chat(sim, TEXT, model="local-chat").text)["content"] for _ in range(3)}
    assert len(answers) == 1
    assert answers <= set(sentences(TEXT))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("   \n ", ""),
        ("one", "one"),
        ("Summarise in one sentence: It rains.", "It rains."),
        ("Mask every name below. Answer with the text: a, b:\n\nIt rains.", "It rains."),
        ("Title:\n", "Title:"),
    ],
)
def test_short_texts_are_their_own_summary(text, expected):
    assert summarize(text) == expected


def test_max_tokens_cut_the_answer(sim):
    document = chat(sim, TEXT, model="local-chat", max_tokens=3).json()
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["usage"]["completion_tokens"] == 3
    assert len(document["choices"][0]["message"]["content"]) == 12


def test_a_json_schema_is_filled(sim):
    properties = {"title": {"type": "string"}, "score": {"type": "number"}, "tags": {"type": "array", "items": {}}}
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": properties}}}
    content = json.loads(message(chat(sim, "x", response_format=wanted).text)["content"])
    assert content == {"title": SMALL.canned_answer, "score": 0.5, "tags": [SMALL.canned_answer]}


def test_local_chat_is_fast_enough_for_a_quick_start():
    text = TEXT * 8
    started = time.process_time()
    for _ in range(100):
        summarize(text)
    assert (time.process_time() - started) / 100 < 0.002  # 500/s on one core


# --- bill ------------------------------------------------------------------------------------------------------------


def test_the_bill_adds_up_over_runs(sim):
    chat(sim, "abcdefgh", headers={"x-client-run": "one"})
    chat(sim, f"abcd{marker('malformed')}", headers={"x-client-run": "one"})
    chat(sim, marker("rate_429"), headers={"x-client-run": "two"})
    embed(sim, ["abcd", "efgh"])
    bill = sim.bill()
    assert set(bill.runs) == {"one", "two", "default"}
    assert bill.runs["one"].answers == bill.runs["one"].useless == 1
    assert bill.runs["two"].refused == {429: 1}
    assert (bill.runs["default"].inputs, bill.runs["default"].input_tokens) == (2, 2)
    for name in ("requests", "answers", "useless", "inputs", "input_tokens", "output_tokens"):
        assert getattr(bill, name) == sum(getattr(run, name) for run in bill.runs.values())
    assert bill.requests == 4 == bill.answers + bill.useless + sum(bill.refused.values()) + bill.unknown


def test_usage_in_the_answers_equals_the_bill(sim):
    usages = [chat(sim, "x" * size, model="local-chat").json()["usage"] for size in (1, 9, 100)]
    assert sim.bill().input_tokens == sum(usage["prompt_tokens"] for usage in usages)
    assert sim.bill().output_tokens == sum(usage["completion_tokens"] for usage in usages)


def test_texts_show_what_came_in_and_what_was_bought_twice():
    with Simulator(SimulatorSettings(log_requests=True)) as sim:
        flaky = f"a {marker('error_500', 1)}"
        for _ in range(3):
            chat(sim, flaky)
        embed(sim, ["b", "c"])
        texts = sim.texts()
        assert texts.received == {text_digest(flaky): 3, text_digest("b"): 1, text_digest("c"): 1}
        assert texts.bought == {text_digest(flaky): 2, text_digest("b"): 1, text_digest("c"): 1}
    assert sim.texts() == texts  # kept after the end


def test_peak_in_flight_and_a_client_that_left_is_billed_all_the_same():
    with Simulator(SimulatorSettings(latency_ms=300)) as sim:
        with ThreadPoolExecutor(8) as pool:
            assert {r.status_code for r in pool.map(lambda _: chat(sim, "x"), range(8))} == {200}
        assert (sim.bill().peak_in_flight, sim.bill().in_flight) == (8, 0)
        sim.reset_bill()
        with pytest.raises(httpx.ReadTimeout):
            chat(sim, "x", timeout=0.05)
        assert eventually(lambda: sim.bill().undelivered == 1)
        assert sim.bill().answers == 1


def test_a_reset_while_a_call_is_in_flight_never_makes_counts_negative():
    with Simulator(SimulatorSettings(latency_ms=200)) as sim, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(chat, sim, "x")
        assert eventually(lambda: sim.bill().in_flight == 1)
        sim.reset_bill()
        assert pending.result().status_code == 200
        assert sim.bill() == Bill()


def eventually(is_true, within_s: float = 5.0) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if is_true():
            return True
        time.sleep(0.01)
    return False


# --- latency ---------------------------------------------------------------------------------------------------------


def test_latency_is_base_plus_tokens():
    with Simulator(SimulatorSettings(latency_ms=40, per_token_ms=10, canned_answer="abcdefgh")) as sim:
        started = time.monotonic()
        chat(sim, "x")
        assert 0.06 <= time.monotonic() - started < 2


@pytest.mark.parametrize("shape", ["uniform", "lognormal"])
def test_jitter_is_seeded_and_keeps_the_mean(shape):
    settings = SimulatorSettings(latency_ms=100, jitter=0.4, jitter_shape=shape, seed=3)
    one, other = LatencyModel(settings), LatencyModel(settings)
    delays = [one.delay_s(0) for _ in range(4000)]
    assert delays == [other.delay_s(0) for _ in range(4000)]
    assert 0.097 < mean(delays) < 0.103
    if shape == "lognormal":
        assert 0.38 < stdev(map(log, delays)) < 0.42
    else:
        assert 0.06 <= min(delays) < max(delays) <= 0.14


def test_no_latency_is_none():
    assert LatencyModel(SimulatorSettings()).delay_s(10_000) == 0


@pytest.mark.parametrize(
    "wrong", [{"latency_ms": -1}, {"jitter": float("nan")}, {"jitter": 2}, {"canned_vectors": 0}, {"drip_bytes": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SimulatorSettings(**wrong)


# --- switches and processes ------------------------------------------------------------------------------------------


def test_faults_latency_and_seed_change_at_run_time():
    with Simulator() as sim:
        sim.set_faults({"error_500": 1.0})
        assert chat(sim, "x").status_code == 500
        sim.set_faults({})
        sim.set_latency(latency_ms=50)
        started = time.monotonic()
        assert chat(sim, "x").status_code == 200
        assert time.monotonic() - started >= 0.05
        once = marker("error_500", 1)
        assert [chat(sim, once).status_code for _ in range(2)] == [500, 200]
        sim.set_seed(5)
        assert chat(sim, once).status_code == 500
        with pytest.raises(ValueError, match="no_such"):
            sim.set_faults({"no_such": 0.5})
        with pytest.raises(ValueError, match="port"):
            sim.set_latency(port=1)


def test_outages_come_and_go():
    with Simulator() as sim, httpx.Client() as client:
        url = f"{sim.base_url}/chat/completions"
        body = {"model": "canned-chat", "messages": [{"role": "user", "content": "x"}]}
        assert client.post(url, json=body).status_code == 200
        sim.set_outage("unavailable")
        assert client.post(url, json=body).status_code == 503
        sim.set_outage("reset")
        # the RST may come while the request is still going out; httpx then finds the end of the stream
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            client.post(url, json=body)
        sim.set_outage("refuse")
        with pytest.raises(httpx.ConnectError):
            client.post(url, json=body)
        assert sim.bill().answers == 1  # the bill stays within reach
        sim.set_outage("none")
        assert client.post(url, json=body).status_code == 200


def test_refusing_ends_open_connections_too():
    with Simulator() as sim, httpx.Client() as client:
        body = {"model": "canned-chat", "messages": [{"role": "user", "content": "x"}]}
        assert client.post(f"{sim.base_url}/chat/completions", json=body).status_code == 200
        sim.set_outage("refuse")
        with pytest.raises(httpx.TransportError):
            client.post(f"{sim.base_url}/chat/completions", json=body)


def test_the_port_stays_taken_while_calls_are_refused():
    with Simulator() as sim:
        sim.set_outage("refuse")
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", sim.port))
        sim.set_outage("none")
        assert httpx.get(f"{sim.host_url}/healthz").status_code == 200


def test_an_order_and_the_clock_may_end_an_outage_at_the_same_moment(caplog):
    with Simulator() as sim:
        for _ in range(20):
            sim.set_outage("refuse", for_s=0.02)
            time.sleep(0.018)
            sim.set_outage("none")
            assert httpx.get(f"{sim.host_url}/healthz").status_code == 200
    assert "never retrieved" not in caplog.text


def test_a_wrong_path_is_404_and_health_is_200(sim):
    assert httpx.get(f"{sim.host_url}/healthz").status_code == 200
    assert httpx.get(f"{sim.host_url}/nope").status_code == 404
    assert httpx.post(f"{sim.host_url}/v1/nope", json={}).status_code == 404


def test_a_taken_port_is_an_error_at_the_start(sim):
    with pytest.raises(OSError), Simulator(SimulatorSettings(port=sim.port)):
        pass


def test_stopping_with_calls_in_flight_is_quick():
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        with Simulator(SimulatorSettings(latency_ms=60_000)) as sim:
            pending = [pool.submit(chat, sim, "x") for _ in range(4)]
            assert eventually(lambda: sim.bill().in_flight == 4)
        assert all(isinstance(call.exception(), httpx.TransportError) for call in pending)
    assert time.monotonic() - started < 10


def test_a_process_of_its_own_serves_the_same_and_leaves_no_trace():
    settings = SimulatorSettings(canned_vectors=8, token="s3cret", faults={"error_500": 0.0})
    process = SimulatorProcess(settings)
    with process as sim:
        response = embed(sim, "a", headers={"Authorization": "Bearer s3cret"})
        assert np.array_equal(np.float32(response.json()["data"][0]["embedding"]), canned_vector("a", 8))
    assert sim.bill().answers == 1
    with pytest.raises(httpx.ConnectError):
        chat(sim, "x")


def test_a_process_that_cannot_start_says_so(sim, capfd):
    with pytest.raises(RuntimeError, match="did not start"), SimulatorProcess(SimulatorSettings(port=sim.port)):
        pass
    assert "address already in use" in capfd.readouterr().err


def test_settings_survive_the_pipe():
    settings = dataclasses.replace(SMALL, token="t", faults={"reset": 0.5}, jitter_shape="lognormal")
    assert SimulatorSettings.from_json(settings.to_json()) == settings


# --- the command -----------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def test_the_command_prints_its_address_serves_and_stops_on_a_signal():
    command = [sys.executable, "-m", "jobs.serve", "--port", "0", "--token", "env:SIM_TOKEN", "--fault", "error_500=1"]
    environment = {**os.environ, "SIM_TOKEN": "s3cret"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            line, example = process.stdout.readline(), process.stdout.readline()
            base_url = line.split()[1]
            body = {"model": "canned-chat", "messages": [{"role": "user", "content": "x"}]}
            for token, status in (("s3cret", 500), ("wrong", 401)):
                headers = {"Authorization": f"Bearer {token}"}
                assert httpx.post(f"{base_url}/chat/completions", json=body, headers=headers).status_code == status
            assert example.startswith(f"curl {base_url}/chat/completions")
            assert "s3cret" not in line + example
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--fault", "nope=0.1"], "unknown faults"),
        (["--fault", "reset"], "NAME=SHARE"),
        (["--token", "env:NO_SUCH_VARIABLE"], "not set"),
        (["--latency-ms", "-1"], "latency_ms"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(arguments, part):
    command = [sys.executable, "-m", "jobs.serve", "--port", "0", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert part in " ".join(done.stderr.replace("│", " ").split())


def test_the_command_teaches():
    command = [sys.executable, "-m", "jobs.serve", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    said = " ".join(done.stdout.split())
    for word in ("local-chat", "GET /bill", "[[fault:rate_429:2]]", "wrong_order", "--fault"):
        assert word in said


def test_a_process_of_its_own_ends_when_its_parent_is_killed():
    parent = (
        "import os, signal\n"
        "from pipeline.simulator import SimulatorProcess\n"
        "sim = SimulatorProcess().__enter__()\n"
        "print(sim.port, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", parent], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    port = int(done.stdout)
    assert eventually(lambda: not is_listening(port))


def is_listening(port: int) -> bool:
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0
