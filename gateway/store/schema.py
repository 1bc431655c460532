"""The tables. Alembic migrations follow this module and a test holds the two together on both databases.

Three column types carry promises: :class:`Text` stores no NUL and no lone surrogate (reliability.md 17), :class:`Instant` takes and gives aware UTC
only, :class:`Document` is compact JSON in a text column. What goes wrong here goes wrong loudly: a naive time raises.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.types import Document, Instant, Text

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _partial(name: str, *columns: str, where: str) -> sa.Index:
    """An index of the rows for which a condition holds."""
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


# Numbers are handed out by these rows inside the writer's transaction: no gaps, never smaller, and known before the rows are written.
counter = sa.Table(
    "counter",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# Keys that sign reply addresses, subject tags and Message-IDs; old ones stay so that old mail still ties (reliability.md 18).
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
    sa.Column("on_email_sent", sa.Integer, nullable=True),  # status id; checked by the code, or status and pipeline would need each other
    sa.Column("on_customer_reply", sa.Integer, nullable=True),
    sa.Column("strangers", sa.String(8), nullable=False, default="move"),
    sa.Column("allow_back", sa.Boolean, nullable=False, default=True),
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
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("address", Text(320), nullable=False, unique=True),
    sa.Column("name", Text(500), nullable=False),
    sa.Column("blocked", sa.Boolean, nullable=False, default=False),
    sa.Column("automated", sa.Boolean, nullable=False, default=False),
    sa.Column("marketing_ok", sa.Boolean, nullable=False, default=False),
    sa.Column("proven", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", Instant, nullable=False),
)

ticket = sa.Table(
    "ticket",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("subject", Text(2000), nullable=False),
    sa.Column("pipeline_id", sa.ForeignKey("pipeline.id"), nullable=False),
    sa.Column("status_id", sa.ForeignKey("status.id"), nullable=False, index=True),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("priority", sa.String(8), nullable=True),
    sa.Column("owner_id", sa.ForeignKey("user_account.id"), nullable=True),
    sa.Column("requester_id", sa.ForeignKey("contact.id"), nullable=True),
    sa.Column("subject_key", Text(80), nullable=False),  # to find earlier tickets of the same person about the same thing (E14)
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
    sa.Column("merged_into", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True, index=True),
    sa.Column("deleted_at", Instant, nullable=True),
    sa.Column("worked", sa.Boolean, nullable=False, default=False),
    sa.Column("titled", sa.Boolean, nullable=False, default=False),
    sa.Index("ix_ticket_requester_subject", "requester_id", "subject_key"),
)

# People an agent put on the ticket (behaviour.md section 1, associated contacts), beside those of its threads.
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
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(8), nullable=False, default="normal"),
    sa.Column("channel_id", sa.ForeignKey("channel.id"), nullable=True),
    sa.Column("ticket", sa.ForeignKey("ticket.number"), nullable=True, index=True),
    sa.Column("origin", sa.Boolean, nullable=False, default=False),
    sa.Column("attached_at", Instant, nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    # Joined into, or continued by, another thread. References keep the id they were remembered under and are followed through this.
    sa.Column("redirect_to", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    _partial("ix_thread_redirect_to", "redirect_to", where="redirect_to IS NOT NULL"),
)

participant = sa.Table(
    "participant",
    metadata,
    sa.Column("thread_id", sa.ForeignKey("thread.id"), primary_key=True),
    sa.Column("contact_id", sa.ForeignKey("contact.id"), primary_key=True),
    sa.Column("role", sa.String(12), nullable=False),
    sqlite_with_rowid=False,
)

# Every Message-ID a thread ever held (message set) or only pointed at (message null): behaviour.md 5, ties 3 and 4.
message_ref = sa.Table(
    "message_ref",
    metadata,
    sa.Column("ref", Text(300), primary_key=True),
    sa.Column("thread_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("message", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("forward", sa.Boolean, nullable=False, default=False),  # the message is a forward (E17b)
    sqlite_with_rowid=False,
)

message = sa.Table(
    "message",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("thread_id", sa.ForeignKey("thread.id"), nullable=True, index=True),  # null: a note on a ticket without mail
    sa.Column("ticket_note", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),  # the ticket of a note
    sa.Column("mail_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("direction", sa.String(8), nullable=False),  # inbound | outbound | note
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("message_id", Text(1000), nullable=True),
    sa.Column("parents", Document, nullable=False),
    sa.Column("opens", sa.Boolean, nullable=False, default=False),  # may name the ticket's requester and subject (section 5, joining)
    sa.Column("sender_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),  # contact
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
    _partial("ix_message_ticket_note", "ticket_note", where="ticket_note IS NOT NULL"),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
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
    sa.Column("ticket", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True, index=True),  # the one that went away
    sa.Column("into", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("moved", Document, nullable=False),  # by joining or merging, so that it can be undone (P10, section 5)
    sa.Column("undone_at", Instant, nullable=True),
)

# The spool and the register of every mail that ever came in.
mail = sa.Table(
    "mail",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("source", sa.String(8), nullable=False),
    sa.Column("envelope", Document, nullable=False),  # sender, recipients, peer, helo, tls, trusted_hop, origin, automation
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("blob", sa.String(200), nullable=True),  # where the raw mail is when it is not in raw_mail
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
    sa.Column("original_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),  # of a duplicate
    sa.Column("message", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("thread_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("ticket", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("reason", Text(1000), nullable=True),
    sa.Column("outcome", Document, nullable=True),  # sender_role, created_ticket, matched_by, status, steps, rule, decisions
    sa.Index("ix_mail_fingerprint", "fingerprint"),
    _partial("ix_mail_state", "state", "id", where="state <> 'done'"),
    sa.CheckConstraint("state IN ('pending', 'done', 'ignored', 'quarantined', 'held', 'duplicate')", name="state"),
    sqlite_autoincrement=True,
)

raw_mail = sa.Table(
    "raw_mail",
    metadata,
    sa.Column("mail_id", sa.ForeignKey("mail.id"), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

# A mailbox that is read by IMAP: how far, by whom, and how it is. Where ``place`` (account, server, folder) changes, UIDs mean nothing.
mailbox = sa.Table(
    "mailbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Text(200), nullable=False, unique=True),
    sa.Column("place", Text(1000), nullable=False),
    sa.Column("uidvalidity", sa.BigInteger, nullable=False, default=0),  # 0: never opened
    sa.Column("last_uid", sa.BigInteger, nullable=False, default=0),  # everything up to here stands in mailbox_mail or is gone
    sa.Column("backlog_end", sa.BigInteger, nullable=False, default=0),  # up to here it lay there when the mailbox was first opened
    sa.Column("backlog_since", sa.Date, nullable=True),
    sa.Column("backlog_automation", sa.String(8), nullable=False, default="fresh"),  # all | fresh | none
    sa.Column("first_seen_at", Instant, nullable=True),
    sa.Column("state", sa.String(10), nullable=False, default="new"),
    sa.Column("problem", Text(1000), nullable=True),
    sa.Column("failing_since", Instant, nullable=True),
    sa.Column("last_pass_at", Instant, nullable=True),  # when everything that was there had been taken in
    sa.Column("lease_owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant, nullable=True),
    sa.CheckConstraint("state IN ('new', 'ok', 'failing', 'refused')", name="state"),
)

# Each mail of a mailbox that we know: its number in the spool (none: it is owed), whether what follows its commit is done, and a digest to know it by.
mailbox_mail = sa.Table(
    "mailbox_mail",
    metadata,
    sa.Column("mailbox_id", sa.ForeignKey("mailbox.id"), primary_key=True),
    sa.Column("uidvalidity", sa.BigInteger, primary_key=True),
    sa.Column("uid", sa.BigInteger, primary_key=True),
    sa.Column("mail_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=True),
    sa.Column("digest", sa.LargeBinary(16), nullable=True),
    sa.Column("settled", sa.Boolean, nullable=False),
    sa.Column("problem", Text(1000), nullable=True),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("retry_at", Instant, nullable=True),
    sa.Index("ix_mailbox_mail_digest", "mailbox_id", "digest"),
    _partial("ix_mailbox_mail_open", "mailbox_id", "uid", where="NOT settled"),
    sqlite_with_rowid=False,
)

# What a provider of mailboxes gave us for an account ("" where the client acts for itself). The lease is for renewing.
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
