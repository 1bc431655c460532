"""Tests that a mail costs the same on a long conversation as on a short one (reliability.md 18)."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from itertools import count

import pytest
import sqlalchemy as sa

from core.model.message import Address, Message
from gateway.store.schema import tables
from tests.replay.correspondence import EMPTY, START
from tests.replay.world import World

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.alone]
SHORT, LONG, ROUNDS, MOST = 20, 20_000, 40, 1.3
_numbers = count(1)


def mail(who: str, *parents: str) -> Message:
    """Return a mail of a person that names these ids."""
    number = next(_numbers)
    return replace(
        EMPTY,
        message_id=f"n{number}@example.org",
        in_reply_to=parents[-1:],
        references=parents,
        date=START,
        sender=Address(who, f"{who}@example.org"),
        to=(Address("", "support@localhost"),),
        subject="Printer",
        text="Some words.",
        reply_text="Some words.",
        content_digest=f"digest {number}",
        plain_digest=f"digest {number}",
    )


async def grow(world: World, thread: int, size: int, parent: str | None) -> None:
    """Let a thread hold ``size`` messages more, which name ``parent`` or the one before them."""
    async with world.database.write(ordered=True) as connection:
        first = (
            await connection.execute(
                sa.select(tables.message).where(tables.message.c.thread_id == thread).limit(1)
            )
        ).one()
        base = (await connection.execute(sa.select(sa.func.max(tables.message.c.id)))).scalar_one()
        ids = [f"t{thread}.{number}@example.org" for number in range(size)]
        rows = [
            {
                **first._asdict(),
                "id": base + number + 1,
                "mail_id": None,
                "message_id": each,
                "parents": [parent or ids[number - 1]],
                "opens": False,
            }
            for number, each in enumerate(ids)
        ]
        await connection.execute(sa.insert(tables.message), rows)
        held = [
            {
                "ref": row["message_id"],
                "thread_id": thread,
                "message": row["id"],
                "forward": False,
                "claims": [[row["sender_id"], False]],
            }
            for row in rows
        ]
        await connection.execute(sa.insert(tables.message_ref), held)
        counter = tables.counter
        await connection.execute(
            sa.update(counter).where(counter.c.name == "message").values(value=base + size)
        )


@pytest.mark.parametrize("ancestor", [None, "never@example.org"], ids=["chain", "never seen"])
async def test_a_mail_costs_the_same_on_a_long_thread(world: World, ancestor: str | None) -> None:
    """On a thread of 20,000 a mail takes at most 1.3 times the CPU of one on a thread of 20."""
    threads: dict[int, tuple[int, str, tuple[str, ...]]] = {}
    for size in (SHORT, LONG):
        who = f"ann{size}"
        seen = ancestor and f"{size}.{ancestor}"
        opening = mail(who, *([seen] if seen else []))
        (line,) = await world.file([opening])
        await grow(world, line["thread"], size, seen)
        last = f"t{line['thread']}.{size - 1}@example.org"
        named: tuple[str, ...] = (seen,) if seen else (str(opening.message_id), last)
        threads[size] = (line["thread"], who, named)
    spent: dict[int, list[float]] = {SHORT: [], LONG: []}
    for _ in range(ROUNDS):
        for size, (thread, who, named) in threads.items():
            began = time.process_time()
            (line,) = await world.file([mail(who, *named)])
            spent[size].append(time.process_time() - began)
            assert line["thread"] == thread
    middle = {size: statistics.median(times) for size, times in spent.items()}
    assert middle[LONG] <= MOST * middle[SHORT], middle
