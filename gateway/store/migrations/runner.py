"""Run the migrations on an open connection, inside its transaction.

A kill at any point leaves the tables as they were. Alembic is slow to load, so it is imported only
here and in ``env.py``, when tables are to be changed.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config(connection: Connection | None = None) -> Config:
    """Return the Alembic configuration of this folder, for commands on ``connection``."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Upgrade the tables to the newest migration."""
    command.upgrade(config(connection), "head")
