import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ErrorCode
from pipeline.long_texts import Gathering, LongTexts, chunks, cut
from pipeline.records import Outcome, Request, RowError, Usage
from pipeline.tokens import estimate_tokens
from pipeline.vectors import EmbeddingContract
from tests.cases import cases

texts = st.text(st.sampled_from("abc .!?\n。é🜚"), max_size=120)


@given(texts, st.integers(1, 12), st.integers(0, 6))
def test_chunks_hold_everything_in_order_within_the_limit(text, most, overlap):
    parts = chunks(text, most, overlap)
    assert all(part == part.strip() != "" for part in parts)
    assert all(estimate_tokens(part) <= most or len(part) == 1 for part in parts)
    position = 0
    for part in parts:  # each begins within or right behind the one before, white space aside
        found = text.find(part, max(0, position - len(text)) if overlap else position)
        assert found >= 0
        position = found + len(part)
    assert "".join("".join(parts).split()).endswith("".join(text.split())[-1:])
    if not overlap:
        assert "".join("".join(parts).split()) == "".join(text.split())


def test_chunks_end_with_sentences_and_repeat_the_last_ones():
    text = "One is here. Two is here. Three is here. Four is here."
    assert chunks(text, 7) == ["One is here. Two is here.", "Three is here. Four is here."]
    assert chunks(text, 8, 4) == [
        "One is here. Two is here.",
        "Two is here. Three is here.",
        "Three is here. Four is here.",
    ]


@cases(
    ("text", "most", "expected"),
    [
        ("", 5, []),
        (" \n ", 5, []),
        ("short", 5, ["short"]),
        ("a" * 50, 5, ["a" * 20, "a" * 20, "a" * 10]),
        ("one long sentence without an end of its own", 5, ["one long sentence", "without an end of", "its own"]),
        ("第一句。第二句。", 3, ["第一句。", "第二句。"]),
    ],
)
def test_chunks_of(text, most, expected):
    assert chunks(text, most) == expected


@given(texts, st.integers(1, 12))
def test_a_cut_text_is_the_beginning_within_the_limit(text, most):
    kept = cut(text, most)
    assert text.startswith(kept)
    assert estimate_tokens(kept) <= most or len(kept) == 1
    if estimate_tokens(text) <= most:
        assert kept == text


def test_only_a_limit_makes_a_text_long():
    assert not LongTexts("chunk").is_long("a" * 10_000)
    assert LongTexts("chunk", max_tokens=10).is_long("a" * 43)
    assert not LongTexts("chunk", max_tokens=10).is_long("a" * 40)


def gathered(*outcomes, weights=(1, 3)):
    parts = [Request(f"p{at}", text="word" * weight) for at, weight in enumerate(weights)]
    gathering = Gathering(Request("whole", text="x"), parts)
    done = [gathering.take(at, outcome) for at, outcome in reversed(list(enumerate(outcomes)))]
    assert done == [False] * (len(outcomes) - 1) + [True]
    return gathering


def vector(*numbers):
    return np.array(numbers, np.float32)


def test_parts_are_pooled_by_their_lengths_and_scaled_to_length_1():
    outcome = gathered(
        Outcome("p0", vector(1, 0), usage=Usage(input_tokens=1), attempts=2, latency_ms=3.0, completed_at_s=5.0),
        Outcome("p1", vector(0, 1), usage=Usage(input_tokens=3), attempts=1, latency_ms=9.0, completed_at_s=4.0),
    ).pooled(EmbeddingContract())
    np.testing.assert_allclose(outcome.response, np.array([1, 3]) / np.sqrt(10), rtol=1e-6)
    assert (outcome.request_id, outcome.usage.input_tokens, outcome.attempts) == ("whole", 4, 2)
    assert (outcome.latency_ms, outcome.completed_at_s, outcome.is_normalized) == (9.0, 5.0, True)
    assert outcome.norm == pytest.approx(1.0)


def test_an_error_of_a_part_is_that_of_the_row_and_keeps_the_usage():
    error = RowError(ErrorCode.ZERO_VECTOR, "every number of the vector is zero")
    outcome = gathered(Outcome("p0", vector(1, 0)), Outcome("p1", error=error, usage=Usage(input_tokens=7))).pooled(
        EmbeddingContract()
    )
    assert (outcome.response, outcome.error, outcome.usage.input_tokens) == (None, error, 7)


def test_parts_that_cancel_out_are_a_zero_vector():
    outcome = gathered(Outcome("p0", vector(1, 0)), Outcome("p1", vector(-1, 0)), weights=(1, 1)).pooled(
        EmbeddingContract()
    )
    assert outcome.error.code is ErrorCode.ZERO_VECTOR
