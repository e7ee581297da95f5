"""What calls are charged before they run, by the provider's rule, and what they turn out to cost."""

import math

import pytest

from pipeline.config import PRESETS, LimitsSection
from pipeline.errors import ErrorCode
from pipeline.leasing import static_parts
from pipeline.limits import (
    Budget,
    Cost,
    Costing,
    Costs,
    Limit,
    QuotaSpec,
    StaticShare,
)
from pipeline.prices import Price
from pipeline.records import NO_USAGE, Batch, Request, Task, Usage
from pipeline.settings import longest_output, rate_limits, reserve_output
from tests.cases import cases

CALL = Batch((Request("a", text="x", input_tokens=100),))


@cases(
    ("costing", "expected"),
    [
        pytest.param(Costing("max_tokens", 50), Cost(1, 100, 50), id="reserved"),
        pytest.param(Costing("max_tokens", None), Cost(1, 100, 256), id="no limit given: a guess"),
        pytest.param(Costing("estimate", 50), Cost(1, 100, 50), id="nothing learned yet"),
        pytest.param(Costing("none", 50), Cost(1, 100, 0), id="charged when it is made"),
        pytest.param(Costing("max_tokens", 0), Cost(1, 100, 0), id="embeddings"),
        pytest.param(Costing("none", 50, Price(2.0, 10.0)), Cost(1, 100, 0, 700), id="money is reserved"),
        pytest.param(Costing("larger", 50), Cost(1, 100, 50, 0, 100), id="OpenAI: the input is larger"),
        pytest.param(Costing("larger", 400), Cost(1, 100, 400, 0, 400), id="OpenAI: max_tokens is larger"),
        pytest.param(Costing("larger", None), Cost(1, 100, 256, 0, 100), id="OpenAI: no max_tokens, its estimate"),
        pytest.param(Costing("larger", 0), Cost(1, 100, 0, 0, 100), id="OpenAI: embeddings"),
    ],
)
def test_a_call_is_charged_by_the_providers_rule(costing: Costing, expected: Cost) -> None:
    assert Costs(costing).of(CALL) == expected


def test_answers_teach_how_long_they_are() -> None:
    costs = Costs(Costing("estimate", 500))
    for _ in range(20):
        costs.used(costs.of(CALL), CALL, Usage(90, 40), None)
    assert costs.of(CALL) == Cost(1, 100, 40)


@cases(
    ("usage", "error", "expected"),
    [
        pytest.param(Usage(90, 10), None, Cost(1, 90, 10, 280), id="as reported"),
        pytest.param(Usage(90, 10, cached_input_tokens=80), None, Cost(1, 90, 10, 160), id="cached input is cheaper"),
        pytest.param(Usage(90, 10), ErrorCode.INVALID_RESPONSE, Cost(1, 90, 10, 280), id="useless, and billed"),
        pytest.param(NO_USAGE, None, Cost(1, 100, 50, 700), id="silent: as charged"),
        pytest.param(NO_USAGE, ErrorCode.UNKNOWN_OUTCOME, Cost(1, 100, 50, 700), id="perhaps billed"),
        pytest.param(NO_USAGE, ErrorCode.RATE_LIMITED, Cost(1), id="refused"),
    ],
)
def test_what_a_call_has_cost(usage: Usage, error: ErrorCode | None, expected: Cost) -> None:
    costs = Costs(Costing("max_tokens", 50, Price(2.0, 10.0, 0.5)))
    assert costs.used(costs.of(CALL), CALL, usage, error) == expected


@cases(
    ("most", "usage", "error", "expected"),
    [
        pytest.param(400, Usage(90, 10), None, Cost(1, 90, 10, 0, 400), id="nothing comes back"),
        pytest.param(50, Usage(90, 10), None, Cost(1, 90, 10, 0, 90), id="but our estimate is put right"),
        pytest.param(400, NO_USAGE, None, Cost(1, 100, 400, 0, 400), id="silent: as charged"),
        pytest.param(400, NO_USAGE, ErrorCode.RATE_LIMITED, Cost(1), id="refused"),
    ],
)
def test_of_openais_charge_nothing_comes_back(most: int, usage: Usage, error: ErrorCode | None, expected: Cost) -> None:
    costs = Costs(Costing("larger", most))
    assert costs.used(costs.of(CALL), CALL, usage, error) == expected


def test_a_budget_counts_what_was_used_whatever_the_rate_counts() -> None:
    share = StaticShare((Limit("tokens_per_minute", "larger_tokens", 10_000, 60.0),), 8, budget=Budget(max_tokens=700))
    costs = Costs(Costing("larger", 500))
    charged = costs.of(CALL)
    assert share.take(charged, 0.0) == 0.0
    assert share.take(charged, 3.1) == math.inf, "600 of 700 tokens are reserved"
    share.settle(charged, costs.used(charged, CALL, Usage(100, 20), None), 0.0)
    assert share.take(charged, 3.1) == math.inf, "120 are used, 600 more would not fit"
    assert share.spent() == "max_tokens"


def test_rates_given_go_over_those_of_the_preset() -> None:
    section = LimitsSection(preset="databricks-pay-per-token", input_tokens_per_minute=5_000, requests_per_minute=60)
    amounts = {limit.name: (limit.meter, limit.amount, limit.window_s) for limit in rate_limits(section)}
    assert amounts == {
        "requests_per_second": ("requests", 2, 1.0),
        "requests_per_minute": ("requests", 60, 60.0),
        "requests_per_hour": ("requests", 1_200, 3_600.0),
        "input_tokens_per_minute": ("input_tokens", 5_000, 60.0),
    }
    assert reserve_output(section) == "max_tokens"
    assert reserve_output(LimitsSection(preset="anthropic")) == "none"
    assert reserve_output(LimitsSection(preset="anthropic", reserve_output="estimate")) == "estimate"
    assert rate_limits(LimitsSection()) == ()


@cases(
    ("section", "meter"),
    [
        (LimitsSection(preset="openai", tokens_per_minute=9), "larger_tokens"),
        (LimitsSection(reserve_output="larger", tokens_per_minute=9), "larger_tokens"),
        (LimitsSection(preset="openai", reserve_output="none", tokens_per_minute=9), "tokens"),
        (LimitsSection(tokens_per_minute=9), "tokens"),
    ],
)
def test_the_rule_says_what_counts_as_tokens(section: LimitsSection, meter: str) -> None:
    assert [limit.meter for limit in rate_limits(section)] == [meter]


@cases("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_says_where_it_is_from_and_names_limits_that_exist(preset: object) -> None:
    amounts, source = preset.amounts, preset.source  # type: ignore[attr-defined]
    assert len(source) > 20
    assert set(amounts) <= set(LimitsSection.model_fields)


@cases(
    ("task", "parameters", "expected"),
    [
        (Task.CHAT, {"max_tokens": 7}, 7),
        (Task.CHAT, {"max_completion_tokens": 8}, 8),
        (Task.CHAT, {"max_tokens": "many"}, None),
        (Task.CHAT, {}, None),
        (Task.EMBEDDING, {"max_tokens": 7}, 0),
    ],
)
def test_the_longest_answer_is_what_the_request_says(
    task: Task, parameters: dict[str, object], expected: object
) -> None:
    assert longest_output(task, parameters) == expected


def test_a_static_budget_is_what_is_left_in_equal_parts() -> None:
    quota = QuotaSpec(budget=Budget(10, 1_000, None), spent=Cost(4, 300, 100), workers=2)
    parts = static_parts(quota, buckets=4)
    assert parts.budget == Budget(1, 150, None)
    assert static_parts(QuotaSpec(budget=Budget(3), spent=Cost(9)), 1).budget == Budget(0)
