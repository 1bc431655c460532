"""Record which mails of mailboxes are in the spool.

A mail is identified by mailbox, UIDVALIDITY and UID. These three are recorded in the transaction
that stores the mail's bytes. So each mail is stored exactly once, even after a crash. The cursor
``last_uid`` only says where to continue. It moves past a mail that is stored, gone, or recorded as
impossible to fetch.

A process can lose the lease when the database was away or the clock jumped. Then
:class:`MailboxLeaseLost` is raised, nothing is stored, and the new holder fetches the mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Unavailable
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import write_rows

MAILBOX, TAKEN, SUPERSEDED = tables.mailbox, tables.mailbox_mail, tables.superseded_mail
AT_UIDVALIDITY = sa.and_(
    TAKEN.c.mailbox_id == sa.bindparam("box"), TAKEN.c.uidvalidity == sa.bindparam("validity")
)
KNOWN_UIDS = sa.select(TAKEN.c.uid, TAKEN.c.mail_id).where(
    AT_UIDVALIDITY, among(TAKEN.c.uid, "uids")
)
_LOCK_MAILBOXES = (
    sa.select(MAILBOX.c.id, MAILBOX.c.uidvalidity, MAILBOX.c.last_uid, MAILBOX.c.lease_owner)
    .where(among(MAILBOX.c.id, "ids"))
    .order_by(MAILBOX.c.id)
    .with_for_update()
)
# Mails taken under earlier UIDs that have one of these digests, the latest UIDs first.
_RECOGNISED = (
    sa.select(SUPERSEDED)
    .where(
        SUPERSEDED.c.mailbox_id == sa.bindparam("box"),
        SUPERSEDED.c.digest.in_(sa.bindparam("digests", expanding=True)),
    )
    .order_by(SUPERSEDED.c.generation.desc(), SUPERSEDED.c.uid)
)
_FORGET = sa.delete(TAKEN).where(
    TAKEN.c.mailbox_id == sa.bindparam("_box"),
    TAKEN.c.uidvalidity == sa.bindparam("_validity"),
    TAKEN.c.uid == sa.bindparam("_uid"),
)
_FORGET_SUPERSEDED = sa.delete(SUPERSEDED).where(
    SUPERSEDED.c.mailbox_id == sa.bindparam("_box"),
    SUPERSEDED.c.digest == sa.bindparam("_digest"),
    SUPERSEDED.c.generation == sa.bindparam("_generation"),
    SUPERSEDED.c.uid == sa.bindparam("_uid"),
)
_ADVANCE = (
    sa.update(MAILBOX)
    .where(MAILBOX.c.id == sa.bindparam("_id"))
    .values(last_uid=sa.bindparam("_last"))
)


class MailboxLeaseLost(Unavailable):
    """Another process holds the lease of this mailbox now."""


@dataclass(frozen=True, slots=True)
class MailboxPosition:
    """The position of a mail in a mailbox.

    The cursor moves to ``uid`` only if it stands at ``follows`` or later. If ``follows`` equals
    ``uid``, the mail never moves the cursor. ``settled`` means that the mail needs no flag, move or
    deletion on the server.
    """

    mailbox: int
    uidvalidity: int
    uid: int
    follows: int
    settled: bool


@dataclass(frozen=True, slots=True)
class TakenMail:
    """Mails that are recorded already.

    ``there`` maps mails that are stored under their present UID to spool ids. ``again`` does the
    same for mails stored under an earlier UID. ``owed`` are mails recorded as impossible to fetch.
    """

    there: Mapping[MailboxPosition, int]
    again: Mapping[MailboxPosition, int]
    owed: frozenset[MailboxPosition]


NOTHING_TAKEN = TakenMail({}, {}, frozenset())


async def find_taken(
    connection: AsyncConnection, node: str, marks: Mapping[MailboxPosition, bytes]
) -> TakenMail:
    """Lock the mailboxes of ``marks`` and return which of these mails are recorded already.

    ``marks`` maps positions to digests. Raises MailboxLeaseLost where we lack the lease of a
    mailbox or its UIDVALIDITY has changed.
    """
    boxes = {
        row.id: row
        for row in await connection.execute(
            _LOCK_MAILBOXES, {"ids": sorted({mark.mailbox for mark in marks})}
        )
    }
    there: dict[MailboxPosition, int] = {}
    again: dict[MailboxPosition, int] = {}
    owed: set[MailboxPosition] = set()
    for box, own in _by_mailbox(marks).items():
        if (
            box not in boxes
            or boxes[box].lease_owner != node
            or any(mark.uidvalidity != boxes[box].uidvalidity for mark in own)
        ):
            raise MailboxLeaseLost("another process reads the mailbox now")
        values = {
            "box": box,
            "validity": own[0].uidvalidity,
            "uids": sorted({mark.uid for mark in own}),
        }
        taken = {row.uid: row.mail_id for row in await connection.execute(KNOWN_UIDS, values)}
        there |= {mark: taken[mark.uid] for mark in own if taken.get(mark.uid) is not None}
        owed |= {mark for mark in own if mark.uid in taken and mark not in there}
        again |= await _recognised(
            connection, box, {mark: marks[mark] for mark in own if mark not in there}
        )
    return TakenMail(there, again, frozenset(owed))


async def _recognised(
    connection: AsyncConnection, box: int, fresh: Mapping[MailboxPosition, bytes]
) -> dict[MailboxPosition, int]:
    """Find mails stored under earlier UIDs by their digest; delete the records that match."""
    if not fresh:
        return {}
    rows = (
        await connection.execute(_RECOGNISED, {"box": box, "digests": sorted(set(fresh.values()))})
    ).all()
    before: dict[bytes, list[Any]] = {}
    for row in rows:
        before.setdefault(bytes(row.digest), []).append(row)
    known: dict[MailboxPosition, int] = {}
    gone = []
    for mark, digest in fresh.items():
        if before.get(digest):
            row = before[digest].pop(0)
            known[mark] = row.mail_id
            gone.append(
                {"_box": box, "_digest": digest, "_generation": row.generation, "_uid": row.uid}
            )
    await write_rows(connection, [(_FORGET_SUPERSEDED, gone)])
    return known


async def record(
    connection: AsyncConnection,
    marks: Mapping[MailboxPosition, bytes],
    numbers: Mapping[MailboxPosition, int],
    known: TakenMail,
) -> None:
    """Record mails with their spool ids, and move each cursor up to the first missing mail.

    Call it in the transaction of :func:`find_taken`, with its result as ``known``. If one of these
    mails was recorded as impossible to fetch, that record is deleted.
    """
    fresh = [mark for mark in marks if mark not in known.there]
    rows = [_taken_row(mark, numbers[mark], marks[mark]) for mark in fresh]
    owed = [_forget_row(mark) for mark in known.owed]
    own = _by_mailbox(marks)
    boxes = {
        row.id: row.last_uid
        for row in await connection.execute(_LOCK_MAILBOXES, {"ids": sorted(own)})
    }
    moved = [
        {"_id": box, "_last": last}
        for box, some in own.items()
        if (last := reached(boxes[box], some)) != boxes[box]
    ]
    await write_rows(connection, [(_FORGET, owed), (TAKEN, rows), (_ADVANCE, moved)])


def _taken_row(mark: MailboxPosition, mail_id: int, digest: bytes) -> dict[str, Any]:
    """Return a row of ``mailbox_mail``."""
    return {
        "mailbox_id": mark.mailbox,
        "uidvalidity": mark.uidvalidity,
        "uid": mark.uid,
        "mail_id": mail_id,
        "digest": digest,
        "settled": mark.settled,
    }


def _forget_row(mark: MailboxPosition) -> dict[str, Any]:
    """Return the parameters with which ``_FORGET`` deletes the record of a mail."""
    return {"_box": mark.mailbox, "_validity": mark.uidvalidity, "_uid": mark.uid}


def reached(last: int, marks: Iterable[MailboxPosition]) -> int:
    """Return the UID at which the cursor stands after these mails; ``last`` is where it stood."""
    for mark in sorted(marks, key=lambda mark: mark.uid):
        if mark.follows <= last < mark.uid:
            last = mark.uid
    return last


def _by_mailbox(marks: Iterable[MailboxPosition]) -> dict[int, list[MailboxPosition]]:
    own: dict[int, list[MailboxPosition]] = {}
    for mark in marks:
        own.setdefault(mark.mailbox, []).append(mark)
    return own
