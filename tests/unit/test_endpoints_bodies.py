import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoints.bodies import from_body, to_body
from tests.cases import cases

any_text = st.text(st.characters(exclude_categories=()))


@given(any_text)
def test_whatever_the_input_holds_has_a_body(text):
    body = to_body({"input": [text], "nested": ({"a": text},)})
    clean = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    assert json.loads(body)["input"][0].replace("\ufffd", "") == clean.replace("\ufffd", "")
    assert len(json.loads(body)["input"][0]) == len(text)


@given(any_text)
def test_an_escaped_text_comes_back_with_its_lone_surrogates_marked(text):
    body = json.dumps({"text": text}).encode()
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert from_body(body)["text"].encode() == paired.encode()


@cases(
    ("literal", "expected"),
    [
        (rb"\ud800", "\ufffd"),
        (rb"\uDFFF", "\ufffd"),
        (rb"\ud800\ud800", "\ufffd\ufffd"),
        (rb"\ud83d\ude00\ud83d", "\U0001f600\ufffd"),
        (rb"\ud800\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\\ud800\ud800", "\\ud800\ufffd"),
        (rb"\n\"\ud800", '\n"\ufffd'),
        (rb"\u0041\ud800", "A\ufffd"),
    ],
)
def test_a_lone_surrogate_is_marked_and_a_pair_kept(literal, expected):
    assert from_body(b'"' + literal + b'"') == expected


@cases(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"<html>",
        b"[NaN]",
        b"[Infinity]",
        b"[1e999]",
        b'"\xff"',
        b'"\\ud8"',
        b'{"a":"\\ud800"',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b'["\\ud800",' + b"[" * 100_000,
        b"{} {}",
        b"1" * 5000,
    ],
)
def test_what_is_no_strict_json_is_a_value_error(body):
    with pytest.raises(ValueError):
        from_body(body)


def test_a_value_without_a_json_form_is_a_type_error():
    with pytest.raises(TypeError):
        to_body({"stop": {1, 2}})
