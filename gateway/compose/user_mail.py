"""Write the mails of users: replies, forwards, and mails that start a conversation.

A mail gets its recipients, subject, ids and bytes here; nothing is written to the database. Raises
Invalid if no recipient is left or a value cannot be written in a mail.
"""

from __future__ import annotations

import hashlib
import html as markup
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any, Literal

from core.mail import reply_text, reply_tokens
from core.model.message import Address, address_key
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Thread, Ticket, User
from core.rules.recipients import first_recipient
from gateway.compose.mime import File
from gateway.compose.route import MailContent, MailWriter, Route, outgoing_of
from gateway.errors import Invalid
from gateway.store.tickets.heard import HeardMail
from gateway.store.tickets.threads import MessageRow, people_in


@dataclass(frozen=True, slots=True)
class MailRequest:
    """A mail as a user wrote it, before defaults are filled in.

    ``original`` is a mail that is attached whole. ``draft`` is the id of the draft that is sent.
    ``asked`` are the address keys that the user named; None: those in ``to`` and ``cc``.
    """

    text: str
    html: str | None = None
    files: tuple[File, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    subject: str | None = None
    original: bytes | None = None
    draft: int | None = None
    asked: frozenset[str] | None = None


class UserMail:
    """Composes the mails that users send from the tickets of a unit of work."""

    def __init__(self, writer: MailWriter) -> None:
        self.writer = writer
        self.unit = writer.unit

    def answer(
        self, ticket: Ticket, route: Route, request: MailRequest, author: User | None
    ) -> Outgoing:
        """Return a reply on a thread, or the first mail of a new thread (interfaces.md 2.2).

        The reply gets default recipients, the signature and, if a contact has written on the
        thread, a quotation of the last such mail. It is not quoted to a default recipient to whom
        its author never wrote on the thread.
        """
        to, cc = self._recipients(ticket, route, request)
        text, html = _signed(request, author)
        chosen = request.asked
        if chosen is None:
            chosen = frozenset(each.key for each in (*request.to, *request.cc))
        if route.heard is not None and route.heard.readers.issuperset(
            {each.key for each in (*to, *cc)} - chosen
        ):
            quotation = self._quotation(route.heard)
            text = f"{text.rstrip()}\n\n{reply_text.quote(*quotation)}\n"
            html = html + reply_text.quote_html(*quotation) if html is not None else None
        shown = self.writer.shown_as(ticket, route.thread)
        subject = self.writer.subject(
            shown.number, request.subject or shown.subject, "" if route.fresh else "Re"
        )
        content = MailContent(to, cc, subject, text, html, request.files)
        made = self._mail(ticket.number, route, content, request, author)
        return replace(made, answers=self._writer_answered(route, to))

    def forward(
        self,
        ticket: Ticket,
        route: Route,
        request: MailRequest,
        author: User | None,
        message: MessageRow,
    ) -> Outgoing:
        """Return a new mail that forwards a mail of the ticket to somebody else.

        The new mail is on a thread of its own, so that answers never move the ticket (O05).
        """
        if not request.to:
            raise Invalid("the forward needs a recipient", "to")
        signed, _ = _signed(request, author)
        text = f"{signed.rstrip()}\n\n{reply_tokens.unmarked(forwarded_text(message))}\n"
        shown = self.writer.shown_as(ticket, self.unit.threads.get(message.thread_id or 0))
        subject = self.writer.subject(ticket.number, request.subject or shown.subject, "Fwd")
        content = MailContent(
            request.to, request.cc, subject, text, None, request.files, request.original
        )
        return self._mail(ticket.number, route, content, request, author, "forward")

    def fresh_mail(
        self, number: int | None, route: Route, request: MailRequest, author: User | None
    ) -> Outgoing:
        """Return a mail that is no answer; ``number`` is the ticket that it opens or belongs to."""
        if not request.to:
            raise Invalid("the mail needs a recipient", "to")
        text, html = _signed(request, author)
        subject = request.subject or ""
        if number is not None:
            subject = self.writer.subject(number, subject)
        content = MailContent(request.to, request.cc, subject, text, html, request.files)
        return self._mail(number, route, content, request, author)

    def _mail(
        self,
        number: int | None,
        route: Route,
        content: MailContent,
        request: MailRequest,
        author: User | None,
        kind: Literal["human", "forward"] = "human",
    ) -> Outgoing:
        return replace(
            outgoing_of(self.writer.mime_mail(number, route, content), kind, route),
            reply_text=request.text,
            attachments=tuple(
                _attachment_row(file, part) for part, file in enumerate(request.files, 2)
            ),
            author_id=author.id if author is not None else None,
            return_address=route.channel.address,
            draft=request.draft,
        )

    def _recipients(
        self, ticket: Ticket, route: Route, request: MailRequest
    ) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
        """Return To and Cc of an answer; Invalid if all addresses are ours."""
        answered = self._answered(route)
        to, cc = reply_text.recipients(
            answered,
            self._first_recipient(ticket, route.thread),
            self._copied(route, answered),
            request.to,
            request.cc,
            frozenset(self.unit.desk.channels),
        )
        if to or cc:
            return to, cc
        if asked := (*request.to, *request.cc):
            reason = f"{asked[0].address} is one of our channels: name somebody outside with --to"
        else:
            reason = f"ticket {ticket.number} has nobody to write to: name somebody with --to"
        raise Invalid(reason, "to")

    def _answered(self, route: Route) -> Address | None:
        """Return the address that an answer goes to; None if no member of the circle has written.

        It is the newest mail's Reply-To if its owner is in the circle too, else the mail's From.
        """
        if route.heard is None:
            return None
        circle = self.writer.circle(route.thread)
        author = _address(route.heard.head["from"])
        for each in filter(None, map(_address, route.heard.head.get("reply_to") or ())):
            contact = self.unit.contact_at(each.address)
            if (contact is not None and contact.id in circle) or _same_box(each, author):
                return each
        return author

    def _writer_answered(self, route: Route, to: tuple[Address, ...]) -> int | None:
        """Return the author of the answered mail if the answer goes to their reply address."""
        answered = self._answered(route)
        if route.heard is None or answered is None or answered.key not in {each.key for each in to}:
            return None
        author = _address(route.heard.head["from"])
        contact = self.unit.contact_at(author.address) if author is not None else None
        return contact.id if contact is not None else None

    def _copied(self, route: Route, answered: Address | None) -> list[Address]:
        """Return the participants of a thread, except strangers.

        If the answer goes to a Reply-To address, the author of the answered mail gets no copy.
        """
        roles = self.unit.participants.get(route.thread.id, {})
        people = (
            self.unit.contacts.get(each) for each, role in roles.items() if role != "stranger"
        )
        author = _address(route.heard.head["from"]) if route.heard is not None else None
        names = _names(route)
        named = [Address(names.get(each.address, ""), each.address) for each in people if each]
        if author is None or answered is None or author.key == answered.key:
            return named
        return [each for each in named if each.key != author.key]

    def _quotation(self, mail: HeardMail) -> tuple[str, datetime, tzinfo, str]:
        """Return the text, date, time zone and author with which a mail is quoted."""
        sender = mail.head["from"] or {}
        author = sender.get("name") or sender.get("address") or "somebody"
        return mail.words, mail.at, self.writer.identity.zone, author

    def _first_recipient(self, ticket: Ticket, thread: Thread) -> Address | None:
        """Return the recipient on a thread on which no member of the circle has written yet."""
        roles = self.unit.participants.get(thread.id, {})
        chosen = first_recipient(ticket, thread, roles)
        contact = self.unit.contacts.get(chosen) if chosen is not None else None
        if contact is None:
            return None
        return Address(reply_text.one_line(contact.name), contact.address)


def _signed(request: MailRequest, author: User | None) -> tuple[str, str | None]:
    """Return the text and the HTML of a mail, each with the author's signature at the end."""
    signature = author.signature if author is not None else None
    html = request.html
    if html is not None and (below := reply_text.with_signature("", signature).strip()):
        html = f"{html}<p>{'<br>'.join(markup.escape(line) for line in below.splitlines())}</p>"
    return reply_text.with_signature(request.text, signature), html


def _address(head: dict[str, Any] | None) -> Address | None:
    if not head or not head.get("address"):
        return None
    return Address(head.get("name") or "", head["address"])


def _names(route: Route) -> dict[str, str]:
    """Return the names that the mails of a thread give to addresses, by address key.

    A name that somebody is known by from elsewhere is not told to the others on the thread.
    """
    names: dict[str, str] = {}
    for row in route.earlier:
        for each in people_in(row.head, "from", "to", "cc"):
            if each["address"] and each["name"]:
                names[address_key(each["address"])] = each["name"]
    return names


def _same_box(one: Address, two: Address | None) -> bool:
    """Tell whether two addresses are equal apart from their plus part."""
    return two is not None and reply_tokens.bare(one.key)[0] == reply_tokens.bare(two.key)[0]


def _attachment_row(file: File, part: int) -> dict[str, Any]:
    """Return an attachment as it is stored; ``part`` is the number of its part in the mail."""
    return {
        "filename": file.filename,
        "content_type": file.content_type,
        "size": len(file.data),
        "sha256": hashlib.sha256(file.data).hexdigest(),
        "inline": False,
        "content_id": None,
        "part": str(part),
    }


def forwarded_text(row: MessageRow) -> str:
    """Return a mail's text with a header block above it, which marks it as forwarded."""
    sender = row.head["from"] or {}
    to = ", ".join(each["address"] or each["name"] or "" for each in row.head["to"])
    date = f"Date: {row.date.isoformat()}\n" if row.date is not None else ""
    shown = f"{sender.get('name') or ''} <{sender.get('address') or ''}>".strip()
    return (
        f"---------- Forwarded message ---------\nFrom: {shown}\n"
        f"{date}Subject: {row.subject}\nTo: {to}\n\n{row.text}"
    )
