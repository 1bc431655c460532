"""Prepare the mail of a workflow action before the rules decide how the action ends.

Mail that cannot be made is reported as the outcome of the action. The action is tried again later
if a person can remove the cause (a template, an address).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from core.events import Prepared
from core.mail.our_addresses import our_address
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

Templates = Mapping[str, StoredTemplate]  # by name in lower case
_NUMBERS = re.compile(r"\d+")
FROM_OUTSIDE: Final = frozenset({"mail", "B", "S9"})  # causes that are mail from outside


class ActionMail:
    """Prepares mails for tickets in the unit of work of ``composer``."""

    def __init__(
        self, composer: AutomaticMail, identity: MailIdentity, templates: Templates
    ) -> None:
        self.composer = composer
        self.unit = composer.writer.unit
        self.identity = identity
        self.templates = templates

    async def prepare(self, ticket: Ticket, run: Enrolment, action: Action) -> Prepared:
        """Return the mails of a mail action, or the reason why it has none."""
        try:
            if action.kind == "send_email":
                return await self._to_contacts(ticket, run, action)
            return self._to_insiders(ticket, run, action)
        except Rejected as error:
            return Prepared((), "FAILED", error.message, retry=True)

    # ---- to contacts

    async def _to_contacts(self, ticket: Ticket, run: Enrolment, action: Action) -> Prepared:
        name = action.config["template"]
        template = self.templates.get(str(name).strip().casefold())
        if template is None:
            return Prepared((), "FAILED", f"unknown template {name!r}", retry=True)
        first = await self._route(ticket)
        mails: list[Outgoing] = []
        refusals: list[Prepared] = []
        for contact in await self._contacts(ticket, action.config.get("to", "requester")):
            route = await self._route_to(ticket, contact, first)
            occasion = self._occasion(ticket, run, template, route)
            role = self.unit.part_of(contact.id, None, ticket) if contact is not None else None
            counts = await self._counts(route, template.name, contact)
            found = permitted(occasion, contact, role or "", counts)
            if contact is None or found.outcome != "OK":
                refusals.append(Prepared((), found.outcome, found.why))
                continue
            key = f"{run.id}:{action.id}:{contact.id}"
            mails.append(
                self.composer.automatic(
                    ticket, route, contact, template, key, only_generic=found.generic
                )
            )
        return _prepared(mails) if mails else refusals[0]

    def _occasion(
        self, ticket: Ticket, run: Enrolment, template: StoredTemplate, route: Route
    ) -> Occasion:
        return Occasion(
            ticket=ticket,
            template=template.name,
            transactional=template.transactional,
            silent=run.silent,
            answers_mail=run.began in FROM_OUTSIDE,
            opens=run.began == "mail",
            channels=self.unit.desk.channels,
            channel=route.channel,
            acknowledge=self.identity.acknowledge,
        )

    async def _route(self, ticket: Ticket) -> Route:
        """Return the route on the origin thread; make a new one if the ticket has none (C18)."""
        writer = self.composer.writer
        if (origin := writer.origin(ticket)) is not None:
            return await writer.route(origin)
        fresh = writer.fresh_thread(writer.channel_of(None), origin=True)
        return await writer.route(fresh, fresh=True)

    async def _route_to(self, ticket: Ticket, contact: Contact | None, first: Route) -> Route:
        """Return the route to a contact: ``first``, unless they take part in other threads only."""
        writer = self.composer.writer
        own = await writer.own_thread(ticket, contact) if contact is not None else None
        return first if own is None or own.id == first.thread.id else await writer.route(own)

    async def _contacts(self, ticket: Ticket, to: str) -> list[Contact | None]:
        """Return the requester and, with ``to`` "associated", the contacts put on the ticket."""
        unit = self.unit
        associated = unit.associated.get(ticket.number, set()) if to == "associated" else set()
        # associated contacts need not have written, so they may not be loaded yet
        for contact in await contacts.load(unit.connection, ids=associated - unit.contacts.keys()):
            unit.put_contact(contact)
        people = dict.fromkeys([ticket.requester_id, *sorted(associated)])
        return [unit.contacts.get(each) if each is not None else None for each in people]

    async def _counts(self, route: Route, template: str, contact: Contact | None) -> Counts:
        """Count the automatic mails of the last hour and day, including those not yet stored."""
        connection, now = self.unit.connection, self.composer.writer.now
        unwritten = self.unit.outward
        hour_ago = now - timedelta(hours=1)
        stored = await pending_outgoing.automatic_since(connection, hour_ago)
        everywhere = stored + unwritten.automatic()
        in_a_row = _in_a_row(route.earlier, contact)
        if template != RECEIVED or contact is None:
            return Counts(in_a_row=in_a_row, everywhere_hour=everywhere)
        address = contact.address
        hour, day, domain = await pending_outgoing.receipts(connection, template, address, now)
        to_address, to_domain = unwritten.receipts(template, address)
        return Counts(
            to_address_hour=hour + to_address,
            to_address_day=day + to_address,
            to_domain_hour=domain + to_domain,
            in_a_row=in_a_row,
            everywhere_hour=everywhere,
        )

    # ---- to users and other insiders

    def _to_insiders(self, ticket: Ticket, run: Enrolment, action: Action) -> Prepared:
        config = action.config
        requester = self.unit.contacts.get(ticket.requester_id or 0)
        tokens = self.composer.tokens(ticket, None, requester)
        rendered = render(Template(action.id, config["subject"], config["text"]), tokens)
        origin = self.composer.writer.origin(ticket)
        url, text = self.composer.url(ticket.number), rendered.text
        words = Words(rendered.subject, text if url in text else f"{text.rstrip()}\n\n{url}\n")
        mails = [
            self.composer.notice(
                ticket.number,
                to,
                words,
                f"{run.id}:{action.id}:{to.key}",
                user=user,
                what="internal notification",
                thread=origin.id if origin is not None else None,
            )
            for to, user in self._insiders(ticket, config["to"])
        ]
        if not mails:
            return Prepared((), "SKIPPED_NO_RECIPIENT", "no user or address to notify")
        return _prepared(mails)

    def _insiders(self, ticket: Ticket, to: Sequence[str]) -> list[tuple[Address, User | None]]:
        """Return (address, its user or None) for the addresses in ``to``, each address once.

        An entry of ``to`` is an address or "owner". Addresses of channels are left out.
        """
        users, channels = self.unit.desk.users, self.unit.desk.channels
        owner = next((user for user in users.values() if user.id == ticket.owner_id), None)
        found: dict[str, tuple[Address, User | None]] = {}
        for each in to:
            user = owner if each.strip().casefold() == "owner" else users.get(address_key(each))
            address = Address("", each.strip())
            if user is not None:
                address = Address(user.name, user.address)
            if "@" in (address.address or "") and our_address(channels, address.key) is None:
                found.setdefault(address.key, (address, user))
        return list(found.values())


def _prepared(mails: Sequence[Outgoing]) -> Prepared:
    recipients = ", ".join(each for mail in mails for each in mail.recipients)
    return Prepared(tuple(mails), "OK", recipients)


def _in_a_row(earlier: Sequence[MessageRow], contact: Contact | None) -> int:
    """Count our automatic mails to a contact since a person last wrote on the thread.

    Mail to others does not count, as one action may write to several people. An incoming text that
    came more than once, even with other numbers in it, counts as written by a machine.
    """
    heard = Counter(_echo_key(row) for row in earlier if row.direction == "inbound")
    found = 0
    for row in reversed(earlier):
        ours = row.direction == "outbound"
        if ours and row.sender_role == "self" and row.kind == "auto_generated":
            found += contact is not None and any(
                each["address"] == contact.address for each in row.head["to"]
            )
        elif row.kind in ("human", "forward") and (ours or heard[_echo_key(row)] == 1):
            break
    return found


def _echo_key(row: MessageRow) -> str:
    """Return the text of a message without numbers and spacing, to compare it with others."""
    return " ".join(_NUMBERS.sub("", row.reply_text or "").casefold().split())
