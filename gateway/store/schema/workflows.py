"""The tables of templates, workflows with their versions, enrolments, runs and tasks."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.schema.metadata import big, metadata, partial
from gateway.store.schema.types import Document, Instant, Text

template = sa.Table(
    "template",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Text(200), nullable=False, unique=True),
    sa.Column("transactional", sa.Boolean, nullable=False, default=False),
    sa.Column("builtin", sa.Boolean, nullable=False, default=False),
)

# The text of a template in a language; every template has language "".
template_text = sa.Table(
    "template_text",
    metadata,
    sa.Column("template_id", sa.ForeignKey("template.id"), primary_key=True),
    sa.Column("language", Text(16), primary_key=True),
    sa.Column("subject", Text(2000), nullable=False),
    sa.Column("text", Text(), nullable=False),
    sa.Column("html", Text(), nullable=True),
)

# The workflow of a status. A deleted one keeps its row, for its history.
workflow = sa.Table(
    "workflow",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # pipeline and status may be deleted; then the workflow is deleted too
    sa.Column("pipeline_id", sa.Integer, nullable=False),
    sa.Column("status_id", sa.Integer, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, default=False),
    sa.Column("version", sa.Integer, nullable=False, default=1),
    sa.Column("re_enroll", sa.Boolean, nullable=False, default=False),
    sa.Column("on_leave", sa.String(8), nullable=False, default="continue"),
    sa.Column("exclude_sources", Document, nullable=False),
    sa.Column("filter", Document, nullable=True),
    sa.Column("unenroll_when", Document, nullable=True),
    sa.Column("window", Document, nullable=True),
    sa.Column("deleted_at", Instant, nullable=True),
    sa.Index(
        "uq_workflow_status",
        "status_id",
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    ),
    sa.CheckConstraint("on_leave IN ('continue', 'unenroll')", name="on_leave"),
)

# Rows never change: every save is a new version.
workflow_version = sa.Table(
    "workflow_version",
    metadata,
    sa.Column("workflow_id", sa.ForeignKey("workflow.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("actions", Document, nullable=False),
    sa.Column("author", Text(320), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("note", Text(1000), nullable=True),
)

action_comment = sa.Table(
    "action_comment",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("workflow_id", sa.ForeignKey("workflow.id"), nullable=False, index=True),
    sa.Column("action", Text(100), nullable=False),
    sa.Column("author", Text(320), nullable=False),
    sa.Column("text", Text(4000), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("resolved_at", Instant, nullable=True),
)

# A ticket in a workflow; ``place`` is the action, or the start of a list of actions, it is past.
enrolment = sa.Table(
    "enrolment",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    sa.Column("workflow_id", sa.ForeignKey("workflow.id"), nullable=False),
    big("ticket", sa.ForeignKey("ticket.number"), nullable=False, index=True),
    sa.Column("state", sa.String(14), nullable=False),
    sa.Column("place", Text(200), nullable=False),
    sa.Column("entered_at", Instant, nullable=False),
    sa.Column("due_at", Instant, nullable=True),
    sa.Column("wait_for", sa.String(16), nullable=True),  # customer_reply | agent_reply
    sa.Column("attempts", sa.Integer, nullable=False, default=0),  # of the action after ``place``
    sa.Column("silent", Text(500), nullable=True),  # why it sends no mail to people outside
    sa.Column(
        "chain", Document, nullable=False
    ),  # ids of the workflows whose status changes led here
    sa.Column("cause", Document, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant, nullable=True),
    sa.Column("end_reason", Text(500), nullable=True),
    sa.Index(
        "uq_enrolment_active",
        "workflow_id",
        "ticket",
        unique=True,
        sqlite_where=sa.text("state = 'ACTIVE'"),
        postgresql_where=sa.text("state = 'ACTIVE'"),
    ),
    partial("ix_enrolment_due", "due_at", where="state = 'ACTIVE'"),
    sa.CheckConstraint(
        "state IN ('ACTIVE', 'DONE', 'UNENROLLED', 'ENDED_BY_EDIT', 'FAILED')", name="state"
    ),
)

# What an action did for a ticket; ``key`` prevents doing it twice for one enrolment.
action_run = sa.Table(
    "action_run",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    sa.Column("workflow_id", sa.ForeignKey("workflow.id"), nullable=False, index=True),
    big("enrolment_id", sa.ForeignKey("enrolment.id"), nullable=True, index=True),
    big("ticket", sa.ForeignKey("ticket.number"), nullable=False, index=True),
    sa.Column("action", Text(100), nullable=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("outcome", sa.String(24), nullable=False),
    sa.Column("detail", Text(2000), nullable=True),
    sa.Column("at", Instant, nullable=False, index=True),
    sa.Column("key", Text(200), nullable=True, unique=True),
)

task = sa.Table(
    "task",
    metadata,
    big("id", primary_key=True, autoincrement=False),
    big("ticket", sa.ForeignKey("ticket.number"), nullable=False, index=True),
    sa.Column("text", Text(4000), nullable=False),
    sa.Column("due_at", Instant, nullable=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("done_at", Instant, nullable=True),
)
