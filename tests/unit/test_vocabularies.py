"""A model's own tokenizer: used where it and its file are at hand, never fetched, and never asked for twice what it costs."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import vocabularies
from pipeline.limits import Budget, Limit, QuotaSpec
from pipeline.tokens import COUNTED, ENOUGH_ANSWERS, Estimator
from pipeline.vocabularies import FILES, MOST_CHARACTERS, vocabulary_of
from tests.cases import cases

VOCABULARY = b"a vocabulary"


class FakeTiktoken(SimpleNamespace):
    """A word is a token. Notes which encodings were opened: the real one may download what it opens."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        super().__init__()

    def encoding_name_for_model(self, model: str) -> str:
        return {"gpt-4o": "o200k_base", "gpt-2": "gpt2"}[model]

    def get_encoding(self, name: str) -> SimpleNamespace:
        self.opened.append(name)
        return SimpleNamespace(encode_ordinary=str.split)


@pytest.fixture
def tiktoken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeTiktoken]:
    """Installed, with the vocabulary of gpt-4o in its folder."""
    fake = FakeTiktoken()
    monkeypatch.setitem(sys.modules, "tiktoken", fake)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    name, _ = FILES["o200k_base"]
    monkeypatch.setitem(vocabularies.FILES, "o200k_base", (name, hashlib.sha256(VOCABULARY).hexdigest()))
    (tmp_path / name).write_bytes(VOCABULARY)
    vocabulary_of.cache_clear()
    yield fake
    vocabulary_of.cache_clear()


@pytest.mark.parametrize("model", ["gpt-4o", "openai/gpt-4o", "databricks-gpt-4o"])
def test_a_model_counts_with_its_own_tokenizer(tiktoken: FakeTiktoken, model: str) -> None:
    count = vocabulary_of(model)
    assert count is not None
    assert (count("one two three"), count(b"one two"), count("")) == (3, 2, 0)
    assert count(b"\xff is no UTF-8") == 4
    assert tiktoken.opened == ["o200k_base"]


def test_the_beginning_of_a_long_text_stands_for_it(tiktoken: FakeTiktoken) -> None:
    count = vocabulary_of("gpt-4o")
    assert count is not None
    assert count("word " * MOST_CHARACTERS) == pytest.approx(MOST_CHARACTERS, rel=0.001)


@pytest.mark.parametrize("damage", ["no folder named", "an empty name", "no file", "another file", "a folder"])
def test_what_is_not_there_is_not_fetched(
    tiktoken: FakeTiktoken, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / FILES["o200k_base"][0]
    if damage == "no folder named":
        monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    elif damage == "an empty name":
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    elif damage == "another file":
        file.write_bytes(b"half of a vocabulary")
    else:
        file.unlink()
    if damage == "a folder":
        file.mkdir()
    assert vocabulary_of("gpt-4o") is None
    assert tiktoken.opened == [], "tiktoken downloads what it opens and does not find"


@pytest.mark.parametrize("model", ["llama-3", "gpt-2", ""])
def test_models_whose_tokenizer_is_not_known_are_estimated(tiktoken: FakeTiktoken, model: str) -> None:
    assert vocabulary_of(model) is None
    assert tiktoken.opened == []


def test_without_the_package_nothing_is_said(tiktoken: FakeTiktoken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert vocabulary_of("gpt-4o") is None


class Counter:
    """Three tokens, and one per character."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, text: str | bytes) -> int:
        self.asked += 1
        return 3 + len(text)


def texts(count: int) -> list[str]:
    return ["x" * (20 + 7 * number % 400) for number in range(count)]


def test_counts_teach_before_answers_do_and_only_so_long() -> None:
    counter = Counter()
    estimator = Estimator(count=counter)
    assert estimator.estimate("x" * 100) == 103, "the rule of thumb says 25"
    for text in texts(3 * COUNTED):
        assert estimator.estimate(text) == pytest.approx(3 + len(text), rel=0.03, abs=1)
    assert counter.asked == COUNTED
    assert estimator.estimate("ж" * 50) == 53, "every script is counted anew"
    assert estimator.added == {}, "nobody reported anything"


def test_answers_outrank_counts() -> None:
    counter = Counter()
    estimator = Estimator(count=counter)
    for text in texts(COUNTED):
        estimator.estimate(text)
    for text in texts(ENOUGH_ANSWERS):
        estimator.learn(text, 2 * len(text))
    assert estimator.estimate("x" * 300) == pytest.approx(600, rel=0.03)
    taught = Estimator(estimator.added, counter)
    asked = counter.asked
    taught.estimate("x" * 300)
    assert counter.asked == asked, "an earlier run has learnt enough"


@cases(
    ("quota", "expected"),
    [
        (QuotaSpec(), False),
        (QuotaSpec(limits=(Limit("requests_per_minute", "requests", 9, 60.0),), budget=Budget(max_requests=9)), False),
        (QuotaSpec(limits=(Limit("tokens_per_minute", "larger_tokens", 9, 60.0),)), True),
        (QuotaSpec(budget=Budget(max_micros=9)), True),
    ],
)
def test_a_job_that_meters_tokens_needs_estimates(quota: QuotaSpec, expected: bool) -> None:
    assert quota.counts_tokens is expected
