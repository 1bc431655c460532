"""Whose word counts on a thread, and when a mail and a thread vouch for each other.

The rules are in behaviour.md 5: circle, vouched, joining. People are ids of contacts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Claim:
    """A contact who sent or referenced a Message-ID on a thread while in its circle.

    ``proven``: the mail had the verdict pass.
    """

    contact: int
    proven: bool


@dataclass(frozen=True, slots=True)
class Circle:
    """The people whose word counts on a thread.

    ``ticket`` and ``requester`` are those of the thread's ticket. ``fixed``: a person has worked on
    the ticket, so no mail may remove anybody from the circle. ``forward``: a forward of ours
    started the thread.
    """

    members: frozenset[int] = NOBODY
    ticket: int | None = None
    requester: int | None = None
    fixed: bool = False
    forward: bool = False

    @property
    def empty(self) -> bool:
        """Whether only machines wrote on the thread, so that nobody is in its circle."""
        return not self.members and self.ticket is None


@dataclass(frozen=True, slots=True)
class Writer:
    """The sender of a mail, and the people whom the mail names in To, Cc and Reply-To.

    ``proven``: the verdict is pass. ``user``: a proven user, who is inside every circle.
    ``machine``: the mail was written by a responder, or is a report. Such a mail brings nobody into
    a circle, so a thread that holds an answer to it may take it without the check of :func:`vouch`.
    """

    sender: int | None = None
    named: frozenset[int] = NOBODY
    proven: bool = False
    user: bool = False
    machine: bool = False

    def inside(self, circle: Circle) -> bool:
        """Return whether the sender's word counts on a thread."""
        return self.user or self.sender in circle.members

    def unnamed(self, circle: Circle) -> frozenset[int]:
        """Return the members of a circle who are neither the sender nor named by the mail."""
        return frozenset(each for each in circle.members - self.named if each != self.sender)


def vouch(
    writer: Writer, circle: Circle, claims: Iterable[Claim], *, late: bool
) -> frozenset[int] | None:
    """Return who becomes a stranger if a mail is put on a thread that only refers to it.

    The result is None if the mail may not be put there: each must vouch for the other. The thread
    vouches if a member of its circle claimed a Message-ID of the mail. The mail vouches if its
    sender is a member, if it comes from or names the member with the claim, and if it names a
    second member (where there is one). If nobody has proven the claim, all members whom the mail
    does not name become strangers. ``late``: the thread referred to the mail before the mail came,
    so the requester need not be named.
    """
    if circle.empty:
        return NOBODY
    others = circle.members & writer.named - {writer.sender}
    if not writer.inside(circle) or not (others or circle.members == {writer.sender}):
        return None
    vouching = [each.proven for each in claims if counts(writer, circle, each)]
    if not vouching:
        return None
    if any(vouching):
        return NOBODY
    unnamed = writer.unnamed(circle)
    if unnamed and (circle.fixed or (circle.requester in unnamed and not late)):
        return None
    return unnamed


def counts(writer: Writer, circle: Circle, claim: Claim) -> bool:
    """Tell whether a claim counts: the mail must come from, or name, the member who made it.

    If the sender is proven now, an unproven claim in their name may be a forgery and does not
    count.
    """
    if claim.contact not in circle.members:
        return False
    if claim.contact == writer.sender:
        return claim.proven or not writer.proven
    return claim.contact in writer.named


@dataclass(frozen=True, slots=True)
class Place:
    """A thread where a Message-ID occurs; ``held``: one of its messages has this id."""

    thread: int
    circle: Circle
    claims: tuple[Claim, ...]
    held: bool


def choose(writer: Writer, places: Iterable[Place]) -> int | None:
    """Return the thread, of those where an id occurs, that a mail with this id belongs to, or None.

    ``places`` are the threads that hold the id, and those that only refer to it and vouch for the
    mail. Somebody may have reused another mail's id. So threads with the sender in their circle
    come first, and of these the threads where the mail names who sent or claimed the id.
    """
    places = sorted(places, key=lambda each: (not each.held, each.thread))
    inside = [each for each in places if writer.inside(each.circle)]
    if not inside:
        return next((each.thread for each in places if each.held), None)
    claims = {
        each.thread: [c for c in each.claims if counts(writer, each.circle, c)] for each in inside
    }
    proven = [each for each in inside if any(claim.proven for claim in claims[each.thread])]
    claimed = [each for each in inside if claims[each.thread]]
    known = [each for each in inside if each.held]
    group = proven or claimed or known
    group = [each for each in group if each.held] or group
    if len(group) == 1:
        return group[0].thread
    return next((each.thread for each in group if not writer.unnamed(each.circle)), None)


def join(
    writer: Writer, home: Circle, other: Circle, *, late: tuple[bool, bool]
) -> frozenset[int] | None:
    """Return who becomes a stranger if a mail joins two threads; None if it may not join them.

    A thread on which only machines wrote has no circle; people of the other thread join it.

    A join brings nobody into a circle. In it stay only the sender, the people who were in both
    circles and, if the mail is proven, the people whom it names. ``late`` tells for each thread
    whether it referred to the mail before the mail came.
    """
    if home.forward or other.forward:
        return None
    if home.empty and other.empty:
        return NOBODY
    if home.empty or other.empty:
        return NOBODY if writer.inside(other if home.empty else home) else None
    if not (writer.inside(home) and writer.inside(other)):
        return None
    seated = (home.members & other.members) | {writer.sender}
    if writer.proven:
        seated |= writer.named
    kept = [each.requester is None or each.requester in seated for each in (home, other)]
    if not any(kept) or not all(stays or came for stays, came in zip(kept, late, strict=True)):
        return None
    dropped = frozenset((home.members | other.members) - seated)
    return None if dropped and (home.fixed or other.fixed) else dropped


def joined(one: Circle, two: Circle, leave: frozenset[int]) -> Circle:
    """Return the circle of two threads that are joined, where ``leave`` become strangers."""
    first, second = sorted((one, two), key=lambda each: (each.ticket is None, each.ticket or 0))
    return Circle(
        (one.members | two.members) - leave,
        first.ticket,
        first.requester if first.ticket is not None else second.requester,
        one.fixed or two.fixed,
    )
