"""What makes the concurrency of AIMD grow and what does not; what it finds in the end is in tests/virtual."""

import pytest

from pipeline.limits.aimd import Aimd, Signal


def test_it_grows_only_when_it_is_used() -> None:
    aimd = Aimd(1024, start=32)
    for call in range(500):
        epoch = aimd.started(3, call * 0.1)
        aimd.ended(Signal.SUCCESS, epoch, call * 0.1, call * 0.1 + 0.05)
    assert aimd.limit == 32


def test_ignored_ends_are_no_verdict() -> None:
    aimd = Aimd(64)
    for call in range(500):
        aimd.ended(Signal.IGNORE, aimd.started(64, call * 0.1), call * 0.1, call * 0.1 + 0.05)
    assert aimd.limit == 64


def test_growth_that_brings_nothing_stops() -> None:
    """A server that queues: the more at once, the slower each."""
    aimd = Aimd(1024, start=32)
    now_s = 0.0
    for _ in range(40):
        takes_s = max(0.1, int(aimd.limit) / 400)  # 40 are served at once, the others wait in line
        limit = int(aimd.limit)
        epochs = [aimd.started(place + 1, now_s) for place in range(limit)]
        for place in range(limit):
            aimd.ended(Signal.SUCCESS, epochs[place], now_s, now_s + takes_s * (place + 1) / limit)
        now_s += takes_s
    assert 32 <= aimd.limit <= 128


def test_a_gentle_start_grows_by_half_at_most() -> None:
    aimd = Aimd(1024, start=32)
    aimd.go_gently()
    steps = []
    now_s = 0.0
    for _ in range(40):
        before = aimd.limit
        epochs = [aimd.started(place + 1, now_s) for place in range(int(before))]
        for epoch in epochs:
            aimd.ended(Signal.SUCCESS, epoch, now_s, now_s + 0.1)
        now_s += 0.1
        steps.append(aimd.limit / before)
    assert max(steps) == pytest.approx(1.5)
    assert aimd.limit > 200
