"""Tests of random lives of a ticket against a second, short model of the tables of behaviour.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from core.model.message import Address, Kind, Message
from gateway.store.setup import channels, pipelines, users
from tests.conftest import START
from tests.replay.correspondence import EMPTY
from tests.replay.world import ZONE, World, start_again

STATUSES = ("New", "Waiting on contact", "Waiting on us", "Closed")
PEOPLE = ("ann", "bob", "eve", "uma")  # requester, in Cc, a stranger, an agent
KINDS: tuple[Kind, ...] = (
    "human",
    "human",
    "bulk",
    "auto_generated",
    "forward",
    "auto_reply",
    "bounce",
)
pytestmark = pytest.mark.asyncio(loop_scope="session")

MAILS = st.tuples(
    st.just("mail"),
    st.sampled_from(PEOPLE),
    st.sampled_from(KINDS),
    st.sampled_from([1, 1, 2]),
    st.sampled_from([True, True, False]),
)
ACTS = st.one_of(
    MAILS,
    MAILS,
    st.tuples(st.just("move"), st.sampled_from(STATUSES)),
    st.tuples(st.just("b"), st.sampled_from([None, *STATUSES])),
    st.tuples(st.just("dates"), st.booleans()),
    st.tuples(st.just("strangers"), st.sampled_from(["move", "flag"])),
    st.tuples(st.just("attach")),
    st.tuples(st.just("wait"), st.integers(1, 40)),
)


@dataclass
class Life:
    """The state that a ticket should have, according to the tables."""

    now: datetime = START
    status: str = "New"
    close_date: date | None = None
    first_closed: datetime | None = None
    reopened: int = 0
    moves: int = 0
    b: str | None = "Waiting on us"
    dates: bool = True
    strangers: str = "move"
    attached: datetime | None = None

    def move(self, status: str) -> None:
        """Apply rows C01 to C06."""
        if status == self.status:
            return
        closed = self.status == "Closed"
        self.status, self.moves = status, self.moves + 1
        if status == "Closed":
            self.first_closed = self.first_closed or self.now
            if self.dates:
                self.close_date = self.now.astimezone(ZONE).date()
        elif closed:
            self.close_date, self.reopened = None, self.reopened + 1

    def mail(self, sender: str, kind: Kind, thread: int, automation: bool) -> None:
        """Apply a mail (section 2.1, step 9)."""
        if kind in ("auto_reply", "bounce", "forward") or sender == "uma" or not automation:
            return
        if sender == "eve" and self.strangers == "flag":
            return
        if self.status == "Closed":
            self.move("New")
        elif self.b is not None and (thread == 1 or self.late_thread()):
            self.move(self.b)

    def late_thread(self) -> bool:
        """Apply a late thread (C2)."""
        return bool(
            self.reopened
            and self.first_closed
            and self.attached
            and self.attached >= self.first_closed
        )


def letter(name: str, sender: str, kind: Kind = "human", answers: str | None = None) -> Message:
    return replace(
        EMPTY,
        message_id=f"{name}@example.org",
        in_reply_to=(f"{answers}@example.org",) if answers else (),
        date=START,
        sender=Address(sender, f"{sender}@example.org"),
        to=(Address("", "support@localhost"),),
        cc=(Address("bob", "bob@example.org"),) if answers is None else (),
        subject=name,
        kind=kind,
        content_digest=name,
        plain_digest=name,
    )


async def begin(world: World) -> None:
    """Make ann's ticket with bob in Cc, a conversation of hers without a ticket, and agent uma."""
    await start_again(world.database)
    world.clock.set(START)
    await world.file([letter("first", "ann")])
    async with world.database.write(ordered=True) as connection:
        await users.add(connection, "Uma", ["uma@example.org"], "agent", START)
    await configure(world, "channel", False)
    await world.file([letter("second", "ann")])


async def configure(world: World, what: str, value: Any) -> None:
    async with world.database.write(ordered=True) as connection:
        if what == "channel":
            await channels.change(
                connection, await channels.at(connection, "support@localhost"), tickets=value
            )
            return
        pipeline = await pipelines.named(connection, "Support")
        if what == "b":
            value = pipeline.named(value).id if value else None
        setting = {"b": "on_customer_reply", "dates": "set_close_date", "strangers": "strangers"}[
            what
        ]
        await pipelines.change(connection, pipeline, **{setting: value})


async def live(world: World, life: Life, number: int, act: tuple[Any, ...]) -> None:
    """Do one act on the real desk and on the model."""
    match act:
        case "mail", sender, kind, thread, automation:
            if thread == 2 and life.attached is None:
                return
            answers = "first" if thread == 1 else "second"
            envelope = world.envelope(automation=automation)
            line = (await world.file([letter(f"m{number}", sender, kind, answers)], envelope))[0]
            assert line["ticket"] == 1
            life.mail(sender, kind, thread, automation)
        case "move", status:
            await world.desk().move([1], status)
            life.move(status)
        case ("attach",):
            if life.attached is None:
                await world.desk().attach(1, 2)
                life.attached = life.now
        case "wait", hours:
            life.now += timedelta(hours=hours)
            world.clock.set(life.now)
        case what, value:
            await configure(world, what, value)
            setattr(life, what, value)


@given(acts=st.lists(ACTS, min_size=3, max_size=14))
@settings(
    deadline=None,
    max_examples=15,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
async def test_any_life_follows_the_tables(world: World, acts: list[tuple[Any, ...]]) -> None:
    """Status, close date, reopenings and moves equal the model's (INV1 to INV5, INV9)."""
    await begin(world)
    life = Life()
    for number, act in enumerate(acts):
        await live(world, life, number, act)
        found = await world.ticket(1)
        shown = (found["status"], found["close_date"], found["reopened_count"])
        assert shown == (
            life.status,
            life.close_date.isoformat() if life.close_date else None,
            life.reopened,
        ), act
    moves = [
        event for event in (await world.ticket(1))["events"] if event["type"] == "status_changed"
    ]
    assert len(moves) == life.moves
    await world.check()
