"""Find the conversation that a mail belongs to, and the mail that names it (behaviour.md 5).

An index holds every Message-ID of a thread's messages, and every one that they refer to. A mail is
tied to a thread that holds one of its ids. It is tied to a thread that only refers to one if both
vouch for each other (:mod:`core.mail.circle`). The subject alone never ties a mail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from core.mail.circle import (
    NOBODY,
    Circle,
    Claim,
    Place,
    Writer,
    choose,
    counts,
    join,
    joined,
    vouch,
)
from core.model.message import Message

MatchedBy = Literal[
    "reply_address", "own_id", "in_reply_to", "references", "late_parent", "subject_tag"
]
JoinPolicy = Literal["vouched", "anyone"]
# An id known on so many threads is worn out: it ties only mail of senders in their circles, and no
# further thread is remembered for it. So the work for one mail is bounded.
MOST_THREADS = 16


@dataclass(frozen=True, slots=True)
class Ref:
    """A thread where a Message-ID occurs: as that of a message (``held``), or only as a reference.

    ``claims``: the people of the thread's circle who sent the id or referred to it there.
    """

    thread: int
    held: bool
    forward: bool = False  # the message held is a forward
    machine: bool = False  # the message held is a responder's or a report
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class TicketRef:
    """What a signed reply address or tag names: a ticket, and perhaps one of its threads."""

    ticket: int
    thread: int | None = None


@dataclass(frozen=True, slots=True)
class MailTokens:
    """The verified tokens of a mail.

    ``own`` are the ids among its parents that carry our signature, with their threads. ``tag`` is
    the subject tag, given only if the sender takes part in its ticket.
    """

    reply: TicketRef | None = None
    own: Mapping[str, int] = field(default_factory=dict)
    tag: TicketRef | None = None


@dataclass(frozen=True, slots=True)
class Tie:
    """The thread that a mail belongs to.

    ``thread`` is None and ``ticket`` set for a ticket without a mail thread. ``joins`` are other
    threads that the mail shows to be the same conversation; ``related`` are threads that share an
    id with the mail but are not joined. ``strangers`` are contacts who leave the circle.

    ``first``: no person has written on the thread or those joined to it, so that the mail opens it.
    ``late``: an answer to the mail arrived first. ``answers_forward``: In-Reply-To names a forward
    (E17b). ``names``: the mail may become the head of the conversation (:func:`head`). ``renames``:
    the mail may change which message is the head.
    """

    matched_by: MatchedBy | None = None
    thread: int | None = None
    ticket: int | None = None
    joins: tuple[int, ...] = ()
    related: tuple[int, ...] = ()
    strangers: frozenset[int] = NOBODY
    first: bool = False
    late: bool = False
    answers_forward: bool = False
    names: bool = False
    renames: bool = False


NO_TIE = Tie()


def ids_of(message: Message) -> tuple[str, ...]:
    """Return every Message-ID that a mail states, its own first; callers look up and store them."""
    own = (message.message_id,) if message.message_id else ()
    return tuple(dict.fromkeys((*own, *message.parents)))


def tie(
    message: Message,
    tokens: MailTokens,
    refs: Mapping[str, Sequence[Ref]],
    circles: Mapping[int, Circle],
    writer: Writer,
    policy: JoinPolicy = "vouched",
) -> Tie:
    """Return the tie of a mail, by the first rule of behaviour.md 5 that applies.

    ``refs`` maps each id of :func:`ids_of` to the threads where it occurs, after following
    redirects. ``circles`` has the circle of every thread in ``refs`` and ``tokens``. With the
    policy "anyone", circles are not checked.
    """
    if not refs and not tokens.own and tokens.reply is None and tokens.tag is None:
        return NO_TIE
    near = _Near(message, tokens, refs, circles, writer, policy)
    if tokens.reply is not None:
        return near.tied("reply_address", tokens.reply.thread, tokens.reply.ticket)
    if (found := near.first()) is not None:
        return near.tied(*found)
    if tokens.tag is not None:
        return near.tied("subject_tag", tokens.tag.thread, tokens.tag.ticket)
    return near.tied(None, None)


class _Near:
    """The threads that the Message-IDs of a mail lead to."""

    def __init__(
        self,
        message: Message,
        tokens: MailTokens,
        refs: Mapping[str, Sequence[Ref]],
        circles: Mapping[int, Circle],
        writer: Writer,
        policy: JoinPolicy,
    ) -> None:
        self.message, self.tokens, self.refs = message, tokens, refs
        self.circles, self.writer, self.policy = circles, writer, policy
        own = message.message_id
        self.parents = [each for each in message.parents if each != own]
        self.arrived = list(refs.get(own, ())) if own else []  # under the mail's own id
        # a responder's mail under the id of another does not make the other's mail a second one
        self.late = {ref.thread for ref in self.arrived if not ref.held or ref.machine}
        self.held: dict[int, set[str]] = {}  # the parents that each thread holds
        for each in self.parents:
            for ref in self._holders(each):
                self.held.setdefault(ref.thread, set()).add(each)
        for each, thread in tokens.own.items():
            self.held.setdefault(thread, set()).add(each)
        self.threads = {*self.held, *(ref.thread for ref in self._heard())}
        self.vouched = {each: self._vouch(each) for each in sorted(self.threads)}

    def _holders(self, message_id: str) -> list[Ref]:
        """Return the threads that hold an id.

        If the id occurs on too many threads, only those with the sender in their circle are
        returned.
        """
        known = self.refs.get(message_id, ())
        worn = len(known) >= MOST_THREADS and self.policy == "vouched"
        return [
            ref
            for ref in known
            if ref.held and not (worn and not self.writer.inside(self.circles[ref.thread]))
        ]

    def _heard(self) -> list[Ref]:
        """Return the entries that tie the mail only if thread and mail vouch for each other."""
        named = [ref for each in self.parents for ref in self.refs.get(each, ())]
        return [*self.arrived, *(ref for ref in named if not ref.held)]

    def _vouch(self, thread: int) -> frozenset[int] | None:
        """Return who becomes a stranger if the mail is put on a thread that only refers to it.

        The result is None if the mail may not be put there.
        """
        heard = [ref for ref in self._heard() if ref.thread == thread]
        if self.policy == "anyone" and heard:
            return NOBODY
        claims = [claim for ref in heard for claim in ref.claims]
        circle = self.circles[thread]
        return vouch(self.writer, circle, claims, late=thread in self.late) if heard else None

    def first(self) -> tuple[MatchedBy, int] | None:
        """Return how the mail is tied, and to which thread: as a rule, by the first id that can."""
        for own in self.message.parents:
            if own in self.tokens.own:
                return "own_id", self.tokens.own[own]
        listed: tuple[tuple[MatchedBy, Iterable[str]], ...] = (
            ("in_reply_to", self.message.in_reply_to),
            ("references", reversed(self.message.references)),
        )
        for how, ids in listed:
            for each in ids:
                if each in self.parents and (thread := self._at(each)) is not None:
                    return self._awaited(thread) or (how, thread)
        own_ids = [ref for ref in self.arrived if self._takes(ref.thread)]
        if not own_ids:
            return None
        chosen = min(own_ids, key=lambda ref: (ref.thread in self.late, ref.thread))
        return "late_parent" if chosen.thread in self.late else "references", chosen.thread

    def _awaited(self, thread: int) -> tuple[MatchedBy, int] | None:
        """Return a better tie: to a thread that referred to the mail before it came, and vouches.

        It is preferred to ``thread`` if the mail names nobody who sent or claimed its parents
        there, since somebody may have reused another mail's id.
        """
        if self.policy == "anyone" or self._claimed(thread):
            return None
        waiting = (each for each in sorted(self.late) if self._heard_of(each))
        found = next((each for each in waiting if not self.circles[each].empty), None)
        return ("late_parent", found) if found is not None and found != thread else None

    def _claimed(self, thread: int) -> bool:
        """Return whether the mail names who sent or claimed one of its parents on a thread."""
        named = (ref for each in self.parents for ref in self.refs.get(each, ()))
        claims = (claim for ref in named if ref.thread == thread for claim in ref.claims)
        return any(counts(self.writer, self.circles[thread], each) for each in claims)

    def _at(self, message_id: str) -> int | None:
        """Return the thread that an id ties the mail to, or None.

        That thread holds the id, or it only refers to the id and vouches for the mail.
        """
        worn = len(self.refs.get(message_id, ())) >= MOST_THREADS
        places = [
            Place(ref.thread, self.circles[ref.thread], ref.claims, ref.held)
            for ref in self.refs.get(message_id, ())
            if ref.held or self.vouched[ref.thread] is not None
        ]
        if self.policy == "anyone":
            return (
                min(places, key=lambda each: (not each.held, each.thread)).thread
                if places
                else None
            )
        if worn:
            places = [each for each in places if self.writer.inside(each.circle)]
        found = choose(self.writer, places)
        if found is None and self.writer.machine:
            return min((ref.thread for ref in self.refs.get(message_id, ())), default=None)
        return found

    def _takes(self, thread: int) -> bool:
        """Return whether the mail may be put on a thread that only refers to it."""
        return self.writer.machine or self.vouched[thread] is not None

    def tied(self, how: MatchedBy | None, thread: int | None, ticket: int | None = None) -> Tie:
        """Return the tie to a thread or ticket, with the threads joined to it or related."""
        others = sorted(each for each in self.threads - {thread} if not self._forward(each))
        if thread is None or self._forward(thread):
            related = tuple(others) if thread is None else ()
            return Tie(how, thread, ticket, related=related, answers_forward=self._forwards(thread))
        joins: list[int] = []
        strangers = (self.vouched.get(thread) or NOBODY) if thread not in self.held else NOBODY
        circle = self.circles[thread]
        for each in others:
            if (leave := self._join(thread, each, circle)) is not None:
                joins.append(each)
                strangers |= leave
                circle = joined(circle, self.circles[each], leave)
        names = how not in ("reply_address", "own_id", "subject_tag", None) and self._names(
            thread, joins
        )
        return Tie(
            how,
            thread,
            ticket,
            tuple(joins),
            tuple(each for each in others if each not in joins),
            strangers,
            first=all(self.circles[each].empty for each in (thread, *joins)),
            late=how == "late_parent",
            answers_forward=self._forwards(thread),
            names=names,
            renames=names or bool(joins) or self._heard_of(thread),
        )

    def _forward(self, thread: int | None) -> bool:
        return thread is not None and thread in self.circles and self.circles[thread].forward

    def _forwards(self, thread: int | None) -> bool:
        """Return whether In-Reply-To names a forward on the thread."""
        named = [ref for each in self.message.in_reply_to[:1] for ref in self.refs.get(each, ())]
        return any(ref.forward and ref.thread == thread for ref in named)

    def _join(self, home: int, other: int, circle: Circle) -> frozenset[int] | None:
        """Return who becomes a stranger if two threads are joined, None if they are not.

        ``circle``: that of ``home`` and of the threads that the mail joins to it already.
        """
        if self.policy == "anyone":
            return NOBODY
        leave = NOBODY
        # an id that both hold, because somebody reused it, shows nothing
        shared = self.held.get(home, set()) & self.held.get(other, set())
        for each in (home, other):
            if not self.held.get(each, set()) - shared:
                vouched = self.vouched.get(each)
                if vouched is None:
                    return None
                leave |= vouched
        late = (home in self.late, other in self.late)
        left = join(self.writer, circle, self.circles[other], late=late)
        return None if left is None else leave | left

    def _heard_of(self, thread: int) -> bool:
        """Return whether an answer to the mail came earlier, on a thread that vouches for it."""
        return thread in self.late and self.vouched[thread] is not None

    def _names(self, thread: int, joins: Collection[int]) -> bool:
        """Return whether the mail may become the head of the conversation.

        It may if it answers no person's message and the thread vouches for it.
        """
        here = {thread, *joins}
        answers = any(
            ref.held and not ref.machine and ref.thread in here
            for each in self.parents
            for ref in self.refs.get(each, ())
        )
        return not answers and (self.policy == "anyone" or self.vouched.get(thread) is not None)


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that may be the head of a conversation: the opening one, or one vouched for."""

    message: int
    message_id: str | None
    parents: tuple[str, ...]
    date: datetime
    sender_id: int | None
    subject: str


def heads(entries: Iterable[Entry], held: Collection[str]) -> list[Entry]:
    """Return the messages that may be the head of a conversation; the first one is the head.

    The head is the earliest by Date. Messages that answer a person's message on the thread are left
    out, so that the order of arrival does not matter. If all messages answer each other in a
    circle, none is left out. ``held``: the ids of people's messages on the thread.
    """
    entries = list(entries)
    roots = [
        entry
        for entry in entries
        if not any(each in held and each != entry.message_id for each in entry.parents)
    ]
    return sorted(
        roots or entries, key=lambda entry: (entry.date, entry.message_id or "", entry.message)
    )
