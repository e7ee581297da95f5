"""One partition of embeddings without Spark and without a socket: long texts, bad vectors, calls that are too large."""

import json
import random
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.errors import ConnectionBroken
from pipeline.long_texts import LongTexts
from pipeline.prompts import PromptSpec
from pipeline.records import HttpResponse, Task
from pipeline.vectors import EmbeddingContract
from pipeline.worker import run_partition
from tests.unit.journals import local_store, open_bucket
from tests.unit.test_worker import Fake, Notes, answers, batch, codes, embedding_answer, loop, plan, refused

__all__ = ["loop"]  # the fixture


def long_plan(policy, *, is_pooled=False, **changes):
    prompt = PromptSpec(
        Task.EMBEDDING,
        template="{{ text }}",
        instruction=changes.pop("instruction", ""),
        long_texts=LongTexts(policy, 5, 0, is_pooled),
    )
    return plan(Task.EMBEDDING, prompt=prompt, **{"max_rows": 4, **changes})


def test_a_text_beyond_the_limit_is_an_error_that_names_the_way_out(loop):
    fake = Fake()
    rows = answers([batch("short", "x" * 30)], long_plan("error"), loop, transport=fake)
    assert codes(rows) == [None, "input_too_large"]
    assert rows[1]["error"]["message"].startswith("about 8 tokens; [embedding] max_text_tokens is 5")
    assert fake.asked == ["short"]


def test_a_truncated_text_is_marked(loop):
    fake = Fake()
    rows = answers([batch("short", "x" * 30)], long_plan("truncate"), loop, transport=fake)
    assert sorted(fake.asked) == ["short", "x" * 20]
    assert [row["is_truncated"] for row in rows] == [False, True]
    assert [row["response"][0] for row in rows] == [5.0, 20.0]


TEXT = "Twenty characters it. Another twenty cha. End."
PARTS = ["Twenty characters it", ".", "Another twenty cha.", "End."]


def test_every_part_of_a_long_text_is_a_row_with_its_place(loop):
    fake = Fake()
    out = [
        row
        for part in run_partition([batch("short", TEXT)], long_plan("chunk"), loop=loop, transport=fake)
        for row in part.to_pylist()
    ]
    rows = sorted(out, key=lambda row: (row["id"], row["chunk_index"]))
    assert (rows[0]["id"], rows[0]["chunk_text"]) == (0, None)
    parts = [row["chunk_text"] for row in rows[1:]]
    assert "".join("".join(parts).split()) == "".join(TEXT.split())
    assert [row["chunk_index"] for row in rows[1:]] == list(range(len(parts)))
    assert {row["chunk_count"] for row in rows[1:]} == {len(parts)}
    assert [row["response"][0] for row in rows[1:]] == [len(part) for part in parts]
    assert all(row["text"] == TEXT for row in rows[1:])


def test_pooled_parts_are_one_row_with_the_usage_of_all(loop):
    fake = Fake()
    control = Notes()
    (row,) = answers([batch("ab. cd. " * 6)], long_plan("chunk", is_pooled=True), loop, transport=fake, control=control)
    assert row["chunk_count"] > 1
    assert np.linalg.norm(row["response"]) == pytest.approx(1.0)
    assert row["usage"]["input_tokens"] == 10 * len(set(fake.asked))
    assert control.reports[-1].rows_done == 1


def test_a_row_of_which_a_part_was_not_attempted_does_not_land(loop):
    fake = Fake(plans={"End of it.": [refused(401)]})
    text = "First of two parts. End of it."
    rows = answers([batch(text)], long_plan("chunk", max_rows=1, in_flight=1), loop, transport=fake)
    assert rows == []


def test_an_instruction_is_put_before_each_text_and_each_part(loop):
    fake = Fake()
    the_plan = long_plan("chunk", is_pooled=True, instruction="doc: ")
    answers([batch("short", "One is here. Two is here.")], the_plan, loop, transport=fake)
    assert sorted(fake.asked) == ["doc: One is here.", "doc: Two is here.", "doc: short"]


def test_too_many_bad_vectors_stop_the_partition(loop, monkeypatch):
    class Zeros(Fake):
        async def send(self, request, auth_headers):
            await super().send(request, auth_headers)
            texts = json.loads(request.body)["input"]
            data = [{"index": at, "embedding": [0.0, 0.0]} for at in range(len(texts))]
            return HttpResponse(200, json.dumps({"data": data, "model": "m"}).encode())

    monkeypatch.setattr("pipeline.worker.REPORT_EVERY_S", 0.0)
    monkeypatch.setattr("pipeline.worker.CONTRACT_ROWS", 20)
    monkeypatch.setattr("pipeline.worker.RENDER_ROWS", 10)
    the_plan = plan(Task.EMBEDDING, max_rows=5, in_flight=1, max_error_ratio=0.1)
    control = Notes()
    fake = Zeros()
    rows = answers([batch(*[f"t{i}" for i in range(2_000)])], the_plan, loop, transport=fake, control=control)
    assert 20 <= len(rows) < 2_000
    assert set(codes(rows)) == {"zero_vector"}
    assert "[embedding] max_error_ratio is 0.1" in control.reports[-1].stopped
    assert control.reports[-1].rows_not_attempted == 2_000 - len(rows)


def test_the_sum_of_the_vectors_is_reported(loop):
    control = Notes()
    answers([batch("a", "bb", "bb", "")], plan(Task.EMBEDDING), loop, transport=Fake(), control=control)
    assert (control.reports[-1].vectors_summed, control.reports[-1].vector_sum) == (3, [5.0, 3.0])


def test_an_endpoint_that_takes_fewer_texts_per_call_is_learned(loop):
    sizes = []

    class Small(Fake):
        async def send(self, request, auth_headers):
            texts = json.loads(request.body)["input"]
            sizes.append(len(texts))
            return refused(422) if len(texts) > 8 else embedding_answer(texts)

    texts = [f"t{i}" for i in range(640)]
    rows = answers([batch(*texts)], plan(Task.EMBEDDING, max_rows=64, in_flight=2), loop, transport=Small())
    assert codes(rows) == [None] * 640
    refusals = [size for size in sizes if size > 8]
    assert len(refusals) < 2 * 8  # three halvings for each of two slots, and what was in flight; 70 without learning
    assert sizes[-20:] == [8] * 20


def test_the_contract_travels_with_the_plan(loop):
    the_plan = plan(Task.EMBEDDING)
    the_plan = replace(the_plan, endpoint=replace(the_plan.endpoint, contract=EmbeddingContract(truncate_to=1)))
    (row,) = answers([batch("abc")], the_plan, loop, transport=Fake())
    assert row["response"] == [1.0]
    assert row["is_normalized"] is True


def vector_of(text):
    """Float32 with every bit set at random, but for those that make a number infinite or none."""
    bits = np.random.default_rng(list(text.encode())).integers(0, 2**32, 8, np.uint64).astype(np.uint32)
    return (bits & np.uint32(0xBFFFFFFF)).view(np.float32)


class Scrambled(Fake):
    """Answers in any order and in both forms, with as many bits as a float has."""

    async def send(self, request, auth_headers):
        answer = await super().send(request, auth_headers)
        if answer.status != 200:
            return answer
        texts = json.loads(request.body)["input"]
        chooser = random.Random(texts[0])
        data = []
        for place, text in enumerate(texts):
            vector = vector_of(text)
            is_base64 = chooser.random() < 0.5
            raw = b64encode(vector.tobytes()).decode() if is_base64 else vector.astype(float).tolist()
            data.append({"index": place, "embedding": raw})
        chooser.shuffle(data)
        return HttpResponse(200, json.dumps({"data": data, "model": "m"}).encode())


@examples(max_examples=8, deadline=None)
@given(data=st.data())
def test_vectors_are_those_of_their_texts_bit_for_bit_under_splits_retries_and_replays(loop, tmp_path_factory, data):
    texts = [f"{data.draw(st.integers(0, 40))}" for _ in range(data.draw(st.integers(1, 60)))]
    menu = st.sampled_from([refused(429), refused(500), refused(422), refused(413), ConnectionBroken("cut")])
    fake = Scrambled(
        plans={text: [data.draw(menu), HttpResponse(200, b"")] for text in data.draw(st.sets(st.sampled_from(texts)))},
        latency_s=lambda text: 0.0005 * (hash(text) % 3),
    )
    the_plan = plan(Task.EMBEDDING, max_rows=data.draw(st.integers(1, 20)), in_flight=data.draw(st.integers(1, 4)))
    contract = EmbeddingContract(non_zero=False)
    the_plan = replace(the_plan, endpoint=replace(the_plan.endpoint, contract=contract))
    store = local_store(tmp_path_factory.mktemp("state"))
    for attempt in ("a1", "a2"):  # the second run replays what the first one was answered
        journal = open_bucket(store, attempt)
        rows = answers([batch(*texts)], the_plan, loop, transport=fake, log=journal)
        journal.close()
        assert [row["id"] for row in rows] == list(range(len(texts)))
        for row in rows:
            if row["error"] is None:
                assert np.array(row["response"], np.float32).tobytes() == vector_of(row["text"]).tobytes()
            else:
                assert row["error"]["code"] in {"bad_request", "payload_too_large", "unknown_outcome"}
