"""Decide which mail and people go back with a ticket whose merge is undone (behaviour.md P10).

The record of the join lists the mail that came before it. Mail that came later was put on the
surviving thread; what it answers tells whether it goes back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from core.model.merging import JoinRecord
from core.model.ticket import ParticipantRole


@dataclass(frozen=True, slots=True)
class JoinedMail:
    """A mail on the surviving thread.

    ``parents``: the Message-IDs that it answers, the nearest first. ``people``: contacts in From,
    To and Cc. ``addressed``: it came to a signed address of the thread that goes back.
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
    """Return the record of a join, after adding the later mail and the people that go back too.

    ``roles`` are those of the surviving thread's participants. ``brought`` are the participants of
    the joined thread, ``kept`` the contacts who stay on the surviving thread in any case.
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
    """Return the later mails that go back together with the mails in ``gone``.

    They came to a signed address of the thread that goes back, or answer a mail that goes back.
    """
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
