"""Which conversation a mail belongs to, and which mail names the conversation (behaviour.md 5).

Ties are found in an index of every Message-ID that a thread holds or has referred to, so the order
of arrival does not matter. The subject alone never ties a mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from core.model.message import Message

MatchedBy = Literal[
    "reply_address", "own_id", "in_reply_to", "references", "late_parent", "subject_tag"
]


@dataclass(frozen=True, slots=True)
class Ref:
    """A thread in which a Message-ID occurs: on a message (``held``), or only as a reference."""

    thread: int
    held: bool
    forward: bool = False  # the message held is a forward
    machine: bool = False  # the message held is a responder's or a report


@dataclass(frozen=True, slots=True)
class TicketRef:
    """What a signed reply address or tag names: a ticket, and perhaps one of its threads."""

    ticket: int
    thread: int | None = None


@dataclass(frozen=True, slots=True)
class Tie:
    """The thread that a mail belongs to.

    ``thread`` is None and ``ticket`` set for a ticket without a mail thread. ``joins`` are other
    threads that the mail shows to be the same conversation. ``late``: an answer to the mail arrived
    first. ``answers_forward``: In-Reply-To names a forward (E17b). ``renames``: the mail may
    become the head of the conversation (:func:`head`), because it is late or answers no stored
    message of a person.
    """

    matched_by: MatchedBy | None = None
    thread: int | None = None
    ticket: int | None = None
    joins: tuple[int, ...] = ()
    late: bool = False
    answers_forward: bool = False
    renames: bool = False


NO_TIE = Tie()
CIRCLE_LIMIT = 200  # messages; longer threads are not searched for circles of answers


def ids_of(message: Message) -> tuple[str, ...]:
    """Return every Message-ID that a mail states, its own first; callers look up and store them."""
    own = (message.message_id,) if message.message_id else ()
    return tuple(dict.fromkeys((*own, *message.parents)))


def tie(
    message: Message,
    refs: Mapping[str, Sequence[Ref]],
    *,
    reply_address: TicketRef | None,
    own_ids: Mapping[str, int],
    subject_tag: TicketRef | None,
    forward_threads: frozenset[int],
) -> Tie:
    """Return the tie of a mail, in the order of behaviour.md 5.

    ``refs``: the index entries of :func:`ids_of`, thread redirects followed. ``reply_address``
    and ``subject_tag`` are verified; the tag is given only if the sender takes part in its ticket.
    ``own_ids``: ids in the mail that carry our signature, with their thread. ``forward_threads``:
    threads that a forward of ours started; they are never joined with others.
    """
    answers_forward = any(
        ref.forward for parent in message.in_reply_to[:1] for ref in refs.get(parent, ())
    )
    if reply_address is not None:
        return _by_token("reply_address", reply_address, answers_forward)
    answered = _answered(message, refs, own_ids)
    if answered is not None:
        return _with_joins(*answered, message, refs, forward_threads, answers_forward)
    known = _known(message.message_id, refs)
    if known:
        held = any(ref.held for ref in known)
        matched: MatchedBy = "references" if held else "late_parent"
        return _with_joins(
            matched, known[0].thread, message, refs, forward_threads, answers_forward, late=not held
        )
    if subject_tag is not None:
        return _by_token("subject_tag", subject_tag, answers_forward)
    return NO_TIE


def _by_token(how: MatchedBy, token: TicketRef, answers_forward: bool) -> Tie:
    return Tie(how, token.thread, token.ticket, answers_forward=answers_forward)


def _answered(
    message: Message, refs: Mapping[str, Sequence[Ref]], own_ids: Mapping[str, int]
) -> tuple[MatchedBy, int] | None:
    """Return (how the mail names the message that it answers, thread of that message)."""
    own = next((own_ids[parent] for parent in message.parents if parent in own_ids), None)
    if own is not None:
        return "own_id", own
    parent = _first(message.in_reply_to, refs)
    if parent is not None:
        return "in_reply_to", parent
    earlier = _first(message.references[::-1], refs)
    return ("references", earlier) if earlier is not None else None


def _known(message_id: str | None, refs: Mapping[str, Sequence[Ref]]) -> Sequence[Ref]:
    return refs.get(message_id, ()) if message_id else ()


def _first(ids: Iterable[str], refs: Mapping[str, Sequence[Ref]]) -> int | None:
    """Return the thread of the first known id, preferably one that holds the message."""
    for each in ids:
        known = refs.get(each, ())
        if known:
            return next((ref.thread for ref in known if ref.held), known[0].thread)
    return None


def _with_joins(
    how: MatchedBy,
    thread: int,
    message: Message,
    refs: Mapping[str, Sequence[Ref]],
    forward_threads: frozenset[int],
    answers_forward: bool,
    *,
    late: bool = False,
) -> Tie:
    if thread in forward_threads:
        return Tie(how, thread, None, (), late, answers_forward)
    others = (
        {ref.thread for each in ids_of(message) for ref in refs.get(each, ())}
        - {thread}
        - forward_threads
    )
    answers = any(
        ref.held and not ref.machine for each in message.parents for ref in refs.get(each, ())
    )
    renames = not answers or bool(_known(message.message_id, refs))
    return Tie(how, thread, None, tuple(sorted(others)), late, answers_forward, renames)


@dataclass(frozen=True, slots=True)
class Entry:
    """The facts about a message that decide whether it names its conversation."""

    message: int
    message_id: str | None
    parents: tuple[str, ...]
    date: datetime
    sender_id: int | None
    subject: str
    opens: bool  # of a kind that opens tickets, and not tied by a token of ours
    machine: bool = False  # a responder's or a report


def head(entries: Iterable[Entry]) -> Entry | None:
    """Return the message that names a conversation, None if no message opens it.

    It is the earliest by Date among those that answer no person's message on the thread. Leaving
    out answers keeps a reply with an invented early Date from taking the ticket over, and makes the
    choice independent of the order of arrival. If every mail answers another, because forged ones
    do so in a circle, the mails of the circle are compared.
    """
    entries = list(entries)
    held = {entry.message_id for entry in entries if entry.message_id and not entry.machine}
    opening = [entry for entry in entries if entry.opens]
    roots = [
        entry for entry in opening if not (held - {entry.message_id}).intersection(entry.parents)
    ]
    return min(
        roots or _circular(entries, opening) or opening,
        key=lambda entry: (entry.date, entry.message_id or "", entry.message),
        default=None,
    )


def _circular(entries: Sequence[Entry], opening: Sequence[Entry]) -> list[Entry]:
    """Return opening messages that answer each other in a circle; long threads are not searched."""
    if len(entries) > CIRCLE_LIMIT:
        return []
    answers: dict[str | None, set[str]] = {}
    for entry in entries:
        answers.setdefault(entry.message_id, set()).update(entry.parents)
    found = []
    for entry in opening:
        seen: set[str] = set()
        todo = list(entry.parents)
        while todo and entry.message_id is not None and entry.message_id not in seen:
            each = todo.pop()
            if each not in seen:
                seen.add(each)
                todo.extend(answers.get(each, ()))
        if entry.message_id in seen:
            found.append(entry)
    return found
