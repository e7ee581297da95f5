"""The cache of function calls: what was bought once is not asked again, whoever bought it and however it was killed."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import response_cache
from pipeline.column_worker import run_columns
from pipeline.conditions import AiFunctionError
from pipeline.loop import LoopThread
from pipeline.readings import ResultSpec
from tests.unit.test_column_worker import answers, chat
from tests.unit.test_worker import Fake, refused


@pytest.fixture(scope="module")
def loop():
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def plan(tmp_path):
    return replace(chat(identity={"name": "m"}), cache_path=str(tmp_path))


@pytest.fixture(params=["this process", "another process"])
def reader(request, monkeypatch):
    """Forgets between two calls what this process knows, as a new one would."""
    return (lambda: None) if request.param == "this process" else response_cache._process.clear


def test_a_second_call_asks_only_what_is_new(loop, plan, reader):
    first = Fake()
    assert answers([pa.array(["a", "b"])], plan, loop, first) == ["re: a", "re: b"]
    reader()
    second = Fake()
    assert answers([pa.array(["b", "c", "a", None])], plan, loop, second) == ["re: b", "re: c", "re: a", None]
    assert second.asked == ["c"]
    reader()
    assert answers([pa.array(["c", "b"])], plan, loop, None) == ["re: c", "re: b"]


def test_what_changes_the_answer_is_another_question(loop, plan):
    answers([pa.array(["a"])], plan, loop, Fake())
    other = replace(plan, question=replace(plan.question, identity={"name": "m", "parameters": {"seed": 1}}))
    fake = Fake()
    answers([pa.array(["a"])], other, loop, fake)
    assert fake.asked == ["a"]


def test_failed_rows_are_asked_again_and_the_good_ones_are_not(loop, plan, reader):
    fake = Fake(plans={"b": [refused(400)]}, latency_s=lambda text: 0.05 if text == "b" else 0.0)
    with pytest.raises(AiFunctionError):
        answers([pa.array(["a", "b"])], plan, loop, fake)
    reader()
    again = Fake()
    assert answers([pa.array(["a", "b"])], plan, loop, again) == ["re: a", "re: b"]
    assert again.asked == ["b"]


def test_two_partitions_at_once_do_not_hinder_each_other(loop, plan):
    fake = Fake(latency_s=lambda text: 0.01)
    one = run_columns([pa.array(["a", "b"])], plan, loop=loop, transport=fake)
    other = run_columns([pa.array(["c", "d"])], plan, loop=loop, transport=fake)
    arrays = [next(one), next(other), *one, *other]
    assert sorted(value for array in arrays for value in array.to_pylist()) == ["re: a", "re: b", "re: c", "re: d"]
    assert answers([pa.array(["d", "a"])], plan, loop, None) == ["re: d", "re: a"]


def test_damage_is_asked_again(loop, plan, reader):
    answers([pa.array(["a", "b"])], plan, loop, Fake())
    (segment,) = Path(plan.cache_path).rglob("*.seg")
    data = bytearray(segment.read_bytes())
    place = data.index(b"re: a")
    data[place] ^= 1
    segment.write_bytes(bytes(data))
    response_cache._process.clear()
    fake = Fake()
    assert answers([pa.array(["a", "b"])], plan, loop, fake) == ["re: a", "re: b"]
    assert fake.asked == ["a"]


def test_a_killed_writer_leaves_what_it_wrote(loop, plan):
    generator = run_columns([pa.array(["a"])], plan, loop=loop, transport=Fake())
    assert next(generator).to_pylist() == ["re: a"]
    # the segment is not sealed yet
    response_cache._process.clear()
    assert answers([pa.array(["a"])], plan, loop, None) == ["re: a"]
    generator.close()


def test_only_calls_that_are_equal_in_all_but_the_rows_share(plan):
    one = response_cache.fingerprint(plan.question)
    assert one == response_cache.fingerprint(replace(plan.question, columns=("request", "files")))
    assert one != response_cache.fingerprint(replace(plan.question, system="Be brief."))
    assert replace(plan, result=ResultSpec(pa.string(), fails=False)).question is plan.question
