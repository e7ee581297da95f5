"""What a whole job will be, reckoned from a sample: exact where all is known, a range where it is not."""

import numpy as np
import pytest

from pipeline.batching import PackLimits
from pipeline.estimates import (
    CALLS_PER_CORE_S,
    LANDING_S,
    ROWS_PER_CORE_S,
    Answered,
    Range,
    Sizes,
    Speed,
    clock,
    reckon,
    spread,
)
from pipeline.limits import Limit
from pipeline.prices import Price
from tests.cases import cases

PRICE = Price(2.0, 10.0, source="contract", date="2026-11-01")
ALL = Sizes(rows=4, rendered=4, refused=1, input_tokens=(10, 20, 30))
FREE = Speed((), 64, 1)
CHAT = PackLimits()


def test_a_table_that_was_rendered_whole_is_exact():
    assert (ALL.questions, ALL.mean, ALL.p95, ALL.total()) == (3, 20, 30, Range(60, 60, 60))
    estimate = reckon(ALL, Answered(), PRICE, FREE, CHAT, 0)
    assert (estimate.requests, estimate.cost) == (3, Range(0.00012, 0.00012, 0.00012))
    assert estimate.lines(PRICE)[:3] == [
        ("requests", "3"),
        ("tokens", "60 in, 0 out"),
        ("cost", "0.000120 USD"),
    ]


def test_nothing_pending_is_nothing():
    estimate = reckon(Sizes(0, 0, 0, ()), Answered(), PRICE, FREE, CHAT, 60)
    assert (estimate.requests, estimate.input_tokens, estimate.duration_s) == (0, Range(0, 0, 0), None)


def test_before_an_answer_output_lies_between_nothing_and_its_bound():
    estimate = reckon(ALL, Answered(), PRICE, FREE, CHAT, 60)
    assert estimate.output_tokens == Range(0, 90, 180)
    assert estimate.cost is not None
    assert (estimate.cost.low, estimate.cost.high) == (60 * 2 / 1e6, (60 * 2 + 180 * 10) / 1e6)
    unbounded = reckon(ALL, Answered(), PRICE, FREE, CHAT, None)
    assert (unbounded.output_tokens, unbounded.cost) == (None, None)
    assert ("tokens", "60 in, out not known before an answer") in unbounded.lines(PRICE)
    assert "not known before an answer" in dict(unbounded.lines(None))["duration"]


def test_answers_bound_the_output_and_never_above_what_was_asked_for():
    estimate = reckon(ALL, Answered((10, 50, 60)), PRICE, FREE, CHAT, 60)
    assert estimate.output_tokens is not None
    assert estimate.output_tokens.middle == 120
    assert estimate.output_tokens.high == 180


@cases("seed", range(30))
def test_the_range_of_a_sample_holds_the_truth_about_as_often_as_it_says(seed):
    chance = np.random.default_rng(seed)
    held = 0
    for everything in chance.lognormal(4, 0.7, (60, 2000)):
        # all are drawn alike, so the first 200 are as good a sample as any
        found = spread(everything[:200].tolist(), 2000)
        held += found.low <= everything.sum() <= found.high
    assert held >= 50  # of 60; 95 % promised, a long tail costs some


def test_equal_values_are_no_proof():
    assert spread([5.0] * 30, 100) == Range(450.0, 500.0, 550.0)


def test_one_value_tells_little():
    assert spread([5.0], 10) == Range(0.0, 50.0, 100.0)


@cases(
    ("limits", "seconds", "binds"),
    [
        ((Limit("requests_per_minute", "requests", 60, 60.0),), 100, "requests_per_minute"),
        ((Limit("requests_per_second", "requests", 2, 1.0),), 50, "requests_per_second"),
        ((Limit("input_tokens_per_minute", "input_tokens", 600, 60.0),), 200, "input_tokens_per_minute"),
        ((Limit("output_tokens_per_minute", "output_tokens", 60, 60.0),), 500, "output_tokens_per_minute"),
        ((Limit("tokens_per_minute", "tokens", 600, 60.0),), 250, "tokens_per_minute"),
        (
            (Limit("requests_per_minute", "requests", 60, 60.0), Limit("tokens_per_minute", "tokens", 600, 60.0)),
            250,
            "tokens_per_minute",
        ),
        ((Limit("tokens_per_minute", "larger_tokens", 600, 60.0),), 600, "tokens_per_minute"),
        ((), 12.5, "in_flight = 4"),
    ],
)
def test_the_tightest_limit_binds(limits, seconds, binds):
    sizes = Sizes(100, 100, 0, (20,) * 100)
    estimate = reckon(sizes, Answered((5,) * 9, (0.5,) * 9), PRICE, Speed(limits, 4, 2), CHAT, 60)
    assert estimate.duration_s == pytest.approx(seconds + LANDING_S)
    assert estimate.binds == binds


def test_a_fast_endpoint_leaves_the_cores_to_bind():
    sizes = Sizes(100_000, 100_000, 0, (20,) * 100_000)
    estimate = reckon(sizes, Answered((5,), (0.001,)), None, Speed((), 512, 2), CHAT, 60)
    assert estimate.duration_s == pytest.approx(100_000 / (2 * CALLS_PER_CORE_S) + LANDING_S)
    assert "2 cores" in estimate.binds


@cases(
    ("texts_per_call", "seconds"),
    [
        pytest.param(128, 240_000 / (2 * ROWS_PER_CORE_S), id="rows bind where many share a call"),
        pytest.param(4, 240_000 / 4 / (2 * CALLS_PER_CORE_S), id="calls bind where few do"),
    ],
)
def test_vectors_cost_cores_by_the_row(texts_per_call, seconds):
    sizes = Sizes(240_000, 20_000, 0, (20,) * 20_000)
    speed, pack = Speed((), 512, 2), PackLimits(texts_per_call)
    estimate = reckon(sizes, Answered((0,), (0.001,)), None, speed, pack, 0)
    assert (estimate.duration_s, estimate.binds) == (pytest.approx(seconds + LANDING_S), "2 cores of the workers")


@cases(
    ("limits", "seconds", "binds"),
    [
        ((), 1_024, "32 calls at once to begin with; in_flight is not set, the run tries up to 1,024"),
        ((Limit("requests_per_second", "requests", 128, 1.0),), 256, "requests_per_second"),
        (
            (Limit("requests_per_second", "requests", 4_096, 1.0),),
            *(32, "1,024 calls at once, the most that is tried; in_flight is not set"),
        ),
    ],
)
def test_calls_at_once_that_nobody_configured_grow_until_a_limit_binds(limits, seconds, binds):
    sizes = Sizes(32_768, 32_768, 0, (20,) * 32_768)
    estimate = reckon(sizes, Answered((5,), (1.0,)), None, Speed(limits, 32, 2, most_tried=1_024), CHAT, 60)
    assert (estimate.duration_s, estimate.binds) == (pytest.approx(seconds + LANDING_S), binds)


def test_what_spark_takes_to_start_comes_on_top():
    sizes = Sizes(100, 100, 0, (20,) * 100)
    estimate = reckon(sizes, Answered((5,), (0.5,), start_s=3.0), None, Speed((), 4, 2), CHAT, 60)
    assert (estimate.duration_s, estimate.binds) == (pytest.approx(15.5 + LANDING_S), "in_flight = 4")


def test_embeddings_share_calls():
    sizes = Sizes(1000, 1000, 0, (10,) * 1000)
    assert reckon(sizes, Answered(), None, FREE, PackLimits(128), 0).requests == 8
    assert reckon(sizes, Answered(), None, FREE, PackLimits(128, max_tokens=100), 0).requests == 100


@cases(("seconds", "said"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "0:01:00"), (3725, "1:02:05")])
def test_times_read_as_clocks_do(seconds, said):
    assert clock(seconds) == said
