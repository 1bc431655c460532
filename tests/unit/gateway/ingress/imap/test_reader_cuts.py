"""Tests of connections cut at any byte while mail is moved: each mail is stored once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.servers.dovecot import letter
from tests.servers.proxy import Fault, proxy
from tests.unit.gateway.ingress.reading import on


async def cut_anywhere(world, real, step):
    """Cut connections after every ``step``-th byte, both ways; each mail is moved once."""
    rng = random.Random(4)
    faults = [
        Fault(at, way, rng.choice(["reset", "close"]))
        for way, most in (("down", 2600), ("up", 700))
        for at in range(1, most, step)
    ]
    sent = []
    with proxy(real.port) as between:
        account = replace(on(real, after="move", move_to="Done"), port=between.port)
        async with world.watched(account):
            for number, fault in enumerate(faults):
                between.faults.append(fault)
                between.drop_all()
                sent.append(letter(number, 300))
                real.deliver(real.user, sent[-1])
                # Dovecot itself leaves a connection without a greeting now and then when hundreds
                # before it were cut; each costs a deadline.
                await world.until(lambda: world.stored(len(sent)), 120)
            assert between.faults == []
            await world.holds(sent)

            async def moved():
                box = await world.box()
                return await world.boxes.unsettled(box.id, box.uidvalidity, 1) == []

            await world.until(moved)
    assert await asyncio.to_thread(real.count, real.user) == 0
    done = Counter(
        raw for raw, _ in (await asyncio.to_thread(real.seen, real.user, "Done")).values()
    )
    assert done == Counter(sent)


async def test_a_connection_cut_anywhere_loses_and_doubles_nothing(world, real):
    """No mail is lost or stored twice, for a sample of the bytes of the dialog."""
    await cut_anywhere(world, real, 61 if world.database.dialect == "sqlite" else 241)


@pytest.mark.sweep
@pytest.mark.timeout(5400)
async def test_a_connection_cut_after_every_byte_loses_and_doubles_nothing(world, real):
    """No mail is lost or stored twice, for every byte of the dialog."""
    await cut_anywhere(world, real, 1)
