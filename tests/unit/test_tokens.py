"""Token estimates: near enough to pack by, never zero, and right once answers have taught them."""

import json
import random
from functools import cache
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.calibrations import add_calibration, load_calibration
from pipeline.storage import open_store
from pipeline.tokens import MOST_ANSWERS, NO_CALIBRATION, Estimator, estimate_tokens, merged, script_of
from tests.cases import cases

any_text = st.text(st.characters(exclude_categories=()))


@cases(
    ("text", "expected"),
    [("", 1), ("a", 1), ("abcd", 1), ("a" * 400, 100), ("ü" * 400, 200), ("日" * 400, 300), ("\ud800" * 4, 3)],
)
def test_four_bytes_are_a_token(text, expected):
    assert estimate_tokens(text) == expected
    assert Estimator().estimate(text) == expected


@given(any_text, st.text(max_size=9))
def test_more_text_is_never_fewer_tokens(text, more):
    assert 1 <= estimate_tokens(text) <= estimate_tokens(text + more)


@cases(
    ("text", "script"),
    [
        ("plain", "latin"),
        ("", "latin"),
        ("Grüße aus Köln, ça va?", "latin"),
        ("Съешь же ещё этих мягких булок", "cyrillic"),
        ("Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία", "greek"),
        ("色は匂へど 散りぬるを", "kana"),
        ("我能吞下玻璃而不伤身体", "han"),
        ("나는 유리를 먹을 수 있어요", "hangul"),
        ("أنا قادر على أكل الزجاج", "arabic"),
        ("मैं काँच खा सकता हूँ", "indic"),
        ("ฉันกินกระจกได้", "thai"),
        ("def f(x):  # возвращает число\n    return x + 1" + " and then some more code" * 9, "latin"),
        ("𠀋𡈽𡌛", "han"),
    ],
)
def test_the_script_that_most_of_a_text_is_in(text, script):
    assert script_of(text) == script
    assert script_of(text.encode()) == script


@given(any_text)
def test_every_text_has_a_script_and_an_estimate(text):
    assert script_of(text)
    assert Estimator().estimate(text) >= 1


ALPHABETS = {
    "latin": [*"etaoin shrdlu" * 3, *"ETAOIN.,\n"],
    "cyrillic": [*"оеаинт срвлк" * 3, *"ОЕА.,\n"],
    "han": [chr(point) for point in range(0x4E00, 0x4E80)],
    "indic": [chr(point) for point in range(0x0905, 0x0939)],
}
# What a tokenizer makes of one character, and of every message: unlike the rule of thumb, and unlike each other.
PER_CHARACTER = {"latin": 0.17, "cyrillic": 0.30, "han": 1.05, "indic": 0.62}
PER_MESSAGE = 11


@cache
def noise(script: str) -> str:
    """What texts are cut from: to draw every character of every text would be most of the time of these tests."""
    return "".join(random.Random(script).choices(ALPHABETS[script], k=50_000))


def cut(chance: random.Random, script: str, length: int) -> str:
    start = chance.randrange(len(noise(script)) - length)
    return noise(script)[start : start + length]


def corpus(chance: random.Random, script: str, count: int) -> list[tuple[str, int]]:
    """Texts of a few to some thousand characters, and their tokens, which vary by text."""
    texts = [cut(chance, script, int(chance.lognormvariate(5.5, 1)) + 5) for _ in range(count)]
    return [
        (text, round(PER_MESSAGE + len(text) * PER_CHARACTER[script] * chance.lognormvariate(0, 0.08)))
        for text in texts
    ]


@cases("seed", range(20))
@cases("script", PER_CHARACTER)
def test_within_ten_percent_after_200_answers(script, seed):
    chance = random.Random(seed)
    estimator = Estimator()
    for text, tokens in corpus(chance, script, 200):
        estimator.learn(text, tokens)
    unseen = corpus(chance, script, 300)
    estimates = [estimator.estimate(text) for text, _ in unseen]
    total = sum(tokens for _, tokens in unseen)
    assert abs(sum(estimates) / total - 1) < 0.05
    errors = [(found - tokens) / tokens for found, (_, tokens) in zip(estimates, unseen, strict=True)]
    assert fmean(abs(error) for error in errors) < 0.10
    # the rule of thumb is what this is better than
    assert abs(sum(estimate_tokens(text) for text, _ in unseen) / total - 1) > 0.10


def test_scripts_of_one_job_are_told_apart():
    chance = random.Random(3)
    estimator = Estimator()
    mixed = [pair for script in PER_CHARACTER for pair in corpus(chance, script, 200)]
    chance.shuffle(mixed)
    for text, tokens in mixed:
        estimator.learn(text, tokens)
    for script in PER_CHARACTER:
        unseen = corpus(chance, script, 200)
        assert sum(estimator.estimate(text) for text, _ in unseen) == pytest.approx(
            sum(tokens for _, tokens in unseen), rel=0.05
        )


def test_shares_of_a_call_teach_as_much_as_its_sum():
    # of an embeddings call only the sum is known; each text is taught its share of it by the estimates
    chance = random.Random(5)
    estimator = Estimator()
    for _ in range(10):
        batch = corpus(chance, "latin", 20)
        estimates = [estimator.estimate(text) for text, _ in batch]
        reported = sum(tokens for _, tokens in batch)
        for (text, _), estimate in zip(batch, estimates, strict=True):
            estimator.learn(text, round(reported * estimate / sum(estimates)))
    unseen = corpus(chance, "latin", 300)
    total = sum(tokens for _, tokens in unseen)
    assert sum(estimator.estimate(text) for text, _ in unseen) == pytest.approx(total, rel=0.1)


def test_texts_of_one_size_are_no_line_and_are_met_all_the_same():
    estimator = Estimator()
    for _ in range(50):
        estimator.learn("a" * 400, 150)
    assert estimator.estimate("a" * 400) == pytest.approx(150, rel=0.03)


@cases("reported", [0, -5, 2**53, 100_000])
def test_a_report_that_counts_something_else_teaches_nothing(reported):
    estimator = Estimator()
    estimator.learn("a" * 400, reported)
    assert (estimator.added, estimator.answers) == ({}, 0)


@given(st.lists(st.tuples(any_text, st.integers(0, 10**6)), max_size=30), any_text)
def test_no_report_makes_an_estimate_that_is_none(reports, text):
    estimator = Estimator()
    for taught, reported in reports:
        estimator.learn(taught, reported)
    assert 1 <= estimator.estimate(text) < 10**9


def test_what_one_run_learnt_the_next_one_knows(tmp_path):
    chance = random.Random(7)
    first, second = Estimator(), Estimator()
    for text, tokens in corpus(chance, "cyrillic", 100):
        first.learn(text, tokens)
    for text, tokens in corpus(chance, "cyrillic", 100):
        second.learn(text, tokens)
    store = open_store(str(tmp_path))
    assert load_calibration(store, "openai/m") == NO_CALIBRATION
    add_calibration(store, "openai/m", merged(first.added, second.added))
    add_calibration(store, "openai/other", first.added)
    add_calibration(store, "openai/m", {})
    loaded = Estimator(load_calibration(store, "openai/m"))
    assert loaded.answers == pytest.approx(200)
    assert loaded.added == {}
    unseen = corpus(chance, "cyrillic", 100)
    assert sum(loaded.estimate(text) for text, _ in unseen) == pytest.approx(sum(n for _, n in unseen), rel=0.05)


@pytest.mark.parametrize("damage", [b"{", b"[1]", b'{"openai/m": 3}', b'{"openai/m": {"latin": [1]}}'])
def test_a_calibration_that_cannot_be_read_is_begun_anew(tmp_path, damage):
    store = open_store(str(tmp_path))
    store.write_atomic("calibration.json", damage)
    assert load_calibration(store, "openai/m") == NO_CALIBRATION
    add_calibration(store, "openai/m", {"latin": (1.0, 1.0, 1.0, 1.0, 1.0)})
    assert json.loads((tmp_path / "calibration.json").read_text()) == {"openai/m": {"latin": [1.0] * 5}}


def test_old_answers_fade_so_that_new_ones_count():
    estimator = Estimator()
    for _ in range(3 * int(MOST_ANSWERS)):
        estimator.learn("a" * 400, 100)
    for _ in range(2 * int(MOST_ANSWERS)):
        estimator.learn("a" * 400, 200)
    assert estimator.estimate("a" * 400) > 185
    assert estimator.answers <= MOST_ANSWERS
