"""What others are shown of tickets: the JSON objects T, M and E of interfaces.md 2.5, made by a few
set queries for any number of tickets.

Nothing here changes anything. The HTML of a message is read out of the raw mail by whoever asks for
it, and handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from core.mail import reply_tokens
from core.model.ticket import Contact, Thread, Ticket
from gateway.errors import Refused
from gateway.store.setup import users, workflow_history
from gateway.store.setup.desk_config import DeskConfig, load_desk
from gateway.store.tickets import contacts, pending_outgoing, search, threads, tickets
from gateway.store.tickets.threads import MessageRow
from gateway.store.tickets.tickets import TicketEvent
from gateway.store.tickets.unit_of_work import ROLE_ORDER, Connection

Json = dict[str, Any]
PIECE = 5000  # tickets built at a time
HITS = 1000  # tickets a search shows at most


async def listing(
    connection: Connection, *, everything: bool = False, text: str | None = None
) -> list[Json]:
    """T of every ticket in order of number, open and closed; those in the trash and merged away
    only with ``everything``.

    With ``text`` only tickets that have its words in a message, or that text in their subject.
    """
    numbers = await _found(connection, text) if text is not None else None
    rows = await tickets.listing(connection, everything=everything, numbers=numbers)
    return await describe(connection, rows)


async def _found(connection: Connection, text: str) -> set[int]:
    """Tickets that a search finds; a hit on a merged-away number counts for the ticket it went
    into.
    """
    found = {
        *await search.search(connection, text, HITS),
        *await tickets.titled_like(connection, text, HITS),
    }
    known = await tickets.load(connection, found)
    while (
        missing := {each.merged_into for each in known.values() if each.merged_into} - known.keys()
    ):
        known.update(await tickets.load(connection, missing))
    return set(known)


async def some(connection: Connection, numbers: Collection[int]) -> list[Json]:
    """T of these tickets, wherever they are, in order of number."""
    return await describe(
        connection, await tickets.listing(connection, everything=True, numbers=numbers)
    )


async def describe(connection: Connection, rows: Sequence[Ticket]) -> list[Json]:
    """T of each ticket, in the order given."""
    desk = await load_desk(connection)
    owners = await _owners(connection, {row.owner_id for row in rows if row.owner_id is not None})
    shown: list[Json] = []
    for at in range(0, len(rows), PIECE):
        piece = rows[at : at + PIECE]
        around = await _Around.load(connection, desk, owners, piece)
        shown.extend(around.ticket(row) for row in piece)
    return shown


async def resolve(connection: Connection, number: int) -> Ticket:
    """The ticket that a number stands for today, merges followed; Refused when there never was one."""
    known = await tickets.load(connection, [number])
    while number in known and (into := known[number].merged_into) is not None:
        number = into
        known.update(await tickets.load(connection, [number]))
    if number not in known:
        raise Refused(f"there is no ticket {number}")
    return known[number]


async def messages_of(
    connection: Connection, ticket: Ticket
) -> tuple[list[Thread], list[MessageRow]]:
    """The threads of a ticket and its messages, oldest first, notes of tickets merged into it
    included.
    """
    own = sorted(
        await threads.of_tickets(connection, [ticket.number]), key=lambda thread: thread.id
    )
    absorbed = await tickets.absorbed(connection, ticket.number)
    return own, await threads.messages(
        connection, [thread.id for thread in own], [ticket.number, *absorbed]
    )


async def show(
    connection: Connection,
    ticket: Ticket,
    held: tuple[list[Thread], list[MessageRow]],
    html: Mapping[int, str | None],
) -> Json:
    """T with its threads and its history. ``held`` comes from :func:`messages_of`; ``html`` holds
    the sanitised HTML by message id.
    """
    own, messages = held
    shown = (await describe(connection, [ticket]))[0]
    origin = next((thread.id for thread in own if thread.origin and thread.kind == "normal"), None)
    ids = {thread.id for thread in own}
    placed: dict[int | None, list[Json]] = {thread.id: [] for thread in own}
    sent = await pending_outgoing.of_messages(
        connection, [row.id for row in messages if row.direction == "outbound"]
    )
    for row in messages:
        place = row.thread_id if row.thread_id in ids else origin
        placed.setdefault(place, []).append(message(row, html.get(row.id), sent.get(row.id, ())))
    channels = {
        channel.id: channel.address for channel in (await load_desk(connection)).channels.values()
    }
    shown["threads"] = [
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
        shown["threads"].append(
            {
                "id": None,
                "kind": "normal",
                "origin": False,
                "channel": None,
                "attached_at": None,
                "messages": placed[None],
            }
        )
    shown["tasks"] = await workflow_history.tasks(connection, ticket.number)
    shown["events"] = [
        event(each) for each in (await tickets.events(connection, [ticket.number]))[ticket.number]
    ]
    return shown


def message(row: MessageRow, html: str | None = None, deliveries: Sequence[Json] = ()) -> Json:
    """M of a stored message; ``deliveries`` tell how far one of ours came with each recipient."""
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
    """E of a row of a ticket's history."""
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
    return {each: await users.sign_in_address(connection, each) for each in ids}


class _Around:
    """What T needs beside the row of the ticket, loaded for many tickets at once."""

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
    ) -> _Around:
        around = cls(desk, owners)
        numbers = [row.number for row in rows]
        for thread in await threads.of_tickets(connection, numbers):
            around.threads.setdefault(thread.ticket or 0, []).append(thread)
        normal = [
            thread.id
            for own in around.threads.values()
            for thread in own
            if thread.kind == "normal"
        ]
        around.parts = await threads.participants(connection, normal)
        around.associated = await tickets.associated(connection, numbers)
        around.links = await tickets.links(connection, numbers)
        people = {contact for parts in around.parts.values() for contact in parts}
        people |= {contact for each in around.associated.values() for contact in each}
        people |= {row.requester_id for row in rows if row.requester_id is not None}
        around.contacts = {
            contact.id: contact for contact in await contacts.load(connection, ids=people)
        }
        return around

    def ticket(self, row: Ticket) -> Json:
        """T."""
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
            "requester": {"name": requester.name, "address": requester.address}
            if requester
            else None,
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
        origin = next(
            (
                thread
                for thread in self._own(row)
                if thread.origin and thread.channel_id in self.channels
            ),
            None,
        )
        default = self.desk.default_channel
        channel = (
            self.channels[origin.channel_id or 0]
            if origin is not None
            else default.address
            if default is not None
            else None
        )
        return (
            reply_tokens.reply_address(self.desk.keys[0], channel, row.number)
            if channel is not None
            else None
        )

    def _participants(self, row: Ticket) -> list[Json]:
        """The strongest part of each over the normal threads; there is one requester, whoever
        opened another thread takes part.
        """
        parts: dict[int, str] = {}
        for thread in self._own(row):
            for contact, role in self.parts.get(thread.id, {}).items():
                part = "participant" if role == "requester" else role
                parts[contact] = max(parts.get(contact, part), part, key=ROLE_ORDER.index)
        parts.update(dict.fromkeys(self.associated[row.number], "associated"))
        if row.requester_id is not None:
            parts[row.requester_id] = "requester"
        people = [
            (self.contacts[contact], role)
            for contact, role in parts.items()
            if contact in self.contacts
        ]
        people.sort(key=lambda each: (-ROLE_ORDER.index(each[1]), each[0].address))
        return [
            {"name": contact.name, "address": contact.address, "role": role}
            for contact, role in people
        ]

    def _own(self, row: Ticket) -> list[Thread]:
        return self.threads.get(row.number, [])


def _seconds(begin: datetime, end: datetime | None) -> int | None:
    """How long it took; None while it has not happened."""
    return int((end - begin).total_seconds()) if end is not None else None


def _iso(value: datetime | date | None) -> str | None:
    return value.isoformat() if value is not None else None
