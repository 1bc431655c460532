"""The tables of outgoing mail, copies for *Sent* folders, webhook calls and notifications.

A scheduled mail has a ``draft`` and no bytes yet; every other mail has its final bytes.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.schema.metadata import big, metadata, partial
from gateway.store.schema.types import Document, Instant, Text

# An outgoing mail. ``key`` names its cause, so that the same cause never makes two.
outgoing = sa.Table(
    "outgoing",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    big("ticket", sa.ForeignKey("ticket.number"), nullable=True, index=True),
    big("thread_id", sa.ForeignKey("thread.id"), nullable=True),
    big("message", sa.ForeignKey("message.id"), nullable=True, index=True),
    sa.Column("message_id", Text(1000), nullable=True),
    sa.Column("automatic", sa.Boolean, nullable=False),
    sa.Column("template", Text(200), nullable=True),
    sa.Column("subject", Text(2000), nullable=False),
    sa.Column("author_id", sa.Integer, nullable=True),  # user
    # the channel whose signed address receives bounces; null: the null path
    sa.Column("return_address", Text(320), nullable=True),
    sa.Column("raw", sa.LargeBinary, nullable=True),
    sa.Column("draft", Document, nullable=True),
    sa.Column("key", Text(200), nullable=True, unique=True),
    sa.Column("created_at", Instant, nullable=False),
    partial("ix_outgoing_automatic", "created_at", where="automatic"),
)

# A file of a draft.
outgoing_file = sa.Table(
    "outgoing_file",
    metadata,
    big("outgoing_id", sa.ForeignKey("outgoing.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("filename", Text(500), nullable=False),
    sa.Column("content_type", Text(200), nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

# One recipient of an outgoing mail.
delivery = sa.Table(
    "delivery",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    big("outgoing_id", sa.ForeignKey("outgoing.id"), nullable=False, index=True),
    sa.Column("recipient", Text(320), nullable=False),
    # the organisation's: example.org also for mail.example.org
    sa.Column("domain", Text(255), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", Instant, nullable=True),
    sa.Column("last_reply", Text(1000), nullable=True),
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    # when it was sent, failed for good or was cancelled; null while it waits
    sa.Column("ended_at", Instant, nullable=True),
    # when `outbox retry` queued it again: its five days count from then, else from created_at
    sa.Column("queued_at", Instant, nullable=True),
    # false: it failed and its ticket was not notified yet
    sa.Column("settled", sa.Boolean, nullable=False, default=True),
    sa.Index("ix_delivery_recipient", "recipient", "created_at"),
    sa.Index("ix_delivery_domain", "domain", "created_at"),
    partial("ix_delivery_due", "due_at", where="state IN ('queued', 'deferred')"),
    partial("ix_delivery_scheduled", "due_at", where="state = 'scheduled'"),
    partial("ix_delivery_unsettled", "id", where="NOT settled"),
    sa.CheckConstraint(
        "state IN ('scheduled', 'queued', 'sent', 'deferred', 'failed', 'cancelled')", name="state"
    ),
)

# A copy of a sent mail, for a mailbox that keeps one.
sent_copy = sa.Table(
    "sent_copy",
    metadata,
    big("outgoing_id", sa.ForeignKey("outgoing.id"), primary_key=True),
    sa.Column("mailbox", Text(200), primary_key=True),  # the name of an [[imap]] table
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", Instant, nullable=True),
    sa.Column("problem", Text(1000), nullable=True),
    sa.Column("done_at", Instant, nullable=True),
    partial("ix_sent_copy_due", "due_at", where="done_at IS NULL"),
)

# A webhook call. ``body`` is JSON; ``last_reply`` is the last answer.
webhook_call = sa.Table(
    "webhook_call",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    big("ticket", sa.ForeignKey("ticket.number"), nullable=True, index=True),
    sa.Column("url", Text(2000), nullable=False),
    sa.Column("body", Text(), nullable=False),
    sa.Column("key", Text(200), nullable=True, unique=True),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", Instant, nullable=True),
    sa.Column("last_reply", Text(1000), nullable=True),
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    partial("ix_webhook_call_due", "due_at", where="state IN ('queued', 'deferred')"),
    sa.CheckConstraint("state IN ('queued', 'sent', 'deferred', 'failed')", name="state"),
)

# A notice to a user; those due for one user are sent as one mail.
notice = sa.Table(
    "notice",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    sa.Column("user_id", sa.ForeignKey("user_account.id"), nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),  # new | reply | failure
    big("ticket", sa.ForeignKey("ticket.number"), nullable=False, index=True),
    sa.Column("detail", Text(2000), nullable=True),
    # of the mail that it is about: an answer to the notice goes there (E19)
    big("thread_id", nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    big("outgoing_id", sa.ForeignKey("outgoing.id"), nullable=True),  # the mail with it
    partial("ix_notice_due", "due_at", where="outgoing_id IS NULL"),
)
