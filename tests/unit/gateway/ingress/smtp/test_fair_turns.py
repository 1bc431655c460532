"""Turns for sessions that all have much to do."""

from __future__ import annotations

import asyncio

from gateway.ingress.smtp import fair_turns
from gateway.ingress.smtp.fair_turns import FairTurns


async def test_few_in_each_pass_and_in_order():
    """Of many who ask at once only so many go on in one pass of the event loop, in their order, and
    all do in the end.
    """
    given, passes, done = FairTurns(), [], []

    async def work(number):
        await given.wait()
        done.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(100)]
    while len(done) < 100:
        before = len(done)
        await asyncio.sleep(0)
        passes.append(len(done) - before)
    await asyncio.gather(*tasks)
    assert done == list(range(100))
    assert max(passes) <= 2 * fair_turns._MOST


async def test_who_is_cancelled_takes_no_turn():
    """A session that ended while it waited does not hold up those behind it."""
    given, done = FairTurns(), []

    async def work(number):
        await given.wait()
        done.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(3 * fair_turns._MOST)]
    await asyncio.sleep(0)
    for task in tasks[fair_turns._MOST : 2 * fair_turns._MOST]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [*range(fair_turns._MOST), *range(2 * fair_turns._MOST, 3 * fair_turns._MOST)]
    assert not given._counting or not given._waiting
