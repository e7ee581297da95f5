"""Calls that wait together: each for its own time, whatever becomes of the others."""

import asyncio
import random

from pipeline.simulator.delays import Delays
from tests.virtual_time import run_virtual


def test_every_call_waits_its_time_and_a_millisecond_more_at_most():
    async def main() -> None:
        rng = random.Random(4)
        delays, loop = Delays(), asyncio.get_running_loop()

        async def call(begins_s: float, delay_s: float) -> float:
            await asyncio.sleep(begins_s)
            started_s = loop.time()
            await delays.sleep(delay_s)
            return loop.time() - started_s - delay_s

        calls = [(rng.random() / 10, rng.choice([0.0004, 0.05, 0.1, 2.5])) for _ in range(500)]
        late_s = await asyncio.gather(*[call(*one) for one in calls])
        assert all(-1e-6 <= late <= 0.0011 for late in late_s), (min(late_s), max(late_s))

    run_virtual(main())


def test_a_cancelled_call_leaves_those_that_wait_with_it():
    async def main() -> None:
        delays = Delays()
        first, second = (asyncio.ensure_future(delays.sleep(0.1)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        await second
        assert first.cancelled()

    run_virtual(main())
