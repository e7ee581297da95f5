"""What the progress line says, from numbers alone."""

import pytest

from pipeline.watch import spent
from pipeline.worker import Progress


@pytest.mark.parametrize(
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
