"""Copies of sent mail that we put into the *Sent* folders of mailboxes.

A process that takes a copy sets its ``due_at`` to a later time. Until then no other process takes
the copy, so no transaction has to stay open while the server is called. When the process dies, the
copy is taken again at ``due_at``. The copy may be in the mailbox by then, so look for it before
appending it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.store.engine import Database
from gateway.store.schema import tables

COPY_WITHIN = timedelta(days=7)  # mail sent earlier gets no copy
LONGEST_DELIVERY = timedelta(days=7)  # from writing to sending, with room to spare
COPY, OUTGOING, DELIVERY, MESSAGE = (
    tables.sent_copy,
    tables.outgoing,
    tables.delivery,
    tables.message,
)
_WAS_SENT = sa.exists().where(
    DELIVERY.c.outgoing_id == OUTGOING.c.id,
    DELIVERY.c.state == "sent",
    DELIVERY.c.ended_at >= sa.bindparam("since", type_=DELIVERY.c.ended_at.type),
)
_IS_PLANNED = sa.exists().where(
    COPY.c.outgoing_id == OUTGOING.c.id, COPY.c.mailbox == sa.bindparam("mailbox")
)
# Mails of a channel without a copy in the mailbox. Message ids ascend with the time of writing,
# also those of scheduled mails.
MAILS_WITHOUT_COPY = (
    sa.select(OUTGOING.c.id)
    .where(
        OUTGOING.c.message > sa.bindparam("after"),
        ~OUTGOING.c.automatic,
        OUTGOING.c.raw.is_not(None),
        OUTGOING.c.return_address == sa.bindparam("channel"),
        _WAS_SENT,
        ~_IS_PLANNED,
    )
    .order_by(OUTGOING.c.id)
)
HIGHEST_MESSAGE = sa.select(sa.func.max(OUTGOING.c.message))
FIRST_UNDERWAY = (
    sa.select(sa.func.min(OUTGOING.c.message))
    .join(DELIVERY, DELIVERY.c.outgoing_id == OUTGOING.c.id)
    .where(
        sa.text("delivery.state IN ('queued', 'deferred')")
    )  # worded as in the index, or it is not used
)
# The newest sent message written before a time.
LAST_MESSAGE_BEFORE = (
    sa.select(MESSAGE.c.id)
    .join(OUTGOING, OUTGOING.c.message == MESSAGE.c.id)
    .where(MESSAGE.c.created_at < sa.bindparam("then", type_=MESSAGE.c.created_at.type))
    .order_by(OUTGOING.c.message.desc())
    .limit(1)
)
_IS_DUE = sa.and_(
    COPY.c.mailbox == sa.bindparam("_mailbox"),
    COPY.c.done_at.is_(None),
    COPY.c.due_at <= sa.bindparam("_now", type_=COPY.c.due_at.type),
)
# The due copy of a mailbox that was tried least, locked.
NEXT_COPY = (
    sa.select(COPY.c.outgoing_id, COPY.c.attempts)
    .join(OUTGOING, OUTGOING.c.id == COPY.c.outgoing_id)
    .where(_IS_DUE, OUTGOING.c.raw.is_not(None))
    .order_by(COPY.c.attempts, COPY.c.outgoing_id)
    .limit(1)
    .with_for_update(skip_locked=True, of=COPY)
)
# A mail with its bytes and when it was first sent.
MAIL_TO_COPY = (
    sa.select(
        OUTGOING.c.message_id,
        OUTGOING.c.raw,
        OUTGOING.c.created_at,
        sa.func.min(DELIVERY.c.ended_at, type_=DELIVERY.c.ended_at.type),
    )
    .join(
        DELIVERY,
        sa.and_(DELIVERY.c.outgoing_id == OUTGOING.c.id, DELIVERY.c.state == "sent"),
        isouter=True,
    )
    .where(OUTGOING.c.id == sa.bindparam("outgoing"))
    .group_by(OUTGOING.c.id)
)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that a process has taken; ``attempts`` includes the attempt about to be made."""

    outgoing: int
    mailbox: str
    message_id: str | None
    raw: bytes = field(repr=False)
    sent_at: datetime
    attempts: int


class Copies:
    """The copies in ``database``."""

    __slots__ = ("database",)

    def __init__(self, database: Database) -> None:
        self.database = database

    async def plan(self, wanted: Mapping[str, str], now: datetime, after: int | None = None) -> int:
        """Plan copies of mails that users wrote and that were sent within the last seven days.

        ``wanted`` maps each mailbox to its channel's address. Returns a message id: pass it as
        ``after`` next time, to look at newer mail only. A mail that has a copy already is skipped.
        """
        async with self.database.read() as connection:
            if after is None:
                after = (
                    await connection.execute(
                        LAST_MESSAGE_BEFORE, {"then": now - COPY_WITHIN - LONGEST_DELIVERY}
                    )
                ).scalar() or 0
            # read first: what is written meanwhile is left for the next time
            highest: int = (await connection.execute(HIGHEST_MESSAGE)).scalar() or 0
            underway: int | None = (await connection.execute(FIRST_UNDERWAY)).scalar()
            rows = []
            for mailbox, channel in wanted.items():
                values = {
                    "after": after,
                    "channel": channel,
                    "since": now - COPY_WITHIN,
                    "mailbox": mailbox,
                }
                found = (await connection.execute(MAILS_WITHOUT_COPY, values)).scalars()
                rows += [
                    {"outgoing_id": each, "mailbox": mailbox, "attempts": 0, "due_at": now}
                    for each in found
                ]
        if rows:
            async with self.database.write() as connection:
                insert = (
                    postgresql.insert if self.database.dialect == "postgresql" else sqlite.insert
                )
                await connection.execute(insert(COPY).on_conflict_do_nothing(), rows)
        return min(underway - 1, highest) if underway is not None else highest

    async def take(self, mailbox: str, now: datetime, until: datetime) -> Copy | None:
        """Take a due copy; None if none is due. Until ``until``, no other process takes it.

        The copy with the fewest attempts comes first.
        """
        async with self.database.write(durable=False) as connection:
            row = (await connection.execute(NEXT_COPY, {"_mailbox": mailbox, "_now": now})).first()
            if row is None:
                return None
            await connection.execute(
                _one(row.outgoing_id, mailbox).values(due_at=until, attempts=row.attempts + 1)
            )
        async with self.database.read() as connection:
            mail = (await connection.execute(MAIL_TO_COPY, {"outgoing": row.outgoing_id})).one()
        message_id, raw, created_at, sent_at = mail
        return Copy(
            outgoing=row.outgoing_id,
            mailbox=mailbox,
            message_id=message_id,
            raw=bytes(raw),
            sent_at=sent_at or created_at,
            attempts=row.attempts + 1,
        )

    async def done(self, copy: Copy, now: datetime) -> None:
        """Record that the copy is in the mailbox."""
        async with self.database.write() as connection:
            await connection.execute(
                _one(copy.outgoing, copy.mailbox).values(done_at=now, due_at=None, problem=None)
            )

    async def hindered(self, copy: Copy, problem: str, due_at: datetime) -> None:
        """Record why a copy could not be made; it is tried again at ``due_at``."""
        async with self.database.write() as connection:
            await connection.execute(
                _one(copy.outgoing, copy.mailbox).values(problem=problem, due_at=due_at)
            )

    async def all_hindered(
        self, mailbox: str, problem: str, now: datetime, due_at: datetime
    ) -> None:
        """Put off all due copies of a mailbox to ``due_at``, and record ``problem`` for each."""
        async with self.database.write() as connection:
            query = sa.update(COPY).where(_IS_DUE).values(problem=problem, due_at=due_at)
            await connection.execute(query, {"_mailbox": mailbox, "_now": now})


def _one(outgoing: int, mailbox: str) -> sa.Update:
    return sa.update(COPY).where(
        COPY.c.outgoing_id == outgoing, COPY.c.mailbox == mailbox, COPY.c.done_at.is_(None)
    )
