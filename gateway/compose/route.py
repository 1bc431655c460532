"""Choose the channel and thread of outgoing mail, and write the headers that answers repeat.

Used for mail of users and for automatic mail. A route is the channel and the thread of an outgoing
mail. The writer adds the Message-ID, the references and the signed reply address. By these, an
answer finds the ticket.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final, Literal

from core.mail import reply_text, reply_tokens
from core.model.message import Address, address_key
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Channel, Contact, Thread, ThreadKind, Ticket
from gateway.compose.mime import File, MimeMail, compose
from gateway.errors import Refused
from gateway.store.tickets import heard, threads
from gateway.store.tickets.heard import HeardMail
from gateway.store.tickets.threads import MessageRow
from gateway.store.tickets.unit_of_work import UnitOfWork

EARLIER_MAILS: Final = 30  # newest mails of a thread, of which a new mail answers one
NONCE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class MailIdentity:
    """The configured sender of our mails.

    ``acknowledge`` says how mail of unverified senders is acknowledged. ``from_address`` is the
    sender of notifications to users; empty stands for the address of the default channel.
    """

    zone: tzinfo
    name: str = "Support"
    public_url: str = ""
    acknowledge: Literal["generic", "full", "never"] = "generic"
    from_address: str = ""


@dataclass(frozen=True, slots=True)
class MailContent:
    """Recipients, subject, text and files of a mail; ``original`` is a whole mail to forward."""

    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    text: str
    html: str | None = None
    files: tuple[File, ...] = ()
    original: bytes | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The channel and thread of a new mail, and the thread's earlier mails, oldest first.

    If ``fresh``, the new mail is the first of its thread. ``heard`` is the newest mail of somebody
    in the thread's circle: a new mail answers and quotes it.
    """

    channel: Channel
    thread: Thread
    fresh: bool
    earlier: Sequence[MessageRow]
    heard: HeardMail | None = None


class MailWriter:
    """Finds the route of a mail and writes its headers, dated ``now``."""

    def __init__(self, unit: UnitOfWork, identity: MailIdentity, now: datetime) -> None:
        self.unit = unit
        self.identity = identity
        self.now = now
        self.key = unit.desk.keys[0]

    # ---- where a mail goes

    def origin(self, ticket: Ticket) -> Thread | None:
        """Return the thread that the ticket was created from.

        If it has no origin thread of its own, return that of a ticket merged into it.
        """
        origins = [each for each in self._conversations(ticket) if each.origin]
        own = (each for each in origins if each.first_ticket == ticket.number)
        return next(own, origins[0] if origins else None)

    def _conversations(self, ticket: Ticket) -> list[Thread]:
        """Return the threads of a ticket, except those that one of our forwards started."""
        return [each for each in self.unit.threads_of(ticket.number) if each.kind == "normal"]

    def shown_as(self, ticket: Ticket, thread: Thread | None) -> Ticket:
        """Return the ticket whose number and subject the people of a thread know.

        If the thread came from a ticket that was merged into this one, it is the merged ticket
        (E36), since the surviving ticket's subject may be somebody else's.
        """
        first = thread.first_ticket if thread is not None else None
        return self.unit.tickets.get(first or ticket.number, ticket)

    def circle(self, thread: Thread) -> set[int]:
        """Return the contacts in the circle of a thread (behaviour.md 5)."""
        return set(self.unit.circle(thread).members)

    async def answered(self, ticket: Ticket, to: Sequence[Address] = ()) -> Thread | None:
        """Return the default thread for a reply, or None if the ticket has no thread.

        It is the thread with the newest mail from a member of its circle, else the origin thread
        (behaviour.md 5). Threads on which all of ``to`` take part come first.
        """
        threads = self._conversations(ticket)
        wanted = {each.key for each in to}
        shared = [each for each in threads if wanted and wanted <= self._addresses(each)]
        return await self._newest(shared or threads) or self.origin(ticket)

    async def own_thread(self, ticket: Ticket, contact: Contact) -> Thread | None:
        """Return the thread for automatic mail to a contact, or None if the ticket has none.

        It is the origin thread, unless the contact takes part in other threads only.
        """
        origin, threads = self.origin(ticket), self._conversations(ticket)
        own = [each for each in threads if contact.address in self._addresses(each)]
        if not own or origin in own:
            return origin
        return await self._newest(own) or own[0]

    async def _newest(self, given: Sequence[Thread]) -> Thread | None:
        """Return the thread with the newest mail from a member of its circle, or None."""
        newest: tuple[int, Thread] | None = None
        for thread in given:
            found = await heard.newest(self.unit.connection, thread.id, self.circle(thread))
            if found is not None and (newest is None or found.message > newest[0]):
                newest = found.message, thread
        return newest[1] if newest is not None else None

    def _addresses(self, thread: Thread) -> set[str]:
        """Return the addresses of all who take part in a thread, except strangers."""
        roles = self.unit.participants.get(thread.id, {})
        people = (each for each, role in roles.items() if role != "stranger")
        return {self.unit.contacts[each].address for each in people if each in self.unit.contacts}

    def channel_of(self, thread: Thread | None) -> Channel:
        """Return a thread's channel, or else the default channel; Refused if there is neither."""
        desk, wanted = self.unit.desk, thread.channel_id if thread is not None else None
        own = (each for each in desk.channels.values() if each.id == wanted)
        found = next(own, desk.default_channel)
        if found is None:
            raise Refused("no channel to send from; add one with 'channel add'")
        return found

    def fresh_thread(
        self, channel: Channel, kind: ThreadKind = "normal", *, origin: bool = False
    ) -> Thread:
        """Return a new thread that starts with the mail being written."""
        return Thread(
            self.unit.allot("thread"), kind, self.now, channel_id=channel.id, origin=origin
        )

    async def route(self, thread: Thread, *, fresh: bool = False) -> Route:
        """Return a mail's route on a thread, with the thread's newest mails unless ``fresh``."""
        channel, connection = self.channel_of(thread), self.unit.connection
        if fresh:
            return Route(channel, thread, fresh, ())
        if thread.first_ticket is not None:
            await self.unit.load_tickets([thread.first_ticket])
        earlier = await threads.newest(connection, thread.id, EARLIER_MAILS)
        last = await heard.newest(connection, thread.id, self.circle(thread))
        return Route(channel, thread, fresh, earlier, last)

    # ---- its headers

    def subject(self, number: int, subject: str, prefix: str = "") -> str:
        """Return a subject with the tag of the ticket and a prefix such as "Re"."""
        return reply_text.subject_of(subject, reply_tokens.tag(self.key, number), prefix)

    def mime_mail(
        self,
        number: int | None,
        route: Route,
        content: MailContent,
        automatic: Literal["", "auto-replied", "auto-generated"] = "",
    ) -> MimeMail:
        """Return a mail with its headers; ``number`` is the ticket that answers go to, or None."""
        channel, thread = route.channel, route.thread
        # an id that a stranger chose must not get into the references of the people in the circle
        known = (each for each in reversed(route.earlier) if each.sender_role != "stranger")
        parent = next((each for each in known if each.message_id), None)
        references: tuple[str, ...] = ()
        if parent is not None:
            references = reply_text.references_of(parent.message_id, parent.parents[::-1])
        reply_to = None
        if number is not None:
            reply_to = reply_tokens.reply_address(self.key, channel.address, number, thread.id)
        return MimeMail(
            sender=Address(
                reply_text.one_line(channel.name or self.identity.name), channel.address
            ),
            to=content.to,
            cc=content.cc,
            subject=content.subject,
            text=content.text,
            html=content.html,
            message_id=self.message_id(thread.id, channel.address),
            date=self.now,
            in_reply_to=parent.message_id if parent is not None else None,
            references=references,
            reply_to=reply_to,
            files=content.files,
            original=content.original,
            automatic=automatic,
            loop_mark=channel.address if automatic else "",
        )

    def message_id(self, thread: int, sender: str) -> str:
        """Return a new Message-ID in the sender's domain; ``thread`` 0 means on no thread."""
        nonce = secrets.token_hex(NONCE_BYTES)
        return reply_tokens.message_id(self.key, nonce, thread, sender.rpartition("@")[2])


def outgoing_of(
    mail: MimeMail, kind: Literal["human", "forward", "auto_generated"], route: Route | None = None
) -> Outgoing:
    """Return the encoded mail and its envelope recipients.

    Without a route, the mail belongs to no thread.
    """
    people = (*mail.to, *mail.cc)
    parents = (*((mail.in_reply_to,) if mail.in_reply_to else ()), *reversed(mail.references))
    return Outgoing(
        message_id=mail.message_id,
        sender=mail.sender,
        to=mail.to,
        cc=mail.cc,
        subject=mail.subject,
        text=mail.text,
        date=mail.date,
        raw=compose(mail),
        recipients=tuple(
            dict.fromkeys(address_key(each.address) for each in people if each.address)
        ),
        kind=kind,
        thread=route.thread if route is not None else None,
        fresh=route is not None and route.fresh,
        parents=tuple(dict.fromkeys(parents)),
    )
