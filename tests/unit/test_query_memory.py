"""The tasks of one query: every request asked by one of them, failures told to all, nothing left behind by the dead."""

import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest

from pipeline import query_memory, vector_ring
from pipeline.column_worker import run_columns
from pipeline.conditions import AiFunctionError
from pipeline.errors import ErrorCode
from pipeline.loop import LoopThread
from pipeline.query_failure import failure_of, folder_of, pack, remember_failure, unless_failed
from pipeline.query_memory import QueryMemory
from pipeline.readings import ResultSpec
from pipeline.records import Outcome, RowError, Task
from tests.unit.test_column_worker import chat
from tests.unit.test_worker import Fake, refused


@pytest.fixture(scope="module")
def loop():
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "queries" / "q1"


def request_id(text):
    return sha256(text.encode()).hexdigest()


A, B = request_id("a"), request_id("b")


def test_one_asks_the_others_wait_and_then_have_the_answer(folder):
    one, other = QueryMemory(folder, Task.CHAT), QueryMemory(folder, Task.CHAT)
    assert one.claim([A, B]) == ["ask", "ask"]
    assert one.claim([A]) == ["ask"]
    assert other.claim([A]) == ["wait"]
    one.settle([Outcome(A, "an answer", finish_reason="stop", model="m", attempts=2)])
    assert other.claim([A, B]) == [Outcome(A, "an answer", finish_reason="stop", model="m", attempts=2), "wait"]
    one.close()
    assert other.claim([B]) == ["ask"]
    other.close()


def test_what_failed_is_asked_again(folder):
    one, other = QueryMemory(folder, Task.CHAT), QueryMemory(folder, Task.CHAT)
    one.claim([A])
    one.settle([Outcome(A, error=RowError(ErrorCode.SERVER_ERROR, "no"))])
    assert other.claim([A]) == ["ask"]
    assert one.claim([A]) == ["wait"]
    one.close()
    assert one.claim([A]) == ["ask"]  # closed: for itself
    other.close()


def test_vectors_come_back_as_they_were(folder):
    memory = QueryMemory(folder, Task.EMBEDDING)
    memory.claim([A])
    memory.settle([Outcome(A, np.array([0.5, -1.0], np.float32))])
    (found,) = memory.claim([A])
    assert isinstance(found, Outcome)
    assert found.response.dtype == np.float32
    assert found.response.tolist() == [0.5, -1.0]
    memory.close()


def test_the_claims_of_a_killed_worker_are_free(folder):
    # a process that imports nothing but the memory: the test modules would be most of its time
    claim_and_die = (
        "import os, pathlib, sys\n"
        "from pipeline.query_memory import QueryMemory\n"
        "from pipeline.records import Task\n"
        "assert QueryMemory(pathlib.Path(sys.argv[1]), Task.CHAT).claim([sys.argv[2]]) == ['ask']\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", claim_and_die, str(folder), A], check=False, timeout=60)
    assert done.returncode == 9
    memory = QueryMemory(folder, Task.CHAT)
    assert memory.claim([A]) == ["ask"]
    memory.close()


def test_the_oldest_answers_go_first(folder, monkeypatch):
    monkeypatch.setattr(query_memory, "MOST_BYTES", 10)
    memory = QueryMemory(folder, Task.CHAT)
    memory.claim([A, B])
    memory.settle([Outcome(A, "12345678")])
    memory.settle([Outcome(B, "12345678")])
    first, second = memory.claim([A, B])
    assert first == "ask"
    assert second == Outcome(B, "12345678")
    memory.close()


def test_a_folder_that_cannot_be_used_means_asking_alone(tmp_path, folder):
    (tmp_path / "queries").write_text("a file")
    memory = QueryMemory(folder, Task.CHAT)
    assert memory.claim([A]) == ["ask"]
    memory.settle([Outcome(A, "x")])
    assert memory.claim([A]) == ["ask"]
    memory.close()


def test_a_damaged_database_means_asking_alone(folder):
    folder.mkdir(parents=True)
    (folder / "answers.db").write_bytes(b"no database at all, but long enough to look like one" * 50)
    memory = QueryMemory(folder, Task.CHAT)
    assert memory.claim([A]) == ["ask"]
    memory.close()


def test_a_database_that_breaks_on_the_way_means_asking_alone(folder):
    memory = QueryMemory(folder, Task.CHAT)
    memory.claim([A])
    other = sqlite3.connect(folder / "answers.db")
    other.execute("DROP TABLE answers")
    other.commit()
    assert memory.claim([A]) == ["ask"]
    memory.settle([Outcome(A, "x")])
    memory.close()


def test_folders_of_ended_queries_go(folder, monkeypatch):
    QueryMemory(folder, Task.CHAT).close()
    monkeypatch.setattr(query_memory, "IDLE_S", -1.0)
    QueryMemory(folder.with_name("q2"), Task.CHAT).close()
    assert not folder.exists()


def test_two_tasks_at_once_buy_each_question_once(loop, folder):
    fake = Fake(latency_s=lambda text: 0.02)
    texts = [f"t{i % 30}" for i in range(120)]
    found = {}

    def task(number):
        rows = texts if number == 0 else texts[::-1]
        plan = chat(in_flight=4)
        found[number] = [
            value
            for array in run_columns([pa.array(rows)], plan, folder=folder, loop=loop, transport=fake)
            for value in array.to_pylist()
        ]

    threads = [threading.Thread(target=task, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == [f"re: {text}" for text in texts]
    assert found[1] == found[0][::-1]
    assert sorted(fake.asked) == sorted(set(texts))


def test_usage_of_a_shared_answer_is_in_one_row(loop, folder):
    plan = chat(ResultSpec(pa.string(), has_details=True))
    rows = []
    for _ in range(2):
        for array in run_columns([pa.array(["t"])], plan, folder=folder, loop=loop, transport=Fake()):
            rows += array.to_pylist()
    assert [row["usage"]["total_tokens"] for row in rows] == [13, None]
    assert {row["result"] for row in rows} == {"re: t"}


FAILURE = AiFunctionError("AI_FUNCTION_HTTP_REQUEST_ERROR", "bad_request, HTTP 400: no\nnot this.")


def test_the_first_failure_is_what_all_tasks_tell(folder):
    assert failure_of(folder) is None
    remember_failure(folder, FAILURE)
    remember_failure(folder, AiFunctionError("DATATYPE_MISMATCH", "later."))
    assert str(failure_of(folder)) == str(FAILURE)


def test_a_failure_elsewhere_ends_what_is_in_flight(loop, folder):
    def fails_elsewhere_once_both_are_in_flight(text):
        if fake.in_flight == 2:
            remember_failure(folder, FAILURE)
        return 5.0

    fake = Fake(latency_s=fails_elsewhere_once_both_are_in_flight)
    started = time.monotonic()
    with pytest.raises(AiFunctionError, match="bad_request, HTTP 400"):
        list(run_columns([pa.array(["a", "b"])], chat(), folder=folder, loop=loop, transport=fake))
    assert time.monotonic() - started < 2
    assert fake.in_flight == 0
    assert fake.cancelled == 2


def _never(batches, folder):
    raise AssertionError("a query that has failed is not tried again")


def _bad(batches, folder):
    yield from batches
    raise FAILURE


def test_a_retried_attempt_ends_before_it_loads_anything(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(AiFunctionError):
        list(unless_failed("q", pack(_bad), [1]))
    assert str(failure_of(folder_of("q"))) == str(FAILURE)
    with pytest.raises(AiFunctionError, match="HTTP 400"):
        list(unless_failed("q", pack(_never), [1]))
    with pytest.raises(AssertionError):
        list(unless_failed("other", pack(_never), [1]))
    assert failure_of(folder_of("other")) is None


def test_a_plan_travels_packed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    packed = pack(partial(run_columns, plan=chat()))
    assert [array.to_pylist() for array in unless_failed("q", packed, [pa.nulls(2)])] == [[None, None]]
    assert not folder_of("q").exists()  # nothing was asked


def test_a_refused_row_fails_both_tasks(loop, folder):
    fake = Fake(plans={"bad one": [refused(400)]})
    with pytest.raises(AiFunctionError, match="HTTP 400"):
        list(run_columns([pa.array(["bad one"])], chat(), folder=folder, loop=loop, transport=fake))
    assert fake.calls == 1


def test_a_vector_that_was_written_over_is_asked_again_and_never_served(folder, monkeypatch):
    monkeypatch.setattr(vector_ring, "RING_BYTES", 8 * 4)
    one, other = QueryMemory(folder, Task.EMBEDDING), QueryMemory(folder, Task.EMBEDDING)
    ids = [request_id(text) for text in "abcd"]
    vectors = [np.array([n, n, n], np.float32) for n in range(4)]
    assert one.claim(ids) == ["ask"] * 4
    one.settle([Outcome(i, v) for i, v in zip(ids, vectors, strict=True)])  # two fit: the ring went round once
    claims = other.claim(ids)
    assert claims[:2] == ["ask", "ask"]
    for claim, vector in zip(claims[2:], vectors[2:], strict=True):
        assert isinstance(claim, Outcome)
        assert claim.response.tolist() == vector.tolist()
    one.close()
    late = QueryMemory(folder, Task.EMBEDDING)
    assert isinstance(late.claim(ids[3:])[0], Outcome), "the file outlives its task"
    late.close()
    other.close()
