"""Erase a person from outgoing mail, drafts, notifications, webhook calls and workflow records.

The mail of erased tickets and messages is deleted. Other mail that names the person loses its
bytes, but its deliveries to other people stay.
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
BATCH_MAILS = 50  # mails with their bytes in memory at once
TEXTS: dict[sa.Table, tuple[str, ...]] = {
    OUTGOING: ("subject", "message_id"),
    DELIVERY: ("last_reply",),
    NOTICE: ("detail",),
    ACTION_RUN: ("detail",),
    ENROLMENT: ("cause", "silent", "end_reason"),
    TASK: ("text",),
}


UPDATES = {table: update_by_id(table, columns) for table, columns in TEXTS.items()}


async def remove_outgoing(connection: AsyncConnection, plan: Plan) -> int:
    """Carry out the plan for outgoing mail and return how many mails were affected.

    Call it in the transaction of the plan, before the messages are deleted.
    """
    alone = await keys(
        connection,
        sa.select(OUTGOING.c.id).where(among(OUTGOING.c.ticket, "n")),
        n=sorted(plan.tickets),
    )
    alone |= await keys(
        connection,
        sa.select(OUTGOING.c.id).where(among(OUTGOING.c.message, "m")),
        m=sorted(plan.messages),
    )
    naming = await _naming(connection, plan) - alone
    addressed = await keys(
        connection,
        sa.select(OUTGOING.c.id)
        .join(DELIVERY, DELIVERY.c.outgoing_id == OUTGOING.c.id)
        .where(DELIVERY.c.recipient == plan.like.address),
    )
    await _drop(connection, alone)
    await connection.execute(sa.delete(DELIVERY).where(DELIVERY.c.recipient == plan.like.address))
    left = await keys(
        connection,
        sa.select(DELIVERY.c.outgoing_id).where(among(DELIVERY.c.outgoing_id, "ids")),
        ids=sorted(addressed),
    )
    await _drop(connection, addressed - left - alone)
    await _empty(connection, (naming | addressed) - alone)
    await connection.execute(
        sa.delete(NOTICE).where(among(NOTICE.c.ticket, "n")), {"n": sorted(plan.tickets)}
    )
    await connection.execute(
        sa.delete(CALL).where(among(CALL.c.ticket, "n")), {"n": sorted(plan.tickets)}
    )
    await _calls(connection, plan)
    for table in TEXTS:
        await _hide(connection, table, plan)
    return len(alone | naming | addressed)


async def _naming(connection: AsyncConnection, plan: Plan) -> set[int]:
    """Return the ids of outgoing mails that name the person in their bytes, draft or text."""
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
            if (row.raw is not None and plan.like.is_in_raw(row.raw)) or any(
                plan.like.hidden(each) != each for each in words
            ):
                found.add(row.id)
    return found


async def _empty(connection: AsyncConnection, ids: set[int]) -> None:
    """Delete the bytes, drafts and files of mails, and cancel their waiting deliveries."""
    given = {"ids": sorted(ids)}
    mails = sa.update(OUTGOING).where(among(OUTGOING.c.id, "ids"))
    await connection.execute(mails.values(raw=None, draft=None), given)
    await connection.execute(sa.delete(FILE).where(among(FILE.c.outgoing_id, "ids")), given)
    waiting = sa.update(DELIVERY).where(
        among(DELIVERY.c.outgoing_id, "ids"),
        DELIVERY.c.state.in_(("queued", "deferred", "scheduled")),
    )
    await connection.execute(
        waiting.values(state="cancelled", due_at=None, last_reply="a person it named was erased"),
        given,
    )


async def _drop(connection: AsyncConnection, ids: set[int]) -> None:
    owners = (table.c.outgoing_id for table in (NOTICE, FILE, COPY, DELIVERY))
    for column in (*owners, OUTGOING.c.id):
        query = sa.delete(column.table).where(among(column, "ids"))
        await connection.execute(query, {"ids": sorted(ids)})


async def _calls(connection: AsyncConnection, plan: Plan) -> None:
    """Delete webhook calls that name the person but are about other people's tickets."""
    query = sa.select(CALL.c.id, CALL.c.body)
    gone = {row.id for row in await connection.execute(query) if plan.like.is_in(row.body)}
    await connection.execute(sa.delete(CALL).where(among(CALL.c.id, "ids")), {"ids": sorted(gone)})


async def _hide(connection: AsyncConnection, table: sa.Table, plan: Plan) -> None:
    query = sa.select(table.c.id, *(table.c[name] for name in TEXTS[table]))
    fresh: list[dict[str, Any]] = []
    for row in await connection.execute(query):
        was = {name: getattr(row, name) for name in TEXTS[table]}
        now = {
            name: plan.like.hidden_in(name, value) if value is not None else None
            for name, value in was.items()
        }
        if now != was:
            fresh.append(update_row(row.id, now))
    await write_rows(connection, [(UPDATES[table], fresh)])
