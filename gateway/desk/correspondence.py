"""What a user sends: replies, new conversations, forwards, mail from a channel or to a contact; at
once or later (behaviour.md 2.3).

Each is one transaction: the mail is made, the rules are asked, ticket and outbox are written
together. A mail for later waits as a draft and becomes all of this only when it is due (O11). What
can go wrong is ``Refused`` with a sentence, and nothing was changed; a draft that cannot go out any
more fails with that sentence where everybody sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parseaddr
from typing import Any, Literal

from core.decide import refusal
from core.events import DeliveriesHandled, EmailSent, MoveAsked, TicketOpened
from core.mail import reply_tokens
from core.model.message import Address
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Channel, Thread, Ticket, User
from gateway.clock import Clock
from gateway.compose.mime import File
from gateway.compose.user_mail import MailIdentity, MailRequest, UserMail
from gateway.desk.tickets import ActResult
from gateway.desk.transaction import BUILT_IN, Actor, Transaction, status_of
from gateway.errors import Refused, Rejected
from gateway.store.engine import Database
from gateway.store.queues import drafts, outbox
from gateway.store.tickets import pending_outgoing, threads
from gateway.store.tickets.pending_outgoing import OutgoingFileRow, OutgoingRow
from gateway.store.tickets.threads import MessageRow
from gateway.validation import refuse_breaks

RawOf = Callable[[int], Awaitable[bytes]]
FilesOf = Callable[[int], Awaitable[tuple[File, ...]]]


@dataclass(frozen=True, slots=True)
class MailDraft:
    """A mail as a user gives it; addresses as typed, names as typed. ``at``: not before.
    ``message``: the one that is forwarded.
    """

    text: str
    html: str | None = None
    files: tuple[File, ...] = ()
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    subject: str | None = None
    thread: int | None = None
    new_thread: bool = False
    status: str | None = None
    message: int | None = None
    at: datetime | None = None


class CorrespondenceDesk(Actor):
    """What this person can send; see the module.

    ``raw_of`` gives the raw mail of a register entry, for forwards, ``files_of`` what is attached
    to it, for answers written elsewhere (E19).
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        house: MailIdentity,
        actor: str = BUILT_IN,
        *,
        raw_of: RawOf | None = None,
        files_of: FilesOf | None = None,
    ) -> None:
        super().__init__(database, clock, house.zone, actor)
        self.house = house
        self.raw_of = raw_of
        self.files_of = files_of

    async def reply(self, number: int, mail: MailDraft) -> ActResult:
        """A reply on a thread of the ticket, by default its origin, or the first mail of a new one
        (O01, O02, O04, O09, O10, O15).
        """
        _refuse_empty(mail)
        async with self.acting() as act:
            ticket = await act.ticket(number)
            made = await self._reply(act, ticket, mail)
            later = mail.at is not None and mail.at > act.now
            if later:
                self._keep(
                    act,
                    made,
                    mail,
                    {
                        "act": "reply",
                        "ticket": ticket.number,
                        "status": mail.status,
                        "new_thread": mail.new_thread,
                    },
                )
            else:
                self._send(act, ticket, made, mail.status)
        return _outcome(act, (ticket.number,))

    async def forward(self, number: int, mail: MailDraft) -> ActResult:
        """A mail of the ticket goes to somebody else, whose answers stay apart (O05, E17)."""
        original = await self._original(number, mail.message)
        async with self.acting() as act:
            ticket = await act.ticket(number)
            letters = UserMail(act.unit, self.house, act.now)
            row = await _chosen(act, ticket, mail.message)
            thread = letters.fresh_thread(letters.channel_of(letters.origin(ticket)), "forward")
            written = replace(_written(mail), original=original)
            await act.unit.load_contacts([each.key for each in (*written.to, *written.cc)])
            made = letters.forward(
                ticket, await letters.way(thread, fresh=True), written, self._author(act), row
            )
            self._send(act, ticket, made, None)
        return _outcome(act, (ticket.number,))

    async def send(self, channel_address: str, mail: MailDraft) -> ActResult:
        """A new mail from a channel opens a ticket where the channel makes tickets (O13)."""
        _refuse_empty(mail)
        async with self.acting() as act:
            channel = _channel(act, channel_address)
            opens = await self._opening(act, channel, mail) if channel.tickets else None
            number = act.unit.next_ticket if opens is not None else None
            letters = UserMail(act.unit, self.house, act.now)
            thread = letters.fresh_thread(channel, origin=opens is not None)
            made = letters.fresh_mail(
                number, await letters.way(thread, fresh=True), _written(mail), self._author(act)
            )
            await act.unit.load_contacts(made.recipients)
            act.do(EmailSent(made, act.cause, author=self._author(act), opens=opens))
        return _outcome(act, (number,) if number is not None else ())

    async def write_to(self, address: str, mail: MailDraft) -> ActResult:
        """Mail from the record of a contact never touches a ticket, whatever tickets he has (O03,
        INV11).
        """
        _refuse_empty(mail)
        async with self.acting() as act:
            contact = await act.contact(address)
            letters = UserMail(act.unit, self.house, act.now)
            thread = letters.fresh_thread(letters.channel_of(None))
            written = replace(_written(mail), to=(Address(contact.name, contact.address),))
            made = letters.fresh_mail(
                None, await letters.way(thread, fresh=True), written, self._author(act)
            )
            act.do(EmailSent(made, act.cause, author=self._author(act)))
        return _outcome(act, ())

    async def send_draft(self, due: drafts.DueDraft) -> str | None:
        """A mail whose time has come: made and sent as if written now, to whom it was written for.
        Returns why it could not be, or None.
        """
        try:
            relayed = await self._relayed(due)
            async with self.acting() as act:
                draft = await drafts.waiting(act.unit.connection, due.number, act.now)
                if draft is None:
                    return None  # cancelled, or another process was first
                held = draft.document
                ticket = await act.ticket(held["ticket"])
                to, cc = tuple(held["to"]), tuple(held["cc"])
                files = (*(File(*each) for each in draft.files), *relayed)
                mail = MailDraft(
                    held["text"],
                    held.get("html"),
                    files,
                    to,
                    cc,
                    held.get("subject"),
                    held.get("thread"),
                    bool(held.get("new_thread")),
                )
                made = replace(
                    await self._reply(act, ticket, mail),
                    draft=due.number,
                    recipients=tuple(held["left"]),
                )
                self._send(act, ticket, made, held.get("status"))
        except Rejected as error:
            return error.message
        return None

    async def cancel(self, ids: Sequence[int]) -> ActResult:
        """Mail that was not sent yet is stopped, replies for later among it; all of it or none, and
        the tickets tell it.
        """
        return await self._handle(ids, "cancelled")

    async def retry(self, ids: Sequence[int]) -> ActResult:
        """Mail that failed or was put off is in line again, now; all of it or none, and the tickets
        tell it.
        """
        return await self._handle(ids, "retried")

    async def _handle(self, ids: Sequence[int], what: Literal["cancelled", "retried"]) -> ActResult:
        async with self.acting() as act:
            connection = act.unit.connection
            await (outbox.cancel if what == "cancelled" else outbox.retry)(connection, ids, act.now)
            found = await pending_outgoing.deliveries(connection, ids=ids)
            await act.unit.load_tickets({each.ticket for each in found if each.ticket is not None})
            of_ticket: dict[int, list[str]] = {}
            for each in found:
                ticket = act.unit.live_ticket(each.ticket)
                if ticket is not None:
                    of_ticket.setdefault(ticket.number, []).append(each.recipient)
            failing = await outbox.failing(connection, of_ticket)
            for number, recipients in of_ticket.items():
                act.do(
                    DeliveriesHandled(
                        act.unit.tickets[number],
                        what,
                        tuple(recipients),
                        number in failing,
                        act.cause,
                    )
                )
        return ActResult(tuple(of_ticket), act.events)

    # ---- how

    def _author(self, act: Transaction) -> User | None:
        return act.unit.desk.users.get(self.actor)

    async def _reply(self, act: Transaction, ticket: Ticket, mail: MailDraft) -> Outgoing:
        letters = UserMail(act.unit, self.house, act.now)
        thread, fresh = await self._thread(act, letters, ticket, mail)
        written = _written(mail)
        await act.unit.load_contacts([each.key for each in (*written.to, *written.cc)])
        return letters.answer(
            ticket, await letters.way(thread, fresh=fresh), written, self._author(act)
        )

    async def _thread(
        self, act: Transaction, letters: UserMail, ticket: Ticket, mail: MailDraft
    ) -> tuple[Thread, bool]:
        """The thread that is named, the origin, or a new one; the first of a ticket without any
        becomes its origin (C18).
        """
        origin = letters.origin(ticket)
        if mail.thread is not None:
            thread = await act.thread(mail.thread)
            if thread.ticket != ticket.number:
                raise Refused(f"thread {mail.thread} is none of ticket {ticket.number}")
            return thread, False
        if origin is None or mail.new_thread:
            return letters.fresh_thread(letters.channel_of(origin), origin=origin is None), True
        return origin, False

    def _send(self, act: Transaction, ticket: Ticket, made: Outgoing, status: str | None) -> None:
        """Ask the rules and perform what they say: trigger A fires when the mail is durably queued."""
        pipeline = act.unit.desk.pipelines[ticket.pipeline_id]
        chosen = status_of(pipeline, status).id if status is not None else None
        if chosen is not None:
            forbidden = refusal(
                MoveAsked(ticket, pipeline, chosen, act.cause, person=True), act.state
            )
            if forbidden is not None:
                raise Refused(forbidden.reason)
        people = {ticket.requester_id, *act.unit.associated.get(ticket.number, ())}
        reached = (act.unit.contact_at(each) for each in made.recipients)
        associated = any(contact is not None and contact.id in people for contact in reached)
        act.do(EmailSent(made, act.cause, ticket, pipeline, associated, self._author(act), chosen))

    def _keep(
        self, act: Transaction, made: Outgoing, mail: MailDraft, document: dict[str, Any]
    ) -> None:
        """Nothing happens to the ticket until it is due (O11)."""
        unit = act.unit
        if mail.status is not None:
            status_of(
                unit.desk.pipelines[unit.tickets[document["ticket"]].pipeline_id], mail.status
            )
        draft = {
            **document,
            "user": self.actor,
            "text": mail.text,
            "html": mail.html,
            "subject": mail.subject,
            "thread": None if made.fresh or made.thread is None else made.thread.id,
            "to": [_shown(each) for each in made.to],
            "cc": [_shown(each) for each in made.cc],
        }
        thread = draft["thread"]
        row = OutgoingRow(
            id=unit.allot("outgoing"),
            ticket=document["ticket"],
            thread_id=thread,
            message=None,
            message_id=None,
            automatic=False,
            template=None,
            subject=made.subject,
            author_id=made.author_id,
            return_address=None,
            raw=None,
            draft=draft,
            key=None,
            created_at=act.now,
        )
        unit.outward.queue(
            row, made.recipients, unit.allot, state="scheduled", due_at=mail.at or act.now
        )
        for place, file in enumerate(mail.files):
            unit.outward.files.append(
                OutgoingFileRow(
                    outgoing_id=row.id,
                    position=place,
                    filename=file.filename,
                    content_type=file.content_type,
                    data=file.data,
                )
            )

    async def _opening(self, act: Transaction, channel: Channel, mail: MailDraft) -> TicketOpened:
        if not mail.to:
            raise Refused("the mail needs somebody to go to")
        pipeline = act.unit.desk.pipelines[channel.pipeline_id]
        wanted = channel.outbound_status_id
        status = (
            wanted if wanted is not None and pipeline.holds(wanted) else pipeline.first_open().id
        )
        requester = await act.contact(mail.to[0])
        return TicketOpened(
            mail.subject or "", pipeline, status, "email", act.cause, requester=requester
        )

    async def _original(self, number: int, message: int | None) -> bytes | None:
        """The raw mail that is forwarded, read before the transaction: it may be large."""
        if self.raw_of is None:
            return None
        async with self.database.read() as connection:
            mail_id = await drafts.mail_of(connection, number, message)
        if mail_id is None:
            return None
        return reply_tokens.unmarked((await self.raw_of(mail_id)).decode("latin-1")).encode(
            "latin-1"
        )  # every byte as it was, but for the marks

    async def _relayed(self, due: drafts.DueDraft) -> tuple[File, ...]:
        """What an agent attached to his answer, read before the transaction: it may be large."""
        if due.files_of is None:
            return ()
        if self.files_of is None:
            raise Refused("the attachments of the answer cannot be read here")
        return await self.files_of(due.files_of)


async def _chosen(act: Transaction, ticket: Ticket, message: int | None) -> MessageRow:
    """The message that is forwarded: the one named, else the newest that came in."""
    own = [thread.id for thread in act.unit.threads_of(ticket.number)]
    rows = [
        row for row in await threads.messages(act.unit.connection, own) if row.direction != "note"
    ]
    if message is not None:
        found = next((row for row in rows if row.id == message), None)
        if found is None:
            raise Refused(f"message {message} is no mail of ticket {ticket.number}")
        return found
    if not rows:
        raise Refused(f"ticket {ticket.number} has no mail to forward")
    return next((row for row in reversed(rows) if row.direction == "inbound"), rows[-1])


def _channel(act: Transaction, address: str) -> Channel:
    found = act.unit.desk.channels.get(address.strip().lower())
    if found is None:
        raise Refused(f"there is no channel {address}")
    return found


def _written(mail: MailDraft) -> MailRequest:
    refuse_breaks("subject", mail.subject)
    return MailRequest(
        mail.text, mail.html, mail.files, _addresses(mail.to), _addresses(mail.cc), mail.subject
    )


def _addresses(given: Sequence[str]) -> tuple[Address, ...]:
    return tuple(_parsed(each) for each in given)


def _parsed(given: str) -> Address:
    refuse_breaks("address", given)
    name, address = parseaddr(given)
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain or any(each.isspace() for each in address):
        raise Refused(f"{given!r} is no address")
    return Address(name, address)


def _shown(address: Address) -> str:
    return (
        f'"{address.name}" <{address.address}>'
        if address.name and '"' not in address.name
        else address.address or ""
    )


def _refuse_empty(mail: MailDraft) -> None:
    if not mail.text.strip() and not (mail.html or "").strip() and not mail.files:
        raise Refused("a mail needs a text")


def _outcome(act: Transaction, numbers: tuple[int, ...]) -> ActResult:
    written = [row for row in act.messages if row.direction == "outbound"]
    return ActResult(numbers, act.events, written[-1] if written else None)
