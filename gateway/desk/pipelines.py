"""What an administrator can do: pipelines, statuses, channels, users, contacts. Each act is one
transaction.

The rules of behaviour.md 2.5 stand in the store beside the rows; here they meet the tickets. A rule
that forbids it is ``Refused`` with the reason, and nothing was changed. Nothing here moves a
ticket, but the wizard of P04, which does it by the rules of a move.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from core.events import Cause, FieldsSet, MoveAsked
from core.model.message import address_key
from core.model.ticket import Channel, Contact, User
from core.pipeline import Pipeline, Status, StatusState
from gateway.desk.transaction import Actor, Transaction, status_of
from gateway.desk.workflows import retire
from gateway.errors import Refused
from gateway.store.erasure import erase
from gateway.store.erasure import plan as departure
from gateway.store.erasure.erase import Removed
from gateway.store.erasure.find import Likeness
from gateway.store.erasure.plan import Plan
from gateway.store.queues.blobs import Blobs
from gateway.store.setup import channels, default_workflows, pipelines, status_references, users
from gateway.store.setup.users import Role
from gateway.store.tickets import contacts, tickets
from gateway.store.tickets.threads import chunks
from gateway.store.tickets.tickets import TicketEvent
from gateway.store.tickets.unit_of_work import Connection
from gateway.validation import refuse_unnamed


class Switches(TypedDict, total=False):
    """What can be set on a pipeline; triggers by name of a status, None = off."""

    set_close_date: bool
    on_email_sent: str | None
    on_customer_reply: str | None
    strangers: str
    allow_back: bool
    relay: bool


class ChannelChanges(TypedDict, total=False):
    """What can be set on a channel, names as typed; ``allow`` and ``deny`` replace what stood
    there.
    """

    name: str
    tickets: bool
    pipeline: str
    status: str
    outbound_status: str
    allow: Collection[str]
    deny: Collection[str]
    is_default: bool


@dataclass(frozen=True, slots=True)
class StatusPlan:
    """A status as it is to be; ``was`` is its name so far, where that is another."""

    name: str
    state: StatusState
    was: str | None = None


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """A pipeline as it is to be: all its statuses in order, and the switches that are to be set."""

    name: str
    statuses: tuple[StatusPlan, ...]
    switches: Switches


@dataclass(frozen=True, slots=True)
class Deleted:
    """A status is gone: the tickets that were moved before, and what that wrote."""

    moved: tuple[int, ...]
    events: tuple[TicketEvent, ...]


@dataclass(frozen=True, slots=True)
class Erasure:
    """A person was taken out: what went, the tickets that were his alone, and those of others that
    lost something.
    """

    removed: Removed
    tickets: tuple[int, ...]
    shared: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """How many blobs were deleted, and whether the files hold nothing of what was deleted; False
    while a reader keeps SQLite's log in use.
    """

    blobs: int
    clean: bool


class AdminDesk(Actor):
    """What this person can do with the desk itself; see the module."""

    # ---- pipelines

    async def add_pipeline(
        self, name: str, statuses: Sequence[tuple[str, StatusState]]
    ) -> Pipeline:
        """A pipeline with these statuses in order (P03)."""
        async with self.acting() as act:
            made = await pipelines.add(act.unit.connection, name, statuses)
            await default_workflows.workflows_for(act.unit.connection, made, act.now)
            return made

    async def set_pipeline(self, name: str, switches: Switches) -> Pipeline:
        """Set switches; no existing ticket changes (C11)."""
        async with self.acting() as act:
            return await _switch(act.unit.connection, act.pipeline(name), switches)

    async def arrange_pipelines(self, plans: Sequence[PipelinePlan]) -> None:
        """Bring pipelines to what the plans say, all or none; those that no plan names stay. A
        status that is left out is removed (P04).
        """
        async with self.acting() as act:
            for plan in plans:
                await _arrange(act, plan)

    async def delete_pipeline(self, name: str) -> None:
        """Remove a pipeline that nothing uses; never the default one (P06)."""
        async with self.acting() as act:
            found = act.pipeline(name)
            for status in found.statuses:
                await _retire(act, status)
            await pipelines.delete(act.unit.connection, found)

    async def add_status(self, pipeline: str, name: str, state: StatusState) -> Pipeline:
        """A status at the end."""
        async with self.acting() as act:
            await pipelines.add_status(act.unit.connection, act.pipeline(pipeline), name, state)
            return await pipelines.named(act.unit.connection, pipeline)

    async def rename_status(self, pipeline: str, old: str, new: str) -> Pipeline:
        """Another name; everything that uses the status stays with it."""
        async with self.acting() as act:
            found = act.pipeline(pipeline)
            await pipelines.rename_status(act.unit.connection, found, status_of(found, old), new)
            await status_references.rename(
                act.unit.connection,
                dict(act.unit.desk.pipelines),
                found,
                old,
                new,
                self.actor,
                act.now,
            )
            return await pipelines.named(act.unit.connection, pipeline)

    async def move_status(self, pipeline: str, name: str, position: int) -> Pipeline:
        """Another place; the first open status follows at once and no ticket moves (P01)."""
        async with self.acting() as act:
            found = act.pipeline(pipeline)
            await pipelines.move_status(
                act.unit.connection, found, status_of(found, name), position
            )
            return await pipelines.named(act.unit.connection, pipeline)

    async def flip_status(self, pipeline: str, name: str, state: StatusState) -> tuple[Status, int]:
        """Make a status open or closed. Tickets in it keep their dates; their number is returned,
        for the back-fill that is offered (C10).
        """
        async with self.acting() as act:
            found = act.pipeline(pipeline)
            status = status_of(found, name)
            inside = await pipelines.set_status_state(act.unit.connection, found, status, state)
            return replace(status, state=state), inside if state != status.state else 0

    async def delete_status(self, pipeline: str, name: str, move_to: str | None = None) -> Deleted:
        """Remove a status; with ``move_to`` its tickets and references go there first (P04).

        The tickets move by the rules of the close date, and no status workflow runs (P05).
        """
        async with self.acting() as act:
            found = act.pipeline(pipeline)
            status = status_of(found, name)
            await pipelines.refuse_needed(found, status)
            moved = await self._empty(act, found, status, move_to) if move_to is not None else ()
            found = await pipelines.named(act.unit.connection, found.name)
            await pipelines.delete_status(act.unit.connection, found, status)
            await _retire(act, status)
        return Deleted(moved, act.events)

    async def _empty(
        self, act: Transaction, pipeline: Pipeline, status: Status, move_to: str
    ) -> tuple[int, ...]:
        target = status_of(pipeline, move_to)
        if target.id == status.id:
            raise Refused("the tickets have to go to another status")
        unit, connection = act.unit, act.unit.connection
        inside = await tickets.in_status(connection, status.id)
        await unit.load_tickets(inside)
        cause = Cause("admin", user=act.cause.user)
        for number in inside:
            act.do(
                MoveAsked(
                    unit.tickets[number], pipeline, target.id, cause, person=False, migration=True
                )
            )
        await act.settle()
        await pipelines.repoint(connection, pipeline, status, target)
        await status_references.rename(
            connection,
            dict(unit.desk.pipelines),
            pipeline,
            status.name,
            target.name,
            self.actor,
            act.now,
        )
        return tuple(
            number
            for number in inside
            if unit.tickets[number].deleted_at is None and unit.tickets[number].merged_into is None
        )

    # ---- channels

    async def add_channel(
        self,
        address: str,
        name: str | None = None,
        pipeline: str | None = None,
        status: str | None = None,
    ) -> Channel:
        """An address of ours whose mail becomes tickets."""
        if name is not None:
            refuse_unnamed("a channel", "name", name)
        async with self.acting() as act:
            into = (
                act.pipeline(pipeline) if pipeline is not None else act.unit.desk.default_pipeline
            )
            first = status_of(into, status).id if status is not None else None
            return await channels.add(
                act.unit.connection, address, name or "", into, first, act.now
            )

    async def set_channel(self, address: str, changes: ChannelChanges) -> Channel:
        """Set a channel's name, switch, place and lists; existing tickets and threads stay as they
        are (P07).
        """
        if "name" in changes:
            refuse_unnamed("a channel", "name", changes["name"])
        async with self.acting() as act:
            connection = act.unit.connection
            channel = await channels.at(connection, address)
            values: dict[str, Any] = {
                name: value
                for name, value in changes.items()
                if name not in ("pipeline", "status", "outbound_status")
            }
            into = act.pipeline(changes["pipeline"]) if "pipeline" in changes else None
            if "status" in changes:
                into = into or act.unit.desk.pipelines[channel.pipeline_id]
                values["status_id"] = status_of(into, changes["status"]).id
            if "outbound_status" in changes:
                into = into or act.unit.desk.pipelines[channel.pipeline_id]
                values["outbound_status_id"] = status_of(into, changes["outbound_status"]).id
            return await channels.change(connection, channel, pipeline=into, **values)

    # ---- people

    async def set_contact(self, address: str, **flags: bool | str | None) -> Contact:
        """Set ``marketing_ok``, ``blocked`` or ``language`` of a contact; Refused when there is
        none with that address.
        """
        async with self.acting() as act:
            contact = await contact_at(act.unit.connection, address)
            await contacts.set_flags(act.unit.connection, [contact.id], **flags)
            return await contact_at(act.unit.connection, address)

    async def erase_contact(self, address: str, blobs: Blobs) -> Erasure:
        """Takes a person out: his own conversations wholly, what he wrote from those of others, his
        address from everything else.

        Refused when nothing is known of the address, when it is a user's or a channel's, or when
        held mail names him; Unavailable while mail that names him waits. What lies in ``blobs`` and in
        free space goes by :meth:`sweep`, after the commit.
        """
        like = Likeness(address)
        looked = await departure.survey(self.database, blobs, like)
        names = await departure.names(self.database, like, looked)
        async with self.acting() as act:
            unit, connection = act.unit, act.unit.connection
            ours = {
                *unit.desk.channels,
                *(each for user in await users.load(connection) for each in user.addresses),
            }
            if like.address in ours:
                raise Refused(
                    "the address is a user's or a channel's, not that of somebody outside"
                )
            contact = next(iter(await contacts.load(connection, addresses=[like.address])), None)
            like = Likeness(address, {*names, contact.name if contact is not None else ""})
            plan = await departure.plan(connection, blobs, like, contact, looked, ours)
            told = await _take_off(act, plan)
            removed = await erase.remove(connection, plan, told)
            if removed.nothing and contact is None:
                raise Refused("nothing is known of this address")
        return Erasure(
            removed, tuple(sorted(plan.tickets)), tuple(sorted(plan.touched - plan.tickets))
        )

    async def sweep(self, blobs: Blobs) -> Swept:
        """Finishes what :meth:`erase_contact` began, and what a crash left of an earlier one:
        blobs, search index, free space.
        """
        return Swept(await erase.drop_blobs(self.database, blobs), await erase.scour(self.database))

    async def add_user(
        self, name: str, addresses: Sequence[str], role: Role, password_hash: str | None = None
    ) -> User:
        """An agent with these addresses, which count as verified."""
        refuse_unnamed("a user", "name", name)
        async with self.acting() as act:
            return await users.add(
                act.unit.connection, name, addresses, role, act.now, password_hash=password_hash
            )

    async def set_user(self, address: str, also: Sequence[str] = (), **values: Any) -> User:
        """Set ``name``, ``role``, ``active`` or ``password_hash`` of a user; ``also`` adds
        addresses.
        """
        if "name" in values:
            refuse_unnamed("a user", "name", values["name"])
        async with self.acting() as act:
            connection = act.unit.connection
            user = await users.at(connection, address)
            if values:
                await users.change(connection, user.id, **values)
            if also:
                first = await users.sign_in_address(connection, user.id)
                await users.set_addresses(
                    connection, user.id, [first, *sorted(user.addresses - {first}), *also]
                )
            return await users.at(connection, address)


async def _retire(act: Transaction, status: Status) -> None:
    """The workflow of a status goes with it."""
    workflow = act.unit.desk.workflows.get(status.id)
    if workflow is not None:
        await retire(act, workflow)


async def _switch(connection: Connection, pipeline: Pipeline, switches: Switches) -> Pipeline:
    values: dict[str, Any] = dict(switches)
    for trigger in ("on_email_sent", "on_customer_reply"):
        if isinstance(target := values.get(trigger), str):
            values[trigger] = status_of(pipeline, target).id
    return await pipelines.change(connection, pipeline, **values)


async def _arrange(act: Transaction, plan: PipelinePlan) -> None:
    connection = act.unit.connection
    known = {
        each.name.casefold(): each for each in (await pipelines.load_pipelines(connection)).values()
    }
    found = known.get(plan.name.casefold())
    if found is None:
        found = await pipelines.add(
            connection, plan.name, [(each.name, each.state) for each in plan.statuses]
        )
        await default_workflows.workflows_for(connection, found, act.now)
    wanted: list[tuple[int | None, str, StatusState]] = []
    for each in plan.statuses:
        own = (
            status_of(found, each.was)
            if each.was is not None and found.named(each.name) is None
            else found.named(each.name)
        )
        wanted.append((own.id if own is not None else None, each.name, each.state))
        if own is not None and own.name != each.name:
            await status_references.rename(
                connection,
                dict(act.unit.desk.pipelines),
                found,
                own.name,
                each.name,
                act.cause.user or "",
                act.now,
            )
    kept = {status_id for status_id, _, _ in wanted}
    removed = [status for status in found.statuses if status.id not in kept]
    arranged = await _switch(
        connection, await pipelines.arrange(connection, found, wanted), plan.switches
    )
    for status in removed:
        await pipelines.delete_status(connection, arranged, status)
        await _retire(act, status)
        arranged = await pipelines.named(connection, plan.name)


async def _take_off(act: Transaction, plan: Plan) -> list[int]:
    """Give the tickets what the plan says, by the rules; returns the events that told what stood
    there before, which have to go as well.
    """
    for piece in chunks(plan.touched):
        await act.unit.load_tickets(piece)
    for number, fields in plan.fields.items():
        act.do(FieldsSet(act.unit.tickets[number], act.cause, fields))
    told = [event.id for event in act.unit.pending.events]
    for number in sorted(plan.touched):
        act.applier.remark(number, "erased", act.cause)
    await act.settle()
    return told


async def contact_at(connection: Connection, address: str) -> Contact:
    """The contact with this address; Refused when there is none."""
    found = await contacts.load(connection, addresses=[address_key(address)])
    if not found:
        raise Refused(f"there is no contact {address}")
    return found[0]
