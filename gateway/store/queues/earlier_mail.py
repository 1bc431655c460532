"""Find earlier copies of a mail in the register, by fingerprint (behaviour.md 2.1, step 1)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from gateway.store.schema import tables
from gateway.store.tickets.threads import people_in

MAIL = tables.mail
# Finished mails with one of these fingerprints, oldest first; duplicates are left out.
EARLIER_BY_FINGERPRINT = (
    sa.select(
        MAIL.c.fingerprint,
        MAIL.c.id,
        MAIL.c.processed_at,
        MAIL.c.thread_id,
        MAIL.c.ticket,
        MAIL.c.channel_id,
        MAIL.c.state,
        MAIL.c.kind,
        tables.message.c.auth,
        tables.message.c.head,
        tables.message.c.parents,
    )
    .outerjoin(tables.message, tables.message.c.id == MAIL.c.message)
    .where(
        MAIL.c.fingerprint.in_(sa.bindparam("fingerprints", expanding=True)),
        MAIL.c.state.not_in(("pending", "duplicate")),
    )
    .order_by(MAIL.c.id)
)
# Duplicates with one of these fingerprints that name their original and a channel.
DUPLICATES = sa.select(MAIL.c.original_id, MAIL.c.channel_id).where(
    MAIL.c.fingerprint.in_(sa.bindparam("fingerprints", expanding=True)),
    MAIL.c.state == "duplicate",
    MAIL.c.original_id.is_not(None),
    MAIL.c.channel_id.is_not(None),
)


@dataclass(frozen=True, slots=True)
class EarlierMail:
    """An earlier mail with the same fingerprint.

    ``processed_at`` is the time of processing; in a replay, the time that the replay assumes.
    ``readers`` are the address keys in To, Cc and Reply-To, ``parents`` the ids that it answers.
    """

    mail_id: int
    processed_at: datetime
    thread: int | None
    ticket: int | None
    channel: int | None
    state: str
    kind: str | None
    proven: bool
    readers: frozenset[str]
    parents: frozenset[str]


async def repeated(
    connection: AsyncConnection, fingerprints: Collection[bytes]
) -> set[tuple[int, int]]:
    """Return (original mail, channel) for each duplicate with one of these fingerprints."""
    rows = await connection.execute(DUPLICATES, {"fingerprints": sorted(fingerprints)})
    return {(original, channel) for original, channel in rows}


async def by_fingerprint(
    connection: AsyncConnection, fingerprints: Collection[bytes]
) -> dict[bytes, EarlierMail]:
    """Return the newest finished mails, keyed by fingerprint; duplicates are left out."""
    rows = await connection.execute(EARLIER_BY_FINGERPRINT, {"fingerprints": sorted(fingerprints)})
    return {bytes(row.fingerprint): _earlier_mail(row) for row in rows}


def _earlier_mail(row: Any) -> EarlierMail:
    return EarlierMail(
        mail_id=row.id,
        processed_at=row.processed_at,
        thread=row.thread_id,
        ticket=row.ticket,
        channel=row.channel_id,
        state=row.state,
        kind=row.kind,
        proven=row.auth == "pass",
        readers=frozenset(
            address_key(each["address"])
            for each in people_in(row.head or {}, "to", "cc", "reply_to")
            if each["address"]
        ),
        parents=frozenset(row.parents or ()),
    )
