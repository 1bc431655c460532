"""Pipelines, statuses, channels, users and contacts as rows, and the refusals of behaviour.md 2.5."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from core.model.ticket import Channel
from gateway.errors import Invalid, Refused
from gateway.store.engine import Database
from gateway.store.schema import tables
from gateway.store.setup import channels, pipelines, users
from gateway.store.setup.pipelines import References
from gateway.store.tickets import contacts
from tests.unit.gateway.store.mails import NOW


@pytest.fixture
def desk(store: Database):
    """A function for ``async with``: gives an ordered transaction and the pipeline Support as it is
    now.
    """

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
    """A new pipeline has its statuses in the order given and does nothing by itself until somebody
    says so.
    """
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
        with pytest.raises(Refused):
            await pipelines.named(connection, "Nothing")


UNSOUND = [
    ("support", [("A", "open"), ("B", "closed")]),
    (" ", [("A", "open"), ("B", "closed")]),
    ("X", [("A", "open")]),
    ("X", [("B", "closed")]),
    ("X", [("A", "open"), ("a", "closed")]),
]


async def test_p03_an_unsound_pipeline_is_refused(desk):
    """P03: a pipeline has an open and a closed status; names are unique without case."""
    async with desk() as (connection, _):
        for name, statuses in UNSOUND:
            with pytest.raises((Invalid, Refused)):
                await pipelines.add(connection, name, statuses)
        assert len(await pipelines.load_pipelines(connection)) == 1


async def test_switches_are_set_and_targets_checked(desk):
    """Every switch of a pipeline can be set; a trigger only leads to a status of the same pipeline;
    there is always one default.
    """
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
        with pytest.raises(Refused):
            await pipelines.change(connection, support, on_email_sent=other.statuses[0].id)
        with pytest.raises(Refused):
            await pipelines.change(connection, support, name="SALES")
        with pytest.raises(Refused):
            await pipelines.change(connection, found, is_default=False)
        with pytest.raises(ValueError):
            await pipelines.change(connection, found, colour="red")
        await pipelines.change(connection, other, is_default=True)
        assert [
            each.is_default for each in (await pipelines.load_pipelines(connection)).values()
        ] == [False, True]


async def test_p01_statuses_are_added_renamed_and_moved(desk):
    """P01: positions count from 1 without gaps, and the first open status follows the order at
    once.
    """
    async with desk() as (connection, support):
        await pipelines.add_status(connection, support, "Parked", "open")
    async with desk() as (connection, support):
        await pipelines.move_status(
            connection, support, pipelines.status_named(support, "parked"), 1
        )
        await pipelines.rename_status(
            connection, support, pipelines.status_named(support, "New"), "Fresh"
        )
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
        for wrong in (0, 6):
            with pytest.raises(Refused):
                await pipelines.move_status(connection, support, support.statuses[0], wrong)
        for name in ("FRESH", ""):
            with pytest.raises((Invalid, Refused)):
                await pipelines.rename_status(connection, support, support.statuses[0], name)
            with pytest.raises((Invalid, Refused)):
                await pipelines.add_status(connection, support, name, "open")
        await pipelines.rename_status(connection, support, support.statuses[0], "PARKED")


async def test_c10_a_status_turned_over_tells_how_many_tickets_sit_in_it(desk):
    """C10: tickets keep their dates; how many a back-fill could touch is told, without the trash.
    P03 refuses the last of its kind.
    """
    async with desk() as (connection, support):
        waiting = pipelines.status_named(support, "Waiting on us")
        await ticket(connection, 1, waiting.id)
        await ticket(connection, 2, waiting.id)
        await ticket(connection, 3, waiting.id, deleted_at=NOW)
        assert await pipelines.set_status_state(connection, support, waiting, "closed") == 2
    async with desk() as (connection, support):
        await pipelines.set_status_state(
            connection, support, pipelines.status_named(support, "Waiting on us"), "open"
        )
    async with desk() as (connection, support):
        with pytest.raises(Refused):
            await pipelines.set_status_state(
                connection, support, pipelines.status_named(support, "Closed"), "open"
            )


async def test_p04_a_status_in_use_is_kept_with_every_reference_told(desk):
    """P04: a status with tickets, triggers or channels is not deleted; the refusal counts and names
    them; after the wizard it goes.
    """
    async with desk() as (connection, support):
        us = pipelines.status_named(support, "Waiting on us")
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
        with pytest.raises(Refused) as refusal:
            await pipelines.delete_status(connection, support, us)
        assert refusal.value.message == (
            "the status 'Waiting on us' is in use: 2 tickets, the trigger "
            "on_customer_reply, the channel support@localhost"
        )
        new = pipelines.status_named(support, "New")
        await pipelines.repoint(connection, support, us, new)
        await connection.execute(sa.update(tables.ticket).values(status_id=new.id))
    async with desk() as (connection, support):
        assert support.on_customer_reply == new.id
        assert (await channels.at(connection, "support@localhost")).status_id == new.id
        await pipelines.delete_status(connection, support, us)
    async with desk() as (connection, support):
        assert steps(support) == ["New", "Waiting on contact", "Closed"]
        assert [status.position for status in support.statuses] == [1, 2, 3]


async def test_p03_the_last_status_of_its_kind_is_kept(desk):
    """P03: the only closed status cannot be deleted although nothing uses it."""
    async with desk() as (connection, support):
        with pytest.raises(Refused):
            await pipelines.delete_status(
                connection, support, pipelines.status_named(support, "Closed")
            )


async def test_p06_a_pipeline_goes_only_when_it_is_empty_and_not_the_default(desk):
    """P06: tickets and channels keep a pipeline, and the default one stays anyway."""
    async with desk() as (connection, support):
        other = await pipelines.add(connection, "Sales", [("Lead", "open"), ("Won", "closed")])
        with pytest.raises(Refused):
            await pipelines.delete(connection, support)
        await ticket(connection, 1, other.statuses[0].id, other.id)
        await channels.add(connection, "sales@example.com", "", other, None, NOW)
        with pytest.raises(Refused) as refusal:
            await pipelines.delete(connection, other)
        assert "1 ticket, the channel sales@example.com" in refusal.value.message
        await connection.execute(sa.delete(tables.ticket))
        await connection.execute(
            sa.delete(tables.channel).where(tables.channel.c.address == "sales@example.com")
        )
        await pipelines.delete(connection, other)
        assert list(await pipelines.load_pipelines(connection)) == [support.id]


async def test_p07_a_channel_is_made_and_switched(desk):
    """P07: a channel keeps its address; tickets, name, rules and target can be set, and switching
    it off touches nothing else.
    """
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
        with pytest.raises(Refused):
            await channels.change(
                connection, found, pipeline=other, status_id=support.statuses[0].id
            )
        with pytest.raises(Refused):
            await channels.change(connection, found, deny=["no address"])
        with pytest.raises(ValueError):
            await channels.change(connection, found, address="x@y")


async def test_a_channel_is_one_address_and_no_users(desk):
    """What is no address, a channel already, or a user's address does not become a channel."""
    async with desk() as (connection, support):
        await users.add(connection, "Uma", ["uma@example.com"], "agent", NOW)
        for address in ("nonsense", "a b@example.com", "SUPPORT@localhost", "Uma@example.com", ""):
            with pytest.raises(Refused):
                await channels.add(connection, address, "", support, None, NOW)
        with pytest.raises(Refused):
            await channels.at(connection, "nobody@example.com")


async def test_users_have_addresses_of_their_own(desk):
    """A user is found by any of his addresses, signs in with the first, and never shares one with a
    user or a channel.
    """
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
        for taken in (["u@example.org"], ["support@localhost"], [], [" "]):
            with pytest.raises(Refused):
                await users.add(connection, "X", taken, "agent", NOW)
            with pytest.raises(Refused):
                await users.set_addresses(connection, bob.id, taken)
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
        with pytest.raises(Refused):
            await users.at(connection, "uma@example.com")
        with pytest.raises(ValueError):
            await users.change(connection, uma.id, colour="red")


async def test_contacts_are_made_found_and_flagged(desk):
    """Contacts are found by number and by address in one question each; unknown ones are left out;
    flags are set by name.
    """
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
