"""State that the handlers of decisions share: unit of work, instant, actor, and lookups.

Numbers and ids may be :data:`core.decisions.tickets.NEW`; ``number`` and ``thread_id`` resolve
them. A LookupError means that a decision names something that is not in the unit of work. That is a
fault of this program; the transaction is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import Any

from core.decisions.tickets import NEW, Finish
from core.events import Cause
from core.mail.our_addresses import our_address
from core.model.message import Address, Message
from core.model.ticket import Contact, Thread, Ticket, User
from gateway.store.tickets.tickets import TicketEvent
from gateway.store.tickets.unit_of_work import UnitOfWork


@dataclass(slots=True)
class MailContext:
    """The inbound mail that decisions are about, and the results of performing them."""

    message: Message
    mail_id: int | None
    received_at: datetime
    verdict: str
    user: User | None
    channel_id: int | None
    contact: Contact | None = None  # the sender's, created on first use
    thread: int = NEW
    ticket: int = NEW
    row: int | None = None  # id of the stored message
    created_ticket: bool = False
    before: str | None = None  # name of the ticket's status before the mail
    finish: Finish | None = None
    notes: list[str] = field(default_factory=list)  # class names of the decisions: `replay --json`


def required(mail: MailContext | None) -> MailContext:
    """Return the mail that a decision needs; LookupError where there is none."""
    if mail is None:
        raise LookupError("the decision is about a mail, but none was given")
    return mail


def address_of(address: Address) -> dict[str, str | None]:
    """Return an address as the JSON object that is stored with a message."""
    return {"name": address.name, "address": address.address}


@dataclass(slots=True)
class ApplyContext:
    """Shared state of one transaction; the history names ``actor`` where no mail is given."""

    unit: UnitOfWork
    now: datetime
    actor: str = "system"
    zone: tzinfo = UTC  # the account's, for digests
    opened: int | None = None  # number of the ticket opened last
    renames: dict[int, int] = field(default_factory=dict)  # ticket -> thread that names it

    # ---- looking up

    def number(self, ticket: int, mail: MailContext | None = None) -> int:
        """Return the number that ``ticket`` stands for.

        NEW stands for the mail's ticket or, without a mail, for the ticket opened last.
        """
        if ticket != NEW:
            return ticket
        number = mail.ticket if mail is not None else self.opened
        if not number:
            raise LookupError("the decision names the ticket just opened, but none was opened")
        return number

    def ticket(self, number: int, mail: MailContext | None = None) -> Ticket:
        """Return the ticket with this number; NEW stands for a ticket as in :meth:`number`."""
        return self.unit.tickets[self.number(number, mail)]

    def followed(self, thread: int) -> Thread:
        """Follow the joins from this thread, if any; return the thread at which they end."""
        found = self.unit.follow(thread)
        return found if found is not None else self.unit.threads[thread]

    def thread_id(self, thread: int, mail: MailContext | None) -> int:
        """Return the id of a thread, following redirects; NEW stands for the mail's thread."""
        return required(mail).thread if thread == NEW else self.followed(thread).id

    def status_name(self, ticket: Ticket) -> str:
        """Return the name of a ticket's status."""
        return self.unit.desk.pipelines[ticket.pipeline_id].status(ticket.status_id).name

    def is_ours(self, key: str) -> bool:
        """Tell whether an address key is a user's or a channel's, with or without a plus part."""
        desk = self.unit.desk
        return key in desk.users or our_address(desk.channels, key) is not None

    # ---- changing

    def change(self, number: int, **changes: Any) -> None:
        """Replace fields of a ticket."""
        self.unit.set_ticket(replace(self.unit.tickets[number], **changes))

    def raise_flags(self, number: int, flags: Iterable[str]) -> None:
        """Add flags to a ticket."""
        ticket = self.unit.tickets[number]
        if not ticket.flags.issuperset(flags):
            self.change(number, flags=ticket.flags | set(flags))

    def event(
        self,
        ticket: int,
        kind: str,
        cause: Cause,
        *,
        before: str | None = None,
        after: str | None = None,
        detail: str | None = None,
        mail: MailContext | None = None,
    ) -> None:
        """Write an entry into the history of a ticket."""
        actor = self.actor
        if mail is not None:
            actor = mail.message.sender.key if mail.message.sender else "unknown sender"
        names = ("rule", "message_id", "workflow", "action", "user")
        self.unit.pending.events.append(
            TicketEvent(
                id=self.unit.allot("event"),
                ticket=ticket,
                at=self.now,
                type=kind,
                actor=cause.user or actor,
                cause={name: getattr(cause, name) for name in names},
                before=before,
                after=after,
                detail=detail,
            )
        )
