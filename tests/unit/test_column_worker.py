"""A function call over arrays without Spark and without a socket: every row its answer, in its place, asked once."""

import asyncio
import json
import time
from base64 import b64encode
from statistics import fmean

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline import column_worker
from pipeline.batching import PackLimits
from pipeline.column_plan import ColumnPlan
from pipeline.column_worker import run_columns
from pipeline.conditions import AiFunctionError
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.loop import LoopThread
from pipeline.questions import QuestionSpec
from pipeline.readings import ResultSpec, result_type
from pipeline.records import HttpResponse, Task
from pipeline.vectors import EmbeddingContract
from tests.unit.test_worker import QUICK, Fake, refused


@pytest.fixture(scope="module")
def loop():
    thread = LoopThread()
    yield thread
    thread.close()


def chat(result=None, in_flight=4, **question):
    return ColumnPlan(
        "ai_query",
        "e",
        QuestionSpec(Task.CHAT, **question),
        EndpointSpec(Task.CHAT, "m", "openai", "http://127.0.0.1:1/v1"),
        result or ResultSpec(pa.string()),
        WindowSettings(in_flight=in_flight, retry=QUICK),
    )


def answers(batches, plan, loop, fake):
    arrays = list(run_columns(batches, plan, loop=loop, transport=fake))
    assert all(array.type == result_type(plan.result) for array in arrays)
    return [value for array in arrays for value in array.to_pylist()]


def test_results_keep_the_order_and_null_asks_nothing(loop):
    fake = Fake(latency_s=lambda text: 0.02 if text == "a" else 0.0)
    batches = [pa.array(["a", None, "b"]), pa.array([], pa.string()), pa.array(["c", "d"])]
    assert answers(batches, chat(), loop, fake) == ["re: a", None, "re: b", "re: c", "re: d"]
    assert sorted(fake.asked) == ["a", "b", "c", "d"]


def test_only_nulls_open_nothing(loop):
    assert answers([pa.nulls(3), pa.nulls(1, pa.string())], chat(), loop, None) == [None] * 4


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", None, "e", "f"]), max_size=9), max_size=6))
@examples(max_examples=30, deadline=None)
def test_any_cut_gives_every_row_its_answer_and_asks_once(loop, batches):
    fake = Fake()
    arrays = [pa.array(batch, pa.string()) for batch in batches]
    rows = [row for batch in batches for row in batch]
    assert answers(arrays, chat(in_flight=2), loop, fake) == [row and f"re: {row}" for row in rows]
    assert len(fake.asked) == len({row for row in rows if row})


def test_the_window_spans_batches_and_a_slow_row_does_not_empty_it(loop):
    at_once = []

    class FirstIsSlow(Fake):
        async def send(self, request, auth_headers):
            if b'"t0"' in request.body:
                async with asyncio.timeout(10):
                    while self.calls < 99:  # noqa: ASYNC110 - all other rows, of ten batches, are asked meanwhile
                        await asyncio.sleep(0.001)
            else:
                at_once.append(self.in_flight + 1)
            return await super().send(request, auth_headers)

    fake = FirstIsSlow(latency_s=lambda text: 0.001)
    batches = [pa.array([f"t{10 * b + i}" for i in range(10)]) for b in range(10)]
    assert answers(batches, chat(in_flight=5), loop, fake) == [f"re: t{i}" for i in range(100)]
    assert max(at_once) == 4  # the fifth slot is the slow row's
    assert fmean(at_once) > 1.8  # and the others' are used: 2.5 where four at a time begin and end together


def test_a_failed_row_is_a_message_where_the_call_says_so(loop):
    fake = Fake(plans={"bad one": [refused(400)]})
    plan = chat(ResultSpec(pa.string(), fails=False))
    good, bad, null = answers([pa.array(["good", "bad one", None])], plan, loop, fake)
    assert good == {"result": "re: good", "errorMessage": None}
    assert bad["result"] is None
    assert bad["errorMessage"].startswith("[AI_FUNCTION_HTTP_REQUEST_ERROR] bad_request, HTTP 400: ")
    assert bad["errorMessage"].endswith(" SQLSTATE: 08000")
    assert null == {"result": None, "errorMessage": None}


def test_the_first_failed_row_ends_the_call_and_everything_in_flight(loop):
    fake = Fake(plans={"t3": [refused(400)]}, latency_s=lambda text: 0.0 if text == "t3" else 5.0)
    started = time.monotonic()
    with pytest.raises(AiFunctionError, match="AI_FUNCTION_HTTP_REQUEST_ERROR"):
        answers([pa.array([f"t{i}" for i in range(1000)])], chat(in_flight=8), loop, fake)
    assert time.monotonic() - started < 2
    assert fake.in_flight == 0
    assert fake.calls <= 9


@pytest.mark.parametrize("fails", [True, False])
def test_a_refused_credential_fails_the_call_under_either_setting(loop, fails):
    fake = Fake(plans={"t0": [refused(401)]})
    plan = chat(ResultSpec(pa.string(), fails=fails), in_flight=1)
    with pytest.raises(AiFunctionError, match=r"the endpoint e at \S+ refused a request without credential"):
        answers([pa.array(["t0", "t1", "t2"])], plan, loop, fake)
    assert fake.calls == 1


def test_attempts_are_told_where_they_are_used_up(loop):
    fake = Fake(plans={"t": [refused(503)]})
    plan = chat(ResultSpec(pa.string(), fails=False))
    (row,) = answers([pa.array(["t"])], plan, loop, fake)
    assert "[REMOTE_FUNCTION_HTTP_RETRY_TIMEOUT] gave up after 3 attempts (overloaded, HTTP 503)" in row["errorMessage"]


def test_closing_the_generator_stops_the_calls(loop):
    fake = Fake(latency_s=lambda text: 0.0 if text == "t0" else 5.0)
    generator = run_columns([pa.array([f"t{i}" for i in range(100)])], chat(in_flight=8), loop=loop, transport=fake)
    assert next(generator).to_pylist() == ["re: t0"]
    started = time.monotonic()
    generator.close()
    assert time.monotonic() - started < 1
    assert fake.in_flight == 0
    assert fake.calls <= 10


def test_answers_are_read_as_their_type(loop):
    fake = Fake(plans={"t": [refused(200)]})
    plan = chat(ResultSpec(pa.int32(), "typed", fails=False))
    (row,) = answers([pa.array(["t"])], plan, loop, fake)
    assert row["errorMessage"].startswith("[AI_FUNCTION_HTTP_PARSE_CAST_ERROR] the answer is a string, not INT32.")


def test_details_are_appended_and_usage_is_counted_once(loop):
    plan = chat(ResultSpec(pa.string(), has_details=True))
    first, second = answers([pa.array(["t", "t"])], plan, loop, Fake())
    assert list(first) == [
        "result", "errorMessage", "usage", "finish_reason", "model", "attempts", "request_id", "status"
    ]  # fmt: skip
    assert (first["usage"]["total_tokens"], first["finish_reason"], first["model"], first["attempts"]) == (
        13, "stop", "m-1", 1,
    )  # fmt: skip
    assert second["usage"]["total_tokens"] is None
    assert second["request_id"] == first["request_id"]
    assert (first["status"], second["status"]) == (200, 200)


def test_the_status_of_a_failed_row_is_the_servers(loop):
    fake = Fake(plans={"t": [refused(400)]})
    plan = chat(ResultSpec(pa.string(), fails=False, has_details=True))
    failed, asked_nothing, blank = answers([pa.array(["t", None, " "])], plan, loop, fake)
    assert [row["status"] for row in (failed, asked_nothing, blank)] == [400, None, None]


def test_vectors_travel_many_per_call(loop):
    plan = ColumnPlan(
        "ai_query",
        "e",
        QuestionSpec(Task.EMBEDDING),
        EndpointSpec(Task.EMBEDDING, "m", "openai", "http://127.0.0.1:1/v1", contract=EmbeddingContract()),
        ResultSpec(pa.list_(pa.float32()), "vector"),
        WindowSettings(in_flight=2, pack=PackLimits(max_rows=4), retry=QUICK),
    )
    fake = Fake()
    rows = answers([pa.array(["a", "bb", None]), pa.array(["ccc", "a", "dddd"])], plan, loop, fake)
    assert rows == [[1.0, 1.0], [2.0, 1.0], None, [3.0, 1.0], [1.0, 1.0], [4.0, 1.0]]
    assert fake.calls == 1


def test_messages_and_images_travel(loop):
    seen = []

    class Echo(Fake):
        async def send(self, request, auth_headers):
            seen.append(json.loads(request.body)["messages"])
            choice = {"message": {"content": "ok"}, "finish_reason": "stop"}
            return HttpResponse(200, json.dumps({"choices": [choice]}).encode())

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    system, user = {"role": "system", "content": "s"}, {"role": "user", "content": "u"}
    starts = {
        "png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "gif": b"GIF89a", "webp": b"RIFF\x1a\x00\x00\x00WEBPVP8 "
    }  # fmt: skip
    files = [*(start + b"..." for start in starts.values()), b"GIF87a..."]
    batches = [(pa.array([[system, user]], pa.list_(message)), pa.array([files], pa.list_(pa.binary())))]
    assert answers(batches, chat(columns=("request", "files")), loop, Echo()) == ["ok"]
    ((first, last),) = seen
    assert first == system
    assert [part["type"] for part in last["content"]] == ["text", *["image_url"] * 5]
    for part, kind, data in zip(last["content"][1:], [*starts, "gif"], files, strict=True):
        assert part["image_url"]["url"] == f"data:image/{kind};base64,{b64encode(data).decode()}"

    assert answers([pa.array([user], message)], chat(), loop, Echo()) == ["ok"]
    with pytest.raises(AiFunctionError, match="DATATYPE_MISMATCH"):
        answers([pa.array([7])], chat(), loop, Echo())
    for sound in (b"%PDF", b"RIFF\x1a\x00\x00\x00WAVEfmt ", b"GIF88a", b""):
        with pytest.raises(AiFunctionError, match="file 1 is no JPEG, PNG, GIF or WebP image"):
            answers([(pa.array(["u"]), pa.array([sound]))], chat(columns=("request", "files")), loop, Echo())


def test_templates_read_columns_and_constants(loop):
    plan = chat(columns=("content",), template="To {{ to }}: {{ content }}", values={"to": "de"}, is_blank_null=True)
    fake = Fake()
    assert answers([pa.array(["x", " ", None])], plan, loop, fake) == ["re: To de: x", None, None]


def test_rows_that_are_not_text_are_rows(loop):
    bad = pa.array([b"\xff\xfe", b"ok"], pa.binary()).view(pa.string())
    broken, good = answers([bad], chat(ResultSpec(pa.string(), fails=False)), loop, Fake())
    assert "no UTF-8" in broken["errorMessage"]
    assert good["result"] == "re: ok"


def test_the_window_is_small_where_nobody_reads(loop, monkeypatch):
    monkeypatch.setattr(column_worker, "LOOK_S", 0.005)
    fake = Fake(latency_s=lambda text: 0.001)
    generator = run_columns([pa.array([f"t{i}" for i in range(5000)])], chat(in_flight=8), loop=loop, transport=fake)
    next(generator)
    calls = fake.calls
    time.sleep(0.1)
    assert fake.calls <= calls + 10  # the window and what refills it
    generator.close()
