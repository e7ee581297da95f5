import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.journal.index import MAX_OFFSET, MAX_SEGMENTS, MAX_UNKNOWN, Entry, RequestIndex, pack_value, unpack_value
from tests.cases import cases
from tests.unit.journals import request_id


def value(segment: int = 0, offset: int = 0, state: str = "answered", unknown: int = 0) -> int:
    return pack_value(
        segment, offset, is_final=state != "open", is_answered=state == "answered", unknown_outcomes=unknown
    )


def key(number: int) -> bytes:
    return bytes.fromhex(request_id(number))


entries = st.builds(
    lambda segment, offset, state, unknown: Entry(segment, offset, state != "open", state == "answered", unknown),
    st.integers(0, MAX_SEGMENTS - 1),
    st.integers(0, MAX_OFFSET),
    st.sampled_from(["open", "failed", "answered"]),
    st.integers(0, MAX_UNKNOWN),
)


@given(entries)
def test_an_entry_fits_64_bits(entry):
    packed = pack_value(*entry[:2], is_final=entry[2], is_answered=entry[3], unknown_outcomes=entry[4])
    assert 0 <= packed < 1 << 64
    assert unpack_value(packed) == entry


@cases(("segment", "offset"), [(MAX_SEGMENTS, 0), (0, MAX_OFFSET + 1)])
def test_what_does_not_fit_is_refused(segment, offset):
    with pytest.raises(ValueError, match="1,048,576 segments"):
        value(segment, offset)


@cases(
    ("states", "winner"),
    [
        (["open", "open"], 1),
        (["open", "answered"], 1),
        (["answered", "open"], 0),
        (["failed", "open"], 0),
        (["failed", "answered"], 1),
        (["answered", "failed"], 0),
        (["failed", "failed"], 1),
        (["answered", "answered"], 1),
        (["answered", "open", "answered"], 2),
    ],
)
@cases("merges", [False, True], ids=["recent", "merged"])
def test_the_latest_of_the_most_final_exchanges_counts(states, winner, merges):
    index = RequestIndex()
    for i, state in enumerate(states):
        index.add(key(1), value(i, 10 * i, state))
        if merges:
            assert len(index) == 1
    (entry,) = index.lookup([request_id(1)])
    assert entry is not None
    assert (entry.segment, entry.offset) == (winner, 10 * winner)
    assert entry.is_failed == (states[winner] != "answered")


@cases("merges", [False, True], ids=["recent", "merged"])
def test_unknown_outcomes_add_up_whatever_counts(merges):
    index = RequestIndex()
    for unknown, state in [(1, "open"), (1, "open"), (0, "answered"), (1, "open")]:
        index.add(key(1), value(0, 0, state, unknown))
        if merges:
            assert len(index) == 1
    (entry,) = index.lookup([request_id(1)])
    assert entry is not None
    assert (entry.unknown_outcomes, entry.is_answered) == (3, True)
    for _ in range(100):
        index.add(key(1), value(0, 0, "open", 1))
        if merges:
            assert len(index) == 1
    (entry,) = index.lookup([request_id(1)])
    assert entry is not None
    assert entry.unknown_outcomes == MAX_UNKNOWN


@cases("merges", [False, True], ids=["recent", "merged"])
def test_a_claim_stays_with_its_request(merges):
    index = RequestIndex()
    for number in (1, 2):
        index.add(key(number), value(0, number))
    if merges:
        assert len(index) == 2
    index.claim([request_id(1), request_id(3)])
    index.add(key(1), value(0, 7))
    assert [e.is_claimed if e else None for e in index.lookup([request_id(n) for n in (1, 2, 3)])] == [
        True,
        False,
        None,
    ]
    assert len(index) == 2
    assert [e.is_claimed if e else None for e in index.lookup([request_id(n) for n in (1, 2, 3)])] == [
        True,
        False,
        None,
    ]


@given(entries, entries)
def test_merging_combines_as_one_by_one(old, new):
    values = [pack_value(*e[:2], is_final=e[2], is_answered=e[3], unknown_outcomes=e[4]) for e in (old, new)]
    recent, merged = RequestIndex(), RequestIndex()
    for each in values:
        recent.add(key(1), each)
        merged.add(key(1), each)
        assert len(merged) == 1
    assert recent.lookup([request_id(1)]) == merged.lookup([request_id(1)])


def test_it_agrees_with_a_dictionary_over_many_merges():
    rng = random.Random(4)
    index = RequestIndex()
    expected: dict[int, int] = {}
    for offset in range(20_000):
        numbers = [rng.randrange(6_000) for _ in range(rng.choice((1, 1, 3)))]
        index.add(b"".join(map(key, dict.fromkeys(numbers))), value(1, offset))
        expected.update(dict.fromkeys(numbers, offset))
        if offset % 2_500 == 0:
            asked = rng.sample(range(8_000), 1_000)
            found = index.lookup([request_id(n) for n in asked])
            assert [e.offset if e else None for e in found] == [expected.get(n) for n in asked]
    assert len(index) == len(expected)
    assert index.counts() == (len(expected), len(expected))


def test_ids_that_share_their_first_eight_bytes_are_told_apart():
    index = RequestIndex()
    ids = [f"{7:016x}{n:016x}{0:032x}" for n in range(600)] + [f"{9:016x}{n:016x}{0:032x}" for n in range(600)]
    for n, hexadecimal in enumerate(ids[:1100]):
        index.add(bytes.fromhex(hexadecimal), value(0, n))
    assert len(index) == 1100
    assert [e.offset if e else None for e in index.lookup(ids)] == [*range(1100), *[None] * 100]


def test_nothing_is_found_in_an_empty_index():
    index = RequestIndex()
    assert index.lookup([]) == []
    assert index.lookup([request_id(1)]) == [None]
    assert index.counts() == (0, 0)
    with pytest.raises(ValueError, match="SHA-256"):
        index.lookup(["ab"])


@pytest.mark.parametrize("count", [15_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_a_request_takes_at_most_120_bytes_also_while_merging(count):
    batches = [b"".join(map(key, range(start, start + 1000))) for start in range(0, count, 1000)]
    tracemalloc.start()
    index = RequestIndex()
    for number, batch in enumerate(batches):
        for start in range(0, len(batch), 32):
            index.add(batch[start : start + 32], value(number, start))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == count
    assert held / count <= 40
    assert peak / count <= 120
