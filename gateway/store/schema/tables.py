"""The tables. Alembic migrations follow this module and a test holds the two together on both
databases.

Three column types carry promises: :class:`Text` stores no NUL and no lone surrogate (reliability.md
17), :class:`Instant` takes and gives aware UTC only, :class:`Document` is compact JSON in a text
column. What goes wrong here goes wrong loudly: a naive time raises.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.schema.mailboxes import mailbox, mailbox_mail, oauth_token, superseded_mail
from gateway.store.schema.metadata import metadata, partial
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

# the tables of mailboxes, of what goes out and of what a status does stand in modules of their own
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

# Numbers are handed out by these rows inside the writer's transaction: no gaps, never smaller, and
# known before the rows are written.
counter = sa.Table(
    "counter",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# Keys that sign reply addresses, subject tags and Message-IDs; old ones stay so that old mail still
# ties (reliability.md 18).
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
    sa.Column(
        "on_email_sent", sa.Integer, nullable=True
    ),  # status id; checked by the code, or status and pipeline would need each other
    sa.Column("on_customer_reply", sa.Integer, nullable=True),
    sa.Column("strangers", sa.String(8), nullable=False, default="move"),
    sa.Column("allow_back", sa.Boolean, nullable=False, default=True),
    sa.Column(
        "relay", sa.Boolean, nullable=False, default=False, server_default=sa.false()
    ),  # E19: an agent's answer to our notice goes out
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
    sa.Column(
        "outbound_status_id", sa.Integer, nullable=True
    ),  # O13: where a ticket starts that our own mail opens
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
    sa.Column(
        "notify", Document, nullable=True
    ),  # {"new","reply","failure","digest"}: what differs from the defaults
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
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("address", Text(320), nullable=False, unique=True),
    sa.Column("name", Text(500), nullable=False),
    sa.Column("blocked", sa.Boolean, nullable=False, default=False),
    sa.Column("automated", sa.Boolean, nullable=False, default=False),
    sa.Column("marketing_ok", sa.Boolean, nullable=False, default=False),
    sa.Column("proven", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column(
        "bounced_at", Instant, nullable=True
    ),  # a mail to it failed for good; cleared when he writes
    sa.Column("language", Text(16), nullable=True),  # of templates for him
)

ticket = sa.Table(
    "ticket",
    metadata,
    sa.Column(
        "number",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("subject", Text(2000), nullable=False),
    sa.Column("pipeline_id", sa.ForeignKey("pipeline.id"), nullable=False),
    sa.Column("status_id", sa.ForeignKey("status.id"), nullable=False, index=True),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("priority", sa.String(8), nullable=True),
    sa.Column("owner_id", sa.ForeignKey("user_account.id"), nullable=True),
    sa.Column("requester_id", sa.ForeignKey("contact.id"), nullable=True),
    sa.Column(
        "subject_key", Text(80), nullable=False
    ),  # to find earlier tickets of the same person about the same thing (E14)
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
    sa.Column(
        "merged_into", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True, index=True
    ),
    sa.Column("deleted_at", Instant, nullable=True),
    sa.Column("worked", sa.Boolean, nullable=False, default=False),
    sa.Column("titled", sa.Boolean, nullable=False, default=False),
    sa.Column("first_response_at", Instant, nullable=True),
    sa.Column("times_contacted", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Index("ix_ticket_requester_subject", "requester_id", "subject_key"),
)

# People an agent put on the ticket (behaviour.md section 1, associated contacts), beside those of
# its threads.
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
    sa.Column("other", sa.ForeignKey("ticket.number"), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),  # related | earlier | joined
)

thread = sa.Table(
    "thread",
    metadata,
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("kind", sa.String(8), nullable=False, default="normal"),
    sa.Column("channel_id", sa.ForeignKey("channel.id"), nullable=True),
    sa.Column("ticket", sa.ForeignKey("ticket.number"), nullable=True, index=True),
    sa.Column("origin", sa.Boolean, nullable=False, default=False),
    sa.Column("attached_at", Instant, nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    # Joined into, or continued by, another thread. References keep the id they were remembered
    # under and are followed through this.
    sa.Column("redirect_to", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
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

# Every Message-ID a thread ever held (message set) or only pointed at (message null): behaviour.md
# 5, ties 3 and 4.
message_ref = sa.Table(
    "message_ref",
    metadata,
    sa.Column("ref", Text(300), primary_key=True),
    sa.Column("thread_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("message", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column(
        "forward", sa.Boolean, nullable=False, default=False
    ),  # the message is a forward (E17b)
    sqlite_with_rowid=False,
)

message = sa.Table(
    "message",
    metadata,
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column(
        "thread_id", sa.ForeignKey("thread.id"), nullable=True, index=True
    ),  # null: a note on a ticket without mail
    sa.Column(
        "ticket_note", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True
    ),  # the ticket of a note
    sa.Column("mail_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("direction", sa.String(8), nullable=False),  # inbound | outbound | note
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("message_id", Text(1000), nullable=True),
    sa.Column("parents", Document, nullable=False),
    sa.Column(
        "opens", sa.Boolean, nullable=False, default=False
    ),  # may name the ticket's requester and subject (section 5, joining)
    sa.Column(
        "sender_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True
    ),  # contact
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
)

event = sa.Table(
    "event",
    metadata,
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
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
    sa.Column(
        "ticket", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True, index=True
    ),  # the one that went away
    sa.Column("into", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column(
        "moved", Document, nullable=False
    ),  # by joining or merging, so that it can be undone (P10, section 5)
    sa.Column("undone_at", Instant, nullable=True),
)

# The spool and the register of every mail that ever came in.
mail = sa.Table(
    "mail",
    metadata,
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("source", sa.String(8), nullable=False),
    sa.Column(
        "envelope", Document, nullable=False
    ),  # sender, recipients, peer, helo, tls, trusted_hop, origin, automation
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),  # in hex; "" where the raw mail was erased
    sa.Column(
        "blob", sa.String(200), nullable=True
    ),  # where the raw mail is when it is not in raw_mail
    sa.Column("state", sa.String(12), nullable=False, default="pending"),
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("released", sa.Boolean, nullable=False, default=False),
    sa.Column("processed_at", Instant, nullable=True),  # from here on: filled when it was processed
    sa.Column("kind", sa.String(16), nullable=True),
    sa.Column("channel_id", sa.Integer, nullable=True),
    sa.Column("message_id", Text(1000), nullable=True),
    sa.Column("sender", Text(320), nullable=True),
    sa.Column("subject", Text(2000), nullable=True),
    sa.Column("fingerprint", sa.LargeBinary(16), nullable=True),
    sa.Column(
        "original_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True
    ),  # of a duplicate
    sa.Column("message", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("thread_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("ticket", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("reason", Text(1000), nullable=True),
    sa.Column(
        "outcome", Document, nullable=True
    ),  # sender_role, created_ticket, matched_by, status, steps, rule, decisions
    # erased together with a person: "raw" where the row stays without its raw mail, "row" where it
    # goes too as soon as its blob is deleted
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
