"""The mail of an action, made ready before the rules are asked what becomes of the action: to whom
it may go, and in which words.

What cannot be made now is told as the outcome of the action and tried again later where a person
can mend it (a template, an address).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from core.events import Prepared
from core.model.message import Address, address_key
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Contact, Ticket, User
from core.model.workflow import Action, Enrolment
from core.rules.automatic_mail import RECEIVED, Counts, Occasion, permitted
from gateway.compose.automatic_mail import AutomaticMail
from gateway.compose.route import MailIdentity, Route
from gateway.compose.templates import Template, render
from gateway.errors import Rejected
from gateway.store.setup.templates import StoredTemplate, Words
from gateway.store.tickets import contacts, pending_outgoing
from gateway.store.tickets.threads import MessageRow

_NUMBERS = re.compile(r"\d+")
FROM_OUTSIDE = frozenset({"mail", "B", "S9"})  # causes that are somebody's mail


class ActionMail:
    """Prepares mails for the tickets of a book."""

    def __init__(
        self, letters: AutomaticMail, house: MailIdentity, templates: Mapping[str, StoredTemplate]
    ) -> None:
        self.letters = letters
        self.house = house
        self.templates = templates

    async def prepare(self, ticket: Ticket, run: Enrolment, action: Action) -> Prepared:
        """The mails of ``send_email`` or ``notify_internal_email``, or why there are none."""
        try:
            if action.kind == "send_email":
                return await self._to_contacts(ticket, run, action)
            return await self._inside(ticket, run, action.config, action.id)
        except Rejected as error:
            return Prepared((), "FAILED", error.message, retry=True)

    async def _to_contacts(self, ticket: Ticket, run: Enrolment, action: Action) -> Prepared:
        template = self.templates.get(str(action.config["template"]).strip().casefold())
        if template is None:
            return Prepared(
                (), "FAILED", f"there is no template {action.config['template']!r}", retry=True
            )
        way = await self._way(ticket)
        occasion = Occasion(
            ticket,
            template.name,
            template.transactional,
            run.silent,
            run.began in FROM_OUTSIDE,
            run.began == "mail",
            self.letters.unit.desk.channels,
            way.channel,
            self.house.acknowledge,
        )
        mails: list[Outgoing] = []
        refusals: list[Prepared] = []
        for contact in await self._people(ticket, action.config.get("to", "requester")):
            role = (
                self.letters.unit.part_of(contact.id, None, ticket) if contact is not None else None
            )
            found = permitted(
                occasion, contact, role or "", await self._counts(way, template.name, contact)
            )
            if contact is None or found.outcome != "OK":
                refusals.append(Prepared((), found.outcome, found.why))
                continue
            key = f"{run.id}:{action.id}:{contact.id}"
            mails.append(
                self.letters.automatic(
                    ticket, way, contact, template, key, only_generic=found.generic
                )
            )
        if not mails:
            return refusals[0]
        return Prepared(
            tuple(mails), "OK", ", ".join(each for mail in mails for each in mail.recipients)
        )

    async def _way(self, ticket: Ticket) -> Route:
        """The origin thread; a ticket without mail gets one, of which this is the first (C18)."""
        origin = self.letters.writer.origin(ticket)
        if origin is not None:
            return await self.letters.writer.route(origin)
        return await self.letters.writer.route(
            self.letters.writer.fresh_thread(self.letters.writer.channel_of(None), origin=True),
            fresh=True,
        )

    async def _people(self, ticket: Ticket, to: str) -> list[Contact | None]:
        """The requester, and on demand those whom users put on the ticket; they need not have
        written, so the book may not have met them.
        """
        unit = self.letters.unit
        associated = unit.associated.get(ticket.number, set()) if to == "associated" else set()
        for contact in await contacts.load(unit.connection, ids=associated - unit.contacts.keys()):
            unit.put_contact(contact)
        people = [ticket.requester_id, *sorted(associated)]
        return [
            unit.contacts.get(each) if each is not None else None for each in dict.fromkeys(people)
        ]

    async def _counts(self, way: Route, template: str, contact: Contact | None) -> Counts:
        connection, now, unwritten = (
            self.letters.unit.connection,
            self.letters.now,
            self.letters.unit.outward,
        )
        everywhere = (
            await pending_outgoing.automatic_since(connection, now - timedelta(hours=1))
            + unwritten.automatic()
        )
        if template != RECEIVED or contact is None:
            return Counts(in_a_row=_in_a_row(way.earlier, contact), everywhere_hour=everywhere)
        hour, day, domain = await pending_outgoing.receipts(
            connection, template, contact.address, now
        )
        address, beside = unwritten.receipts(template, contact.address)
        return Counts(
            hour + address,
            day + address,
            domain + beside,
            _in_a_row(way.earlier, contact),
            everywhere,
        )

    async def _inside(
        self, ticket: Ticket, run: Enrolment, config: Mapping[str, Any], action: str
    ) -> Prepared:
        tokens = self.letters.tokens(
            ticket, None, self.letters.unit.contacts.get(ticket.requester_id or 0)
        )
        rendered = render(Template(action, config["subject"], config["text"]), tokens)
        url = self.letters.url(ticket.number)
        text = rendered.text if url in rendered.text else f"{rendered.text.rstrip()}\n\n{url}\n"
        mails = [
            self.letters.notice(
                ticket.number,
                to,
                Words(rendered.subject, text),
                f"{run.id}:{action}:{to.key}",
                user=user,
                what="internal notification",
            )
            for to, user in self._insiders(ticket, config["to"])
        ]
        if not mails:
            return Prepared((), "SKIPPED_NO_RECIPIENT", "there is nobody inside to tell")
        return Prepared(
            tuple(mails), "OK", ", ".join(each for mail in mails for each in mail.recipients)
        )

    def _insiders(self, ticket: Ticket, to: Sequence[str]) -> list[tuple[Address, User | None]]:
        """Users by address or "owner", and other addresses; none of our own channels, each once."""
        users, channels = self.letters.unit.desk.users, self.letters.unit.desk.channels
        owner = next((user for user in users.values() if user.id == ticket.owner_id), None)
        found: dict[str, tuple[Address, User | None]] = {}
        for each in to:
            user = owner if each.strip().casefold() == "owner" else users.get(address_key(each))
            address = (
                Address(user.name, user.address) if user is not None else Address("", each.strip())
            )
            if "@" in (address.address or "") and address.key not in channels:
                found.setdefault(address.key, (address, user))
        return list(found.values())


def _in_a_row(earlier: Sequence[MessageRow], contact: Contact | None) -> int:
    """Automatic mails of ours to him at the end of a conversation, with no person's word between;
    one action may write to several people.

    Words that came before just so, but for their numbers, are an echo: a machine that does not say
    that it is one.
    """
    heard = Counter(_said(row) for row in earlier if row.direction == "inbound")
    found = 0
    for row in reversed(earlier):
        if (
            row.direction == "outbound"
            and row.sender_role == "self"
            and row.kind == "auto_generated"
        ):
            found += contact is not None and any(
                each["address"] == contact.address for each in row.head["to"]
            )
        elif row.kind in ("human", "forward") and (
            row.direction == "outbound" or heard[_said(row)] == 1
        ):
            break
    return found


def _said(row: MessageRow) -> str:
    return " ".join(_NUMBERS.sub("", row.reply_text or "").casefold().split())
