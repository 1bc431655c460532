"""The register of all incoming mail: list, show, release or discard a mail.

Raises NotFound where there is no such mail, and Refused where its state does not allow the change.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import Envelope
from gateway.errors import NotFound, Refused
from gateway.store.engine import Database
from gateway.store.queues.blobs import Blobs
from gateway.store.schema import tables

MailState = Literal["pending", "done", "ignored", "quarantined", "held", "duplicate"]

MAIL = tables.mail
_COLUMNS = (
    "id",
    "received_at",
    "source",
    "size",
    "sha256",
    "state",
    "tries",
    "released",
    "processed_at",
    "kind",
    "channel_id",
    "message_id",
)
_RESULT_COLUMNS = (
    "sender",
    "subject",
    "original_id",
    "message",
    "thread_id",
    "ticket",
    "reason",
    "outcome",
    "envelope",
)
SELECT_MAIL = sa.select(
    *(MAIL.c[name] for name in (*_COLUMNS, *_RESULT_COLUMNS)),
    tables.channel.c.address.label("channel"),
).select_from(MAIL.outerjoin(tables.channel, tables.channel.c.id == MAIL.c.channel_id))
NO_LEASE: dict[str, Any] = {"lease_owner": None, "lease_until": None}


@dataclass(frozen=True, slots=True)
class RegisteredMail:
    """What is known of a mail.

    The fields from ``sender`` to ``outcome`` are None until the mail is processed.
    """

    id: int
    received_at: datetime
    source: str
    size: int
    sha256: str
    state: MailState
    tries: int
    released: bool
    processed_at: datetime | None
    kind: str | None
    channel_id: int | None
    message_id: str | None
    sender: str | None
    subject: str | None
    original_id: int | None
    message: int | None
    thread_id: int | None
    ticket: int | None
    reason: str | None
    outcome: Any
    envelope: Envelope
    channel: str | None


class MailRegister:
    """All incoming mail in ``database``, with raw mail in the database or in ``blobs``."""

    __slots__ = ("blobs", "database")

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self.database = database
        self.blobs = blobs

    async def listing(
        self, state: str | None = None, limit: int | None = None, ids: Collection[int] | None = None
    ) -> list[RegisteredMail]:
        """Return up to ``limit`` mails, newest first; ``state`` and ``ids`` narrow the list."""
        query = _where(SELECT_MAIL, state, ids).order_by(MAIL.c.id.desc())
        async with self.database.read() as connection:
            rows = await connection.execute(query.limit(limit) if limit is not None else query)
            return [_mail(row) for row in rows.mappings()]

    async def total(self, state: str | None = None) -> int:
        """Return the number of mails in ``state``, or of all mails if it is None."""
        query = _where(sa.select(sa.func.count()).select_from(MAIL), state, None)
        async with self.database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def get(self, mail_id: int) -> RegisteredMail:
        """Return one mail; NotFound where there is none."""
        found = await self.listing(ids=[mail_id])
        if not found:
            raise _absent(mail_id)
        return found[0]

    async def raw(self, mail_id: int) -> bytes:
        """Return the bytes as received; NotFound for an unknown mail, Refused for an erased one."""
        data = tables.raw_mail.c.data
        query = (
            sa.select(MAIL.c.blob, data)
            .select_from(MAIL.outerjoin(tables.raw_mail))
            .where(MAIL.c.id == mail_id)
        )
        async with self.database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise _absent(mail_id)
        if row.blob is None and row.data is None:
            raise Refused(f"the bytes of mail {mail_id} were erased")
        return bytes(row.data) if row.blob is None else await self.blobs.get(row.blob)


async def set_state(
    connection: AsyncConnection,
    mail_id: int,
    state: MailState,
    *,
    reason: str | None,
    now: datetime,
    released: bool = False,
    only: Collection[str] | None = None,
) -> None:
    """Set the state that a person chose: ``pending`` (process again) or ``ignored`` (discarded).

    A ``released`` mail is processed in spite of the verdict that held it back. Raises NotFound for
    an unknown mail. Raises Refused when its state is not in ``only`` (default: held, quarantined,
    ignored).
    """
    allowed = set(only) if only is not None else {"held", "quarantined", "ignored"}
    found = (
        await connection.execute(
            sa.select(MAIL.c.state).where(MAIL.c.id == mail_id).with_for_update()
        )
    ).scalar()
    if found is None:
        raise _absent(mail_id)
    if found not in allowed:
        raise Refused(f"mail {mail_id} is {found}, not {' or '.join(sorted(allowed))}")
    again = {"tries": 0, "processed_at": None} if state == "pending" else {"processed_at": now}
    values = NO_LEASE | again | {"state": state, "reason": reason, "released": released}
    await connection.execute(sa.update(MAIL).where(MAIL.c.id == mail_id).values(values))


def _where(query: sa.Select[Any], state: str | None, ids: Collection[int] | None) -> sa.Select[Any]:
    if state is not None:
        # The index of unfinished mail is only used when the query repeats its condition.
        query = query.where(
            MAIL.c.state == state, *([sa.text("mail.state <> 'done'")] if state != "done" else [])
        )
    return query.where(MAIL.c.id.in_(sorted(ids))) if ids is not None else query


def _absent(mail_id: int) -> NotFound:
    return NotFound(f"no mail {mail_id}")


def _mail(row: Any) -> RegisteredMail:
    return RegisteredMail(
        **{**row, "envelope": unpack(row["envelope"], row["source"], row["received_at"])}
    )


def pack(envelope: Envelope) -> dict[str, Any]:
    """Return an envelope as JSON values, without source and time: these have their own columns."""
    return {
        "sender": envelope.sender,
        "recipients": envelope.recipients,
        "peer": envelope.peer,
        "helo": envelope.helo,
        "tls": envelope.tls,
        "trusted_hop": envelope.trusted_hop,
        "listed_peer": envelope.listed_peer,
        "origin": envelope.origin,
        "automation": envelope.automation,
        "channel": envelope.channel,
    }


def unpack(stored: Any, source: Any, received_at: datetime) -> Envelope:
    """Return the envelope with these values from :func:`pack`, this source and this time."""
    return Envelope(
        **{**stored, "recipients": tuple(stored["recipients"])},
        source=source,
        received_at=received_at,
    )
