"""Erase a person: conversations, mail, and every other place where the address stands."""

from __future__ import annotations

from dataclasses import dataclass

from core.events import FieldsSet
from core.rules.rights import Right
from gateway.desk.transaction import Actor, Transaction
from gateway.errors import NotFound, Refused
from gateway.store.erasure import erase
from gateway.store.erasure import plan as planning
from gateway.store.erasure.erase import Removed
from gateway.store.erasure.find import Likeness
from gateway.store.erasure.plan import Plan
from gateway.store.queues.blobs import Blobs
from gateway.store.setup import users
from gateway.store.tickets import contacts


@dataclass(frozen=True, slots=True)
class Erasure:
    """Counts of removed data, the deleted ``tickets``, and the ``shared`` ones, erased in part."""

    removed: Removed
    tickets: tuple[int, ...]
    shared: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """The number of deleted blobs, and whether the database files are ``clean`` of deleted data.

    ``clean`` is False while a reader keeps SQLite's write-ahead log in use.
    """

    blobs: int
    clean: bool


class ErasureDesk(Actor):
    """Erases all data of a person; this cannot be undone."""

    async def erase_contact(self, address: str, blobs: Blobs) -> Erasure:
        """Erase a person from the database; call :meth:`sweep` next, to clear blobs and free space.

        Deletes the person's own conversations, the person's messages in other conversations, and
        the address everywhere else. Raises Refused for the address of a user or channel, or if held
        mail names the person. Raises Unavailable if mail that names the person waits for the
        intake.
        """
        await self.check(Right.ERASE_PEOPLE)
        person = Likeness(address)
        survey = await planning.survey(self.database, blobs, person)
        names = await planning.names(self.database, person, survey)
        async with self.acting(Right.ERASE_PEOPLE) as act:
            connection = act.unit.connection
            people = await users.load(connection)
            ours = {*act.unit.desk.channels, *(key for each in people for key in each.addresses)}
            if person.address in ours:
                raise Refused("the address belongs to a user or a channel, not to a contact")
            contact = next(iter(await contacts.load(connection, addresses=[person.address])), None)
            person = Likeness(address, {*names, contact.name if contact is not None else ""})
            plan = await planning.plan(connection, blobs, person, contact, survey, ours)
            removed = await erase.remove(connection, plan, await _clear_tickets(act, plan))
            if removed.nothing and contact is None:
                raise NotFound("nothing is known of this address")
        shared = plan.touched - plan.tickets
        return Erasure(removed, tuple(sorted(plan.tickets)), tuple(sorted(shared)))

    async def sweep(self, blobs: Blobs) -> Swept:
        """Clear blobs, index entries and free space left over from erasures, even crashed ones."""
        await self.check(Right.ERASE_PEOPLE)
        return Swept(await erase.drop_blobs(self.database, blobs), await erase.scour(self.database))


async def _clear_tickets(act: Transaction, plan: Plan) -> list[int]:
    """Change the ticket fields that the plan lists, and return the ids of the history entries.

    The caller erases these entries as well, since they quote the old values.
    """
    await act.load_tickets(plan.touched)
    for number, fields in plan.fields.items():
        act.do(FieldsSet(act.unit.tickets[number], act.cause, fields))
    entries = [event.id for event in act.unit.pending.events]
    for number in sorted(plan.touched):
        act.applier.remark(number, "erased", act.cause)
    await act.settle()
    return entries
