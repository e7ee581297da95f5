"""What tokens cost: the arithmetic, the lookup, the shipped file and a user's."""

import datetime

import pytest

from pipeline import plans
from pipeline.config import load_prices
from pipeline.config.prices_file import prices_from_mapping
from pipeline.errors import ConfigError
from pipeline.journal import JournalTotals
from pipeline.prices import Expense, Price, PriceEntry, money, price_of
from pipeline.records import NO_USAGE, Usage
from tests.cases import cases

PRICE = Price(input=2.0, output=8.0, cached_input=0.5)


@cases(
    ("usage", "cost"),
    [
        (NO_USAGE, None),
        (Usage(total_tokens=9), None),
        (Usage(0, 0), 0.0),
        (Usage(1_000_000, 1_000_000), 10.0),
        (Usage(1_000_000, None), 2.0),
        (Usage(None, 1_000_000), 8.0),
        (Usage(1_000_000, 0, cached_input_tokens=400_000), 0.6 * 2.0 + 0.4 * 0.5),
        (Usage(100, 0, cached_input_tokens=1_000_000), 100 * 0.5 / 1e6),  # an endpoint that says nonsense
    ],
)
def test_the_cost_of_a_usage(usage, cost):
    assert PRICE.cost(usage) == (None if cost is None else pytest.approx(cost))


def test_cached_input_costs_as_much_as_other_input_unless_said():
    assert Price(2.0, 8.0).of_tokens(1_000_000, 0, 500_000) == 2.0


def test_the_first_table_that_names_the_model_counts():
    entries = [PriceEntry(("a-*", "b"), Price(1, 1)), PriceEntry(("a-1",), Price(2, 2))]
    assert price_of("a-1", entries) == Price(1, 1)
    assert price_of("b", entries) == Price(1, 1)
    assert price_of("A-1", entries) is None
    assert price_of("c", entries) is None


@cases(
    ("model", "input_price"),
    [
        ("gpt-5-mini", 0.25),
        ("gpt-5-mini-2025-08-07", 0.25),
        ("gpt-5.4", None),  # another model, not a version of gpt-5
        ("gpt-5-mini-high", None),
        ("claude-sonnet-4-5-20250929", 3.0),
        ("claude-haiku-5-5", None),  # its price depends on the length of the prompt
        ("databricks-claude-sonnet-4-5", None),  # billed in DBU
        ("local-chat", 0.0),
    ],
)
def test_the_shipped_prices_are_for_the_models_that_they_name(model, input_price):
    price = price_of(model, load_prices())
    assert (price.input if price else None) == input_price


def test_every_shipped_price_says_where_and_when_it_was_read():
    entries = load_prices()
    assert len(entries) > 10
    for entry in entries:
        assert entry.price.source
        assert datetime.date.fromisoformat(entry.price.date) <= datetime.date(2026, 11, 21)
        assert entry.price.cached_input is None or entry.price.cached_input <= entry.price.input


def test_a_file_of_ones_own_comes_first(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(
        '[[prices]]\nmodels = ["gpt-5-mini", "ours-*"]\ninput = 1\noutput = 3\ncurrency = "EUR"\n'
        'source = "contract"\ndate = 2026-11-01\n'
    )
    entries = load_prices(str(path))
    assert price_of("gpt-5-mini", entries) == Price(1, 3, None, "EUR", "contract", "2026-11-01")
    assert price_of("gpt-5", entries) == price_of("gpt-5", load_prices())


SOUND = {"models": ["m"], "input": 1.0, "source": "s", "date": datetime.date(2026, 1, 1)}


@cases(
    ("change", "part"),
    [
        ({"input": -1.0}, "number 1 input: "),
        ({"input": "1"}, "number 1 input: must be a number"),
        ({"inptu": 1.0}, "number 1 inptu: unknown key; did you mean input?"),
        ({"models": []}, "number 1 models: "),
        ({"models": "m"}, "number 1 models: must be a list"),
        ({"currency": "Dollar"}, "number 1 currency: "),
        ({"date": "yesterday"}, "number 1 date: "),
        ({"source": None}, "number 1 source: "),
    ],
)
def test_a_wrong_price_is_refused_with_its_place(change, part):
    with pytest.raises(ConfigError, match=r"mine.toml: \[\[prices\]\]") as caught:
        prices_from_mapping({"prices": [{**SOUND, **change}]}, "mine.toml")
    assert part in str(caught.value)


def test_what_is_missing_or_no_table_of_prices_is_refused():
    without = {name: value for name, value in SOUND.items() if name != "source"}
    with pytest.raises(ConfigError, match=r"number 1 source: is missing; where the price was read"):
        prices_from_mapping({"prices": [without]}, "mine.toml")
    with pytest.raises(ConfigError, match="the file price: unknown key; did you mean prices"):
        prices_from_mapping({"price": []}, "mine.toml")
    with pytest.raises(ConfigError, match="there is no such file"):
        load_prices("nowhere.toml")


@cases(
    ("amount", "said"),
    [
        (0, "0.00 USD"),
        (12.345, "12.35 USD"),
        (1234.5, "1,234.50 USD"),
        (0.5, "0.500 USD"),
        (0.00012345, "0.000123 USD"),
    ],
)
def test_money_shows_what_matters(amount, said):
    assert money(amount, "USD") == said


def test_calls_of_unknown_outcome_cost_between_nothing_and_the_dearest_call():
    totals = JournalTotals(
        answered=9,
        unknown=2,
        input_tokens=1_000_000,
        output_tokens=100_000,
        cached_input_tokens=200_000,
        most_input_tokens=200_000,
        most_output_tokens=20_000,
    )
    spend = plans.spend_of(totals, PRICE)
    assert spend.cost == pytest.approx(0.8 * 2 + 0.2 * 0.5 + 0.1 * 8)
    assert spend.unknown == pytest.approx(2 * (0.2 * 2 + 0.02 * 8))
    assert str(spend) == "2.50 USD, at most 1.12 USD more for calls of unknown outcome"
    assert plans.spend_of(JournalTotals(), PRICE) == Expense(0.0, 0.0, "USD")


def test_where_no_call_reported_anything_the_unknown_ones_have_no_bound():
    spend = plans.spend_of(JournalTotals(unknown=1), PRICE)
    assert spend.unknown is None
    assert str(spend) == "0.00 USD, and what calls of unknown outcome cost"
    assert (spend + Expense(1.0)).unknown is None
    assert Expense(1.0, 0.5) + Expense(2.0, 0.25) == Expense(3.0, 0.75)
