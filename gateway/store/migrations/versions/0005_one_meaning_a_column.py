"""Columns that had two meanings get a column, or a table, for each.

- ``delivery.ended_at`` of a delivery that waits was the time of its last ``outbox retry``:
  ``queued_at``.
- ``mail.sha256 = ''`` meant that the raw mail was erased, and with ``size = 0`` that the row was to
  be deleted; now in ``erased``.
- A negative ``mailbox_mail.uidvalidity`` meant that the UID no longer holds: ``superseded_mail``.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SPLIT_DELIVERY = """
UPDATE delivery SET queued_at = ended_at, ended_at = NULL
WHERE state IN ('queued', 'deferred') AND ended_at IS NOT NULL
"""

SPLIT_MAIL = """
UPDATE mail SET erased = CASE WHEN size = 0 AND blob IS NOT NULL THEN 'row' ELSE 'raw' END
WHERE sha256 = ''
"""

# Each time the server gave new UIDs, 2^33 was taken off the UIDVALIDITY of the rows until then;
# the quotient rounds towards zero on both databases. GROUP BY keeps the key unique.
MOVE_SUPERSEDED = """
INSERT INTO superseded_mail (mailbox_id, digest, generation, uid, mail_id)
SELECT mailbox_id, digest, 1 - uidvalidity / 8589934592, uid, min(mail_id)
FROM mailbox_mail
WHERE uidvalidity < 0 AND mail_id IS NOT NULL AND digest IS NOT NULL
GROUP BY mailbox_id, digest, 1 - uidvalidity / 8589934592, uid
"""


def upgrade() -> None:
    """Two new columns, one new table, and the old rows converted."""
    op.add_column("delivery", sa.Column("queued_at", sa.BigInteger(), nullable=True))
    op.execute(SPLIT_DELIVERY)
    op.add_column("mail", sa.Column("erased", sa.String(length=3), nullable=True))
    op.execute(SPLIT_MAIL)
    op.create_table(
        "superseded_mail",
        sa.Column("mailbox_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("mail_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["mailbox_id"], ["mailbox.id"], name=op.f("fk_superseded_mail_mailbox_id")
        ),
        sa.PrimaryKeyConstraint(
            "mailbox_id", "digest", "generation", "uid", name=op.f("pk_superseded_mail")
        ),
        sqlite_with_rowid=False,
    )
    op.execute(MOVE_SUPERSEDED)
    op.execute("DELETE FROM mailbox_mail WHERE uidvalidity < 0")
    op.drop_index("ix_mailbox_mail_digest", table_name="mailbox_mail")
