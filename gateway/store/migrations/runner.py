"""Runs the migrations on an open connection, inside its transaction: a kill at any point leaves the
tables as they were.

Alembic is imported here and in ``env.py`` only, and only when tables are to be changed: it is slow
to load.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config(connection: Connection | None = None) -> Config:
    """Alembic's view of this folder; ``connection`` is what its commands work on."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Brings the tables to the newest form."""
    command.upgrade(config(connection), "head")
