"""The concurrency that AIMD finds, against endpoints of known capacity, in virtual time."""

import heapq
import random
from dataclasses import dataclass

import pytest

from pipeline.limits.aimd import FIRST_EMBEDDING_GUESS, Aimd, Signal


@dataclass(frozen=True)
class Served:
    goodput: float  # successes per second over the second half
    drops: float  # share of all calls, over the second half
    limit: float
    tolerated: float


def serve(
    aimd: Aimd, *, slots: int = 10_000, dropped: float = 0.0, latency_s: float = 1.0, lasts_s: float = 120.0, seed: int
) -> Served:
    """An endpoint with so many slots that refuses the rest within 10 ms, and a share of all calls beside."""
    rng = random.Random(seed)
    ends: list[tuple[float, float, int, bool]] = []
    now_s, busy, in_flight = 0.0, 0, 0
    good = bad = 0
    while now_s < lasts_s:
        while in_flight < int(aimd.limit):
            in_flight += 1
            epoch = aimd.started(in_flight, now_s)
            is_served = busy < slots and rng.random() >= dropped
            busy += is_served
            takes_s = latency_s * rng.uniform(0.8, 1.2) if is_served else 0.01
            heapq.heappush(ends, (now_s + takes_s, now_s, epoch, is_served))
        now_s, started_s, epoch, is_served = heapq.heappop(ends)
        in_flight -= 1
        busy -= is_served
        if now_s > lasts_s / 2:
            good += is_served
            bad += not is_served
        aimd.ended(Signal.SUCCESS if is_served else Signal.DROPPED, epoch, started_s, now_s)
    return Served(good / (lasts_s / 2), bad / (good + bad), aimd.limit, aimd.tolerated)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("slots", [3, 20, 50, 300])
def test_it_finds_the_capacity_of_an_endpoint_without_a_configured_limit(slots: int, seed: int) -> None:
    served = serve(Aimd(1024, start=32), slots=slots, seed=seed)
    assert served.goodput >= 0.9 * slots


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slots", [3, 12, 60, 256])
def test_a_cautious_first_guess_finds_it_too(slots: int, seed: int) -> None:
    served = serve(Aimd(256, start=FIRST_EMBEDDING_GUESS), slots=slots, seed=seed)
    assert served.goodput >= 0.9 * slots


def serve_all(aimds: list[Aimd], *, slots: int, refused_s: float, seed: int, lasts_s: float = 40.0) -> float:
    """Workers that begin within a second and share an endpoint of answers of 0.2 s; how much of it is used after 10 s."""
    rng = random.Random(seed)
    begins = [rng.uniform(0.0, 1.0) for _ in aimds]
    in_flight = [0] * len(aimds)
    ends: list[tuple[float, int, float, int, bool]] = [
        (begin, worker, 0.0, -1, False) for worker, begin in enumerate(begins)
    ]
    heapq.heapify(ends)
    now_s, busy, good = 0.0, 0, 0
    while now_s < lasts_s:
        open_now = [w for w, aimd in enumerate(aimds) if now_s >= begins[w] and in_flight[w] < int(aimd.limit)]
        if open_now:
            worker = rng.choice(open_now)
            in_flight[worker] += 1
            epoch = aimds[worker].started(in_flight[worker], now_s)
            is_served = busy < slots
            busy += is_served
            takes_s = (0.2 if is_served else refused_s) * rng.uniform(0.9, 1.1)
            heapq.heappush(ends, (now_s + takes_s, worker, now_s, epoch, is_served))
            continue
        now_s, worker, started_s, epoch, is_served = heapq.heappop(ends)
        if epoch >= 0:
            in_flight[worker] -= 1
            busy -= is_served
            good += is_served and now_s > 10.0
            aimds[worker].ended(Signal.SUCCESS if is_served else Signal.DROPPED, epoch, started_s, now_s)
    return good * 0.2 / slots / (lasts_s - 10.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("refused_s", [0.002, 0.05, 0.15])
@pytest.mark.parametrize(("workers", "slots"), [(2, 60), (4, 60)])
def test_workers_that_share_an_endpoint_find_its_capacity(
    workers: int, slots: int, refused_s: float, seed: int
) -> None:
    aimds = [Aimd(1024, start=32 // workers) for _ in range(workers)]
    assert serve_all(aimds, slots=slots, refused_s=refused_s, seed=seed) >= 0.9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("limit", "share"), [(8, 0.1), (128, 0.1), (128, 0.3), (128, 0.6)])
def test_drops_that_do_not_depend_on_our_load_do_not_collapse_the_window(limit: int, share: float, seed: int) -> None:
    served = serve(Aimd(limit), dropped=share, latency_s=0.5, seed=seed)
    assert served.goodput >= 0.9 * limit / 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_configured_limit_is_where_it_starts_and_what_it_never_exceeds(seed: int) -> None:
    aimd = Aimd(64)
    assert aimd.limit == 64
    served = serve(aimd, latency_s=0.2, lasts_s=20.0, seed=seed)
    assert served.limit == 64
    assert served.drops == 0
