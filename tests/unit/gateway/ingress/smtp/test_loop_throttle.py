"""Tests of the limit of work per pass of the event loop."""

from __future__ import annotations

import asyncio

from gateway.ingress.smtp import loop_throttle
from gateway.ingress.smtp.loop_throttle import LoopThrottle


async def test_few_in_each_pass_and_in_order():
    """A limited number of callers goes on per pass, in order, until all are done."""
    throttle, passes, done = LoopThrottle(), [], []

    async def work(number):
        await throttle.wait()
        done.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(100)]
    while len(done) < 100:
        before = len(done)
        await asyncio.sleep(0)
        passes.append(len(done) - before)
    await asyncio.gather(*tasks)
    assert done == list(range(100))
    assert max(passes) <= 2 * loop_throttle._CALLERS_PER_PASS


async def test_a_cancelled_session_delays_nobody():
    """A cancelled session does not delay those behind it."""
    throttle, done = LoopThrottle(), []

    async def work(number):
        await throttle.wait()
        done.append(number)

    tasks = [
        asyncio.create_task(work(number)) for number in range(3 * loop_throttle._CALLERS_PER_PASS)
    ]
    await asyncio.sleep(0)
    for task in tasks[loop_throttle._CALLERS_PER_PASS : 2 * loop_throttle._CALLERS_PER_PASS]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [
        *range(loop_throttle._CALLERS_PER_PASS),
        *range(2 * loop_throttle._CALLERS_PER_PASS, 3 * loop_throttle._CALLERS_PER_PASS),
    ]
    assert not throttle._counting or not throttle._waiting
