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
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import write_rows

OUT, D, FILE, COPY, NOTICE = (
    tables.outgoing,
    tables.delivery,
    tables.outgoing_file,
    tables.sent_copy,
    tables.notice,
)
RUN, ENROLMENT, CALL, TASK, M = (
    tables.action_run,
    tables.enrolment,
    tables.webhook_call,
    tables.task,
    tables.message,
)
SOME = 50  # mails with their bytes in memory at a time
TEXTS: dict[sa.Table, tuple[str, ...]] = {
    OUT: ("subject", "message_id"),
    D: ("last_reply",),
    NOTICE: ("detail",),
    RUN: ("detail",),
    ENROLMENT: ("cause", "silent", "end_reason"),
    TASK: ("text",),
}


def _update(table: sa.Table) -> sa.Update:
    values = {name: sa.bindparam(f"_{name}", type_=table.c[name].type) for name in TEXTS[table]}
    return sa.update(table).where(table.c.id == sa.bindparam("_id")).values(values)


UPDATES = {table: _update(table) for table in TEXTS}


async def remove_outward(connection: AsyncConnection, made: Plan) -> int:
    """Does it, in the transaction of the plan, before its messages go; returns how many mails that
    were.
    """
    alone = await keys(
        connection, sa.select(OUT.c.id).where(among(OUT.c.ticket, "n")), n=sorted(made.tickets)
    )
    alone |= await keys(
        connection, sa.select(OUT.c.id).where(among(OUT.c.message, "m")), m=sorted(made.messages)
    )
    naming = await _naming(connection, made) - alone
    his = await keys(
        connection,
        sa.select(OUT.c.id)
        .join(D, D.c.outgoing_id == OUT.c.id)
        .where(D.c.recipient == made.like.address),
    )
    await _drop(connection, alone)
    await connection.execute(sa.delete(D).where(D.c.recipient == made.like.address))
    left = await keys(
        connection, sa.select(D.c.outgoing_id).where(among(D.c.outgoing_id, "ids")), ids=sorted(his)
    )
    await _drop(connection, his - left - alone)
    empty = {"raw": None, "draft": None}
    bare = sorted((naming | his) - alone)
    await connection.execute(
        sa.update(OUT).where(among(OUT.c.id, "ids")).values(empty), {"ids": bare}
    )
    await connection.execute(sa.delete(FILE).where(among(FILE.c.outgoing_id, "ids")), {"ids": bare})
    stuck = sa.update(D).where(
        among(D.c.outgoing_id, "ids"), D.c.state.in_(("queued", "deferred", "scheduled"))
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
    ids = sorted(await keys(connection, sa.select(OUT.c.id)))
    query = (
        sa.select(OUT.c.id, OUT.c.raw, OUT.c.draft, M.c.head, M.c.text)
        .outerjoin(M, M.c.id == OUT.c.message)
        .where(among(OUT.c.id, "ids"))
    )
    for at in range(0, len(ids), SOME):
        for row in await connection.execute(query, {"ids": ids[at : at + SOME]}):
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
        D.c.outgoing_id,
        OUT.c.id,
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
            fresh.append({"_id": row.id, **{f"_{name}": value for name, value in now.items()}})
    await write_rows(connection, [(UPDATES[table], fresh)])
