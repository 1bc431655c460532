"""Each thread knows the ticket that it was first attached to.

Merging moves the threads of a ticket to another one. Mail for the old number then has to find the
thread of that number again (behaviour.md E36). A notice knows the thread of the mail that it is
about, where an answer to it goes (E19).
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FILL = "UPDATE thread SET first_ticket = ticket WHERE ticket IS NOT NULL"
MERGES = "SELECT kind, ticket, moved FROM merge WHERE ticket IS NOT NULL ORDER BY id"


def upgrade() -> None:
    """Add the columns; fill the first from the threads' tickets and the record of merges."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("notice", sa.Column("thread_id", number, nullable=True))
    op.add_column("thread", sa.Column("first_ticket", number, nullable=True))
    op.create_index("ix_thread_first_ticket", "thread", ["first_ticket"])
    op.execute(FILL)
    connection = op.get_bind()
    rows = connection.execute(sa.text(MERGES)).all()
    if moved := first_tickets([(row.kind, row.ticket, json.loads(row.moved)) for row in rows]):
        connection.execute(
            sa.text("UPDATE thread SET first_ticket = :first_ticket WHERE id = :thread"),
            [{"thread": each, "first_ticket": number} for each, number in moved.items()],
        )


def first_tickets(merges: list[tuple[str, int, dict[str, Any]]]) -> dict[int, int]:
    """Return the first ticket of each thread that merges and joins, oldest first, took along."""
    found: dict[int, int] = {}
    for kind, ticket, moved in merges:
        for thread in moved["threads"] if kind == "merge" else [moved["thread"]]:
            found.setdefault(thread, ticket)
    return found
