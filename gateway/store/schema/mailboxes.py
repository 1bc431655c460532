"""The tables of IMAP mailboxes, and of the OAuth tokens of their accounts."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.schema.metadata import metadata, partial
from gateway.store.schema.types import Instant, Text

# A mailbox read by IMAP: how far, by whom, and its state. When ``place`` (account, server, folder)
# changes, recorded UIDs no longer hold.
mailbox = sa.Table(
    "mailbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Text(200), nullable=False, unique=True),
    sa.Column("place", Text(1000), nullable=False),
    sa.Column("uidvalidity", sa.BigInteger, nullable=False, default=0),  # 0: never opened
    # everything up to this UID is in mailbox_mail or gone
    sa.Column("last_uid", sa.BigInteger, nullable=False, default=0),
    # the newest UID when the mailbox was first opened
    sa.Column("backlog_end", sa.BigInteger, nullable=False, default=0),
    sa.Column("backlog_since", sa.Date, nullable=True),
    # all | fresh | none
    sa.Column("backlog_automation", sa.String(8), nullable=False, default="fresh"),
    sa.Column("first_seen_at", Instant, nullable=True),
    sa.Column("state", sa.String(10), nullable=False, default="new"),
    sa.Column("problem", Text(1000), nullable=True),
    sa.Column("failing_since", Instant, nullable=True),
    # when everything in the mailbox was last taken in
    sa.Column("last_pass_at", Instant, nullable=True),
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
    sa.CheckConstraint("state IN ('new', 'ok', 'failing', 'refused')", name="state"),
)

# A known mail of a mailbox: its spool id (null: it could not be fetched), whether nothing is left
# to do on the server, and a digest to recognise it by.
mailbox_mail = sa.Table(
    "mailbox_mail",
    metadata,
    sa.Column("mailbox_id", sa.ForeignKey("mailbox.id"), primary_key=True),
    sa.Column("uidvalidity", sa.BigInteger, primary_key=True),  # the mailbox's own
    sa.Column("uid", sa.BigInteger, primary_key=True),
    sa.Column("mail_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("digest", sa.LargeBinary(16), nullable=True),
    sa.Column("settled", sa.Boolean, nullable=False),
    sa.Column("problem", Text(1000), nullable=True),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("retry_at", Instant, nullable=True),
    partial("ix_mailbox_mail_open", "mailbox_id", "uid", where="NOT settled"),
    sqlite_with_rowid=False,
)

# Mails that were taken under UIDs that no longer hold, because the server gave new ones or the
# mailbox moved: recognised by their digest only, and then moved back into mailbox_mail.
superseded_mail = sa.Table(
    "superseded_mail",
    metadata,
    sa.Column("mailbox_id", sa.ForeignKey("mailbox.id"), primary_key=True),
    sa.Column("digest", sa.LargeBinary(16), primary_key=True),
    # how many times the UIDs had changed by then: 1 for the first UIDs of the mailbox
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("uid", sa.BigInteger, primary_key=True),  # in that generation
    sa.Column("mail_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
    sqlite_with_rowid=False,
)

# The tokens a provider granted for an account ("" where the client acts for itself). The lease is
# for renewing them.
oauth_token = sa.Table(
    "oauth_token",
    metadata,
    sa.Column("client", Text(200), primary_key=True),
    sa.Column("account", Text(320), primary_key=True),
    sa.Column("access_token", Text(), nullable=True),
    sa.Column("access_until", Instant, nullable=True),
    sa.Column("refresh_token", Text(), nullable=True),
    sa.Column("refresh_until", Instant, nullable=True),  # null where the provider does not say
    sa.Column("problem", Text(1000), nullable=True),
    sa.Column("refused_at", Instant, nullable=True),
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
)
