"""The JSON objects of tickets, messages and events: T, M and E of interfaces.md 2.5.

The number of queries does not grow with the number of tickets. Callers extract the HTML of messages
from the raw mail and pass it in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from core.mail import reply_tokens
from core.model.ticket import Contact, Thread, Ticket
from gateway.errors import NotFound
from gateway.store.setup import users, workflow_history
from gateway.store.setup.desk_config import DeskConfig, load_desk
from gateway.store.tickets import contacts, pending_outgoing, search, threads, tickets
from gateway.store.tickets.threads import MessageRow
from gateway.store.tickets.tickets import TicketEvent
from gateway.store.tickets.unit_of_work import ROLE_ORDER, Connection

Json = dict[str, Any]
CHUNK = 5000  # tickets described at a time
MAX_HITS = 1000  # tickets that a search returns


async def listing(
    connection: Connection, *, everything: bool = False, text: str | None = None
) -> list[Json]:
    """Return all tickets as JSON, or those that ``text`` finds; ``everything`` adds the trash."""
    numbers = await _found(connection, text) if text is not None else None
    rows = await tickets.listing(connection, everything=everything, numbers=numbers)
    return await describe(connection, rows)


async def _found(connection: Connection, text: str) -> set[int]:
    """Return the tickets with these words in a message, or with this text in their subject.

    For a merged ticket, the ticket that it was merged into is found too.
    """
    found = set(await search.search(connection, text, MAX_HITS))
    known = await tickets.load(
        connection, {*found, *await tickets.titled_like(connection, text, MAX_HITS)}
    )
    while missing := {each.merged_into or 0 for each in known.values()} - known.keys() - {0}:
        known.update(await tickets.load(connection, missing))
    return set(known)


async def some(connection: Connection, numbers: Collection[int]) -> list[Json]:
    """Return the JSON of the tickets with these numbers, even of trashed and merged ones."""
    rows = await tickets.listing(connection, everything=True, numbers=numbers)
    return await describe(connection, rows)


async def describe(connection: Connection, rows: Sequence[Ticket]) -> list[Json]:
    """Return the JSON of each ticket, in the order given."""
    desk, shown = await load_desk(connection), list[Json]()
    owners = await _owners(connection, {row.owner_id for row in rows if row.owner_id is not None})
    for piece in (rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)):
        surroundings = await _Surroundings.load(connection, desk, owners, piece)
        shown += map(surroundings.ticket, piece)
    return shown


async def resolve(connection: Connection, number: int) -> Ticket:
    """Return a ticket by number, following merges; NotFound if the number was never used."""
    found = (await tickets.load(connection, [number])).get(number)
    while found is not None and (into := found.merged_into) is not None:
        found = (await tickets.load(connection, [into])).get(into)
    if found is None:
        raise NotFound(f"no ticket {number}")
    return found


async def messages_of(
    connection: Connection, ticket: Ticket
) -> tuple[list[Thread], list[MessageRow]]:
    """Return a ticket's threads and messages, oldest first, with the notes of merged tickets."""
    found = await threads.of_tickets(connection, [ticket.number])
    own = sorted(found, key=lambda thread: thread.id)
    numbers = [ticket.number, *await tickets.absorbed(connection, ticket.number)]
    return own, await threads.messages(connection, [thread.id for thread in own], numbers)


async def show(
    connection: Connection,
    ticket: Ticket,
    held: tuple[list[Thread], list[MessageRow]],
    html: Mapping[int, str | None],
) -> Json:
    """Return the JSON of a ticket with its threads, tasks and history.

    ``held`` comes from :func:`messages_of`; ``html`` is the sanitised HTML by message id.
    """
    own, messages = held
    shown = (await describe(connection, [ticket]))[0]
    shown["threads"] = await _threads(connection, own, messages, html)
    shown["tasks"] = await workflow_history.tasks(connection, ticket.number)
    history = await tickets.events(connection, [ticket.number])
    shown["events"] = [event(each) for each in history[ticket.number]]
    return shown


async def _threads(
    connection: Connection,
    own: Sequence[Thread],
    messages: Sequence[MessageRow],
    html: Mapping[int, str | None],
) -> list[Json]:
    """Return threads with their messages. Notes are listed on the origin.

    Without an origin, they are listed on an added thread whose id is None.
    """
    origin = next((thread.id for thread in own if thread.origin and thread.kind == "normal"), None)
    outbound = [row.id for row in messages if row.direction == "outbound"]
    sent = await pending_outgoing.of_messages(connection, outbound)
    placed: dict[int | None, list[Json]] = {thread.id: [] for thread in own}
    for row in messages:
        place = row.thread_id if row.thread_id in placed else origin
        described = message(row, html.get(row.id), sent.get(row.id, ()))
        placed.setdefault(place, []).append(described)
    desk = await load_desk(connection)
    channels = {channel.id: channel.address for channel in desk.channels.values()}
    shown: list[Json] = [
        {
            "id": thread.id,
            "kind": thread.kind,
            "origin": thread.origin,
            "channel": channels.get(thread.channel_id or 0),
            "attached_at": _iso(thread.attached_at),
            "messages": placed[thread.id],
        }
        for thread in own
    ]
    if None in placed:  # notes on a ticket without mail
        without_mail = {"id": None, "kind": "normal", "origin": False, "channel": None}
        shown.append({**without_mail, "attached_at": None, "messages": placed[None]})
    return shown


def message(row: MessageRow, html: str | None = None, deliveries: Sequence[Json] = ()) -> Json:
    """Return the JSON of a message; ``deliveries`` has the state of sent mail by recipient."""
    return {
        "id": row.id,
        "message_id": row.message_id,
        "direction": row.direction,
        "kind": row.kind,
        "from": row.head["from"],
        "to": row.head["to"],
        "cc": row.head["cc"],
        "subject": row.subject,
        "date": _iso(row.date),
        "received_at": _iso(row.created_at),
        "text": row.text,
        "reply_text": row.reply_text,
        "html": html,
        "attachments": list(row.attachments),
        "sender_role": row.sender_role,
        "auth": row.auth,
        "flags": sorted(row.flags),
        "evidence": list(row.evidence),
        "mail": row.mail_id,
        "deliveries": list(deliveries),
    }


def event(row: TicketEvent) -> Json:
    """Return the JSON of an entry of a ticket's history."""
    return {
        "ticket": row.ticket,
        "at": _iso(row.at),
        "type": row.type,
        "actor": row.actor,
        "cause": row.cause,
        "before": row.before,
        "after": row.after,
        "detail": row.detail,
    }


async def _owners(connection: Connection, ids: Iterable[int]) -> dict[int, str]:
    """Return the sign-in addresses of users by id."""
    return {each: await users.sign_in_address(connection, each) for each in ids}


class _Surroundings:
    """The threads, people and links that the JSON of many tickets is made of."""

    def __init__(self, desk: DeskConfig, owners: Mapping[int, str]) -> None:
        self.desk = desk
        self.owners = owners
        self.channels = {channel.id: channel.address for channel in desk.channels.values()}
        self.threads: dict[int, list[Thread]] = {}
        self.parts: Mapping[int, Mapping[int, str]] = {}
        self.associated: Mapping[int, Collection[int]] = {}
        self.links: Mapping[int, Sequence[tuple[int, str]]] = {}
        self.contacts: dict[int, Contact] = {}

    @classmethod
    async def load(
        cls,
        connection: Connection,
        desk: DeskConfig,
        owners: Mapping[int, str],
        rows: Sequence[Ticket],
    ) -> _Surroundings:
        """Load the threads, people and links of these tickets with one query for each table."""
        surroundings = cls(desk, owners)
        numbers = [row.number for row in rows]
        for thread in await threads.of_tickets(connection, numbers):
            surroundings.threads.setdefault(thread.ticket or 0, []).append(thread)
        normal = [
            thread.id
            for own in surroundings.threads.values()
            for thread in own
            if thread.kind == "normal"
        ]
        surroundings.parts = await threads.participants(connection, normal)
        surroundings.associated = await tickets.associated(connection, numbers)
        surroundings.links = await tickets.links(connection, numbers)
        people = {contact for parts in surroundings.parts.values() for contact in parts}
        people |= {contact for each in surroundings.associated.values() for contact in each}
        people |= {row.requester_id for row in rows if row.requester_id is not None}
        surroundings.contacts = {
            contact.id: contact for contact in await contacts.load(connection, ids=people)
        }
        return surroundings

    def ticket(self, row: Ticket) -> Json:
        """Return the JSON of a ticket."""
        pipeline = self.desk.pipelines[row.pipeline_id]
        status = pipeline.status(row.status_id)
        requester = self.contacts.get(row.requester_id) if row.requester_id is not None else None
        return {
            "number": row.number,
            "tag": reply_tokens.tag(self.desk.keys[0], row.number),
            "reply_address": self._reply_address(row),
            "subject": row.subject,
            "pipeline": pipeline.name,
            "status": status.name,
            "status_state": status.state,
            "owner": self.owners.get(row.owner_id) if row.owner_id is not None else None,
            "requester": _person(requester) if requester is not None else None,
            "participants": self._participants(row),
            "source": row.source,
            "priority": row.priority,
            "tags": list(row.tags),
            "created_at": _iso(row.created_at),
            "closed_at": _iso(row.closed_at),
            "close_date": _iso(row.close_date),
            "first_closed_at": _iso(row.first_closed_at),
            "reopened_count": row.reopened_count,
            "last_reopened_at": _iso(row.last_reopened_at),
            "last_customer_message_at": _iso(row.last_customer_message_at),
            "last_agent_message_at": _iso(row.last_agent_message_at),
            "first_response_at": _iso(row.first_response_at),
            "time_to_first_response": _seconds(row.created_at, row.first_response_at),
            "time_to_close": _seconds(row.created_at, row.closed_at)
            if status.state == "closed"
            else None,
            "times_contacted": row.times_contacted,
            "flags": sorted(row.flags),
            "links": [
                {"number": number, "kind": kind} for number, kind in sorted(self.links[row.number])
            ],
            "merged_into": row.merged_into,
            "deleted_at": _iso(row.deleted_at),
        }

    def _reply_address(self, row: Ticket) -> str | None:
        """Return the signed address of the origin thread, on its channel or the default one."""
        origins = sorted(
            (each for each in self._own(row) if each.origin),
            key=lambda each: (each.first_ticket != row.number, each.id),
        )
        first, default = next(iter(origins), None), self.desk.default_channel
        address = self.channels.get(first.channel_id or 0) if first is not None else None
        if address is None and default is not None:
            address = default.address
        if address is None:
            return None
        thread = first.id if first is not None else None
        return reply_tokens.reply_address(self.desk.keys[0], address, row.number, thread)

    def _participants(self, row: Ticket) -> list[Json]:
        """Return the people of a ticket, each with one role: the strongest on its normal threads.

        Whoever is "requester" on a thread, but not of the ticket, is returned as "participant".
        """
        roles: dict[int, str] = {}
        for thread in self._own(row):
            for contact, held in self.parts.get(thread.id, {}).items():
                role = "participant" if held == "requester" else held
                roles[contact] = max(roles.get(contact, role), role, key=ROLE_ORDER.index)
        roles.update(dict.fromkeys(self.associated[row.number], "associated"))
        if row.requester_id is not None:
            roles[row.requester_id] = "requester"
        known = roles.keys() & self.contacts.keys()
        people = [(self.contacts[contact], roles[contact]) for contact in known]
        people.sort(key=lambda each: (-ROLE_ORDER.index(each[1]), each[0].address))
        return [{**_person(contact), "role": role} for contact, role in people]

    def _own(self, row: Ticket) -> list[Thread]:
        """Return the loaded threads that are on a ticket."""
        return self.threads.get(row.number, [])


def _person(contact: Contact) -> Json:
    """Return the name and address of a contact."""
    return {"name": contact.name, "address": contact.address}


def _seconds(begin: datetime, end: datetime | None) -> int | None:
    """Return the seconds from one instant to another; None if ``end`` is None."""
    return int((end - begin).total_seconds()) if end is not None else None


def _iso(value: datetime | date | None) -> str | None:
    """Return a time in ISO 8601, or None for None."""
    return value.isoformat() if value is not None else None
