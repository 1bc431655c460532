"""How Alembic runs here: on the connection it is handed, in the transaction that is already open
there, with our tables to compare with.
"""

from __future__ import annotations

from typing import Any

from alembic import context

from gateway.store.schema.tables import metadata

UNCOMPARED = (
    "message_search",
)  # full-text search has its own tables on each database, made by hand in the migrations


def ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:
    """Whether a table or index takes part in comparisons."""
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
