"""Decide what of a joined thread goes back with a ticket whose merge is undone (behaviour.md P10).

Mail that came before the join is in its record. Mail that came since lies on the thread that took
the other one over, and is told apart by what it answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from core.model.merging import JoinRecord
from core.model.ticket import ParticipantRole


@dataclass(frozen=True, slots=True)
class JoinedMail:
    """A mail on the surviving thread.

    ``parents``: what it answers, nearest first. ``people``: contacts in From, To and Cc.
    ``addressed``: it came to a signed address of the thread that goes back.
    """

    message: int
    message_id: str | None
    parents: tuple[str, ...]
    people: frozenset[int]
    addressed: bool = False


def with_mail_since(
    record: JoinRecord,
    mails: Iterable[JoinedMail],
    roles: Mapping[int, ParticipantRole],
    brought: Collection[int],
    kept: Collection[int],
) -> JoinRecord:
    """Return the record of a join, completed by the mail and the people that go back with it.

    ``roles`` are those of the surviving thread's participants, ``brought`` the participants of the
    joined thread, and ``kept`` contacts who stay whatever was written.
    """
    ordered = sorted(mails, key=lambda mail: mail.message)
    gone = set(record.messages)
    since = _since(ordered, gone)
    leaving = gone | set(since)
    staying: set[int] = set(kept).union(
        *(mail.people for mail in ordered if mail.message not in leaving)
    )
    named: set[int] = set().union(*(mail.people for mail in ordered if mail.message in since))
    return replace(
        record,
        since=tuple(since),
        left=tuple(sorted((set(brought) | named) & roles.keys() - staying)),
        came=tuple((each, roles[each]) for each in sorted(named & roles.keys())),
    )


def _since(ordered: Iterable[JoinedMail], gone: Collection[int]) -> list[int]:
    """Return the mails that came later and belong to those in ``gone``, directly or by others."""
    last, leaving = max(gone, default=None), set(gone)
    held: dict[str, int] = {}
    since = []
    for mail in ordered:
        parent = next((held[each] for each in mail.parents if each in held), None)
        later = last is not None and mail.message > last
        if later and (mail.addressed or parent in leaving):
            leaving.add(mail.message)
            since.append(mail.message)
        if mail.message_id is not None:
            held.setdefault(mail.message_id, mail.message)
    return since
