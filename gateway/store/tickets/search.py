"""Full-text search of messages: FTS5 without stored text on SQLite, tsvector on PostgreSQL.

The index is made from the messages and can be rebuilt. SQLite's index keeps no text, so to remove a
message, give the text as it was indexed (:func:`forget`). A search ignores everything that is not a
word, so that no input makes it fail.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.schema import tables
from gateway.store.schema.types import clean
from gateway.store.sql import sqlite

Rows = Sequence[tuple[int, str, str]]  # message id, subject, body

# of a longer text only the beginning is indexed: PostgreSQL refuses a tsvector of a megabyte
BODY_CHARS = 32_000
SUBJECT_CHARS = 2_000
MAX_WORDS = 20
BATCH_MESSAGES = 500
_WORD = re.compile(r"[^\W_]+")
_TICKETS_OF_FOUND = (
    f"SELECT DISTINCT COALESCE(t.ticket, m.ticket_note) AS ticket FROM found"
    f" JOIN {tables.message.name} m ON m.id = found.id LEFT JOIN {tables.thread.name} t ON "
    "t.id = m.thread_id"
    " WHERE COALESCE(t.ticket, m.ticket_note) IS NOT NULL ORDER BY 1 DESC"
)
SQLITE_SEARCH = (
    "WITH found(id) AS (SELECT rowid FROM message_search WHERE message_search MATCH ?) "
    f"{_TICKETS_OF_FOUND} LIMIT ?"
)
POSTGRESQL_SEARCH = (
    "WITH found(id) AS (SELECT message FROM message_search WHERE words @@ "
    f"to_tsquery('simple', $1)) {_TICKETS_OF_FOUND} LIMIT $2"
)
POSTGRESQL_INDEX = (
    "INSERT INTO message_search (message, words) VALUES ($1, to_tsvector('simple', $2))"
    " ON CONFLICT (message) DO UPDATE SET words = excluded.words"
)


async def index(connection: AsyncConnection, rows: Rows) -> None:
    """Index messages, in the caller's transaction; on SQLite, none of them may be in the index."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        work = [
            (
                "INSERT INTO message_search (rowid, subject, body) VALUES (?, ?, ?)",
                [_cut(row) for row in rows],
            )
        ]
        await sqlite.in_thread(connection, sqlite.run_all(work))
        return
    texts = [(number, f"{subject}\n{body}") for number, subject, body in map(_cut, rows)]
    await connection.exec_driver_sql(POSTGRESQL_INDEX, texts)


async def forget(connection: AsyncConnection, rows: Rows) -> None:
    """Remove messages from the index; ``rows`` must be exactly what was indexed."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        sql = (
            "INSERT INTO message_search (message_search, rowid, subject, body) VALUES "
            "('delete', ?, ?, ?)"
        )
        await sqlite.in_thread(connection, sqlite.run_all([(sql, [_cut(row) for row in rows])]))
        return
    await connection.exec_driver_sql(
        "DELETE FROM message_search WHERE message = $1", [(row[0],) for row in rows]
    )


def _cut(row: tuple[int, str, str]) -> tuple[int, str, str]:
    return row[0], clean(row[1], SUBJECT_CHARS), clean(row[2][:BODY_CHARS], BODY_CHARS)


async def search(connection: AsyncConnection, words: str, limit: int) -> list[int]:
    """Return the numbers of tickets with a message that contains all words, newest ticket first.

    The last word may be only the beginning of a word in the message.
    """
    found = _WORD.findall(clean(words))[:MAX_WORDS]
    if not found:
        return []
    if connection.dialect.name == "sqlite":
        query = " AND ".join(f'"{word}"' for word in found) + "*"
        try:
            rows = await connection.exec_driver_sql(SQLITE_SEARCH, (query, limit))
        except sa.exc.OperationalError as error:
            if "phrase queries" not in str(error.orig):
                raise
            # a letter for Python that separates words for SQLite: never indexed as one word
            return []
    else:
        query = " & ".join(f"'{word}'" for word in found) + ":*"
        rows = await connection.exec_driver_sql(POSTGRESQL_SEARCH, (query, limit))
    return list(rows.scalars())


def body_of(reply_text: str, text: str) -> str:
    """Return the text of a message to index: ``reply_text``, or ``text`` where that is empty."""
    return reply_text or text


async def rebuild(connection: AsyncConnection) -> None:
    """Rebuild the index of all messages, in the caller's transaction."""
    table = tables.message.c
    await connection.exec_driver_sql(
        "INSERT INTO message_search (message_search) VALUES ('delete-all')"
        if connection.dialect.name == "sqlite"
        else "DELETE FROM message_search"
    )
    last = 0
    while True:
        query = (
            sa.select(table.id, table.subject, table.reply_text, table.text)
            .where(table.id > last)
            .order_by(table.id)
            .limit(BATCH_MESSAGES)
        )
        rows = (await connection.execute(query)).all()
        if not rows:
            return
        await index(
            connection, [(row.id, row.subject, body_of(row.reply_text, row.text)) for row in rows]
        )
        last = rows[-1].id
