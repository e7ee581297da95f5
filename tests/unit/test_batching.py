"""Packing: nothing is lost, nothing changes its place, no call carries more than it may."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching import Packer, PackLimits
from pipeline.endpoints.bodies import to_body
from pipeline.records import Batch, Request
from tests.cases import cases

requests = st.lists(
    st.builds(lambda text, tokens: Request("id", None, text, tokens, False), st.text(max_size=30), st.integers(1, 30)),
    max_size=60,
)
limits = st.builds(
    PackLimits,
    max_rows=st.integers(1, 9),
    max_tokens=st.none() | st.integers(1, 60),
    max_bytes=st.none() | st.integers(1, 120),
)


def asked(count: int, tokens: int = 1, text: str = "abcdefgh") -> list[Request]:
    return [Request(f"r{i}", text=text, input_tokens=tokens) for i in range(count)]


def sizes(packer: Packer, given_requests: list[Request]) -> list[int]:
    return [len(batch) for batch in [*packer.add(given_requests), *packer.flush()]]


@given(requests, limits, st.integers(1, 7))
def test_packing_then_flattening_gives_the_input(given_requests, given_limits, step):
    packer = Packer(given_limits)
    batches: list[Batch] = []
    for start in range(0, len(given_requests), step):
        batches += packer.add(given_requests[start : start + step])
    batches += packer.flush()
    assert [request for batch in batches for request in batch.requests] == given_requests
    assert packer.flush() == []


@given(requests, limits)
def test_no_call_exceeds_a_limit_unless_it_carries_one_row(given_requests, given_limits):
    packer = Packer(given_limits)
    for batch in [*packer.add(given_requests), *packer.flush()]:
        assert 1 <= len(batch) <= given_limits.max_rows
        if len(batch) > 1:
            assert given_limits.max_tokens is None or batch.input_tokens <= given_limits.max_tokens
            texts = sum(len((request.text or "").encode()) for request in batch.requests)
            assert given_limits.max_bytes is None or texts <= given_limits.max_bytes


@given(requests, limits)
def test_a_call_ends_only_where_the_next_row_would_not_fit(given_requests, given_limits):
    packer = Packer(given_limits)
    batches = [*packer.add(given_requests), *packer.flush()]
    for batch, following in pairwise(batches):
        together = Packer(given_limits)
        assert len([*together.add([*batch.requests, following.requests[0]]), *together.flush()]) == 2


@cases(("count", "expected"), [(0, []), (1, [1]), (4, [4]), (5, [4, 1]), (12, [4, 4, 4])])
def test_rows_are_packed_up_to_the_count(count, expected):
    assert sizes(Packer(PackLimits(max_rows=4)), asked(count)) == expected


def test_tokens_are_packed_up_to_the_limit_exactly():
    assert sizes(Packer(PackLimits(max_rows=99, max_tokens=30)), asked(7, tokens=10)) == [3, 3, 1]


def test_a_row_larger_than_a_limit_travels_alone():
    large = Request("large", text="x", input_tokens=500)
    given_requests = [*asked(2), large, *asked(2)]
    assert sizes(Packer(PackLimits(max_rows=99, max_tokens=100)), given_requests) == [2, 1, 2]


def test_a_full_call_leaves_at_once_and_a_started_one_waits_for_flush():
    packer = Packer(PackLimits(max_rows=3))
    assert [len(batch) for batch in packer.add(asked(4))] == [3]
    assert [len(batch) for batch in packer.add(asked(2))] == [3]
    assert packer.flush() == []


def test_chat_is_one_row_per_call_and_nothing_waits():
    packer = Packer(PackLimits())
    assert [len(batch) for batch in packer.add(asked(3))] == [1, 1, 1]
    assert packer.flush() == []


@cases("text", ["plain text, as it runs. " * 40, "ümläute, Straße " * 40, "日本語" * 40, "\ud800x" * 40])
def test_the_body_of_a_full_call_stays_below_the_bytes(text):
    packer = Packer(PackLimits(max_rows=1_000, max_bytes=20_000))
    for batch in packer.add(asked(100, text=text)):
        assert len(to_body({"input": [request.text for request in batch.requests]})) <= 20_000 + len('{"input":[]}')
        assert len(batch) > 10


def test_halves_keep_the_order():
    batch = Batch(tuple(asked(5)))
    left, right = batch.halves()
    assert (*left.requests, *right.requests) == batch.requests
    assert (len(left), len(right)) == (2, 3)
