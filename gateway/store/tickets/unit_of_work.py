"""The rows that one transaction may read or change, loaded for a batch of mails or one act.

It is loaded in a few set queries. The rules read it, ``gateway.apply`` changes it, and
:meth:`UnitOfWork.flush` writes the changes as multi-row statements; without a flush the database
stays as it is. One ordered write transaction encloses it, so nobody else changes these rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.mail.circle import Circle, Claim
from core.mail.our_addresses import our_address
from core.mail.threading import MOST_THREADS, Ref
from core.model.message import address_key
from core.model.ticket import Contact, ParticipantRole, Thread, Ticket
from core.model.workflow import Enrolment
from gateway.store.schema import tables
from gateway.store.setup import workflows
from gateway.store.setup.desk_config import DeskConfig, load_desk
from gateway.store.sql.bulk import Work, write_rows
from gateway.store.tickets import contacts, search, threads, tickets
from gateway.store.tickets.pending import Pending
from gateway.store.tickets.pending_outgoing import PendingOutgoing
from gateway.store.tickets.threads import REF_LIMIT, RefRow

Connection = AsyncConnection  # for packages that do not import SQLAlchemy
ROLE_ORDER = ("stranger", "participant", "associated", "requester")
UPDATE_COUNTER = (
    sa.update(tables.counter)
    .where(tables.counter.c.name == sa.bindparam("_n"))
    .values(value=sa.bindparam("_v"))
)


class UnitOfWork:
    """The working set; create it with :meth:`open`."""

    def __init__(
        self, connection: AsyncConnection, desk: DeskConfig, counters: dict[str, int], now: datetime
    ) -> None:
        self.connection = connection
        self.desk = desk
        self.now = now
        self._counters = counters
        self._allotted = dict(counters)
        self.tickets: dict[int, Ticket] = {}
        self.threads: dict[int, Thread] = {}
        self._of_ticket: dict[int | None, set[int]] = {}  # ids of threads, by their ticket
        self.contacts: dict[int, Contact] = {}
        self.contact_ids: dict[str, int] = {}
        self.participants: dict[int, dict[int, ParticipantRole]] = {}
        self.associated: dict[int, set[int]] = {}
        self.refs: dict[str, list[RefRow]] = {}
        self.links: set[tuple[int, int, str]] = set()
        self.earlier: dict[tuple[int, str], list[int]] = {}
        self.enrolments: dict[int, list[Enrolment]] = {}
        self.outward = PendingOutgoing()
        self.pending = Pending()

    @classmethod
    async def open(cls, connection: AsyncConnection, now: datetime) -> UnitOfWork:
        """Return an empty unit of work on an ordered write transaction."""
        desk = await load_desk(connection)
        rows = await connection.execute(sa.select(tables.counter.c.name, tables.counter.c.value))
        return cls(connection, desk, dict(rows.all()), now)

    def allot(self, name: str) -> int:
        """Return the next number of a kind; without a flush, the number is given out again."""
        self._allotted[name] += 1
        return self._allotted[name]

    @property
    def next_ticket(self) -> int:
        """The number that the next ticket will have."""
        return self._allotted["ticket"] + 1

    # ---- loading

    async def load_for(
        self,
        refs: Collection[str],
        addresses: Collection[str],
        thread_ids: Collection[int],
        numbers: Collection[int],
    ) -> None:
        """Load all that mails with these Message-IDs, addresses, threads or tickets can touch."""
        await self._load_refs({ref[:REF_LIMIT] for ref in refs})
        await self.load_contacts(addresses)
        await self.load_threads(
            {row.thread for rows in self.refs.values() for row in rows} | set(thread_ids)
        )
        await self.load_tickets(
            {thread.ticket for thread in self.threads.values() if thread.ticket} | set(numbers)
        )

    async def _load_refs(self, refs: Collection[str]) -> None:
        for row in await threads.load_refs(self.connection, refs):
            self.refs.setdefault(row.ref, []).append(row)

    async def load_contacts(self, addresses: Iterable[str]) -> None:
        """Load contacts by address key."""
        wanted = {address for address in addresses if address and address not in self.contact_ids}
        for contact in await contacts.load(self.connection, addresses=wanted):
            self.put_contact(contact)

    async def load_earlier(self, pairs: Collection[tuple[int, str]]) -> None:
        """Load tickets that a mail without a tie may belong to, by (contact, subject key) (E14)."""
        self.earlier = await tickets.earlier(
            self.connection, {contact for contact, _ in pairs}, {key for _, key in pairs}
        )

    def put_contact(self, contact: Contact) -> None:
        """Add a contact to the working set, without marking it as new or changed."""
        self.contacts[contact.id] = contact
        self.contact_ids[contact.address] = contact.id

    async def load_threads(self, ids: Collection[int]) -> None:
        """Load threads and what they redirect to, with their participants."""
        missing = set(ids) - self.threads.keys()
        while missing:
            found = await threads.load(self.connection, missing)
            for thread in found.values():
                self._put_thread(thread)
            missing = {
                thread.redirect_to for thread in found.values() if thread.redirect_to
            } - self.threads.keys()
        await self._load_participants(self.threads.keys())

    async def _load_participants(self, ids: Collection[int]) -> None:
        self.participants.update(
            await threads.participants(self.connection, set(ids) - self.participants.keys())
        )

    async def load_tickets(self, numbers: Collection[int]) -> None:
        """Load tickets and the tickets they were merged into, with all their threads and people."""
        missing = set(numbers) - self.tickets.keys()
        fresh: set[int] = set()
        while missing:
            found = await tickets.load(self.connection, missing)
            self.tickets.update(found)
            fresh |= found.keys()
            missing = {
                ticket.merged_into for ticket in found.values() if ticket.merged_into
            } - self.tickets.keys()
        if not fresh:
            return
        away = [each for each in fresh if self.tickets[each].merged_into is not None]
        await self.load_threads(await threads.first_of(self.connection, away))
        rows = await threads.of_tickets(self.connection, fresh)
        for thread in rows:
            if thread.id not in self.threads:
                self._put_thread(thread)
        await self._load_participants([thread.id for thread in rows])
        # threads that continue under another ticket while theirs is in the trash
        if onward := {thread.redirect_to for thread in rows if thread.redirect_to}:
            await self.load_threads(onward)
            standing = [self.follow(each) for each in onward]
            await self.load_tickets(
                {thread.ticket for thread in standing if thread is not None and thread.ticket}
            )
        await self.load_tickets({thread.first_ticket for thread in rows if thread.first_ticket})
        self.associated.update(await tickets.associated(self.connection, fresh))
        for number, others in (await tickets.links(self.connection, fresh)).items():
            self.links.update((number, other, kind) for other, kind in others)
        if self.desk.workflows:
            self.enrolments.update(await workflows.enrolments(self.connection, fresh))
        people = {contact for thread in rows for contact in self.participants[thread.id]}
        people |= {ticket.requester_id for ticket in self.tickets.values() if ticket.requester_id}
        for contact in await contacts.load(self.connection, ids=people - self.contacts.keys()):
            self.put_contact(contact)

    # ---- reading

    def follow(self, thread_id: int) -> Thread | None:
        """Return the thread that an id leads to through redirects; None where it is not loaded."""
        thread = self.threads.get(thread_id)
        while thread is not None and thread.redirect_to is not None:
            thread = self.threads.get(thread.redirect_to)
        return thread

    def live_ticket(self, number: int | None) -> Ticket | None:
        """Return the ticket that a number leads to through merges, even if it is deleted."""
        ticket = self.tickets.get(number) if number is not None else None
        while ticket is not None and ticket.merged_into is not None:
            ticket = self.tickets.get(ticket.merged_into)
        return ticket

    def threads_of(self, number: int) -> list[Thread]:
        """Return the threads of a ticket, lowest id first."""
        return [self.threads[each] for each in sorted(self._of_ticket.get(number, ()))]

    def known_refs(self, ids: Iterable[str]) -> dict[str, list[Ref]]:
        """Return what is recorded of these Message-IDs, each under the id as given."""
        found: dict[str, list[Ref]] = {}
        for each in ids:
            for row in self.refs.get(each[:REF_LIMIT], ()):
                thread = self.follow(row.thread)
                if thread is not None:
                    claims = tuple(Claim(*claim) for claim in row.claims)
                    found.setdefault(each, []).append(
                        Ref(thread.id, row.message is not None, row.forward, row.machine, claims)
                    )
        return found

    def part_of(
        self, contact_id: int, thread: Thread | None, ticket: Ticket | None
    ) -> ParticipantRole | None:
        """Return the strongest role that a contact has on a thread, or in its ticket.

        If no thread is given, all threads of the ticket count, except those started by a forward
        of ours. If the given thread was started by a forward, only the role on it counts (E17).
        """
        if ticket is not None and (thread is None or thread.kind == "normal"):
            heard = self._heard_on(thread, ticket) if thread else self.people_of(ticket)
            if contact_id in heard:
                return "requester" if ticket.requester_id == contact_id else "associated"
        if thread is not None:
            places = [thread.id]
        else:
            rows = self.threads_of(ticket.number) if ticket is not None else []
            places = [each.id for each in rows if each.kind == "normal"]
        parts = (self.participants.get(each, {}).get(contact_id) for each in places)
        best = max((part for part in parts if part), key=ROLE_ORDER.index, default=None)
        # who opened another thread of the ticket is not its requester
        return "participant" if best == "requester" and ticket is not None else best

    def people_of(self, ticket: Ticket) -> set[int]:
        """Return the ids of a ticket's requester and associated contacts."""
        people = set(self.associated.get(ticket.number, ()))
        return people | {ticket.requester_id} if ticket.requester_id is not None else people

    def _heard_on(self, thread: Thread, ticket: Ticket) -> set[int]:
        """Return the people of a ticket whose word counts on one of its threads.

        After a merge, the people of the other tickets do not count on the thread (P10).
        """
        own = self.tickets.get(thread.first_ticket or ticket.number, ticket)
        merged = {each.first_ticket for each in self.threads_of(ticket.number)} | {ticket.number}
        people = self.people_of(own) | self.people_of(ticket)
        for number in merged - {own.number, None}:
            if number in self.tickets:
                people -= self.people_of(self.tickets[number])
        return people | ({own.requester_id} if own.requester_id is not None else set())

    def circle(self, thread: Thread) -> Circle:
        """Return the circle of a thread: the people whom the rules trust there (behaviour.md 5)."""
        roles = self.participants[thread.id].items()
        members = {contact for contact, role in roles if role != "stranger"}
        ticket = self.live_ticket(thread.ticket)
        if ticket is None:
            return Circle(frozenset(members), forward=thread.kind == "forward")
        if thread.kind == "normal":
            members |= self._heard_on(thread, ticket)
        origins = [each for each in self.threads_of(ticket.number) if each.origin]
        touched = ticket.worked or ticket.titled or ticket.deleted_at is not None
        return Circle(
            frozenset(members),
            ticket.number,
            ticket.requester_id,
            touched or len(origins) > 1 or bool(self.associated.get(ticket.number)),
            thread.kind == "forward",
        )

    def is_ours(self, key: str) -> bool:
        """Tell whether an address key is a user's or a channel's, with or without a plus part."""
        return key in self.desk.users or our_address(self.desk.channels, key) is not None

    def contact_at(self, address: str | None) -> Contact | None:
        """Return the contact of an address as written, or None."""
        return self.contact_with(address_key(address)) if address else None

    def contact_with(self, key: str) -> Contact | None:
        """Return the contact with an address key, or None."""
        number = self.contact_ids.get(key)
        return self.contacts[number] if number is not None else None

    # ---- changing (called by gateway.apply)

    def ensure_contact(self, address: str, name: str) -> Contact:
        """Return the contact of an address; add a missing contact or a missing name."""
        key = address_key(address)
        if name.count('"') % 2:  # a quote that was never closed, or never opened
            name = name.strip(' "')
        known = self.contact_at(key)
        if known is None:
            known = Contact(self.allot("contact"), key, name)
            self.put_contact(known)
            self.pending.new_contacts[known.id] = known
        elif name and not known.name:
            self.set_contact(replace(known, name=name))
        return self.contacts[known.id]

    def set_contact(self, contact: Contact) -> None:
        """Replace a contact."""
        self.contacts[contact.id] = contact
        if contact.id in self.pending.new_contacts:
            self.pending.new_contacts[contact.id] = contact
        else:
            self.pending.changed_contacts.add(contact.id)

    def set_ticket(self, ticket: Ticket, *, new: bool = False) -> None:
        """Replace or add a ticket."""
        self.tickets[ticket.number] = ticket
        if new:
            self.pending.new_tickets.add(ticket.number)
            self.associated[ticket.number] = set()
        elif ticket.number not in self.pending.new_tickets:
            self.pending.changed_tickets.add(ticket.number)

    def _put_thread(self, thread: Thread) -> None:
        """Put a thread into the working set, and find it by its ticket."""
        held = self.threads.get(thread.id)
        if held is not None and held.ticket != thread.ticket:
            self._of_ticket[held.ticket].discard(thread.id)
        self._of_ticket.setdefault(thread.ticket, set()).add(thread.id)
        self.threads[thread.id] = thread

    def set_thread(self, thread: Thread, *, new: bool = False) -> None:
        """Replace or add a thread; the first ticket it was attached to stays recorded (E36)."""
        if thread.first_ticket is None and thread.ticket is not None:
            thread = replace(thread, first_ticket=thread.ticket)
        self._put_thread(thread)
        if new:
            self.pending.new_threads.add(thread.id)
            self.participants[thread.id] = {}
        elif thread.id not in self.pending.new_threads:
            self.pending.changed_threads.add(thread.id)

    def set_participant(self, thread: int, contact: int, role: ParticipantRole) -> None:
        """Give a contact a role in a thread; a role weaker than the present one changes nothing."""
        parts = self.participants[thread]
        held = parts.get(contact)
        if held is not None and ROLE_ORDER.index(held) >= ROLE_ORDER.index(role):
            return
        parts[contact] = role
        if held is None:
            self.pending.new_participants.add((thread, contact))
        elif (thread, contact) not in self.pending.new_participants:
            self.pending.changed_participants.add((thread, contact))

    def unseat(self, thread: int, contact: int) -> None:
        """Make a participant of a thread a stranger there."""
        parts = self.participants[thread]
        if parts.get(contact, "stranger") == "stranger":
            return
        parts[contact] = "stranger"
        if (thread, contact) not in self.pending.new_participants:
            self.pending.changed_participants.add((thread, contact))

    def drop_participant(self, thread: int, contact: int) -> None:
        """Remove a contact from a thread."""
        if self.participants[thread].pop(contact, None) is None:
            return
        pair = (thread, contact)
        self.pending.changed_participants.discard(pair)
        if pair in self.pending.new_participants:
            self.pending.new_participants.discard(pair)
        else:
            self.pending.dropped_participants.add(pair)

    def set_associated(self, ticket: int, contact: int, *, present: bool) -> None:
        """Put a contact on a ticket, or take the contact off it."""
        people = self.associated[ticket]
        if (contact in people) != present:
            (people.add if present else people.discard)(contact)
            self.pending.associated[ticket, contact] = present

    def add_link(self, ticket: int, other: int, kind: str) -> bool:
        """Link two tickets; return whether they were not linked in this way before."""
        if {(ticket, other, kind), (other, ticket, kind)} & self.links:
            return False
        self.links.add((ticket, other, kind))
        self.pending.links.append((ticket, other, kind))
        return True

    def set_enrolment(self, enrolment: Enrolment, *, new: bool = False) -> None:
        """Replace or add an enrolment."""
        held = self.enrolments.setdefault(enrolment.ticket, [])
        if new:
            held.append(enrolment)
            self.outward.new_enrolments[enrolment.id] = enrolment
            return
        held[:] = [enrolment if each.id == enrolment.id else each for each in held]
        fresh = self.outward.new_enrolments
        (fresh if enrolment.id in fresh else self.outward.changed_enrolments)[enrolment.id] = (
            enrolment
        )

    def remember(self, mention: RefRow) -> None:
        """Remember that a thread holds the message with an id, or refers to it.

        Once an id is known on MOST_THREADS threads, further threads are not remembered.
        """
        mention.ref = mention.ref[:REF_LIMIT]
        rows = self.refs.setdefault(mention.ref, [])
        for row in rows:
            found = self.follow(row.thread)
            if found is not None and found.id == mention.thread:
                if row.learn(mention) and (row.ref, row.thread) not in self.pending.new_refs:
                    self.pending.changed_refs[row.ref, row.thread] = row
                return
        if len(rows) < MOST_THREADS:
            rows.append(mention)
            self.pending.new_refs[mention.ref, mention.thread] = mention

    # ---- writing

    async def flush(self) -> None:
        """Write everything pending, in an order that foreign keys allow."""
        pending, connection = self.pending, self.connection
        await write_rows(connection, self._work())
        if pending.dropped_participants:
            await threads.drop_participants(connection, pending.dropped_participants)
        for (ticket, contact), present in pending.associated.items():
            await tickets.write_associated(connection, ticket, contact, present=present)
        await search.index(
            connection,
            [(row.id, row.subject, row.reply_text or row.text) for row in pending.messages],
        )
        if pending.closed_candidates:
            await threads.close_candidates(connection, pending.closed_candidates)
        await self._flush_joins()
        await tickets.write_links(connection, pending.links)
        self.pending, self.outward = Pending(), PendingOutgoing()
        self._counters = dict(self._allotted)

    def _work(self) -> Work:
        """Return the statements for everything that is new or changed."""
        pending = self.pending
        counters = [
            {"_n": name, "_v": value}
            for name, value in self._allotted.items()
            if value != self._counters[name]
        ]
        changed = (self.contacts[each] for each in sorted(pending.changed_contacts))
        return [
            (UPDATE_COUNTER, counters),
            *contacts.writing(pending.new_contacts.values(), changed, self.now),
            *tickets.writing(
                [self.tickets[each] for each in sorted(pending.new_tickets)],
                [self.tickets[each] for each in sorted(pending.changed_tickets)],
            ),
            *threads.writing(
                [self.threads[each] for each in sorted(pending.new_threads)],
                [self.threads[each] for each in sorted(pending.changed_threads)],
            ),
            *threads.writing_participants(
                self._parts(pending.new_participants), self._parts(pending.changed_participants)
            ),
            *threads.writing_refs(pending.new_refs.values(), pending.changed_refs.values()),
            *threads.writing_messages(pending.messages),
            *tickets.writing_events(pending.events),
            *self.outward.work(),
        ]

    def _parts(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int, str]]:
        return [
            (thread, contact, self.participants[thread][contact])
            for thread, contact in sorted(pairs)
        ]

    async def _flush_joins(self) -> None:
        pending = self.pending
        if pending.joins:
            moved = await threads.move_messages(self.connection, pending.joins)
            followed = await threads.redirect(self.connection, pending.joins)
            for thread, into in pending.joins:
                was = pending.joined[thread]
                what = {
                    "thread": thread,
                    "into": into,
                    "origin": was.origin,
                    "messages": moved[thread],
                    "followed": followed[thread],
                }
                await tickets.write_merge(
                    self.connection, "join", was.ticket, self.threads[into].ticket, self.now, what
                )
        for thread, messages in pending.splits:
            await threads.split_off(self.connection, thread, messages)
        for record in pending.returns:
            await threads.take_back(self.connection, record)
        for merge in pending.undone:
            await tickets.undo_merge(self.connection, merge, self.now)
        for ticket, into, what in pending.merges:
            await tickets.write_merge(self.connection, "merge", ticket, into, self.now, what)
