"""Tests of full-text search on both databases, for any text and any query."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.store.schema import tables
from gateway.store.sql.bulk import write_rows
from gateway.store.tickets import search
from tests.unit.gateway.store.mails import NOW

TEXTS = [
    (1, "Printer offline", "The printer on floor three says PC LOAD LETTER."),
    (2, "Re: Printer offline", "Thank you, it prints again. Straße, Café."),
    (3, "Invoice", "naïve question about invoice 4711 \0 and " + "long " * 9000 + "unreachable"),
    (4, "Note", "internal words"),
    (5, "Loose", "printer without a ticket"),
]


@pytest.fixture
async def indexed(store):
    """Index tickets 1 (messages 1, 2) and 2 (message 3, note 4), and message 5 without a ticket."""
    row = {
        "parents": [],
        "head": {},
        "flags": [],
        "evidence": [],
        "attachments": [],
        "sender_role": "contact",
        "text": "t",
        "created_at": NOW,
        "kind": "human",
    }
    thread_of = {1: 1, 2: 1, 3: 2, 4: None, 5: 3}
    base = {
        "subject": "s",
        "subject_key": "s",
        "pipeline_id": 1,
        "status_id": 1,
        "source": "email",
        "created_at": NOW,
        "flags": [],
        "tags": [],
    }
    messages = [
        {
            **row,
            "id": number,
            "subject": subject,
            "reply_text": body,
            "thread_id": thread_of[number],
            "direction": "inbound",
            "ticket_note": 2 if number == 4 else None,
        }
        for number, subject, body in TEXTS
    ]
    async with store.write() as connection:
        await write_rows(
            connection,
            [
                (tables.ticket, [{**base, "number": number} for number in (1, 2)]),
                (
                    tables.thread,
                    [
                        {"id": number, "ticket": number if number < 3 else None, "created_at": NOW}
                        for number in (1, 2, 3)
                    ],
                ),
                (tables.message, messages),
            ],
        )
        await search.index(connection, TEXTS)
        await search.index(connection, [])
    return store


async def found(store, words: str, limit: int = 10) -> list[int]:
    async with store.read() as connection:
        return await search.search(connection, words, limit)


ANSWERS = [
    ("printer", [1]),
    ("PRINTER offline", [1]),
    ("print", [1]),
    ("letter pc", [1]),
    ("4711", [2]),
    ("internal", [2]),
    ("printer invoice", []),
    ("unreachable", []),
    ("straße", [1]),
    ("", []),
    ("\"') OR * --", []),
    ("&|!<->:*", []),
]


async def test_tickets_are_found_by_the_words_of_their_messages(indexed):
    """All words must occur, the last as a prefix, in any case, in a thread with a ticket."""
    assert [(words, await found(indexed, words)) for words, _ in ANSWERS] == ANSWERS


async def test_the_newest_tickets_come_first_up_to_a_limit(indexed):
    """Tickets are ordered by number, newest first, up to the limit."""
    async with indexed.write() as connection:
        await connection.execute(
            sa.update(tables.thread).where(tables.thread.c.id == 3).values(ticket=2)
        )
    assert await found(indexed, "printer") == [2, 1]
    assert await found(indexed, "printer", 1) == [2]


async def test_a_forgotten_message_is_not_found_and_a_rebuild_finds_it_again(indexed):
    """A removed message is not found; rebuilding the index finds it again."""
    async with indexed.write() as connection:
        await search.forget(connection, [TEXTS[0]])
        await search.forget(connection, [])
    assert await found(indexed, "letter") == []
    assert await found(indexed, "printer") == [1]
    async with indexed.write() as connection:
        await search.rebuild(connection)
    assert await found(indexed, "letter") == [1]
    if indexed.dialect == "sqlite":
        async with indexed.read() as connection:
            await connection.exec_driver_sql(
                "SELECT count(*) FROM message_search WHERE message_search MATCH 'letter'"
            )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.text(st.characters(exclude_categories=()), max_size=60)
    | st.text("\"'\\&|!()<>:*-^+~ a{}[]NOT ORAND", max_size=40)
)
@example("0_0")
@example("a\u0f0bb \u30fb")
async def test_nothing_that_is_typed_breaks_the_search(indexed, words):
    """No query makes the search fail."""
    assert set(await found(indexed, words)) <= {1, 2}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.characters(exclude_categories=()), max_size=300))
async def test_nothing_that_is_in_a_mail_breaks_the_index(indexed, text):
    """Any message can be indexed and removed from the index."""
    async with indexed.write() as connection:
        await search.index(connection, [(99, text, text)])
        await search.forget(connection, [(99, text, text)])
