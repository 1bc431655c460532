"""The tables. A test checks that the Alembic migrations produce exactly these, on both databases.

Three column types check their values. :class:`Text` stores no NUL and no lone surrogate
(reliability.md 17), :class:`Instant` is an aware time in UTC, :class:`Document` is compact JSON
text. The tables of mailboxes, outgoing mail and workflows are in modules of their own, which this
module imports.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.schema.mailboxes import mailbox, mailbox_mail, oauth_token, superseded_mail
from gateway.store.schema.metadata import big, metadata, partial
from gateway.store.schema.outbox import (
    delivery,
    notice,
    outgoing,
    outgoing_file,
    sent_copy,
    webhook_call,
)
from gateway.store.schema.types import Document, Instant, Text
from gateway.store.schema.workflows import (
    action_comment,
    action_run,
    enrolment,
    task,
    template,
    template_text,
    workflow,
    workflow_version,
)

__all__ = [
    "action_comment",
    "action_run",
    "channel",
    "contact",
    "counter",
    "delivery",
    "enrolment",
    "event",
    "mail",
    "mailbox",
    "mailbox_mail",
    "merge",
    "message",
    "message_ref",
    "metadata",
    "notice",
    "oauth_token",
    "outgoing",
    "outgoing_file",
    "participant",
    "pipeline",
    "raw_mail",
    "sent_copy",
    "signing_key",
    "status",
    "superseded_mail",
    "task",
    "template",
    "template_text",
    "thread",
    "ticket",
    "ticket_contact",
    "ticket_link",
    "user",
    "user_address",
    "webhook_call",
    "workflow",
    "workflow_version",
]

# Numbers are allotted by these rows inside the writer's transaction: without gaps, ascending, and
# known before the rows are written.
counter = sa.Table(
    "counter",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# Keys that sign reply addresses, subject tags and Message-IDs; old keys stay, so that replies to
# old mail are still recognised (reliability.md 18).
signing_key = sa.Table(
    "signing_key",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

pipeline = sa.Table(
    "pipeline",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Text(200), nullable=False, unique=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("is_default", sa.Boolean, nullable=False, default=False),
    sa.Column("set_close_date", sa.Boolean, nullable=False, default=True),
    # status id; no foreign key, since status and pipeline would need each other
    sa.Column("on_email_sent", sa.Integer, nullable=True),
    sa.Column("on_customer_reply", sa.Integer, nullable=True),
    sa.Column("strangers", sa.String(8), nullable=False, default="move"),
    sa.Column("allow_back", sa.Boolean, nullable=False, default=True),
    # whether an agent's answer to our notice is sent to the customer (E19)
    sa.Column("relay", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
)

status = sa.Table(
    "status",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pipeline_id", sa.ForeignKey("pipeline.id"), nullable=False, index=True),
    sa.Column("name", Text(200), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.CheckConstraint("state IN ('open', 'closed')", name="state"),
)

channel = sa.Table(
    "channel",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("address", Text(320), nullable=False, unique=True),
    sa.Column("name", Text(200), nullable=False),
    sa.Column("pipeline_id", sa.ForeignKey("pipeline.id"), nullable=False),
    sa.Column("status_id", sa.ForeignKey("status.id"), nullable=True),
    sa.Column("tickets", sa.Boolean, nullable=False, default=True),
    sa.Column("is_default", sa.Boolean, nullable=False, default=False),
    sa.Column("allow", Document, nullable=False),
    sa.Column("deny", Document, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    # the first status of a ticket opened by our own mail (O13)
    sa.Column("outbound_status_id", sa.Integer, nullable=True),
)

user = sa.Table(
    "user_account",  # "user" is a reserved word in PostgreSQL
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Text(200), nullable=False),
    sa.Column("role", sa.String(16), nullable=False, default="agent"),
    sa.Column("active", sa.Boolean, nullable=False, default=True),
    sa.Column("password_hash", Text(300), nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("signature", Text(4000), nullable=True),
    # {"new","reply","failure","digest"}: what differs from the defaults
    sa.Column("notify", Document, nullable=True),
)

user_address = sa.Table(
    "user_address",
    metadata,
    sa.Column("address", Text(320), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("user_account.id"), nullable=False, index=True),
    sa.Column("position", sa.Integer, nullable=False),  # 0 = the address the user signs in with
)

contact = sa.Table(
    "contact",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    sa.Column("address", Text(320), nullable=False, unique=True),
    sa.Column("name", Text(500), nullable=False),
    sa.Column("blocked", sa.Boolean, nullable=False, default=False),
    sa.Column("automated", sa.Boolean, nullable=False, default=False),
    sa.Column("marketing_ok", sa.Boolean, nullable=False, default=False),
    sa.Column("proven", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", Instant, nullable=False),
    # when a mail to the address failed for good; null again once the contact writes
    sa.Column("bounced_at", Instant, nullable=True),
    sa.Column("language", Text(16), nullable=True),  # of templates sent to the contact
)

ticket = sa.Table(
    "ticket",
    metadata,
    big("number", primary_key=True, autoincrement=False),
    sa.Column("subject", Text(2000), nullable=False),
    sa.Column("pipeline_id", sa.ForeignKey("pipeline.id"), nullable=False),
    sa.Column("status_id", sa.ForeignKey("status.id"), nullable=False, index=True),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("priority", sa.String(8), nullable=True),
    sa.Column("owner_id", sa.ForeignKey("user_account.id"), nullable=True),
    sa.Column("requester_id", sa.ForeignKey("contact.id"), nullable=True),
    # to find earlier tickets of the same person with the same subject (E14)
    sa.Column("subject_key", Text(80), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("closed_at", Instant, nullable=True),
    sa.Column("close_date", sa.Date, nullable=True),
    sa.Column("first_closed_at", Instant, nullable=True),
    sa.Column("reopened_count", sa.Integer, nullable=False, default=0),
    sa.Column("last_reopened_at", Instant, nullable=True),
    sa.Column("last_customer_message_at", Instant, nullable=True),
    sa.Column("last_agent_message_at", Instant, nullable=True),
    sa.Column("flags", Document, nullable=False),
    sa.Column("tags", Document, nullable=False),
    big("merged_into", nullable=True, index=True),
    sa.Column("deleted_at", Instant, nullable=True),
    sa.Column("worked", sa.Boolean, nullable=False, default=False),
    sa.Column("titled", sa.Boolean, nullable=False, default=False),
    sa.Column("first_response_at", Instant, nullable=True),
    sa.Column("times_contacted", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Index("ix_ticket_requester_subject", "requester_id", "subject_key"),
)

# Contacts an agent put on the ticket, beside those of its threads (behaviour.md section 1,
# associated contacts).
ticket_contact = sa.Table(
    "ticket_contact",
    metadata,
    sa.Column("ticket", sa.ForeignKey("ticket.number"), primary_key=True),
    sa.Column("contact_id", sa.ForeignKey("contact.id"), primary_key=True),
)

ticket_link = sa.Table(
    "ticket_link",
    metadata,
    sa.Column("ticket", sa.ForeignKey("ticket.number"), primary_key=True),
    sa.Column("other", sa.ForeignKey("ticket.number"), primary_key=True, index=True),
    sa.Column("kind", sa.String(16), primary_key=True),  # related | earlier | joined | maybe
)

thread = sa.Table(
    "thread",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(8), nullable=False, default="normal"),
    sa.Column("channel_id", sa.ForeignKey("channel.id"), nullable=True),
    sa.Column("ticket", sa.ForeignKey("ticket.number"), nullable=True, index=True),
    sa.Column("origin", sa.Boolean, nullable=False, default=False),
    sa.Column("attached_at", Instant, nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    # the thread this one was joined into or is continued by; message_ref rows keep the old id and
    # are followed through this
    big("redirect_to", nullable=True),
    # the ticket it was first attached to, which an old address of a merged-away ticket names (E36)
    big("first_ticket", nullable=True, index=True),
    partial("ix_thread_redirect_to", "redirect_to", where="redirect_to IS NOT NULL"),
)

participant = sa.Table(
    "participant",
    metadata,
    sa.Column("thread_id", sa.ForeignKey("thread.id"), primary_key=True),
    sa.Column("contact_id", sa.ForeignKey("contact.id"), primary_key=True),
    sa.Column("role", sa.String(12), nullable=False),
    sqlite_with_rowid=False,
)

# Every Message-ID a thread ever held (message set) or only referenced (message null): behaviour.md
# 5, ties 3 and 4.
message_ref = sa.Table(
    "message_ref",
    metadata,
    sa.Column("ref", Text(300), primary_key=True),
    big("thread_id", primary_key=True),
    big("message", nullable=True),
    # whether the message is a forward (E17b)
    sa.Column("forward", sa.Boolean, nullable=False, default=False),
    # [[contact, whether the mail was proven], ...]: who sent or referenced the id while in the
    # circle of the thread; null if nobody did
    sa.Column("claims", Document, nullable=True),
    sqlite_with_rowid=False,
)

message = sa.Table(
    "message",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    # null for a note on a ticket without mail
    sa.Column("thread_id", sa.ForeignKey("thread.id"), nullable=True, index=True),
    big("ticket_note", nullable=True),  # the ticket of a note
    big("mail_id", nullable=True),
    sa.Column("direction", sa.String(8), nullable=False),  # inbound | outbound | note
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("message_id", Text(1000), nullable=True),
    sa.Column("parents", Document, nullable=False),
    # whether it may set the ticket's requester and subject (behaviour.md 5)
    sa.Column("opens", sa.Boolean, nullable=False, default=False),
    big("sender_id", nullable=True),  # contact
    sa.Column("author_id", sa.Integer, nullable=True),  # user
    sa.Column("sender_role", sa.String(10), nullable=False),
    sa.Column("head", Document, nullable=False),  # {"from","to","cc"} as read
    sa.Column("subject", Text(2000), nullable=False),
    sa.Column("date", Instant, nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("text", Text(), nullable=False),
    sa.Column("reply_text", Text(), nullable=False),
    sa.Column("attachments", Document, nullable=False),
    sa.Column("auth", sa.String(8), nullable=False, default="none"),
    sa.Column("flags", Document, nullable=False),
    sa.Column("evidence", Document, nullable=False),
    partial("ix_message_ticket_note", "ticket_note", where="ticket_note IS NOT NULL"),
    sa.Index(
        "ix_message_opens",
        "thread_id",
        sqlite_where=sa.text("opens = 1"),
        postgresql_where=sa.text("opens"),
    ),
)

event = sa.Table(
    "event",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    sa.Column("ticket", sa.ForeignKey("ticket.number"), nullable=False, index=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("actor", Text(400), nullable=False),
    sa.Column("cause", Document, nullable=False),
    sa.Column("before", Text(2000), nullable=True),
    sa.Column("after", Text(2000), nullable=True),
    sa.Column("detail", Text(2000), nullable=True),
)

merge = sa.Table(
    "merge",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String(8), nullable=False),  # join | merge
    big("ticket", nullable=True, index=True),  # the one merged into the other
    big("into", nullable=True),
    sa.Column("at", Instant, nullable=False),
    # what was moved, so that it can be undone (P10, behaviour.md 5)
    sa.Column("moved", Document, nullable=False),
    sa.Column("undone_at", Instant, nullable=True),
)

# The spool, and the register of every mail that ever came in.
mail = sa.Table(
    "mail",
    metadata,
    big("id", primary_key=True, autoincrement=True),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("source", sa.String(8), nullable=False),
    # sender, recipients, peer, helo, tls, trusted_hop, listed_peer, origin, automation, channel
    sa.Column("envelope", Document, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),  # in hex; "" where the raw mail was erased
    # the key of the raw mail in the blob store, null where it is in raw_mail
    sa.Column("blob", sa.String(200), nullable=True),
    sa.Column("state", sa.String(12), nullable=False, default="pending"),
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("released", sa.Boolean, nullable=False, default=False),
    sa.Column("processed_at", Instant, nullable=True),  # set by processing, like all below
    sa.Column("kind", sa.String(16), nullable=True),
    sa.Column("channel_id", sa.Integer, nullable=True),
    sa.Column("message_id", Text(1000), nullable=True),
    sa.Column("sender", Text(320), nullable=True),
    sa.Column("subject", Text(2000), nullable=True),
    sa.Column("fingerprint", sa.LargeBinary(16), nullable=True),
    big("original_id", nullable=True),  # of a duplicate
    big("message", nullable=True),
    big("thread_id", nullable=True),
    big("ticket", nullable=True),
    sa.Column("reason", Text(1000), nullable=True),
    # sender_role, created_ticket, matched_by, status, steps, rule, decisions
    sa.Column("outcome", Document, nullable=True),
    # erased together with a person: "raw" where the row stays without its raw mail, "row" where it
    # is deleted once its blob is
    sa.Column("erased", sa.String(3), nullable=True),
    sa.Index("ix_mail_fingerprint", "fingerprint"),
    partial("ix_mail_state", "state", "id", where="state <> 'done'"),
    sa.CheckConstraint(
        "state IN ('pending', 'done', 'ignored', 'quarantined', 'held', 'duplicate')", name="state"
    ),
    sqlite_autoincrement=True,
)

raw_mail = sa.Table(
    "raw_mail",
    metadata,
    sa.Column("mail_id", sa.ForeignKey("mail.id"), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
