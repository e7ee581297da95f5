"""What calls are charged, against a simulated endpoint that charges by OpenAI's rule, in virtual time."""

import random
from collections import deque
from itertools import islice

import pytest

from pipeline.config import LimitsSection
from pipeline.errors import ErrorCode
from pipeline.limits import Cost, Costing, Costs, LeaseHolder, QuotaBook, QuotaSpec, ReserveOutput
from pipeline.records import NO_USAGE, Batch, Request, Usage
from pipeline.settings import rate_limits
from pipeline.simulator.admission import Admission, Refusal429
from pipeline.simulator.admission import Ticket as SimulatorTicket
from pipeline.simulator.quotas import Quotas


@pytest.mark.parametrize(
    ("rule", "seed", "are_refused"),
    # the rule that gives back what was not used believes in room that OpenAI does not have
    [*[("larger", seed, False) for seed in range(5)], ("max_tokens", 0, True)],
)
def test_the_simulator_refuses_nothing_under_openais_rule_and_is_used_up(
    rule: ReserveOutput, seed: int, are_refused: bool
) -> None:
    rng = random.Random(seed)
    amount, lasts_s, most = 60_000, 240.0, 500
    limits = rate_limits(LimitsSection(preset="openai", reserve_output=rule, tokens_per_minute=amount))
    book, holder = QuotaBook(QuotaSpec(64, limits), 0.0), LeaseHolder(QuotaSpec(64, limits))
    book.join(1, 0.0)
    costs = Costs(Costing(rule, most))
    endpoint = Admission(Quotas(tokens_per_minute=amount, reserve="larger", refused_count=True), 0.0)
    sizes = [rng.randint(50, 900) for _ in range(2_000)]
    calls = deque((Batch((Request("a", text="x", input_tokens=size),)), size) for size in sizes)
    on_their_way: deque[tuple[float, Cost, Cost, float, SimulatorTicket]] = deque()
    used = refusals = 0
    now_s = 0.0
    while now_s < lasts_s:
        while on_their_way and on_their_way[0][0] <= now_s:
            _, charged, settled, charged_s, ticket = on_their_way.popleft()
            holder.settle(charged, settled, charged_s)
            endpoint.settle(ticket, now_s)
        if holder.ask_in_s(now_s, len(calls)) <= 0:
            upcoming = [costs.of(batch) for batch, _ in islice(calls, 64)]
            ask = holder.ask(now_s, len(on_their_way), 64, len(calls), upcoming)
            holder.granted(ask, book.ask(1, ask, now_s), now_s)
        batch, size = calls[0]
        if holder.take(costs.of(batch), now_s) > 0:
            now_s += 0.01
            continue
        calls.popleft()
        admitted = endpoint.admit(size, most, now_s)
        if isinstance(admitted, Refusal429):
            refusals += 1
            holder.settle(holder.charged, costs.used(holder.charged, batch, NO_USAGE, ErrorCode.RATE_LIMITED), now_s)
            continue
        admitted.output_tokens = 20
        settled = costs.used(holder.charged, batch, Usage(size, 20), None)
        on_their_way.append((now_s + 2.0, holder.charged, settled, holder.charged_s, admitted))
        used += max(size, most)
    assert bool(refusals) is are_refused, f"seed {seed}"
    if not are_refused:
        assert used >= 0.97 * amount * lasts_s / 60, f"seed {seed}"
