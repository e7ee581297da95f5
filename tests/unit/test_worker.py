"""One partition without Spark and without a socket: every source row leaves with its own answer, once."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline import worker
from pipeline.batching import PackLimits
from pipeline.endpoints import EndpointSpec
from pipeline.engine import WindowSettings
from pipeline.errors import ConnectionBroken, ErrorCode, JobStopped, StateError, TransportError
from pipeline.loop import LoopThread
from pipeline.pieces import BUCKET_COLUMN
from pipeline.progress import Progress
from pipeline.prompts import PromptSpec
from pipeline.records import HttpRequest, HttpResponse, Task
from pipeline.retry import RetrySettings
from pipeline.worker import run_partition
from pipeline.worker_plan import Plan
from tests.cases import cases
from tests.unit.journals import local_store, open_bucket

QUICK = RetrySettings(max_attempts=3, base_s=0.0005, max_wait_s=0.001, deadline_s=5.0)
Answer = HttpResponse | TransportError


def chat_answer(text: str) -> HttpResponse:
    choice = {"message": {"content": f"re: {text}"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return HttpResponse(200, json.dumps({"choices": [choice], "model": "m-1", "usage": usage}).encode())


def embedding_answer(texts: list[str]) -> HttpResponse:
    data = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(texts)]
    usage = {"prompt_tokens": 10 * len(texts), "total_tokens": 10 * len(texts)}
    return HttpResponse(200, json.dumps({"data": data, "model": "m", "usage": usage}).encode())


def refused(status: int) -> HttpResponse:
    return HttpResponse(status, b"{}")


@dataclass
class Fake:
    """Answers each text by its plan, the last entry again and again; counts what it was asked."""

    plans: dict[str, list[Answer]] = field(default_factory=dict)
    latency_s: Callable[[str], float] = lambda text: 0.0
    asked: list[str] = field(default_factory=list)
    calls: int = 0
    in_flight: int = 0
    cancelled: int = 0

    async def send(self, request: HttpRequest, auth_headers: object) -> HttpResponse:
        body = json.loads(request.body)
        texts = body["input"] if "input" in body else [body["messages"][-1]["content"]]
        self.asked += texts
        self.calls += 1
        self.in_flight += 1
        try:
            await asyncio.sleep(self.latency_s(texts[0]))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        plan = self.plans.get(texts[0])
        if plan:
            answer = plan.pop(0) if len(plan) > 1 else plan[0]
            if isinstance(answer, TransportError):
                raise answer
            if answer.status != 200:
                return answer
        return embedding_answer(texts) if "input" in body else chat_answer(texts[0])

    async def close(self) -> None: ...


@dataclass
class Notes:
    """A control that remembers what was reported and stops when told."""

    reason: str | None = None
    reports: list[Progress] = field(default_factory=list)

    def report(self, progress: Progress) -> None:
        self.reports.append(replace(progress))

    def stop_reason(self) -> str | None:
        return self.reason


@pytest.fixture(scope="module")
def loop():
    loop = LoopThread()
    with pytest.MonkeyPatch.context() as patched:
        # how long the row thread waits for more than a few rows; a test of few would sit out all of it
        patched.setattr(worker, "WAKE_AFTER_S", 0.005)
        yield loop
    loop.close()


@pytest.fixture
def open_journal(tmp_path):
    """Opens the one bucket, as the next attempt; the one before is closed first."""
    opened = []

    def open_next(**options):
        if opened:
            opened[-1].close()
        opened.append(open_bucket(local_store(tmp_path), f"a{len(opened)}", **options))
        return opened[-1]

    yield open_next
    opened[-1].close()


def plan(task: Task = Task.CHAT, **changes) -> Plan:
    window = WindowSettings(
        in_flight=changes.pop("in_flight", 8),
        pack=PackLimits(max_rows=changes.pop("max_rows", 1)),
        retry=changes.pop("retry", QUICK),
    )
    prompt = changes.pop("prompt", PromptSpec(task, template="{{ text }}"))
    endpoint = EndpointSpec(task, "m", "openai", "http://127.0.0.1:1/v1")
    return Plan(prompt, endpoint, window, **{"run_id": "run-1", **changes})


def batch(*texts: str | None, start: int = 0) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(range(start, start + len(texts)), pa.int64()),
            "text": pa.array(texts, pa.string()),
            BUCKET_COLUMN: pa.array([7] * len(texts), pa.int32()),
        }
    )


def answers(batches, the_plan, loop, **options) -> list[dict]:
    """The rows that left, by id."""
    out = list(run_partition(batches, the_plan, loop=loop, **options))
    rows = [row for each in out for row in each.to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows), "a row left twice"
    return sorted(rows, key=lambda row: row["id"])


def timeless(rows: list[dict]) -> list[dict]:
    """All but when an answer came: a replay takes that from when the call was sent."""
    return [{name: value for name, value in row.items() if name != "completed_at"} for row in rows]


def codes(rows: list[dict]) -> list[str | None]:
    return [row["error"] and row["error"]["code"] for row in rows]


# --- rows


def test_an_empty_partition_opens_nothing(monkeypatch):
    opened = []
    monkeypatch.setattr(worker, "process_loop", lambda: opened.append(1))
    control = Notes()
    assert list(run_partition([], plan(), control=control)) == []
    assert (opened, control.reports) == ([], [])


def test_batches_without_rows_make_no_call_and_no_batch(loop):
    fake = Fake()
    assert list(run_partition([batch(), batch()], plan(), loop=loop, transport=fake)) == []
    assert fake.calls == 0


def test_a_row_leaves_with_its_source_columns_and_its_answer(loop):
    (row,) = answers([batch("Hello")], plan(prefix="ai_"), loop, transport=Fake(), clock=lambda: 1_000.0)
    assert row.pop("ai_latency_ms") >= 0
    assert len(row.pop("ai_request_id")) == 64
    assert row.pop("ai_completed_at").timestamp() == 1_000.0
    usage = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
    assert row == {
        "id": 0,
        "text": "Hello",
        "ai_response": "re: Hello",
        "ai_error": None,
        "ai_usage": {**usage, "cached_input_tokens": None, "reasoning_tokens": None},
        "ai_cost": None,
        "ai_finish_reason": "stop",
        "ai_model": "m-1",
        "ai_attempts": 1,
        "ai_run_id": "run-1",
    }


@examples(deadline=None)
@given(data=st.data())
def test_every_source_row_keeps_its_own_answer(loop, data):
    texts = data.draw(st.lists(st.sampled_from([*"abcdefghijkl", "", None]), max_size=40))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(texts)), max_size=3)))
    menu = st.sampled_from([refused(429), refused(500), refused(400), ConnectionBroken("cut"), HttpResponse(200, b"")])
    fake = Fake(
        plans={
            text: data.draw(st.lists(menu, min_size=1, max_size=3))
            for text in data.draw(st.sets(st.sampled_from("abcdef")))
        },
        latency_s=dict(
            zip("abcdefghijkl", data.draw(st.permutations([0.0] * 9 + [0.001, 0.002, 0.003])), strict=True)
        ).__getitem__,
    )
    task = data.draw(st.sampled_from([Task.CHAT, Task.EMBEDDING]))
    bounds = list(zip([0, *cuts], [*cuts, len(texts)], strict=True))
    batches = [batch(*texts[start:end], start=start) for start, end in bounds]
    brief = replace(QUICK, deadline_s=0.02)  # a rate limit that stays is asked again until then
    the_plan = plan(task, in_flight=data.draw(st.integers(1, 9)), max_rows=1 if task is Task.CHAT else 4, retry=brief)
    rows = answers(batches, the_plan, loop, transport=fake)
    assert [(row["id"], row["text"]) for row in rows] == list(enumerate(texts))
    for row in rows:
        assert (row["response"] is None) != (row["error"] is None)
        if not row["text"]:
            assert row["error"]["code"] == "empty_input"
        elif row["error"] is None:
            assert row["response"] == ([1.0, 1.0] if task is Task.EMBEDDING else f"re: {row['text']}")


def test_rows_without_a_question_are_errors_and_cost_nothing(loop):
    fake = Fake()
    rows = answers([batch(None, " \n", "x")], plan(), loop, transport=fake)
    assert codes(rows) == ["empty_input", "empty_input", None]
    assert fake.asked == ["x"]


@cases("text", ["a\0b", "\ufffe", "🜚" * 50, "\u202eabc", "{{ text }}", '"}]}'])
def test_strange_texts_reach_the_endpoint_unchanged(loop, text):
    fake = Fake()
    (row,) = answers([batch(text)], plan(), loop, transport=fake)
    assert fake.asked == [text]
    assert row["text"] == text
    assert row["error"] is None


def test_answers_with_nul_and_lone_surrogates_land_without_them(loop):
    class Odd(Fake):
        async def send(self, request, auth_headers):
            body = b'{"choices": [{"message": {"content": "a\\u0000b\\ud800c"}}]}'
            return HttpResponse(200, body)

    (row,) = answers([batch("x")], plan(), loop, transport=Odd())
    assert row["response"] == "a\ufffdb\ufffdc"


def test_a_row_whose_bytes_are_no_text_is_an_error_of_its_own(loop):
    # Spark casts any binary to a string
    raw = pa.array([b"good", b"\xed\xa0\x80bad", b"fine"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    piece = pa.RecordBatch.from_arrays([pa.array([0, 1, 2]), text], names=["id", "text"])
    fake = Fake()
    (out,) = run_partition([piece], plan(), loop=loop, transport=fake)
    found = dict(
        zip(out.column("id").to_pylist(), codes([{"error": e} for e in out.column("error").to_pylist()]), strict=True)
    )
    assert found == {0: None, 1: "invalid_input", 2: None}
    assert sorted(fake.asked) == ["fine", "good"]


def test_prompts_of_3_mb_pass_and_larger_ones_are_errors(loop):
    fake = Fake()
    texts = ["a" * 3_000_000, "b" * 3_000_001, "c" * 4_100_000]
    rows = answers([batch(*texts)], plan(), loop, transport=fake)
    assert codes(rows) == [None, None, "input_too_large"]
    assert [len(text) for text in fake.asked] == [3_000_000, 3_000_001]
    assert [row["text"] for row in rows] == texts


def test_a_prompt_without_columns_is_asked_once_for_all_rows(loop):
    fake = Fake()
    rows = answers([batch("x", "y", "z")], plan(prompt=PromptSpec(Task.CHAT, template="Say hi")), loop, transport=fake)
    assert fake.asked == ["Say hi"]
    assert [row["response"] for row in rows] == ["re: Say hi"] * 3


# --- buying once


def test_equal_requests_are_sent_once_and_charged_to_one_row(loop):
    fake = Fake(latency_s=lambda text: 0.002)
    rows = answers([batch(*["same"] * 700, "other")], plan(), loop, transport=fake)
    assert Counter(fake.asked) == {"same": 1, "other": 1}
    assert {row["response"] for row in rows[:700]} == {"re: same"}
    assert sum(row["usage"]["input_tokens"] or 0 for row in rows) == 20


def test_a_request_that_comes_again_after_its_answer_left_is_neither_bought_nor_charged_again(loop, open_journal):
    fake = Fake()
    batches = (batch(f"t{i % 3}", start=i) for i in range(30))

    def slowly():
        for each in batches:
            time.sleep(0.002)  # the answer to the one before has come
            yield each

    control = Notes()
    rows = answers(slowly(), plan(), loop, transport=fake, log=open_journal(), control=control)
    assert Counter(fake.asked) == {"t0": 1, "t1": 1, "t2": 1}
    assert sum(row["usage"]["input_tokens"] or 0 for row in rows) == 30
    assert {row["response"] for row in rows} == {"re: t0", "re: t1", "re: t2"}


def test_a_second_run_replays_and_calls_nobody(loop, open_journal):
    texts = [f"t{i}" for i in range(40)]
    first = answers([batch(*texts)], plan(), loop, transport=Fake(), log=open_journal())
    fake = Fake()
    control = Notes()
    second = answers([batch(*texts)], plan(run_id="run-2"), loop, transport=fake, log=open_journal(), control=control)
    assert fake.calls == 0
    assert control.reports[-1].rows_replayed == 40
    assert timeless(second) == timeless([{**row, "run_id": "run-2"} for row in first])


def test_a_second_run_of_embeddings_replays_every_vector(loop, open_journal):
    texts = ["x" * i for i in range(1, 40)]
    the_plan = plan(Task.EMBEDDING, max_rows=16)
    first = answers([batch(*texts)], the_plan, loop, transport=Fake(), log=open_journal())
    fake = Fake()
    second = answers([batch(*texts)], the_plan, loop, transport=fake, log=open_journal())
    assert timeless(second) == timeless(first)
    assert fake.calls == 0
    assert [row["response"][0] for row in first] == list(range(1, 40))


@pytest.mark.parametrize(
    ("retry_failed", "asked"), [("none", []), ("transient", ["passing"]), ("all", ["lasting", "passing"])]
)
def test_a_second_run_asks_failed_rows_by_policy(loop, open_journal, retry_failed, asked):
    fake = Fake({"lasting": [refused(400)], "passing": [refused(500)]})
    rows = answers([batch("lasting", "passing", "good")], plan(), loop, transport=fake, log=open_journal())
    assert codes(rows) == ["bad_request", "server_error", None]
    fake = Fake()
    rows = answers(
        [batch("lasting", "passing", "good")], plan(retry_failed=retry_failed), loop, transport=fake, log=open_journal()
    )
    assert sorted(fake.asked) == asked
    assert [row["text"] for row in rows if row["error"] is None] == [*asked, "good"]


def test_unknown_outcomes_are_carried_over_runs(loop, open_journal):
    never_again = replace(QUICK, max_unknown_resends=0)
    once_more = replace(QUICK, max_unknown_resends=1)
    sent = []
    for retry in (never_again, never_again, once_more, once_more):
        fake = Fake({"x": [ConnectionBroken("cut")]})
        rows = answers([batch("x")], plan(retry=retry), loop, transport=fake, log=open_journal())
        assert codes(rows) == ["unknown_outcome"]
        sent.append(fake.calls)
    assert sent == [1, 0, 1, 0]


def test_after_the_credential_is_mended_all_rows_are_asked(loop, open_journal):
    texts = [f"t{i}" for i in range(20)]
    fake = Fake({text: [refused(401)] for text in texts})
    assert answers([batch(*texts)], plan(in_flight=2), loop, transport=fake, log=open_journal()) == []
    rows = answers([batch(*texts)], plan(), loop, transport=Fake(), log=open_journal())
    assert codes(rows) == [None] * 20


# --- flow


def test_rows_leave_as_they_finish_not_as_they_came(loop, monkeypatch):
    monkeypatch.setattr(worker, "EMIT_ROWS", 1)
    release = threading.Event()

    class Held(Fake):
        async def send(self, request, auth_headers):
            if b"slow" in request.body:
                while not release.is_set():  # noqa: ASYNC110 - set by another thread
                    await asyncio.sleep(0.001)
            return await super().send(request, auth_headers)

    out = run_partition([batch("slow", "b", "c")], plan(), loop=loop, transport=Held())
    left = {next(out).to_pylist()[0]["text"], next(out).to_pylist()[0]["text"]}
    assert left == {"b", "c"}
    release.set()
    assert next(out).to_pylist()[0]["text"] == "slow"
    assert next(out, None) is None


def test_rows_leave_before_all_input_was_read(loop, monkeypatch):
    monkeypatch.setattr(worker, "EMIT_ROWS", 4)
    read = []

    def source():
        for start in range(0, 80, 4):
            read.append(start)
            time.sleep(0.002)
            yield batch(*[f"t{i}" for i in range(start, start + 4)], start=start)

    out = run_partition(source(), plan(), loop=loop, transport=Fake())
    assert next(out).num_rows == 4
    assert len(read) < 20
    assert sum(each.num_rows for each in out) == 76


def test_input_is_read_no_further_than_the_window_needs(loop, monkeypatch):
    monkeypatch.setattr(worker, "RENDER_ROWS", 4)
    read = []
    release = threading.Event()

    class Held(Fake):
        async def send(self, request, auth_headers):
            while not release.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.001)
            return await super().send(request, auth_headers)

    def source():
        for start in range(0, 400, 4):
            read.append(start)
            yield batch(*[f"t{i}" for i in range(start, start + 4)], start=start)

    def watch():
        time.sleep(0.05)
        held.append(len(read))
        release.set()

    held: list[int] = []
    watcher = threading.Thread(target=watch)
    watcher.start()
    rows = answers(source(), plan(in_flight=2), loop, transport=Held())
    watcher.join()
    assert held == [4]  # 16 rows: four pieces, the floor for small windows
    assert len(rows) == 400


def test_memory_of_rows_that_left_is_freed(loop, monkeypatch):
    monkeypatch.setattr(worker, "EMIT_ROWS", 4)
    monkeypatch.setattr(worker, "RENDER_ROWS", 8)
    partitions = []
    made = worker._Partition
    monkeypatch.setattr(worker, "_Partition", lambda *args: partitions.append(made(*args)) or partitions[-1])
    fake = Fake({"t3": [refused(400)], "t5": [refused(401)]}, latency_s=lambda text: 0.001)
    batches = [batch(*[f"t{i}" for i in range(start, start + 20)], start=start) for start in (0, 20, 40)]
    list(run_partition(batches, plan(), loop=loop, transport=fake))
    (partition,) = partitions
    assert (len(partition._pieces), partition._pieces.open_bytes, partition._rows_of) == (0, 0, {})
    assert partition._finished == []
    assert partition.outstanding == 0


def test_a_consumer_that_leaves_ends_the_calls(loop, monkeypatch):
    monkeypatch.setattr(worker, "EMIT_ROWS", 1)
    fake = Fake(latency_s=lambda text: 0.0 if text == "t0" else 30.0)
    out = run_partition([batch(*[f"t{i}" for i in range(50)])], plan(in_flight=4), loop=loop, transport=fake)
    assert next(out).num_rows == 1
    out.close()
    assert fake.in_flight == 0
    assert fake.cancelled >= 3
    sent = fake.calls
    time.sleep(0.01)
    assert fake.calls == sent


def test_a_source_that_fails_ends_the_calls(loop):
    fake = Fake(latency_s=lambda text: 30.0)

    def source():
        yield batch("a", "b")
        time.sleep(0.01)
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        list(run_partition(source(), plan(), loop=loop, transport=fake))
    assert (fake.in_flight, fake.cancelled) == (0, 2)


# --- stopping


def test_a_stop_leaves_out_what_was_not_attempted(loop):
    fake = Fake({"t1": [refused(401)]}, latency_s=lambda text: 0.001 if text == "t1" else 0.02)
    control = Notes()
    rows = answers([batch(*[f"t{i}" for i in range(40)])], plan(in_flight=4), loop, transport=fake, control=control)
    assert [row["text"] for row in rows] == ["t0", "t2", "t3"]
    assert fake.calls == 4
    last = control.reports[-1]
    assert (last.rows_in, last.rows_done, last.rows_not_attempted) == (40, 3, 37)
    assert last.stopped_code == "authentication"
    assert last.is_finished


def test_all_or_nothing_raises_after_a_stop(loop):
    fake = Fake({"t1": [refused(401)]})
    with pytest.raises(JobStopped):
        answers([batch("t0", "t1", "t2")], plan(in_flight=1, on_unfinished="raise"), loop, transport=fake)
    assert answers([batch("t0")], plan(on_unfinished="raise"), loop, transport=Fake())


def test_a_partition_that_starts_after_the_stop_sends_nothing(loop):
    fake = Fake()
    control = Notes(reason="interrupted")
    assert answers([batch(*[f"t{i}" for i in range(40)])], plan(), loop, transport=fake, control=control) == []
    assert fake.calls == 0
    last = control.reports[-1]
    assert (last.stopped, last.stopped_code, last.rows_not_attempted) == ("interrupted", "not_attempted", 40)


def test_a_stop_on_the_way_ends_calling(loop, monkeypatch):
    monkeypatch.setattr(worker, "REPORT_EVERY_S", 0.0)
    control = Notes()

    class Telling(Fake):
        async def send(self, request, auth_headers):
            if self.calls == 5:
                control.reason = "budget"
            return await super().send(request, auth_headers)

    fake = Telling(latency_s=lambda text: 0.005)
    rows = answers([batch(*[f"t{i}" for i in range(200)])], plan(in_flight=2), loop, transport=fake, control=control)
    assert 6 <= fake.calls < 100
    assert len(rows) == fake.calls
    assert control.reports[-1].stopped == "budget"


def test_a_journal_that_cannot_be_written_raises_and_sends_no_more(loop, open_journal):
    journal = open_journal()
    journal.close()  # an append after that is a StateError

    class Closed:
        lookup, read, append = journal.lookup, journal.read, journal.append
        claim, is_held = journal.claim, lambda self: True

    fake = Fake()
    with pytest.raises(StateError):
        answers([batch(*[f"t{i}" for i in range(40)])], plan(in_flight=2), loop, transport=fake, log=Closed())
    assert fake.calls <= 2


# --- reporting


def test_the_last_report_says_how_it_ended(loop):
    fake = Fake({"b": [refused(400)], "c": [refused(429), HttpResponse(200, b"")]})
    control = Notes()
    answers([batch("a", "b", "c", None, "a")], plan(), loop, transport=fake, control=control)
    last = control.reports[-1]
    assert (last.rows_in, last.rows_done, last.rows_failed, last.in_flight) == (5, 5, 2, 0)
    assert (last.tally.sent, last.tally.answered, last.tally.rate_limited) == (4, 2, 1)
    assert (last.tally.input_tokens, last.tally.output_tokens) == (20, 6)
    assert last.tally.errors == {ErrorCode.BAD_REQUEST: 1}
    assert last.is_finished


def test_exchanges_are_in_the_journal_before_rows_leave(loop, open_journal, monkeypatch):
    monkeypatch.setattr(worker, "EMIT_ROWS", 1)
    journal = open_journal()
    for out in run_partition([batch("a", "b", "c")], plan(), loop=loop, transport=Fake(), log=journal):
        ids = out.column("request_id").to_pylist()
        assert ids
        assert all(entry is not None and entry.is_final for entry in journal.lookup(ids))
