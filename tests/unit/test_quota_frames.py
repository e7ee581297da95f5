"""Frames and questions: what is signed arrives, and nothing else has any effect."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits import Ask, Cost, Credit, Grant, to_ask, to_grant
from pipeline.limits.leases import MOST_CALLS, MOST_CREDITS
from pipeline.quota import BadFrame, Channel
from pipeline.quota.frames import FRAME_BYTES, KEY_BYTES, NONCE_BYTES, read_frame, with_length
from tests.cases import cases

KEY = bytes(range(KEY_BYTES))
NONCES = bytes(2 * NONCE_BYTES)


def ends(key: bytes = KEY, nonces: bytes = NONCES) -> tuple[Channel, Channel]:
    return Channel(KEY, NONCES, b"w"), Channel(key, nonces, b"d")


def test_what_is_sealed_is_opened_in_order_both_ways() -> None:
    worker, driver = ends()
    for value in ([0, [1, 2]], [1, []]):
        assert driver.open(worker.seal(value)) == value
        assert worker.open(driver.seal(value)) == value


def test_a_frame_is_good_once_in_its_place_direction_and_connection() -> None:
    worker, driver = ends()
    first, second = worker.seal([0, 1]), worker.seal([0, 2])
    with pytest.raises(BadFrame, match="signature"):
        driver.open(second)
    assert driver.open(first) == [0, 1]
    with pytest.raises(BadFrame, match="signature"):
        driver.open(first)
    with pytest.raises(BadFrame, match="signature"):
        worker.open(first)
    _, other = ends(nonces=bytes(NONCE_BYTES) + bytes([1] * NONCE_BYTES))
    with pytest.raises(BadFrame, match="signature"):
        other.open(Channel(KEY, NONCES, b"w").seal([0, 1]))
    _, stranger = ends(key=bytes(KEY_BYTES))
    with pytest.raises(BadFrame, match="signature"):
        stranger.open(first)


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_no_garbage_and_no_flipped_bit_is_opened(garbage: bytes, position: int) -> None:
    worker, driver = ends()
    with pytest.raises(BadFrame):
        driver.open(garbage)
    frame = bytearray(worker.seal([0, [1, 2, 3]]))
    frame[position % len(frame)] ^= 1 << position % 8
    with pytest.raises(BadFrame):
        driver.open(bytes(frame))


def test_a_value_that_does_not_fit_is_not_sent() -> None:
    worker, _ = ends()
    with pytest.raises(BadFrame, match="do not fit"):
        worker.seal(["x" * FRAME_BYTES])


@cases("size", [0, FRAME_BYTES + 1, 2**32 - 1])
def test_a_length_is_judged_before_anything_is_read(size: int) -> None:
    async def main() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(size.to_bytes(4, "big"))  # and nothing else: reading on would wait for ever
        with pytest.raises(BadFrame, match=f"{size} bytes"):
            await read_frame(reader)

    asyncio.run(main())


COSTS = st.builds(Cost, *[st.integers(0, 10**9)] * 5)
CREDITS = st.builds(Credit, st.floats(0, 60).map(lambda age_s: round(age_s, 2)), COSTS, COSTS)
COUNTS = st.integers(0, 10**6)
RATIOS = st.integers(0, 40_000).map(lambda ratio: ratio / 10_000)


@given(
    st.builds(
        Ask,
        *[COUNTS] * 4,
        st.lists(COSTS, max_size=MOST_CALLS).map(tuple),
        st.lists(CREDITS, max_size=MOST_CREDITS).map(tuple),
        RATIOS,
        RATIOS,
    )
)
def test_a_question_arrives_as_it_was_asked(ask: Ask) -> None:
    assert to_ask(ask.to_wire()) == ask


def test_the_largest_question_fits_into_a_frame() -> None:
    cost = Cost(1, 200_000, 100_000, 3_000_000, 200_000)
    ask = Ask(
        9_999, 9_999, 9_999, 99_999, (cost,) * MOST_CALLS, (Credit(59.25, cost, cost),) * MOST_CREDITS, 1.2345, 0.1
    )
    assert len(with_length(Channel(KEY, NONCES, b"w").seal([0, ask.to_wire()]))) <= FRAME_BYTES


@given(st.builds(Grant, st.lists(RATIOS).map(tuple), COUNTS, RATIOS, st.integers(1, 99), COUNTS, COUNTS))
def test_a_grant_arrives_as_it_was_given(grant: Grant) -> None:
    assert to_grant(grant.to_wire()) == grant


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(JSON)
def test_a_signed_frame_that_says_nothing_sensible_is_refused(value: Any) -> None:
    for reads in (to_ask, to_grant):
        try:
            read = reads(value)
        except ValueError:
            continue
        assert reads(read.to_wire()) == read
