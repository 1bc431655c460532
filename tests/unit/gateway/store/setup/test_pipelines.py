"""Tests of the rows of pipelines, statuses, channels, users and contacts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from core.model.ticket import Channel
from core.rules.structure import References
from gateway.errors import NotFound
from gateway.store.engine import Database
from gateway.store.schema import tables
from gateway.store.setup import channels, pipelines, users
from gateway.store.tickets import contacts
from tests.unit.gateway.store.mails import NOW


@pytest.fixture
def desk(store: Database):
    """Return a context manager: an ordered transaction and the current pipeline Support."""

    @asynccontextmanager
    async def begin() -> AsyncIterator[tuple]:
        async with store.write(ordered=True) as connection:
            yield connection, (await pipelines.load_pipelines(connection))[1]

    return begin


async def ticket(
    connection, number: int, status_id: int, pipeline_id: int = 1, **values: object
) -> None:
    row = {
        "number": number,
        "subject": "s",
        "subject_key": "s",
        "pipeline_id": pipeline_id,
        "status_id": status_id,
        "source": "email",
    }
    await connection.execute(
        sa.insert(tables.ticket).values(**row, created_at=NOW, flags=[], tags=[], **values)
    )


def steps(pipeline) -> list[str]:
    return [status.name for status in pipeline.statuses]


async def test_a_pipeline_is_made_in_order_with_its_triggers_off(desk):
    """A new pipeline has its statuses in the given order, with its triggers off."""
    async with desk() as (connection, _):
        made = await pipelines.add(
            connection, "Sales", [("Lead", "open"), ("Won", "closed"), ("Lost", "closed")]
        )
    assert [(status.name, status.state, status.position) for status in made.statuses] == [
        ("Lead", "open", 1),
        ("Won", "closed", 2),
        ("Lost", "closed", 3),
    ]
    assert (made.on_email_sent, made.on_customer_reply, made.set_close_date, made.is_default) == (
        None,
        None,
        True,
        False,
    )
    async with desk() as (connection, _):
        assert list((await pipelines.load_pipelines(connection)).values())[1] == made
        assert await pipelines.named(connection, "sALES") == made
        with pytest.raises(NotFound):
            await pipelines.named(connection, "Nothing")


async def test_switches_are_set(desk):
    """Every switch of a pipeline can be set; one pipeline is always the default."""
    async with desk() as (connection, support):
        other = await pipelines.add(connection, "Sales", [("Lead", "open"), ("Won", "closed")])
        first = support.statuses[0].id
        values = {
            "set_close_date": False,
            "on_email_sent": None,
            "on_customer_reply": first,
            "strangers": "flag",
            "allow_back": False,
        }
        found = await pipelines.change(connection, support, **values)
        assert {name: getattr(found, name) for name in values} == values
        with pytest.raises(ValueError):
            await pipelines.change(connection, found, colour="red")
        await pipelines.change(connection, other, is_default=True)
        assert [
            each.is_default for each in (await pipelines.load_pipelines(connection)).values()
        ] == [False, True]


async def test_p01_statuses_are_added_renamed_and_moved(desk):
    """P01: positions count from 1 without gaps; the first open status follows the order."""
    async with desk() as (connection, support):
        await pipelines.add_status(connection, support, "Parked", "open")
    async with desk() as (connection, support):
        await pipelines.move_status(connection, support, support.named("parked"), 1)
        await pipelines.rename_status(connection, support.named("New"), "Fresh")
    async with desk() as (connection, support):
        assert steps(support) == [
            "Parked",
            "Fresh",
            "Waiting on contact",
            "Waiting on us",
            "Closed",
        ]
        assert [status.position for status in support.statuses] == [1, 2, 3, 4, 5]
        assert support.first_open().name == "Parked"
        await pipelines.rename_status(connection, support.statuses[0], "PARKED")


async def test_c10_live_tickets_of_a_status_are_counted(desk):
    """C10: tickets keep their dates; those without one are counted, except in the trash."""
    async with desk() as (connection, support):
        waiting = support.named("Waiting on us")
        await ticket(connection, 1, waiting.id)
        await ticket(connection, 2, waiting.id)
        await ticket(connection, 3, waiting.id, deleted_at=NOW)
        await pipelines.set_status_state(connection, waiting, "closed")
        assert await pipelines.live_tickets(connection, waiting) == 2
    async with desk() as (_, support):
        assert support.named("Waiting on us").state == "closed"


async def test_p04_what_uses_a_status_is_counted_and_repointed(desk):
    """P04: tickets, triggers and channels of a status are found, and can be repointed."""
    async with desk() as (connection, support):
        us = support.named("Waiting on us")
        await ticket(connection, 1, us.id)
        await ticket(connection, 2, us.id, deleted_at=NOW)
        await channels.change(
            connection,
            await channels.at(connection, "support@localhost"),
            pipeline=support,
            status_id=us.id,
        )
        assert await pipelines.references(connection, support, us) == References(
            2, ("on_customer_reply",), ("support@localhost",)
        )
        new = support.named("New")
        await pipelines.repoint(connection, support, us, new)
        await connection.execute(sa.update(tables.ticket).values(status_id=new.id))
    async with desk() as (connection, support):
        assert support.on_customer_reply == new.id
        assert (await channels.at(connection, "support@localhost")).status_id == new.id
        await pipelines.delete_status(connection, support, us)
    async with desk() as (connection, support):
        assert steps(support) == ["New", "Waiting on contact", "Closed"]
        assert [status.position for status in support.statuses] == [1, 2, 3]


async def test_p06_what_uses_a_pipeline_is_counted(desk):
    """P06: tickets and channels of a pipeline are found; an empty one goes with its statuses."""
    async with desk() as (connection, support):
        other = await pipelines.add(connection, "Sales", [("Lead", "open"), ("Won", "closed")])
        await ticket(connection, 1, other.statuses[0].id, other.id)
        await channels.add(connection, "sales@example.com", "", other, None, NOW)
        uses = await pipelines.pipeline_references(connection, other)
        assert uses == References(1, (), ("sales@example.com",))
        await connection.execute(sa.delete(tables.ticket))
        await connection.execute(
            sa.delete(tables.channel).where(tables.channel.c.address == "sales@example.com")
        )
        assert not await pipelines.pipeline_references(connection, other)
        await pipelines.delete(connection, other)
        assert list(await pipelines.load_pipelines(connection)) == [support.id]


async def test_p07_a_channel_is_made_and_switched(desk):
    """P07: a channel's name, rules and target can be set; its address stays."""
    async with desk() as (connection, support):
        other = await pipelines.add(connection, "Sales", [("Lead", "open"), ("Won", "closed")])
        made = await channels.add(
            connection, " Sales@Example.com ", "Sales desk", support, support.statuses[1].id, NOW
        )
        assert made == Channel(
            made.id, "sales@example.com", "Sales desk", support.id, support.statuses[1].id
        )
        found = await channels.change(
            connection,
            made,
            tickets=False,
            allow={"A@b.example", "@Good.example"},
            deny=["@bad.example"],
        )
        assert (found.tickets, found.allow, found.deny) == (
            False,
            {"a@b.example", "@good.example"},
            {"@bad.example"},
        )
        found = await channels.change(connection, found, pipeline=other)
        assert (found.pipeline_id, found.status_id, found.tickets) == (other.id, None, False)
        found = await channels.change(
            connection,
            found,
            pipeline=other,
            status_id=other.statuses[1].id,
            is_default=True,
            name="N",
        )
        assert (found.status_id, found.is_default, found.name) == (other.statuses[1].id, True, "N")
        assert [each.is_default for each in await pipelines.load_channels(connection)] == [
            True,
            False,
        ]
        with pytest.raises(NotFound):
            await channels.at(connection, "nobody@example.com")
        with pytest.raises(ValueError):
            await channels.change(connection, found, address="x@y")


async def test_users_have_addresses_of_their_own(desk):
    """A user is found by any of their addresses and signs in with the first."""
    async with desk() as (connection, _):
        uma = await users.add(
            connection,
            "Uma",
            ["Uma@Example.com", "u@example.org", "uma@example.com"],
            "admin",
            NOW,
            password_hash="h",
        )
        bob = await users.add(connection, "Bob", ["bob@example.com"], "agent", NOW)
        assert uma.addresses == {"uma@example.com", "u@example.org"}
        assert await users.at(connection, "U@EXAMPLE.org") == uma
        assert await users.sign_in_address(connection, uma.id) == "uma@example.com"
        assert (
            await users.password_hash(connection, uma.id),
            await users.password_hash(connection, bob.id),
        ) == ("h", None)
        await users.set_addresses(connection, uma.id, ["u@example.org", "new@example.org"])
        await users.change(connection, uma.id, role="reader", active=False, name="U")
        found = await users.at(connection, "new@example.org")
        assert (found.name, found.role, found.active, found.addresses) == (
            "U",
            "reader",
            False,
            {"u@example.org", "new@example.org"},
        )
        assert await users.load(connection) == [found, bob]
        with pytest.raises(NotFound):
            await users.at(connection, "uma@example.com")
        with pytest.raises(ValueError):
            await users.change(connection, uma.id, colour="red")


async def test_contacts_are_made_found_and_flagged(desk):
    """Contacts are found by numbers or addresses in one query; flags are set by name."""
    async with desk() as (connection, _):
        made = await contacts.insert(connection, [("B@x.example", "Bo"), ("a@x.example", "")], NOW)
        assert [(each.id, each.address, each.name) for each in made] == [
            (1, "b@x.example", "Bo"),
            (2, "a@x.example", ""),
        ]
        assert await contacts.load(connection, addresses=["a@x.example", "nobody@x.example"]) == [
            made[1]
        ]
        assert await contacts.load(connection, ids=[1, 77]) == [made[0]]
        assert await contacts.load(connection) == []
        await contacts.set_flags(connection, [1], blocked=True, marketing_ok=True)
        [found] = await contacts.load(connection, ids=[1])
        assert (found.blocked, found.automated, found.marketing_ok, found.proven) == (
            True,
            False,
            True,
            False,
        )
        assert [each.id for each in await contacts.listing(connection)] == [2, 1]
        assert len(await contacts.listing(connection, 1)) == 1
        with pytest.raises(ValueError):
            await contacts.set_flags(connection, [1], tall=True)
        assert len(await contacts.load(connection, ids=range(40_000))) == 2
