"""Transactions in which users act, after a check of their rights (docs/rights.md).

Each change by a user goes through :meth:`Actor.acting`: the right is checked, the names the user
gave are looked up, the rules are asked and their decisions written, all in one transaction. An act
that raises changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from email.utils import parseaddr
from typing import assert_never

from core.decide import decide, refusal
from core.events import Cause, Event
from core.model.ticket import Channel, Contact, Thread, Ticket, User
from core.pipeline import Pipeline, Status
from core.rules.refusal import Refusal
from core.rules.rights import Right, why_not
from core.rules.structure import ADDRESS
from core.state import State
from gateway.apply.applier import Applier
from gateway.clock import Clock
from gateway.errors import Conflict, Forbidden, Invalid, NotFound, Refused
from gateway.store.engine import Database
from gateway.store.setup import users
from gateway.store.tickets.threads import MessageRow, chunks
from gateway.store.tickets.tickets import TicketEvent
from gateway.store.tickets.unit_of_work import Connection, UnitOfWork
from gateway.validation import refuse_breaks

BUILT_IN = "console"  # the built-in administrator, who acts where no user is named


def actor_named(given: str | None) -> str:
    """Return the name of the actor: the built-in administrator for None, else the given address.

    Raises Forbidden for a blank address and for the name of the built-in administrator.
    """
    if given is None:
        return BUILT_IN
    if given.strip().lower() in ("", BUILT_IN):
        raise Forbidden(f"no active user has the address {given.strip()!r}")
    return given


def state_of(unit: UnitOfWork, zone: tzinfo) -> State:
    """Return the facts that rules read from a unit of work, including its later changes."""
    desk = unit.desk
    return State(desk.pipelines, zone, desk.workflows, unit.enrolments, unit.contacts, desk.users)


class Transaction:
    """One act in progress: looks up names, asks the rules, applies their decisions."""

    def __init__(self, unit: UnitOfWork, now: datetime, zone: tzinfo, actor: str) -> None:
        self.unit = unit
        self.now = now
        self.cause = Cause("user", user=actor)
        self.state = state_of(unit, zone)
        self.applier = Applier(unit, now, actor, zone)
        self.events: tuple[TicketEvent, ...] = ()
        self.messages: tuple[MessageRow, ...] = ()
        self.redirected: dict[int, int] = {}  # numbers of merged tickets: the tickets acted on

    @property
    def connection(self) -> Connection:
        """The connection of the open database transaction."""
        return self.unit.connection

    def refresh_state(self) -> None:
        """Make newly loaded pipelines, users and workflows visible to the rules."""
        self.state = state_of(self.unit, self.state.zone)

    def do(self, event: Event) -> None:
        """Ask the rules about an event and apply their decisions; raise if they refuse it."""
        enforce(refusal(event, self.state))
        self.applier.perform(decide(event, self.state, self.now))

    async def settle(self) -> None:
        """Write all decisions so far into the open transaction."""
        await self.applier.finish()
        self.events += tuple(self.unit.pending.events)
        self.messages += tuple(self.unit.pending.messages)
        await self.unit.flush()

    async def load_tickets(self, numbers: Collection[int]) -> None:
        """Load any number of tickets, as many at a time as fit into one statement."""
        for piece in chunks(numbers):
            await self.unit.load_tickets(piece)

    async def ticket(self, number: int) -> Ticket:
        """Return a ticket, following and noting merges; Refused for a ticket in the trash."""
        ticket = await self._live_ticket(number)
        if ticket.number != number:
            self.redirected[number] = ticket.number
        return _untrashed(ticket)

    async def unmerged_ticket(self, number: int, *, trashed: bool = False) -> Ticket:
        """Return a ticket; Refused for a merged one, and for one in the trash unless ``trashed``.

        This is for acts that would do harm on the ticket that the number leads to.
        """
        ticket = await self._live_ticket(number)
        if ticket.number != number:
            raise Refused(
                f"ticket {number} was merged into ticket {ticket.number}: name ticket "
                f"{ticket.number}, or undo the merge with: ticketgate ticket unmerge {number}"
            )
        return ticket if trashed else _untrashed(ticket)

    async def exact_ticket(self, number: int) -> Ticket:
        """Return the ticket of this very number, even if it was merged or is in the trash."""
        await self._live_ticket(number)
        return self.unit.tickets[number]

    async def _live_ticket(self, number: int) -> Ticket:
        """Return the ticket that a number leads to through merges, even if it is in the trash."""
        await self.unit.load_tickets([number])
        if (ticket := self.unit.live_ticket(number)) is None:
            raise NotFound(f"no ticket {number}")
        return ticket

    async def thread(self, number: int) -> Thread:
        """Return a thread by id, following joins."""
        await self.unit.load_threads([number])
        found = self.unit.follow(number)
        if found is None:
            raise NotFound(f"no thread {number}")
        return found

    async def contact(self, given: str) -> Contact:
        """Return the contact ``ann@example.org`` or ``Ann <ann@example.org>``, added if new."""
        refuse_breaks("address", given)
        name, address = parseaddr(given)
        if not ADDRESS.fullmatch(address):
            raise Invalid(f"invalid address {given!r}", "address")
        await self.unit.load_contacts([address.strip().lower()])
        return self.unit.ensure_contact(address, name)

    def user(self, given: str) -> User:
        """Return the active user with this address or name."""
        wanted = given.strip().casefold()
        people = {
            user.id: user
            for user in self.unit.desk.users.values()
            if wanted in user.addresses or user.name.casefold() == wanted
        }
        if not people:
            raise NotFound(f"no active user is called {given!r}")
        if len(people) > 1:
            raise Invalid(f"several users are called {given!r}: give an address", "user")
        return next(iter(people.values()))

    def channel(self, address: str) -> Channel:
        """Return the channel with this address."""
        found = self.unit.desk.channels.get(address.strip().lower())
        if found is None:
            raise NotFound(f"no channel {address}")
        return found

    def pipeline(self, name: str) -> Pipeline:
        """Return the pipeline of this name, compared without case."""
        found = pipeline_named(self.unit.desk.pipelines, name)
        if found is None:
            raise NotFound(f"unknown pipeline {name!r}")
        return found


def _untrashed(ticket: Ticket) -> Ticket:
    """Return the ticket; Refused where it is in the trash."""
    if ticket.deleted_at is not None:
        raise Refused(f"ticket {ticket.number} is in the trash")
    return ticket


def enforce(found: Refusal | None) -> None:
    """Raise the error for a refusal; do nothing if there is none."""
    if found is None:
        return
    match found.kind:
        case "rule":
            raise Refused(found.reason, found.rule)
        case "invalid":
            raise Invalid(found.reason, found.field)
        case "conflict":
            raise Conflict(found.reason)
        case _:
            assert_never(found.kind)


def pipeline_named(pipelines: Mapping[int, Pipeline], name: str) -> Pipeline | None:
    """Return the pipeline of this name, compared without case; None if there is none."""
    wanted = name.casefold()
    return next((each for each in pipelines.values() if each.name.casefold() == wanted), None)


def status_of(pipeline: Pipeline, name: str) -> Status:
    """Return the status of this name, ignoring case; if there is none, NotFound lists all names."""
    found = pipeline.named(name)
    if found is None:
        known = ", ".join(each.name for each in pipeline.statuses)
        raise NotFound(f"pipeline {pipeline.name} has no status {name!r}: it has {known}")
    return found


class Actor:
    """Base class of all desks; it holds the user who acts.

    ``actor`` is :data:`BUILT_IN` or an active user's address, ``zone`` the account's time zone.
    """

    def __init__(
        self, database: Database, clock: Clock, zone: tzinfo, actor: str = BUILT_IN
    ) -> None:
        self.database = database
        self.clock = clock
        self.zone = zone
        self.actor = actor if actor == BUILT_IN else actor.strip().lower()

    @asynccontextmanager
    async def acting(self, right: Right) -> AsyncIterator[Transaction]:
        """Run one act in a transaction; raise Forbidden first if the actor lacks the right."""
        async with self.database.write(ordered=True) as connection:
            now = self.clock.now()
            unit = await UnitOfWork.open(connection, now)
            self._check(right, unit.desk.users)
            yield (act := Transaction(unit, now, self.zone, self.actor))
            await act.settle()

    async def check(self, right: Right) -> None:
        """Raise Forbidden if the actor lacks the right; call it for work outside :meth:`acting`."""
        async with self.database.read() as connection:
            people = await users.load(connection)
        self._check(right, {key: user for user in people if user.active for key in user.addresses})

    def _check(self, right: Right, known: Mapping[str, User]) -> None:
        """Raise Forbidden where the actor is not among the ``known`` users or lacks the right."""
        if self.actor == BUILT_IN:
            return
        if (user := known.get(self.actor)) is None:
            raise Forbidden(f"no active user has the address {self.actor}")
        if (reason := why_not(user.role, right)) is not None:
            raise Forbidden(reason)
