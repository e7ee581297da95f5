import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ErrorCode, JournalCorrupt, StateError
from pipeline.journal.frames import (
    HEAD,
    MARKER,
    Damage,
    Frame,
    Kind,
    decode,
    encode,
    frame,
    frame_at,
    pack,
    scan,
    seed_of,
    summarize,
)
from pipeline.journal.segments import read_segment, seed_of_segment
from pipeline.records import Exchange, HttpResponse, Usage
from tests.cases import cases
from tests.unit.journals import exchange, request_id

SEED = seed_of("000001-a1-000000.seg")
NAME = "journal/ffff/000007/000001-a1-000000.seg"


def payloads(buffer: bytes, seed: int = SEED) -> list[bytes]:
    return [found.payload for found in scan(buffer, seed) if isinstance(found, Frame)]


def damages(buffer: bytes, seed: int = SEED) -> list[Damage]:
    return [found for found in scan(buffer, seed) if isinstance(found, Damage)]


def random_frames(count: int, largest: int, number: int = 1) -> list[bytes]:
    rng = random.Random(number)
    return [frame(rng.randbytes(rng.randint(0, largest)), SEED) for _ in range(count)]


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


texts = st.text(max_size=20)
counts = st.none() | st.integers(0, 2**53)
exchanges = st.builds(
    Exchange,
    request_ids=st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=4).map(tuple),
    attempt=st.integers(1, 9),
    sent_at_s=st.floats(0, 4e9),
    latency_ms=st.floats(0, 1e7),
    response=st.none()
    | st.builds(
        HttpResponse,
        status=st.integers(100, 599),
        body=st.binary(max_size=200),
        headers=st.dictionaries(st.sampled_from(["content-type", "retry-after", "x-ratelimit-reset"]), texts),
    ),
    transport_error=st.none() | st.sampled_from(ErrorCode),
    message=texts,
    run_id=texts,
    usage=st.builds(Usage, *[counts] * 5),
    is_final=st.booleans(),
)


@given(exchanges, st.integers(0, 2**32 - 1))
def test_decoding_gives_what_was_encoded(value, seed):
    (found,) = scan(encode(value, seed), seed)
    assert isinstance(found, Frame)
    assert decode(found.payload) == value


@given(exchanges)
def test_a_summary_says_the_same_as_the_exchange(value):
    summary = summarize(encode(value)[HEAD.size :])
    assert summary.request_ids.hex() == "".join(value.request_ids)
    assert summary.is_unknown_outcome == value.is_unknown_outcome
    assert summary.usage == value.usage
    assert summary.body_bytes == (len(value.response.body) if value.response else 0)
    assert summary.is_answered == (value.is_final and value.response is not None and value.response.status == 200)


def test_an_id_takes_32_bytes():
    one, three = exchange(1), exchange(1, 2, 3)
    assert len(encode(three)) - len(encode(one)) == 64


def test_only_known_headers_are_kept():
    headers = {
        "content-type": "application/json",
        "set-cookie": "session=secret",
        "authorization": "Bearer x",
        "retry-after": "3",
        "x-ratelimit-remaining-tokens": "5",
        "x-request-id": "r",
        "x-powered-by": "y",
    }
    value = Exchange((request_id(1),), 1, 0.0, 0.0, HttpResponse(429, b"", headers))
    (found,) = payloads(encode(value, SEED))
    answer = decode(found).response
    assert answer is not None
    assert set(answer.headers) == {"content-type", "retry-after", "x-ratelimit-remaining-tokens", "x-request-id"}


def test_lone_surrogates_in_texts_do_not_stop_the_journal():
    value = Exchange((request_id(1),), 1, 0.0, 0.0, HttpResponse(200, b"", {"date": "\ud800"}), message="a\ud800b")
    (found,) = payloads(encode(value, SEED))
    assert decode(found).message == "a?b"


@cases("bad", ["", "abc", "g" * 64, "ab " * 21 + "a", "a" * 62, "a" * 66])
def test_what_is_no_sha256_is_no_request_id(bad):
    with pytest.raises(ValueError):
        encode(Exchange((bad,), 1, 0.0, 0.0))


def test_a_cut_at_every_byte_gives_the_exact_prefix():
    frames = random_frames(30, 60)
    whole = b"".join(frames)
    ends = [sum(map(len, frames[: i + 1])) for i in range(len(frames))]
    originals = payloads(whole)
    for cut in range(len(whole) + 1):
        complete = sum(end <= cut for end in ends)
        assert payloads(whole[:cut]) == originals[:complete]
        torn = cut - (ends[complete - 1] if complete else 0)
        expected = [Damage(cut - torn, torn, "torn")] if torn else []
        assert damages(whole[:cut]) == expected


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_every_single_bit_flip_in_random_frames_is_found(count):
    frames = random_frames(count, 64)
    for data, following in zip(frames, [*frames[1:], frames[0]], strict=True):
        intact = Frame(len(data), following[HEAD.size :])
        corrupt = Damage(0, len(data), "corrupt")
        for bit in range(8 * len(data)):
            assert list(scan(flipped(data, bit) + following, SEED)) == [corrupt, intact], (data.hex(), bit)


def test_a_flip_in_the_last_frame_is_reported_as_torn():
    first, last = random_frames(2, 64)
    for bit in range(8 * len(last)):
        assert list(scan(first + flipped(last, bit), SEED)) == [
            Frame(0, first[HEAD.size :]),
            Damage(len(first), len(last), "torn"),
        ]


@pytest.mark.long
def test_every_single_bit_flip_in_segments_of_1000_exchanges_is_found():
    rng = random.Random(2)
    seed = seed_of_segment(NAME)
    opening = {"version": 1, "fingerprint": "ffff", "bucket": 7}
    for number in range(0, 1000, 4):
        frames = [encode(exchange(number + i, body=rng.randbytes(rng.randint(0, 80))), seed) for i in range(4)]
        parts = [frame(pack(Kind.OPENING, opening), seed), *frames, frame(pack(Kind.SEAL, {"exchanges": 4}), seed)]
        data = b"".join(parts)
        intact = read_segment(NAME, data)
        assert not intact.damage
        assert intact.is_sealed
        for bit in range(8 * len(data)):
            segment = read_segment(NAME, flipped(data, bit))
            (damage,) = segment.damage
            assert damage.offset <= bit // 8 < damage.offset + damage.length
            assert [f for f in intact.exchanges if f.offset != damage.offset] == segment.exchanges


def test_two_damaged_places_are_both_reported():
    frames = random_frames(6, 40)
    frames[1] = flipped(frames[1], 40)  # in the length
    frames[4] = flipped(frames[4], 8 * len(frames[4]) - 1)
    found = damages(b"".join(frames))
    assert [(d.length, d.kind) for d in found] == [(len(frames[1]), "corrupt"), (len(frames[4]), "corrupt")]


def test_a_flip_before_a_torn_tail_is_told_from_it():
    first, middle, last = random_frames(3, 40)
    for bit in range(8 * len(middle)):
        found = damages(first + flipped(middle, bit) + last[:17])
        assert [d.kind for d in found] == ["corrupt", "torn"]


def test_a_tail_of_zeros_is_torn():
    whole = b"".join(random_frames(3, 40))
    assert damages(whole + bytes(5000)) == [Damage(len(whole), 5000, "torn")]


def test_a_last_frame_whose_end_became_zeros_is_torn():
    first, last = frame(b"first", SEED), frame(b"last" * 10, SEED)
    for cut in range(1, len(last)):  # what a power cut leaves of a file that had its size already
        assert damages(first + last[:cut] + bytes(100)) == [Damage(len(first), cut + 100, "torn")]


def test_a_frame_of_another_segment_is_not_served():
    assert payloads(frame(b"x" * 50, seed_of("other.seg"))) == []


def test_a_body_that_holds_frames_is_not_mistaken_for_them():
    # an endpoint does not know the segment's name, so it cannot make a head that checks
    forged = frame(b"\x02forged", 0) + MARKER * 5 + encode(exchange(5), 0)
    real = encode(exchange(1, body=forged), SEED)
    following = encode(exchange(2), SEED)
    for bit in range(8 * HEAD.size):
        assert list(scan(flipped(real, bit) + following, SEED)) == [
            Damage(0, len(real), "corrupt"),
            Frame(len(real), following[HEAD.size :]),
        ]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_can_be_scanned(left, right):
    noise = left + MARKER + right
    covered = sum(found.length if isinstance(found, Damage) else HEAD.size + len(found[1]) for found in scan(noise))
    assert covered == len(noise)


def test_a_frame_is_read_at_its_offset_once_all_of_it_is_there():
    first, second = random_frames(2, 40)
    buffer = first + second
    assert frame_at(buffer, len(first), SEED) == (len(second), second[HEAD.size :])
    assert frame_at(buffer[: len(first) + HEAD.size], len(first), SEED) == (len(second), None if second[16:] else b"")
    with pytest.raises(JournalCorrupt, match="head"):
        frame_at(buffer, 1, SEED)
    with pytest.raises(JournalCorrupt, match="checksum"):
        frame_at(flipped(buffer, 8 * len(buffer) - 1), len(first), SEED)


@cases(
    "payload",
    [
        b"\x02",
        pack(Kind.EXCHANGE, {}),
        pack(Kind.EXCHANGE, {"attempt": 1, "usage": {"new": 1}, "sent_at_s": 0.0}),
        b"\x02" + bytes(8),
    ],
)
def test_a_payload_of_an_unknown_shape_is_corrupt(payload):
    with pytest.raises(JournalCorrupt, match="frame checks but"):
        summarize(payload)


def segment_of(opening: dict[str, object], *frames: bytes) -> bytes:
    return frame(pack(Kind.OPENING, opening), seed_of_segment(NAME)) + b"".join(frames)


@cases(
    ("opening", "message"),
    [
        ({"version": 2, "fingerprint": "ffff", "bucket": 7}, "another version"),
        ({"version": 1, "fingerprint": "ffff", "bucket": 8}, "belongs to journal/ffff/000008"),
        ({"version": 1, "fingerprint": "eeee", "bucket": 7}, "belongs to journal/eeee/000007"),
    ],
)
def test_a_segment_of_another_place_or_version_is_refused(opening, message):
    with pytest.raises(StateError, match=message):
        read_segment(NAME, segment_of(opening))


def test_in_a_sealed_segment_nothing_is_torn():
    seed = seed_of_segment(NAME)
    opening = {"version": 1, "fingerprint": "ffff", "bucket": 7}
    seal = frame(pack(Kind.SEAL, {"exchanges": 1}), seed)
    whole = segment_of(opening, encode(exchange(1), seed), seal)
    assert read_segment(NAME, whole).damage == []
    assert [d.kind for d in read_segment(NAME, whole + b"more").damage] == ["corrupt"]
    missing = read_segment(NAME, segment_of(opening, seal))
    assert [(d.kind, d.length) for d in missing.damage] == [("corrupt", len(segment_of(opening, seal)))]
