"""The action log is found by its age: what is older than it is to be kept is deleted."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One index."""
    op.create_index(op.f("ix_action_run_at"), "action_run", ["at"], unique=False)
