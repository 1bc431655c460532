"""Who claimed each Message-ID on a thread, and quick ways to naming messages and to links.

- ``message_ref.claims`` is empty for old rows: an id that a thread only heard of before this
  migration ties no later mail (behaviour.md 5, vouched).
- ``message.opens`` was set on every mail of a person that no token tied. Now it is set on messages
  that may name the conversation: of old threads, that is the first one that could.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEEP_FIRST = """
UPDATE message SET opens = FALSE WHERE opens AND id NOT IN (
    SELECT min(id) FROM message WHERE opens GROUP BY thread_id
)
"""


def upgrade() -> None:
    """One new column, two indexes, and the first naming message of each old thread kept."""
    op.add_column("message_ref", sa.Column("claims", sa.Text(), nullable=True))
    op.execute(KEEP_FIRST)
    op.create_index(
        "ix_message_opens",
        "message",
        ["thread_id"],
        sqlite_where=sa.text("opens = 1"),
        postgresql_where=sa.text("opens"),
    )
    op.create_index("ix_ticket_link_other", "ticket_link", ["other"])
