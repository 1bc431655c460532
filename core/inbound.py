"""One inbound message, from duplicate to status rule, in the order of behaviour.md 2.1: the first hit decides.

Every branch ends in :class:`Finish` with a plain sentence, so that each mail is somewhere a person can find it. Nothing in a mail makes this
raise (R6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.automation import Reply, Ruling, status_rule
from core.decisions import (
    NEW,
    AddParticipants,
    AppendMessage,
    AttachThread,
    ContinueThread,
    Decision,
    FinalState,
    Finish,
    JoinThread,
    LinkTickets,
    MarkContact,
    MergeTicket,
    NoteCustomer,
    OpenTicket,
    RaiseFlags,
    Remark,
    RenameTicket,
    SetStatus,
    SkipRule,
    Step,
)
from core.events import Cause, MailArrived
from core.message import Address
from core.pipeline import Pipeline
from core.ticket import SenderRole, Thread, Ticket

REPORTS = frozenset({"bounce", "report"})
MACHINE_WRITTEN = frozenset({"auto_generated", "bulk"})


@dataclass(slots=True)
class Trail:
    """The steps so far and the decisions they led to."""

    event: MailArrived
    role: SenderRole = "contact"
    steps: list[Step] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def step(self, name: str, verdict: str, why: str) -> None:
        self.steps.append(Step(name, verdict, why))

    def end(self, state: FinalState, reason: str, rule: str | None = None, original: int | None = None) -> list[Decision]:
        matched = self.event.tie.matched_by
        self.decisions.append(Finish(state, reason, self.role, matched, original, rule, tuple(self.steps)))
        return self.decisions


def receive(event: MailArrived, pipelines: Mapping[int, Pipeline]) -> list[Decision]:
    """What follows from an inbound message. ``pipelines``: all, by id."""
    trail = Trail(event, role=sender_role(event))
    for early in (_duplicate, _own_mail, _report):
        ended = early(trail)
        if ended is not None:
            return ended
    trail.step("sender", trail.role, _who(trail.role))
    ended = _auto_reply(trail) or _quarantine(trail)
    if ended is not None:
        return ended
    return _file(trail, pipelines)


def sender_role(event: MailArrived) -> SenderRole:
    """Step 4. The requester of this very ticket is a contact even when he is also a user; proof plays no part in restraining (section 5)."""
    sender, message = event.sender, event.message
    if sender.own_channel:
        return "self"
    if sender.user is not None and sender.held_role != "requester":
        return "user"
    if message.kind in REPORTS:
        return "machine"
    if sender.contact is None and message.sender is None:
        return "stranger"
    if event.tie.thread is None and event.tie.ticket is None or event.tie.late:
        return "contact"
    return "contact" if sender.held_role in ("requester", "associated", "participant") else "stranger"


def survivor(event: MailArrived) -> Ticket | None:
    """The ticket the mail ends on: of all tickets its conversation has, the live one with the lowest number that may survive."""
    into = _group(event)[0]
    return into[1] if into is not None else None


def _group(event: MailArrived) -> tuple[tuple[Thread, Ticket | None] | None, list[tuple[Thread, Ticket | None]], list[Ticket]]:
    """(where the mail goes, what joins it, tickets that stay beside it) among the tied thread and those it shows to be the same one.

    Section 5, joining: the lower number survives when nobody has worked on the other; a ticket in the trash takes no part.
    """
    if event.thread is None or (event.ticket is not None and event.ticket.deleted_at is not None):
        return None, [], []
    tied = (event.thread, event.ticket)
    live = [tied, *(pair for pair in event.joined if pair[1] is None or pair[1].deleted_at is None)]
    into, rest, beside = tied, [], []
    for pair in live[1:]:
        first, second = sorted((into, pair), key=lambda each: (each[1] is None, each[1].number if each[1] else 0, each[0].id))
        if second[1] is not None and first[1] is not None and second[1].number != first[1].number and second[1].worked:
            beside.append(pair[1] if pair[1] is not None else second[1])
            continue
        into = first
        rest.append(second)
    return into, rest, beside


def _duplicate(trail: Trail) -> list[Decision] | None:
    event = trail.event
    if event.duplicate_of is None:
        why = "its Message-ID was used before, by another mail" if event.reused_id else "no mail with the same Message-ID, From, Date and text is known"
        trail.step("duplicate", "no", why)
        return None
    original = event.duplicate_of
    trail.step("duplicate", "yes", f"the same mail came in before as mail {original.mail_id}")
    here = event.channels[0] if event.channels else None
    elsewhere = original.channel is not None and here is not None and here.id != original.channel.id
    if elsewhere and original.ticket is not None and here is not None:
        trail.decisions.append(Remark(original.ticket, _cause(event), f"also sent to {here.address}"))
    return trail.end("duplicate", f"It is the same mail as mail {original.mail_id}, which was kept.", original=original.mail_id)


def _own_mail(trail: Trail) -> list[Decision] | None:
    event = trail.event
    if event.own_copy is not None:
        trail.step("own mail", "copy", "its Message-ID is one of ours")
        return trail.end("ignored", "It is a copy of a mail that we sent.", original=event.own_copy.mail_id or None)
    if event.looped:
        trail.step("own mail", "loop", "it carries our loop header")
        return trail.end("ignored", "It passed through this desk before: a mail loop.")
    if event.sender.own_channel:
        if event.thread is None or event.ticket is None or event.ticket.deleted_at is not None:
            trail.step("own mail", "loop", "From is a channel of ours and it answers nothing known")
            return trail.end("ignored", "It comes from one of our own channel addresses and belongs to no ticket: a mail loop.")
        trail.step("own mail", "outside the desk", "From is a channel of ours, on a ticket thread")
        trail.decisions.append(AppendMessage(event.thread.id, "self", outgoing=True))
        return trail.end("done", f"It was sent from our own address outside the desk and is kept on ticket {event.ticket.number}.")
    trail.step("own mail", "no", "neither Message-ID nor From is ours")
    return None


def _report(trail: Trail) -> list[Decision] | None:
    event = trail.event
    if event.message.kind not in REPORTS:
        trail.step("report", "no", f"it reads as {event.message.kind}")
        return None
    what = "delivery report" if event.message.kind == "bounce" else "report"
    trail.step("report", "yes", f"it reads as a {what}")
    return _keep_aside(trail, f"It is a {what}")


def _auto_reply(trail: Trail) -> list[Decision] | None:
    event = trail.event
    if event.message.kind != "auto_reply":
        trail.step("auto-reply", "no", f"it reads as {event.message.kind}")
        return None
    trail.step("auto-reply", "yes", "; ".join(event.message.evidence[:3]) or "a responder wrote it")
    refused = _refused(event)
    if refused is not None and not event.released:
        trail.step("quarantine", "yes", refused)
        return trail.end("quarantined", f"It was held back: {refused}.")
    return _keep_aside(trail, "It is an automatic reply")


def _keep_aside(trail: Trail, what: str) -> list[Decision]:
    """Mail that never opens or moves anything: on its thread when it has one, else remembered on a conversation without a ticket."""
    event = trail.event
    live = event.ticket is not None and event.ticket.deleted_at is None
    if event.thread is not None:
        trail.decisions.append(AppendMessage(event.thread.id, trail.role, flags=_marks(trail)))
        if live and event.ticket is not None:
            rule = Cause("B", event.message.message_id)
            trail.decisions.append(SkipRule(event.ticket.number, rule, "auto-reply" if event.message.kind == "auto_reply" else "report"))
            return trail.end("done", f"{what} to mail of ticket {event.ticket.number}; the status stays.")
        return trail.end("done", f"{what} to a conversation without a ticket.")
    trail.decisions.append(AppendMessage(NEW, trail.role))
    return trail.end("ignored", f"{what} to nothing we know.")


def _quarantine(trail: Trail) -> list[Decision] | None:
    event = trail.event
    reason = _refused(event)
    if reason is None:
        trail.step("quarantine", "no", "no deny list, spam verdict or failed authentication holds it back")
        return None
    if event.released:
        trail.step("quarantine", "released", f"a person released it although {reason}")
        return None
    trail.step("quarantine", "yes", reason)
    return trail.end("quarantined", f"It was held back: {reason}.")


def _refused(event: MailArrived) -> str | None:
    """Step 6 as a clause, or None (E25, E30, E31). An unknown sender who fails authentication on a fresh mail is let in, marked (E25b)."""
    sender, channel = event.sender, event.channels[0] if event.channels else None
    key = event.message.sender.key if event.message.sender else ""
    if sender.contact is not None and sender.contact.blocked:
        return "the sender is blocked"
    allowed = channel is not None and listed(key, channel.allow)
    if channel is not None and listed(key, channel.deny) and not allowed:
        return "the sender is on the channel's deny list"
    if event.spam and not allowed:
        return "the mail server in front of us marked it as spam"
    fresh = event.thread is None and event.tie.ticket is None
    if event.verdict == "fail" and (sender.known or not fresh):
        return "its sender's domain says that it is forged"
    return None


def listed(key: str, entries: frozenset[str]) -> bool:
    """Whether an address key is on a list of addresses and ``@domain`` entries."""
    return bool(key) and (key in entries or "@" + key.rpartition("@")[2] in entries)


def _file(trail: Trail, pipelines: Mapping[int, Pipeline]) -> list[Decision]:
    """Steps 7 to 9: onto its thread, with a ticket or without."""
    event = trail.event
    tie = event.tie
    trail.step("tie", tie.matched_by or "none", _tied(event))
    forwarded = event.message.kind == "forward" or tie.answers_forward or (event.thread is not None and event.thread.kind == "forward")
    trail.step("forward", "yes" if forwarded else "no", event.message.forward.rule if event.message.forward else "")
    if event.ticket is not None and event.ticket.deleted_at is not None:
        return _after_trash(trail, pipelines)
    if event.thread is None:
        return _reply(trail, pipelines, NEW, event.ticket) if event.ticket is not None else _fresh(trail, pipelines, NEW)
    into, rest, beside = _group(event)
    thread, ticket = into if into is not None else (event.thread, event.ticket)
    for joined, other in rest:
        trail.decisions.append(JoinThread(joined.id, thread.id))
        if other is not None and ticket is not None and other.number != ticket.number:
            trail.decisions.append(MergeTicket(other.number, ticket.number, Cause("join", event.message.message_id)))
    if ticket is not None:
        trail.decisions.extend(LinkTickets(ticket.number, other.number, "joined") for other in beside)
        return _reply(trail, pipelines, thread.id, ticket, joined=bool(rest))
    return _fresh(trail, pipelines, thread.id)


def _after_trash(trail: Trail, pipelines: Mapping[int, Pipeline]) -> list[Decision]:
    """E38: the conversation goes on under a new ticket."""
    event = trail.event
    channel = event.channels[0]
    if event.thread is None:
        return _fresh(trail, pipelines, NEW, note="earlier ticket deleted")
    if not channel.tickets:
        trail.decisions.append(AppendMessage(event.thread.id, trail.role))
        return trail.end("done", "Its ticket is in the trash and its channel makes no tickets; it is kept on the conversation.")
    trail.decisions.append(ContinueThread(event.thread.id))
    return _fresh(trail, pipelines, NEW, note="earlier ticket deleted")


def _fresh(trail: Trail, pipelines: Mapping[int, Pipeline], thread: int, note: str | None = None) -> list[Decision]:
    """A conversation without a ticket: one is opened when the channel is on (E01-E03, E14, E15, E20, E21, E25b, E28, E34, E35, E43)."""
    event = trail.event
    message, channel = event.message, event.channels[0]
    customer = _original_sender(trail)
    trail.decisions.append(AppendMessage(thread, trail.role, opens=True, speaks_for=customer, flags=_marks(trail)))
    _participate(trail, thread)
    if not channel.tickets:
        trail.step("status rule", "none", "the channel makes no tickets")
        return trail.end("done", f"Channel {channel.address} makes no tickets, so it is kept as a conversation.")
    pipeline = pipelines[channel.pipeline_id]
    status_id = channel.status_id if channel.status_id is not None and pipeline.holds(channel.status_id) else pipeline.first_open().id
    requester = customer or (NEW if message.sender is not None else None)
    trail.decisions.append(
        OpenTicket(
            message.subject,
            pipeline.id,
            status_id,
            "email",
            _cause(event),
            thread=thread,
            requester=requester,
            flags=_opening_flags(trail, customer),
            links=event.earlier_open,
            note=note,
        )
    )
    trail.decisions.append(RenameTicket(NEW, thread))
    trail.decisions.extend(Remark(NEW, _cause(event), f"also sent to {each.address}") for each in event.channels[1:])
    _mark_sender(trail, NEW)
    trail.step("status rule", "none", "a new ticket starts in its first status")
    return trail.end("done", "It opened a ticket." if note is None else "Its earlier ticket is in the trash, so it opened a new one.")


def _reply(trail: Trail, pipelines: Mapping[int, Pipeline], thread: int, ticket: Ticket, *, joined: bool = False) -> list[Decision]:
    """A message on a ticket: appended, and the status rule asked."""
    event = trail.event
    by_address = event.tie.matched_by in ("reply_address", "own_id", "subject_tag")
    trail.decisions.append(AppendMessage(thread, trail.role, opens=not by_address, flags=_marks(trail)))
    row = _thread_of(event, thread, ticket)
    if event.thread is None:
        trail.decisions.append(AttachThread(ticket.number, NEW, row.origin, _cause(event)))
    _participate(trail, thread)
    if joined or event.tie.late:
        trail.decisions.append(RenameTicket(ticket.number, thread))
    _mark_sender(trail, ticket.number)
    reply = Reply(event.message.kind, trail.role, row, event.tie.answers_forward, event.tie.late, event.automation)
    pipeline = pipelines[ticket.pipeline_id]
    ruling = status_rule(reply, ticket, pipeline)
    flags = (*ruling.flags, *_marks(trail))
    if flags:
        trail.decisions.append(RaiseFlags(ticket.number, tuple(dict.fromkeys(flags))))
    return _ruled(trail, ticket, pipeline, ruling)


def _ruled(trail: Trail, ticket: Ticket, pipeline: Pipeline, ruling: Ruling) -> list[Decision]:
    cause = Cause(ruling.rule, trail.event.message.message_id)
    if ruling.status_id is None or ruling.status_id == ticket.status_id:
        trail.decisions.append(SkipRule(ticket.number, cause, ruling.why))
        trail.step("status rule", "none", ruling.why)
        return trail.end("done", f"It was added to ticket {ticket.number}; the status stays: {ruling.why}.")
    target = pipeline.status(ruling.status_id).name
    trail.decisions.append(SetStatus(ticket.number, pipeline.id, ruling.status_id, cause))
    trail.step("status rule", ruling.rule, f"{ruling.why}: to {target}")
    return trail.end("done", f"It was added to ticket {ticket.number}, which moved to {target}: {ruling.why}.", rule=ruling.rule)


def _thread_of(event: MailArrived, thread: int, ticket: Ticket) -> Thread:
    """The row of the thread the message lands on; a new one on a ticket without mail becomes its origin (E41, C18)."""
    for row, _ in ((event.thread, None), *event.joined):
        if row is not None and row.id == thread:
            return row
    return Thread(NEW, "normal", event.received_at, ticket=ticket.number, origin=True, attached_at=event.received_at)


def _participate(trail: Trail, thread: int) -> None:
    """People in From, To and Cc take part; a stranger brings nobody in, and the third party of a forward stays a stranger (E17, E24)."""
    event, role = trail.event, trail.role
    if role == "stranger":
        trail.decisions.append(AddParticipants(thread, "stranger"))
        return
    part = None
    if role == "contact":
        part = event.sender.held_role or ("requester" if event.thread is None and event.ticket is None else "participant")
    trail.decisions.append(AddParticipants(thread, part, (*event.message.to, *event.message.cc)))


def _mark_sender(trail: Trail, ticket: int) -> None:
    event = trail.event
    if trail.role in ("contact", "stranger") and event.message.kind in ("human", "forward"):
        trail.decisions.append(NoteCustomer(ticket))
    automated = event.message.kind in MACHINE_WRITTEN and not event.sender.known
    if automated or event.verdict == "pass":
        trail.decisions.append(MarkContact(automated=automated, proven=event.verdict == "pass"))


def _original_sender(trail: Trail) -> Address | None:
    """E21: whose mail an agent forwarded to the channel, when it was read with certainty and the agent is proven (section 5)."""
    message = trail.event.message
    if trail.role != "user" or message.kind != "forward" or message.forward is None or not trail.event.trusted_user:
        return None
    sender = message.forward.sender
    return sender if sender is not None and sender.address else None


def _opening_flags(trail: Trail, customer: Address | None) -> tuple[str, ...]:
    event = trail.event
    flags = []
    if event.verdict == "fail":
        flags.append("unverified")
    if event.message.kind in MACHINE_WRITTEN:
        flags.append("automated")
    if trail.role == "user" and event.message.kind == "forward" and customer is None:
        flags.append("needs_attention")
    return (*flags, *_marks(trail))


def _marks(trail: Trail) -> tuple[str, ...]:
    """Flags of the message, shown on the ticket as well."""
    event = trail.event
    on_thread = event.thread is not None or event.tie.ticket is not None
    marks = {
        "new_participant": trail.role == "stranger" and on_thread and event.message.sender is not None,
        "reused_message_id": event.reused_id,
        "over_limit": event.message.over_limit,
    }
    return tuple(name for name, holds in marks.items() if holds)


def _cause(event: MailArrived) -> Cause:
    return Cause("mail", event.message.message_id)


def _tied(event: MailArrived) -> str:
    if event.tie.matched_by is None:
        return "nothing in it points at a conversation we know"
    return f"thread {event.tie.thread}" if event.tie.thread else f"ticket {event.tie.ticket}"


def _who(role: SenderRole) -> str:
    return {
        "user": "From is an agent's address",
        "contact": "the sender takes part in the conversation or starts it",
        "stranger": "the sender was not part of the conversation before",
        "machine": "a mail system wrote it",
        "self": "From is one of our channels",
    }[role]
