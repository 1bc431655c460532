"""The tables of mailboxes that are read, and of the tokens of their accounts."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.schema.metadata import metadata, partial
from gateway.store.schema.types import Instant, Text

# A mailbox that is read by IMAP: how far, by whom, and how it is. Where ``place`` (account, server,
# folder) changes, UIDs mean nothing.
mailbox = sa.Table(
    "mailbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Text(200), nullable=False, unique=True),
    sa.Column("place", Text(1000), nullable=False),
    sa.Column("uidvalidity", sa.BigInteger, nullable=False, default=0),  # 0: never opened
    sa.Column(
        "last_uid", sa.BigInteger, nullable=False, default=0
    ),  # everything up to here stands in mailbox_mail or is gone
    sa.Column(
        "backlog_end", sa.BigInteger, nullable=False, default=0
    ),  # up to here it lay there when the mailbox was first opened
    sa.Column("backlog_since", sa.Date, nullable=True),
    sa.Column(
        "backlog_automation", sa.String(8), nullable=False, default="fresh"
    ),  # all | fresh | none
    sa.Column("first_seen_at", Instant, nullable=True),
    sa.Column("state", sa.String(10), nullable=False, default="new"),
    sa.Column("problem", Text(1000), nullable=True),
    sa.Column("failing_since", Instant, nullable=True),
    sa.Column(
        "last_pass_at", Instant, nullable=True
    ),  # when everything that was there had been taken in
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
    sa.CheckConstraint("state IN ('new', 'ok', 'failing', 'refused')", name="state"),
)

# Each mail of a mailbox that we know: its number in the spool (none: it is owed), whether what
# follows its commit is done, and a digest to know it by.
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

# What a provider of mailboxes gave us for an account ("" where the client acts for itself). The
# lease is for renewing.
oauth_token = sa.Table(
    "oauth_token",
    metadata,
    sa.Column("client", Text(200), primary_key=True),
    sa.Column("account", Text(320), primary_key=True),
    sa.Column("access_token", Text(), nullable=True),
    sa.Column("access_until", Instant, nullable=True),
    sa.Column("refresh_token", Text(), nullable=True),
    sa.Column("refresh_until", Instant, nullable=True),  # where the provider tells
    sa.Column("problem", Text(1000), nullable=True),
    sa.Column("refused_at", Instant, nullable=True),
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
)
