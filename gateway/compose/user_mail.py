"""Mails of a ticket, made ready to go: what a user writes, what a template says, what users are
told.

Everything about a mail is settled here, once: its people, its subject with the tag, the ids by
which answers find their way home, its bytes. Nothing is written to the database. What can go wrong:
nobody to write to, or words that make no sound mail (Refused, with the sentence).
"""

from __future__ import annotations

import hashlib
import html as markup
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Literal

from core.mail import reply_text, reply_tokens
from core.model.message import Address, address_key
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Channel, Thread, Ticket, User
from gateway.compose.mime import File, MimeMail, compose
from gateway.errors import Refused
from gateway.store.tickets import threads
from gateway.store.tickets.threads import MessageRow
from gateway.store.tickets.unit_of_work import UnitOfWork

LOOKED_BACK = 30  # mails of a thread that are read for what a new one answers
NONCE_BYTES = 8


@dataclass(frozen=True, slots=True)
class MailIdentity:
    """What the configuration says about our mail: who we are, where the desk is seen, and how
    unverified senders are acknowledged.
    """

    zone: tzinfo
    name: str = "Support"
    public_url: str = ""
    acknowledge: Literal["generic", "full", "never"] = "generic"
    from_address: str = ""


@dataclass(frozen=True, slots=True)
class MailRequest:
    """What a user wrote: the words and where they go. ``original`` is a mail that is attached
    whole.
    """

    text: str
    html: str | None = None
    files: tuple[File, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    subject: str | None = None
    original: bytes | None = None
    draft: int | None = None


@dataclass(frozen=True, slots=True)
class MailContent:
    """A mail as it will be read: its people, its words, and what is attached."""

    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    text: str
    html: str | None = None
    files: tuple[File, ...] = ()
    original: bytes | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """By which channel, on which thread, in answer to what."""

    channel: Channel
    thread: Thread
    fresh: bool
    earlier: Sequence[MessageRow]


class UserMail:
    """Makes mails for the tickets of a book, at the instant ``now``."""

    def __init__(self, unit: UnitOfWork, house: MailIdentity, now: datetime) -> None:
        self.unit = unit
        self.house = house
        self.now = now
        self.key = unit.desk.keys[0]

    # ---- where a mail goes

    def origin(self, ticket: Ticket) -> Thread | None:
        """The thread the ticket was created on."""
        return next(
            (
                each
                for each in self.unit.threads_of(ticket.number)
                if each.origin and each.kind == "normal"
            ),
            None,
        )

    def channel_of(self, thread: Thread | None) -> Channel:
        """The channel a thread goes through, the default one where it has none; Refused when there
        is no channel at all.
        """
        channels = self.unit.desk.channels.values()
        found = next(
            (each for each in channels if thread is not None and each.id == thread.channel_id),
            self.unit.desk.default_channel,
        )
        if found is None:
            raise Refused("there is no channel to send from: add one with channel add")
        return found

    def fresh_thread(
        self,
        channel: Channel,
        kind: Literal["normal", "forward"] = "normal",
        *,
        origin: bool = False,
    ) -> Thread:
        """A thread that starts with the mail that is made now."""
        return Thread(
            self.unit.allot("thread"), kind, self.now, channel_id=channel.id, origin=origin
        )

    async def way(self, thread: Thread, *, fresh: bool = False) -> Route:
        """The thread with what was written on it last."""
        earlier = (
            [] if fresh else await threads.newest(self.unit.connection, thread.id, LOOKED_BACK)
        )
        return Route(self.channel_of(thread), thread, fresh, earlier)

    # ---- what a user writes

    def answer(
        self, ticket: Ticket, way: Route, written: MailRequest, author: User | None
    ) -> Outgoing:
        """A reply on a thread, or the first mail of a new one: default recipients, quoted last
        exchange, signature (interfaces.md 2.2).
        """
        last = self.last_heard(way)
        to, cc = reply_text.recipients(
            _address(last.head["from"]) if last is not None else None,
            self._first(ticket, way.thread),
            self._approved(way.thread),
            written.to,
            written.cc,
            frozenset(self.unit.desk.channels),
        )
        if not to and not cc and (asked := (*written.to, *written.cc)):
            raise Refused(
                f"{asked[0].address} is an address of ours: name somebody outside with --to"
            )
        if not to and not cc:
            raise Refused(
                f"there is nobody to write to on ticket {ticket.number}: name somebody with --to"
            )
        text, html = _signed(written, author)
        if last is not None and not way.fresh:
            who = (
                (last.head["from"] or {}).get("name")
                or (last.head["from"] or {}).get("address")
                or "somebody"
            )
            quoted = (
                last.reply_text or last.text,
                last.date or last.created_at,
                self.house.zone,
                who,
            )
            text = f"{text.rstrip()}\n\n{reply_text.quote(*quoted)}\n"
            html = html + reply_text.quote_html(*quoted) if html is not None else None
        subject = reply_text.subject_of(
            written.subject or ticket.subject,
            reply_tokens.tag(self.key, ticket.number),
            "" if way.fresh else "Re",
        )
        return self._mail(
            ticket.number,
            way,
            MailContent(to, cc, subject, text, html, written.files),
            written,
            author,
        )

    def forward(
        self,
        ticket: Ticket,
        way: Route,
        written: MailRequest,
        author: User | None,
        message: MessageRow,
    ) -> Outgoing:
        """A mail of the ticket goes to somebody else, on a thread of its own that never moves the
        ticket (O05).
        """
        if not written.to:
            raise Refused("a forward needs somebody to go to")
        text = f"{_signed(written, author)[0].rstrip()}\n\n{reply_tokens.unmarked(_forwarded(message))}\n"
        subject = reply_text.subject_of(
            written.subject or ticket.subject, reply_tokens.tag(self.key, ticket.number), "Fwd"
        )
        said = MailContent(
            written.to, written.cc, subject, text, None, written.files, written.original
        )
        return self._mail(ticket.number, way, said, written, author, "forward")

    def fresh_mail(
        self, number: int | None, way: Route, written: MailRequest, author: User | None
    ) -> Outgoing:
        """A mail of a user that answers nothing; ``number`` is the ticket it opens or belongs to."""
        if not written.to:
            raise Refused("the mail needs somebody to go to")
        text, html = _signed(written, author)
        subject = written.subject or ""
        if number is not None:
            subject = reply_text.subject_of(subject, reply_tokens.tag(self.key, number), "")
        return self._mail(
            number,
            way,
            MailContent(written.to, written.cc, subject, text, html, written.files),
            written,
            author,
        )

    def _mail(
        self,
        number: int | None,
        way: Route,
        said: MailContent,
        written: MailRequest,
        author: User | None,
        kind: Literal["human", "forward"] = "human",
    ) -> Outgoing:
        letter = self.letter(number, way, said)
        return Outgoing(
            message_id=letter.message_id,
            sender=letter.sender,
            to=said.to,
            cc=said.cc,
            subject=said.subject,
            text=said.text,
            date=self.now,
            raw=compose(letter),
            recipients=keys_of((*said.to, *said.cc)),
            kind=kind,
            thread=way.thread,
            fresh=way.fresh,
            reply_text=written.text,
            parents=parents_of(letter),
            attachments=tuple(
                _described(file, place) for place, file in enumerate(written.files, 2)
            ),
            author_id=author.id if author is not None else None,
            return_address=way.channel.address,
            draft=written.draft,
        )

    def letter(
        self,
        number: int | None,
        way: Route,
        said: MailContent,
        automatic: Literal["", "auto-replied", "auto-generated"] = "",
    ) -> MimeMail:
        """The mail with its ids and its way home: the ticket's reply address, or that of one of its
        other threads.
        """
        channel, thread = way.channel, way.thread
        parent = next((each for each in reversed(way.earlier) if each.message_id), None)
        references = (
            reply_text.references_of(parent.message_id, parent.parents[::-1])
            if parent is not None
            else ()
        )
        back = None
        if number is not None:
            back = reply_tokens.reply_address(
                self.key, channel.address, number, None if thread.origin else thread.id
            )
        return MimeMail(
            sender=Address(reply_text.one_line(channel.name or self.house.name), channel.address),
            to=said.to,
            cc=said.cc,
            subject=said.subject,
            text=said.text,
            html=said.html,
            message_id=self._message_id(thread, channel),
            date=self.now,
            in_reply_to=parent.message_id if parent is not None else None,
            references=references,
            reply_to=back,
            files=said.files,
            original=said.original,
            automatic=automatic,
            loop_mark=channel.address if automatic else "",
        )

    def _message_id(self, thread: Thread, channel: Channel) -> str:
        return reply_tokens.message_id(
            self.key, secrets.token_hex(NONCE_BYTES), thread.id, channel.address.rpartition("@")[2]
        )

    def last_heard(self, way: Route) -> MessageRow | None:
        """The newest inbound mail of a person who is not a stranger."""
        parts = self.unit.participants.get(way.thread.id, {})
        for row in reversed(way.earlier):
            if (
                row.direction == "inbound"
                and row.sender_role == "contact"
                and row.sender_id is not None
                and parts.get(row.sender_id) != "stranger"
            ):
                return row
        return None

    def _first(self, ticket: Ticket, thread: Thread) -> Address | None:
        """Whom a mail goes to while nobody was heard on its thread: the requester; on the thread of
        a forward never he, but whom that went to.
        """
        if thread.kind == "forward":
            return next(iter(self._approved(thread)), None)
        contact = (
            self.unit.contacts.get(ticket.requester_id) if ticket.requester_id is not None else None
        )
        return (
            Address(reply_text.one_line(contact.name), contact.address)
            if contact is not None
            else None
        )

    def _approved(self, thread: Thread) -> list[Address]:
        parts = self.unit.participants.get(thread.id, {})
        people = (
            self.unit.contacts.get(contact) for contact, role in parts.items() if role != "stranger"
        )
        return [Address(each.name, each.address) for each in people if each is not None]


def _signed(written: MailRequest, author: User | None) -> tuple[str, str | None]:
    """Both bodies with the signature of who wrote them."""
    signature = author.signature if author is not None else None
    html = written.html
    if html is not None and (below := reply_text.with_signature("", signature).strip()):
        html = f"{html}<p>{'<br>'.join(markup.escape(line) for line in below.splitlines())}</p>"
    return reply_text.with_signature(written.text, signature), html


def _address(head: dict[str, Any] | None) -> Address | None:
    return (
        Address(head.get("name") or "", head.get("address"))
        if head and head.get("address")
        else None
    )


def keys_of(people: Sequence[Address]) -> tuple[str, ...]:
    """Whom a mail goes to, each once."""
    return tuple(dict.fromkeys(address_key(each.address) for each in people if each.address))


def parents_of(letter: MimeMail) -> tuple[str, ...]:
    """What a mail points at, the newest first."""
    own = (letter.in_reply_to,) if letter.in_reply_to else ()
    return tuple(dict.fromkeys((*own, *reversed(letter.references))))


def _described(file: File, place: int) -> dict[str, Any]:
    return {
        "filename": file.filename,
        "content_type": file.content_type,
        "size": len(file.data),
        "sha256": hashlib.sha256(file.data).hexdigest(),
        "inline": False,
        "content_id": None,
        "part": str(place),
    }


def _forwarded(row: MessageRow) -> str:
    """The mail that is passed on, in the way mail programs write it."""
    sender = row.head["from"] or {}
    to = ", ".join(each["address"] or each["name"] or "" for each in row.head["to"])
    date = row.date.isoformat() if row.date is not None else ""
    shown = f"{sender.get('name') or ''} <{sender.get('address') or ''}>".strip()
    return (
        f"---------- Forwarded message ---------\nFrom: {shown}\nDate: {date}\nSubject: "
        f"{row.subject}\nTo: {to}\n\n{row.text}"
    )
