"""One transaction of one person: from an event through the rules to rows, for everything that a
desk or an administrator does.

What a person names by number, address or name is looked up here; what is not there is ``Refused``
with a sentence, and nothing was changed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from email.utils import parseaddr

from core.decide import decide, refusal
from core.events import Cause, Event
from core.model.ticket import Contact, Thread, Ticket, User
from core.pipeline import Pipeline, Status
from core.state import State
from gateway.apply.applier import Applier
from gateway.clock import Clock
from gateway.errors import Refused
from gateway.store.engine import Database
from gateway.store.tickets.threads import MessageRow
from gateway.store.tickets.tickets import TicketEvent
from gateway.store.tickets.unit_of_work import UnitOfWork
from gateway.validation import refuse_breaks

BUILT_IN = "console"  # who acts when no user is named: a user for every rule (interfaces.md 2.1)
_ADDRESS = re.compile(r"[^@\s<>\"',;:()]+@[^@\s<>\"',;:()]+")


def state_of(unit: UnitOfWork, zone: tzinfo) -> State:
    """What the rules may know, as the book holds it: it follows what is done to the book."""
    desk = unit.desk
    return State(desk.pipelines, zone, desk.workflows, unit.enrolments, unit.contacts, desk.users)


class Transaction:
    """One transaction of one person: the book of what it touches, and the way from an event to
    rows.
    """

    def __init__(self, unit: UnitOfWork, now: datetime, zone: tzinfo, actor: str) -> None:
        if actor != BUILT_IN and actor not in unit.desk.users:
            raise Refused(f"no active user has the address {actor}")
        self.unit = unit
        self.now = now
        self.cause = Cause("user", user=actor)
        self.state = state_of(unit, zone)
        self.applier = Applier(unit, now, actor, zone)
        self.events: tuple[TicketEvent, ...] = ()
        self.messages: tuple[MessageRow, ...] = ()

    def renew(self) -> None:
        """The rules know what was changed of the desk itself."""
        self.state = state_of(self.unit, self.state.zone)

    def do(self, event: Event) -> None:
        """Ask the rules and perform what they decide; Refused when they forbid it."""
        forbidden = refusal(event, self.state)
        if forbidden is not None:
            raise Refused(forbidden.reason)
        self.applier.perform(decide(event, self.state, self.now))

    async def settle(self) -> None:
        """Write everything down, in the transaction that is open."""
        await self.applier.finish()
        self.events += tuple(self.unit.pending.events)
        self.messages += tuple(self.unit.pending.messages)
        await self.unit.flush()

    async def ticket(self, number: int, *, trashed: bool = False) -> Ticket:
        """The ticket a number stands for today; one in the trash only where that makes sense."""
        await self.unit.load_tickets([number])
        ticket = self.unit.live_ticket(number)
        if ticket is None:
            raise Refused(f"there is no ticket {number}")
        if ticket.deleted_at is not None and not trashed:
            raise Refused(f"ticket {ticket.number} is in the trash")
        return ticket

    async def thread(self, number: int) -> Thread:
        """The thread an id stands for today."""
        await self.unit.load_threads([number])
        found = self.unit.follow(number)
        if found is None:
            raise Refused(f"there is no thread {number}")
        return found

    async def contact(self, given: str) -> Contact:
        """The contact of an address like ``ann@example.org`` or ``Ann <ann@example.org>``, made
        when it is new.
        """
        refuse_breaks("address", given)
        name, address = parseaddr(given)
        if not _ADDRESS.fullmatch(address):
            raise Refused(f"{given!r} is no address")
        await self.unit.load_contacts([address.strip().lower()])
        return self.unit.ensure_contact(address, name)

    def user(self, given: str) -> User:
        """The active user with this address or name."""
        wanted = given.strip().casefold()
        people = {
            user.id: user
            for user in self.unit.desk.users.values()
            if wanted in user.addresses or user.name.casefold() == wanted
        }
        if len(people) != 1:
            raise Refused(
                f"{'several users are' if people else 'no active user is'} called {given!r}"
            )
        return next(iter(people.values()))

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline of this name, compared without case."""
        found = next(
            (
                each
                for each in self.unit.desk.pipelines.values()
                if each.name.casefold() == name.casefold()
            ),
            None,
        )
        if found is None:
            raise Refused(f"there is no pipeline {name!r}")
        return found


def status_of(pipeline: Pipeline, name: str) -> Status:
    """The status of this name, compared without case; Refused with those that there are."""
    found = pipeline.named(name)
    if found is None:
        raise Refused(
            f"pipeline {pipeline.name} has no status {name!r}: it has "
            f"{', '.join(each.name for each in pipeline.statuses)}"
        )
    return found


class Actor:
    """Somebody who acts: ``actor`` is :data:`BUILT_IN` or the address of an active user; ``zone``
    is the account's.
    """

    def __init__(
        self, database: Database, clock: Clock, zone: tzinfo, actor: str = BUILT_IN
    ) -> None:
        self.database = database
        self.clock = clock
        self.zone = zone
        self.actor = actor if actor == BUILT_IN else actor.strip().lower()

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[Transaction]:
        """A block that is one act: what it did is written at its end, nothing of it when it raises."""
        async with self.database.write(ordered=True) as connection:
            now = self.clock.now()
            act = Transaction(await UnitOfWork.open(connection, now), now, self.zone, self.actor)
            yield act
            await act.settle()
