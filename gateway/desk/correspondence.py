"""Mail of users: replies, forwards, new mail from a channel or to a contact (behaviour.md 2.3).

Each act is one transaction: the mail is composed, the rules are asked, ticket and outbox are
written together. A mail for later is kept as a draft; the rules are asked when it is due (O11).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parseaddr
from typing import Any

from core.decide import refusal
from core.events import EmailSent, MoveAsked, TicketOpened
from core.mail import reply_tokens
from core.model.message import Address
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Channel, Thread, Ticket, User
from core.rules.rights import Right
from gateway.clock import Clock
from gateway.compose.mime import File
from gateway.compose.route import MailIdentity, MailWriter
from gateway.compose.user_mail import MailRequest, UserMail
from gateway.desk.tickets import ActResult
from gateway.desk.transaction import BUILT_IN, Actor, Transaction, enforce, status_of
from gateway.errors import Invalid, NotFound, Refused
from gateway.store.engine import Database
from gateway.store.queues import drafts
from gateway.store.tickets import threads
from gateway.store.tickets.pending_outgoing import OutgoingFileRow, OutgoingRow
from gateway.store.tickets.threads import MessageRow
from gateway.validation import refuse_breaks

RawOf = Callable[[int], Awaitable[bytes]]
FilesOf = Callable[[int], Awaitable[tuple[File, ...]]]


@dataclass(frozen=True, slots=True)
class MailDraft:
    """A mail to send, with addresses and names as typed.

    ``at`` is when to send it, ``message`` the id of the mail to forward, ``status`` the status
    that the ticket moves to.
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
    """Send mail as this user.

    ``raw_of`` returns the raw mail with a given id, to forward it. ``files_of`` returns the
    attachments of a mail, for answers that a user wrote in a mail program (E19).
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        identity: MailIdentity,
        actor: str = BUILT_IN,
        *,
        raw_of: RawOf | None = None,
        files_of: FilesOf | None = None,
    ) -> None:
        super().__init__(database, clock, identity.zone, actor)
        self.identity = identity
        self.raw_of = raw_of
        self.files_of = files_of

    async def reply(self, number: int, mail: MailDraft) -> ActResult:
        """Reply on a thread of the ticket or on a new one (O01-O15).

        The default is the thread on which a member of its circle wrote last (behaviour.md 5).
        """
        _refuse_empty(mail)
        async with self.acting(Right.SEND_MAIL) as act:
            request, ticket = _request(mail), await act.ticket(number)
            status = _status_id(act, ticket, mail.status)
            made = await self._reply(act, ticket, mail, request)
            if mail.at is not None and mail.at > act.now:
                self._schedule(act, ticket, made, mail, mail.at)
            else:
                self._send(act, ticket, made, status)
        return _result(act, (ticket.number,))

    async def forward(self, number: int, mail: MailDraft) -> ActResult:
        """Forward a mail of the ticket; answers arrive on a separate thread (O05, E17)."""
        async with self.acting(Right.SEND_MAIL) as act:
            ticket = await act.ticket(number)
            chosen = (await _chosen(act, self._writer(act), ticket, mail.message)).id
        original = await self._original(chosen)
        async with self.acting(Right.SEND_MAIL) as act:
            ticket = await act.ticket(number)
            composer = UserMail(self._writer(act))
            row = await _chosen(act, composer.writer, ticket, chosen)
            await act.unit.load_tickets(_first_tickets(act, ticket))
            thread = composer.writer.fresh_thread(
                composer.writer.channel_of(composer.writer.origin(ticket)), "forward"
            )
            request = replace(_request(mail), original=original)
            await act.unit.load_contacts([each.key for each in (*request.to, *request.cc)])
            route = await composer.writer.route(thread, fresh=True)
            made = composer.forward(ticket, route, request, self._author(act), row)
            self._send(act, ticket, made, None)
        return _result(act, (ticket.number,))

    async def send(self, channel_address: str, mail: MailDraft) -> ActResult:
        """Send a new mail from a channel, and open a ticket if the channel makes tickets (O13)."""
        _refuse_empty(mail)
        async with self.acting(Right.SEND_MAIL) as act:
            channel = act.channel(channel_address)
            opens = await _opening(act, channel, mail) if channel.tickets else None
            number = act.unit.next_ticket if opens is not None else None
            composer = UserMail(self._writer(act))
            thread = composer.writer.fresh_thread(channel, origin=opens is not None)
            route, author = await composer.writer.route(thread, fresh=True), self._author(act)
            made = composer.fresh_mail(number, route, _request(mail), author)
            await act.unit.load_contacts(made.recipients)
            act.do(EmailSent(made, act.cause, author=author, opens=opens))
        return _result(act, (number,) if number is not None else ())

    async def write_to(self, address: str, mail: MailDraft) -> ActResult:
        """Send a mail to a contact without changing any of the contact's tickets (O03, INV11)."""
        _refuse_empty(mail)
        async with self.acting(Right.SEND_MAIL) as act:
            contact = await act.contact(address)
            request = replace(_request(mail), to=(Address(contact.name, contact.address),))
            writer, author = self._writer(act), self._author(act)
            route = await writer.route(writer.fresh_thread(writer.channel_of(None)), fresh=True)
            made = UserMail(writer).fresh_mail(None, route, request, author)
            act.do(EmailSent(made, act.cause, author=author))
        return _result(act, ())

    async def send_draft(self, due: drafts.DueDraft) -> None:
        """Compose a due draft now, and send it to all recipients for whom it was not cancelled.

        Does nothing if the draft was cancelled, or sent by another process. Raises the error that
        prevents sending, such as Forbidden if its author may no longer send mail.
        """
        files = await self._relayed_files(due)
        async with self.acting(Right.SEND_MAIL) as act:
            draft = await drafts.waiting(act.unit.connection, due.number, act.now)
            if draft is None:
                return
            held = draft.document
            ticket = await _ticket_of(act, held)
            mail = MailDraft(
                text=held["text"],
                html=held.get("html"),
                files=(*(File(*each) for each in draft.files), *files),
                to=tuple(held["to"]),
                cc=tuple(held["cc"]),
                subject=held.get("subject"),
                thread=held.get("thread"),
                new_thread=bool(held.get("new_thread")),
            )
            request = replace(_request(mail), asked=frozenset(held.get("asked", ())))
            composed = await self._reply(act, ticket, mail, request)
            made = replace(composed, draft=due.number, recipients=tuple(held["left"]))
            self._send(act, ticket, made, _status_id(act, ticket, held.get("status")))

    def _writer(self, act: Transaction) -> MailWriter:
        """Return the writer of mails of this transaction."""
        return MailWriter(act.unit, self.identity, act.now)

    def _author(self, act: Transaction) -> User | None:
        """Return the acting user; None for the built-in administrator."""
        return act.unit.desk.users.get(self.actor)

    async def _reply(
        self, act: Transaction, ticket: Ticket, mail: MailDraft, request: MailRequest
    ) -> Outgoing:
        """Compose a reply."""
        composer = UserMail(self._writer(act))
        thread, fresh = await _thread_for(act, composer, ticket, mail, request)
        await act.unit.load_contacts([each.key for each in (*request.to, *request.cc)])
        route = await composer.writer.route(thread, fresh=fresh)
        return composer.answer(ticket, route, request, self._author(act))

    def _send(self, act: Transaction, ticket: Ticket, made: Outgoing, status: int | None) -> None:
        """Queue a mail and move the ticket to ``status``; if that is None, trigger A decides."""
        pipeline = act.unit.desk.pipelines[ticket.pipeline_id]
        if status is not None:
            asked = MoveAsked(ticket, pipeline, status, act.cause, person=True)
            enforce(refusal(asked, act.state))
        people = {ticket.requester_id, *act.unit.associated.get(ticket.number, ())}
        contacts = (act.unit.contact_at(each) for each in made.recipients)
        reached = {made.answers, *(each.id for each in contacts if each is not None)}
        associated = bool(people & reached - {None})
        act.do(EmailSent(made, act.cause, ticket, pipeline, associated, self._author(act), status))

    def _schedule(
        self, act: Transaction, ticket: Ticket, made: Outgoing, mail: MailDraft, at: datetime
    ) -> None:
        """Keep a reply as a draft; the ticket changes only when the reply is due (O11)."""
        unit = act.unit
        thread = None if made.fresh or made.thread is None else made.thread.id
        row = OutgoingRow(
            id=unit.allot("outgoing"),
            ticket=ticket.number,
            thread_id=thread,
            message=None,
            message_id=None,
            automatic=False,
            template=None,
            subject=made.subject,
            author_id=made.author_id,
            return_address=None,
            raw=None,
            draft=self._document(ticket, made, mail, thread),
            key=None,
            created_at=act.now,
        )
        unit.outward.queue(row, made.recipients, unit.allot, state="scheduled", due_at=at)
        for place, file in enumerate(mail.files):
            stored = OutgoingFileRow(
                outgoing_id=row.id,
                position=place,
                filename=file.filename,
                content_type=file.content_type,
                data=file.data,
            )
            unit.outward.files.append(stored)

    def _document(
        self, ticket: Ticket, made: Outgoing, mail: MailDraft, thread: int | None
    ) -> dict[str, Any]:
        """Return the JSON of a scheduled reply, which :meth:`send_draft` reads."""
        return {
            "act": "reply",
            "ticket": ticket.number,
            "status": mail.status,
            # a first mail stays the first of its thread, whatever the ticket is merged with
            "new_thread": made.fresh,
            "user": self.actor,
            "text": mail.text,
            "html": mail.html,
            "subject": mail.subject,
            "thread": thread,
            "to": [_header_form(each) for each in made.to],
            "cc": [_header_form(each) for each in made.cc],
            "asked": sorted({each.key for each in (*_request(mail).to, *_request(mail).cc)}),
        }

    async def _original(self, message: int) -> bytes | None:
        """Return the raw mail to forward; as it may be large, do not call this in a transaction."""
        async with self.database.read() as connection:
            mail_id = await drafts.mail_of(connection, message)
        if mail_id is None or self.raw_of is None:
            return None
        raw = (await self.raw_of(mail_id)).decode("latin-1")  # keeps every byte
        return reply_tokens.unmarked(raw).encode("latin-1")

    async def _relayed_files(self, due: drafts.DueDraft) -> tuple[File, ...]:
        """Return the attachments of a relayed answer; call this outside transactions."""
        if due.files_of is None:
            return ()
        if self.files_of is None:
            raise Refused("the answer has attachments: only the daemon and agenda run can send it")
        return await self.files_of(due.files_of)


def _status_id(act: Transaction, ticket: Ticket, name: str | None) -> int | None:
    """Return the id of the named status in the ticket's pipeline, or None if ``name`` is None."""
    pipeline = act.unit.desk.pipelines[ticket.pipeline_id]
    return status_of(pipeline, name).id if name is not None else None


async def _thread_for(
    act: Transaction, composer: UserMail, ticket: Ticket, mail: MailDraft, request: MailRequest
) -> tuple[Thread, bool]:
    """Return the thread to reply on, and whether it is new.

    The default is the thread on which a member of its circle wrote last (behaviour.md 5). If the
    ticket has no thread, a new thread becomes its origin thread (C18).
    """
    writer = composer.writer
    if mail.thread is not None:
        thread = await act.thread(mail.thread)
        if thread.ticket != ticket.number:
            raise NotFound(f"ticket {ticket.number} has no thread {mail.thread}")
        return thread, False
    if not mail.new_thread and (answered := await writer.answered(ticket, request.to)):
        return answered, False
    origin = writer.origin(ticket)
    return writer.fresh_thread(writer.channel_of(origin), origin=origin is None), True


def _first_tickets(act: Transaction, ticket: Ticket) -> list[int]:
    """Return the numbers of the tickets that the threads of a ticket were first attached to."""
    threads_of = act.unit.threads_of(ticket.number)
    return [each.first_ticket for each in threads_of if each.first_ticket is not None]


async def _opening(act: Transaction, channel: Channel, mail: MailDraft) -> TicketOpened:
    """Return the ticket that a mail from a channel opens; the first recipient is its requester."""
    if not mail.to:
        raise Invalid("the mail needs a recipient", "to")
    pipeline = act.unit.desk.pipelines[channel.pipeline_id]
    status = channel.outbound_status_id
    if status is None or not pipeline.holds(status):
        status = pipeline.first_open().id
    return TicketOpened(
        subject=mail.subject or "",
        pipeline=pipeline,
        status_id=status,
        source="email",
        cause=act.cause,
        requester=await act.contact(mail.to[0]),
    )


async def _ticket_of(act: Transaction, held: dict[str, Any]) -> Ticket:
    """Return the ticket that the draft's thread is on now; a merge may have moved the thread."""
    thread = await act.thread(held["thread"]) if held.get("thread") is not None else None
    moved = thread.ticket if thread is not None else None
    return await act.ticket(held["ticket"] if moved is None else moved)


async def _chosen(
    act: Transaction, writer: MailWriter, ticket: Ticket, message: int | None
) -> MessageRow:
    """Return the mail to forward: the given one, or else the newest incoming mail of the ticket.

    Without a given mail, mail of strangers is not chosen (behaviour.md 5).
    """
    own = {thread.id: thread for thread in act.unit.threads_of(ticket.number)}
    held = await threads.messages(act.unit.connection, own)
    rows = [row for row in held if row.direction != "note"]
    if message is not None:
        found = next((row for row in rows if row.id == message), None)
        if found is None:
            raise NotFound(f"ticket {ticket.number} has no mail {message}")
        return found
    if not rows:
        raise Refused(f"ticket {ticket.number} has no mail to forward")
    circles = {each: writer.circle(thread) for each, thread in own.items()}
    rows = [
        row
        for row in rows
        if row.sender_role != "stranger" or row.sender_id in circles[row.thread_id or 0]
    ]
    if not rows:
        raise Refused(f"only strangers wrote on ticket {ticket.number}: choose with --message")
    return next((row for row in reversed(rows) if row.direction == "inbound"), rows[-1])


def _request(mail: MailDraft) -> MailRequest:
    """Return the mail with its addresses parsed."""
    refuse_breaks("subject", mail.subject)
    refuse_breaks("address", *mail.to, *mail.cc)
    to = tuple(_parsed(each, "To") for each in mail.to)
    cc = tuple(_parsed(each, "Cc") for each in mail.cc)
    return MailRequest(mail.text, mail.html, mail.files, to, cc, mail.subject)


def _parsed(given: str, header: str) -> Address:
    """Parse one address of a header."""
    name, address = parseaddr(given)
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain or any(each.isspace() for each in address):
        raise Invalid(f"invalid address in {header}: {given!r}", header.lower())
    return Address(name, address)


def _header_form(address: Address) -> str:
    """Return ``"Ann" <ann@example.org>``, or the bare address where the name cannot be quoted."""
    if address.name and '"' not in address.name:
        return f'"{address.name}" <{address.address}>'
    return address.address or ""


def _refuse_empty(mail: MailDraft) -> None:
    """Refuse a mail that has neither text nor file."""
    if not mail.text.strip() and not (mail.html or "").strip() and not mail.files:
        raise Invalid("a mail needs a text or an attachment", "text")


def _result(act: Transaction, numbers: tuple[int, ...]) -> ActResult:
    """Return the result of an act on these tickets, with the mail that the act sent."""
    written = [row for row in act.messages if row.direction == "outbound"]
    return ActResult(numbers, act.events, written[-1] if written else None, act.redirected)
