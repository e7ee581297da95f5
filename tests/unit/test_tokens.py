"""Token estimates: near enough to pack by, never zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokens import estimate_tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 1), ("a", 1), ("abcd", 1), ("a" * 400, 100), ("ü" * 400, 200), ("日" * 400, 300), ("\ud800" * 4, 3)],
    ids=ascii,
)
def test_four_bytes_are_a_token(text, expected):
    assert estimate_tokens(text) == expected


@given(st.text(st.characters(exclude_categories=())), st.text(max_size=9))
def test_more_text_is_never_fewer_tokens(text, more):
    assert 1 <= estimate_tokens(text) <= estimate_tokens(text + more)
