"""Alembic environment: use the given connection and its open transaction."""

from __future__ import annotations

from typing import Any

from alembic import context

from gateway.store.schema.tables import metadata

# full-text search has tables of its own on each database, created by hand in the migrations
UNCOMPARED = ("message_search",)


def ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:
    """Return whether a table or index takes part in schema comparisons."""
    return not (name or "").startswith(UNCOMPARED) and not (
        kind == "table" and (name or "").startswith("sqlite_")
    )


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    compare_type=True,
    include_object=ours,
)
with context.begin_transaction():
    context.run_migrations()
