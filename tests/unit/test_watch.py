"""What the progress line says, from numbers alone."""

from pipeline.engine import Tally
from pipeline.limits import LimitUse, QuotaView
from pipeline.progress import Progress
from pipeline.watch import limit_words, pace_words, spend_words, spent
from tests.cases import cases


@cases(
    ("total", "rows", "said"),
    [
        (Progress(rows_done=50, cost=2.0, currency="USD"), 200, "2.00 USD of about 8.00 USD"),
        (Progress(rows_done=50, rows_replayed=25, cost=2.0, currency="EUR"), 100, "2.00 EUR of about 6.00 EUR"),
        (Progress(rows_done=50, rows_replayed=50, cost=0.5, currency="USD"), 100, "0.500 USD"),
        (Progress(rows_done=100, cost=0.0123, currency="USD"), 100, "0.0123 USD"),
    ],
)
def test_spend_so_far_and_what_the_rest_will_cost_if_it_is_like_what_was_bought(total, rows, said):
    assert spent(total, rows) == said


def test_the_lines_say_how_fast_it_goes_what_is_in_the_way_and_what_was_used():
    total = Progress(
        rows_done=1000,
        rows_failed=2,
        in_flight=230,
        tally=Tally(input_tokens=358_600, output_tokens=999, rate_limited=37),
        cost=0.5,
        currency="USD",
    )
    assert pace_words(total, 1203.4) == ["1,203 rows/s", "230 in flight", "2 rows failed", "37 x 429"]
    assert spend_words(total, 4000) == ["tokens 358.6k in, 999 out", "spent 0.500 USD of about 2.00 USD"]
    assert spend_words(Progress(), 10) == ["tokens 0 in, 0 out"]  # no price, nothing about money
    assert "429" not in " ".join(pace_words(Progress(), 0.0))


def test_limits_caps_and_outages_are_shown_where_there_are_some():
    total = Progress(in_flight=60, quota=QuotaView(in_flight_limit=64, outage_s=32.4))
    assert pace_words(total, 0.0)[1:] == ["60 of 64 in flight", "0 rows failed", "the endpoint is down since 32 s"]
    limits = [LimitUse("requests_per_minute", 582, 600), LimitUse("max_cost", 5_000_001, 5_000_000)]
    assert limit_words(limits) == ["requests/minute 97%", "max cost 100%"]
