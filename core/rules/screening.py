"""The first steps of an inbound message (behaviour.md 2.1, steps 1 to 6).

They tell whether the mail is new, ours or a machine's, who sent it, and whether it may come in.
Each step ends the mail or passes it on, and notes its finding in :class:`Trail`. Nothing in a mail
makes a step raise (R6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from core.decisions.tickets import (
    NEW,
    AppendMessage,
    Decision,
    FinalState,
    Finish,
    NoteAgent,
    Remark,
    SkipRule,
    Step,
)
from core.events import Cause, MailArrived, Original
from core.mail.threading import MatchedBy
from core.model.message import Message, ascii_domain, related_domains
from core.model.ticket import Channel, SenderRole
from core.rules.bounces import handle_report
from core.rules.joining import place

REPORTS = frozenset({"bounce", "report"})
_ROLES: Final[Mapping[SenderRole, str]] = {
    "user": "From is an agent's address",
    "contact": "the sender takes part in the conversation or starts it",
    "stranger": "the sender was not part of the conversation before",
    "machine": "a mail system wrote it",
    "self": "From is one of our channels",
}


@dataclass(slots=True)
class Trail:
    """The steps that a mail has gone through, and the decisions they led to."""

    event: MailArrived
    role: SenderRole = "contact"
    steps: list[Step] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def step(self, name: str, verdict: str, why: str) -> None:
        """Note a step for ``mail explain``."""
        self.steps.append(Step(name, verdict, why))

    def end(
        self,
        state: FinalState,
        reason: str,
        rule: str | None = None,
        original: int | None = None,
        matched: MatchedBy | None = None,
    ) -> list[Decision]:
        """Decide the final state of the mail, and return all decisions.

        ``original`` is the id of the mail that this one repeats; ``matched`` replaces the tie's own
        account of how it was found.
        """
        matched = matched or (self.event.tie.matched_by if state != "duplicate" else None)
        self.decisions.append(
            Finish(state, reason, self.role, matched, original, rule, tuple(self.steps))
        )
        return self.decisions


def sender_role(event: MailArrived) -> SenderRole:
    """Return the role of the sender (step 4).

    A user who is the requester of the mail's ticket counts as a contact. A role that only restricts
    needs no proof of the sender (section 5).
    """
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
    return (
        "contact" if sender.held_role in ("requester", "associated", "participant") else "stranger"
    )


def duplicate(trail: Trail) -> list[Decision] | None:
    """Keep a mail that repeats an earlier one, without letting it change anything (E32, E33)."""
    event = trail.event
    if event.duplicate_of is None:
        why = (
            "its Message-ID was used before, by another mail"
            if event.reused_id
            else "no mail with the same Message-ID, From, Date and text is known"
        )
        trail.step("duplicate", "no", why)
        return None
    original = event.duplicate_of
    # INV14: a mail in quarantine changes nothing, not even how a good copy of it is treated
    if original.held and _refused(event) is None:
        before = f"it came in before as mail {original.mail_id}, which was held back"
        trail.step("duplicate", "no", f"{before}; this one may come in")
        return None
    trail.step("duplicate", "yes", f"the same mail came in before as mail {original.mail_id}")
    channel = _other_channel(event, original)
    if channel is not None and original.ticket is not None:
        remark = f"also sent to {channel.address}"
        trail.decisions.append(Remark(original.ticket, cause_of(event), remark))
    return trail.end(
        "duplicate",
        f"It is the same mail as mail {original.mail_id}, which was kept.",
        original=original.mail_id,
    )


def _other_channel(event: MailArrived, original: Original) -> Channel | None:
    """Return the channel of a copy if neither the original nor another copy came through it."""
    channel = event.channels[0] if event.channels else None
    if channel is None or original.channel is None or channel.id == original.channel.id:
        return None
    return channel if channel.id not in original.repeated_at else None


def own_mail(trail: Trail) -> list[Decision] | None:
    """Ignore copies of our own mail and mail loops; keep answers from outside the desk (step 2)."""
    event = trail.event
    if event.own_copy is not None:
        trail.step("own mail", "copy", "its Message-ID is one of ours")
        return trail.end("ignored", "It is a copy of a mail that we sent.", matched="own_id")
    if event.looped or event.message.kind == "loop":
        signs = "; ".join(event.message.evidence[:3])
        trail.step("own mail", "loop", "it carries our loop header" if event.looped else signs)
        return trail.end("ignored", "It went round in a mail loop.")
    if event.sender.own_channel:
        if event.thread is None or event.ticket is None or event.ticket.deleted_at is not None:
            trail.step("own mail", "loop", "From is a channel of ours and it answers nothing known")
            why = "It comes from one of our own channel addresses and belongs to no ticket"
            return trail.end("ignored", f"{why}: a mail loop.")
        trail.step("own mail", "outside the desk", "From is a channel of ours, on a ticket thread")
        thread, ticket = place(event, event.thread, trail.decisions)
        trail.decisions.append(AppendMessage(thread.id, "self", outgoing=True))
        number = ticket.number if ticket is not None else event.ticket.number
        trail.decisions.append(NoteAgent(number))
        return trail.end(
            "done",
            f"It was sent from our own address outside the desk and is kept on ticket {number}.",
        )
    if event.behind is not None:
        where = f"From is our {event.behind.address}, but the mail names who wrote it"
        trail.step("own mail", "for somebody", where)
        return None
    trail.step("own mail", "no", "neither Message-ID nor From is ours")
    return None


def report(trail: Trail) -> list[Decision] | None:
    """Put a report on the thread of the mail it is about; no ticket moves (step 3, E29)."""
    event = trail.event
    if event.message.kind not in REPORTS:
        trail.step("report", "no", f"it reads as {event.message.kind}")
        return None
    what = "delivery report" if event.message.kind == "bounce" else "report"
    trail.step("report", "yes", f"it reads as a {what}")
    live = event.ticket is not None and event.ticket.deleted_at is None
    ticket = event.ticket.number if event.ticket is not None and live else None
    trail.decisions.extend(handle_report(event, ticket))
    return _keep_aside(trail, f"It is a {what}")


def auto_reply(trail: Trail) -> list[Decision] | None:
    """Keep a responder's mail, which neither opens nor moves a ticket (step 5, E26, E27)."""
    message = trail.event.message
    if message.kind != "auto_reply":
        trail.step("auto-reply", "no", f"it reads as {message.kind}")
        return None
    trail.step("auto-reply", "yes", "; ".join(message.evidence[:3]) or "a responder wrote it")
    return _hold(trail, _refused(trail.event)) or _keep_aside(trail, "It is an automatic reply")


def _keep_aside(trail: Trail, what: str) -> list[Decision]:
    """Keep a mail on its thread or on a new one; no ticket is opened or moved."""
    event = trail.event
    if event.thread is not None:
        thread, ticket = place(event, event.thread, trail.decisions)
        trail.decisions.append(AppendMessage(thread.id, trail.role, flags=marks(trail)))
        if ticket is not None and ticket.deleted_at is None:
            why = "auto-reply" if event.message.kind == "auto_reply" else "report"
            cause = Cause("B", event.message.message_id)
            trail.decisions.append(SkipRule(ticket.number, cause, why))
            return trail.end("done", f"{what} to mail of ticket {ticket.number}; the status stays.")
        return trail.end("done", f"{what} to a conversation without a ticket.")
    trail.decisions.append(AppendMessage(NEW, trail.role))
    return trail.end("ignored", f"{what} that belongs to no known conversation.")


def quarantine(trail: Trail) -> list[Decision] | None:
    """Hold a mail back until a person releases it (step 6, E25, E30, E31; INV14)."""
    event = trail.event
    reason = _refused(event)
    if reason is None:
        trail.step(
            "quarantine", "no", "no deny list, spam verdict or failed authentication holds it back"
        )
        return None
    if event.released:
        trail.step("quarantine", "released", f"a person released it although {reason}")
    return _hold(trail, reason)


def _hold(trail: Trail, reason: str | None) -> list[Decision] | None:
    """Put a mail into quarantine if a ``reason`` is given and nobody has released the mail."""
    if reason is None or trail.event.released:
        return None
    trail.step("quarantine", "yes", reason)
    return trail.end("quarantined", f"It was held back: {reason}.")


def _refused(event: MailArrived) -> str | None:
    """Return why a mail is held back, as a clause, or None (E25, E30, E31).

    A fresh mail of an unknown sender that fails authentication is let in and marked (E25b).
    """
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
    """Tell whether an address key is on a list of addresses and ``@domain`` entries.

    Domains are compared in their ASCII form, whatever script they are written in.
    """
    if not key or not entries:
        return False
    local, _, domain = key.rpartition("@")
    if key in entries or "@" + domain in entries:
        return True
    wanted = ascii_domain(domain)
    if domain.isascii() and all(each.isascii() for each in entries):
        return False
    for each in entries:
        name, _, place = each.rpartition("@")
        if name in ("", local) and ascii_domain(place) == wanted:
            return True
    return False


def marks(trail: Trail) -> tuple[str, ...]:
    """Return the flags of the message; its ticket shows them too."""
    marks = {
        "new_participant": _is_newcomer(trail),
        "reused_message_id": trail.event.reused_id,
        "reply_to_differs": _replies_elsewhere(trail.event.message),
        "over_limit": trail.event.message.over_limit,
    }
    return tuple(name for name, holds in marks.items() if holds)


def _replies_elsewhere(message: Message) -> bool:
    """Tell whether every answer would go to another domain than the sender's."""
    if message.sender is None or not message.sender.address or not message.reply_to:
        return False
    domain = message.sender.key.rpartition("@")[2]
    return not any(
        related_domains(each.key.rpartition("@")[2], domain) for each in message.reply_to
    )


def _is_newcomer(trail: Trail) -> bool:
    """Tell whether a stranger with an address in From writes on an existing conversation."""
    event = trail.event
    known = event.thread is not None or event.tie.ticket is not None
    return trail.role == "stranger" and known and event.message.sender is not None


def cause_of(event: MailArrived) -> Cause:
    """Return the mail as the cause of the changes that it leads to (INV9)."""
    return Cause("mail", event.message.message_id)


def who(role: SenderRole) -> str:
    """Return a clause that explains a sender role."""
    return _ROLES[role]
