"""Shared by the tests of sent copies: accounts, mail that users wrote, and stored rows."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.ingress.imap.connection import Timeouts
from gateway.ingress.imap.sent_copies import SentCopies
from gateway.oauth.tokens import Tokens
from gateway.store.schema import tables
from tests.conftest import START
from tests.servers.dovecot import letter
from tests.unit.gateway.ingress.reading import account_of

SHORT = Timeouts(connect=5, silence=2, command=20, goodbye=0.3)
CHANNEL = "support@localhost"
FOLDER = "Gesendet & mehr"
COPY = tables.sent_copy


def on(server, port=0, **more):
    """Return the account of the test's user, which keeps sent mail."""
    return account_of(port or server.port, username=server.user, sent_folder=FOLDER, **more)


def keeper(database, clock, *accounts):
    """Return the service of sent copies, with short timeouts."""
    return SentCopies(accounts, database, Tokens(database, clock), clock, SHORT)


def own(number, size=0):
    """Return a mail of ours."""
    return letter(f"tg.{number}.1.abc", size)


async def wrote(database, number, raw=None, *, state="sent", at=START, message=None, **more):
    """Store a mail that a user wrote, with one recipient."""
    plain = {
        "automatic": False,
        "subject": "",
        "return_address": CHANNEL,
        "message_id": f"tg.{number}.1.abc@client.example",
    }
    async with database.write() as connection:
        empty = {name: [] for name in ("parents", "attachments", "flags", "evidence")}
        text = {
            "head": {},
            "subject": "",
            "text": "",
            "reply_text": "",
            "direction": "outbound",
            "kind": "reply",
            "sender_role": "user",
        }
        await connection.execute(
            sa.insert(tables.message).values(id=message or number, created_at=at, **empty, **text)
        )
        values = (
            plain
            | {
                "id": number,
                "message": message or number,
                "raw": raw or own(number),
                "created_at": at,
            }
            | more
        )
        await connection.execute(sa.insert(tables.outgoing).values(values))
        to = {
            "recipient": "ann@example.org",
            "domain": "example.org",
            "state": state,
            "created_at": at,
        }
        ended = at if state == "sent" else None
        await connection.execute(
            sa.insert(tables.delivery).values(id=number, outgoing_id=number, ended_at=ended, **to)
        )


async def went(database, number, state, at):
    """Set the state of a delivery."""
    async with database.write() as connection:
        change = sa.update(tables.delivery).where(tables.delivery.c.id == number)
        await connection.execute(
            change.values(state=state, ended_at=at if state == "sent" else None)
        )


async def rows(database):
    """Return all copies, in order."""
    async with database.read() as connection:
        return (
            await connection.execute(sa.select(COPY).order_by(COPY.c.outgoing_id, COPY.c.mailbox))
        ).all()
