"""A person leaves what went out, or waits to: mails to him and about him, drafts, notices, webhook
calls, and what workflows noted.

Mail of conversations that are his alone goes wholly. Of other mail that names him the bytes go;
whom else it went to stays known. Nothing here can fail beyond what the database itself does.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.erasure.plan import Plan, keys
from gateway.store.erasure.rows import update_by_id, update_row
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import write_rows

OUTGOING, DELIVERY, FILE, COPY, NOTICE = (
    tables.outgoing,
    tables.delivery,
    tables.outgoing_file,
    tables.sent_copy,
    tables.notice,
)
ACTION_RUN, ENROLMENT, CALL, TASK, MESSAGE = (
    tables.action_run,
    tables.enrolment,
    tables.webhook_call,
    tables.task,
    tables.message,
)
BATCH_MAILS = 50  # mails with their bytes in memory at a time
TEXTS: dict[sa.Table, tuple[str, ...]] = {
    OUTGOING: ("subject", "message_id"),
    DELIVERY: ("last_reply",),
    NOTICE: ("detail",),
    ACTION_RUN: ("detail",),
    ENROLMENT: ("cause", "silent", "end_reason"),
    TASK: ("text",),
}


UPDATES = {table: update_by_id(table, columns) for table, columns in TEXTS.items()}


async def remove_outgoing(connection: AsyncConnection, made: Plan) -> int:
    """Does it, in the transaction of the plan, before its messages go; returns how many mails that
    were.
    """
    alone = await keys(
        connection,
        sa.select(OUTGOING.c.id).where(among(OUTGOING.c.ticket, "n")),
        n=sorted(made.tickets),
    )
    alone |= await keys(
        connection,
        sa.select(OUTGOING.c.id).where(among(OUTGOING.c.message, "m")),
        m=sorted(made.messages),
    )
    naming = await _naming(connection, made) - alone
    his = await keys(
        connection,
        sa.select(OUTGOING.c.id)
        .join(DELIVERY, DELIVERY.c.outgoing_id == OUTGOING.c.id)
        .where(DELIVERY.c.recipient == made.like.address),
    )
    await _drop(connection, alone)
    await connection.execute(sa.delete(DELIVERY).where(DELIVERY.c.recipient == made.like.address))
    left = await keys(
        connection,
        sa.select(DELIVERY.c.outgoing_id).where(among(DELIVERY.c.outgoing_id, "ids")),
        ids=sorted(his),
    )
    await _drop(connection, his - left - alone)
    empty = {"raw": None, "draft": None}
    bare = sorted((naming | his) - alone)
    await connection.execute(
        sa.update(OUTGOING).where(among(OUTGOING.c.id, "ids")).values(empty), {"ids": bare}
    )
    await connection.execute(sa.delete(FILE).where(among(FILE.c.outgoing_id, "ids")), {"ids": bare})
    stuck = sa.update(DELIVERY).where(
        among(DELIVERY.c.outgoing_id, "ids"),
        DELIVERY.c.state.in_(("queued", "deferred", "scheduled")),
    )
    await connection.execute(
        stuck.values(
            state="cancelled", due_at=None, last_reply="somebody whom it named was erased"
        ),
        {"ids": bare},
    )
    await connection.execute(
        sa.delete(NOTICE).where(among(NOTICE.c.ticket, "n")), {"n": sorted(made.tickets)}
    )
    await connection.execute(
        sa.delete(CALL).where(among(CALL.c.ticket, "n")), {"n": sorted(made.tickets)}
    )
    await _calls(connection, made)
    for table in TEXTS:
        await _hide(connection, table, made)
    return len(alone | naming | his)


async def _naming(connection: AsyncConnection, made: Plan) -> set[int]:
    """Mails and drafts that name him in their bytes or their words."""
    found: set[int] = set()
    ids = sorted(await keys(connection, sa.select(OUTGOING.c.id)))
    query = (
        sa.select(OUTGOING.c.id, OUTGOING.c.raw, OUTGOING.c.draft, MESSAGE.c.head, MESSAGE.c.text)
        .outerjoin(MESSAGE, MESSAGE.c.id == OUTGOING.c.message)
        .where(among(OUTGOING.c.id, "ids"))
    )
    for at in range(0, len(ids), BATCH_MAILS):
        for row in await connection.execute(query, {"ids": ids[at : at + BATCH_MAILS]}):
            words = (row.draft, row.head, row.text)
            if (row.raw is not None and made.like.is_in_raw(row.raw)) or any(
                made.like.hidden(each) != each for each in words
            ):
                found.add(row.id)
    return found


async def _drop(connection: AsyncConnection, ids: set[int]) -> None:
    given = {"ids": sorted(ids)}
    for column in (
        NOTICE.c.outgoing_id,
        FILE.c.outgoing_id,
        COPY.c.outgoing_id,
        DELIVERY.c.outgoing_id,
        OUTGOING.c.id,
    ):
        await connection.execute(sa.delete(column.table).where(among(column, "ids")), given)


async def _calls(connection: AsyncConnection, made: Plan) -> None:
    """Calls about tickets of others that name him are not made any more."""
    query = sa.select(CALL.c.id, CALL.c.body)
    gone = {row.id for row in await connection.execute(query) if made.like.is_in(row.body)}
    await connection.execute(sa.delete(CALL).where(among(CALL.c.id, "ids")), {"ids": sorted(gone)})


async def _hide(connection: AsyncConnection, table: sa.Table, made: Plan) -> None:
    query = sa.select(table.c.id, *(table.c[name] for name in TEXTS[table]))
    fresh: list[dict[str, Any]] = []
    for row in await connection.execute(query):
        was = {name: getattr(row, name) for name in TEXTS[table]}
        now = {
            name: made.like.hidden_in(name, value) if value is not None else None
            for name, value in was.items()
        }
        if now != was:
            fresh.append(update_row(row.id, now))
    await write_rows(connection, [(UPDATES[table], fresh)])
