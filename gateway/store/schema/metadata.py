"""What the tables share: names of constraints, a column type for big numbers, partial indexes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def partial(name: str, *columns: str, where: str) -> sa.Index:
    """Return an index of only those rows that meet a condition."""
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def big(name: str, *parts: sa.ForeignKey, **options: Any) -> sa.Column[int]:
    """Return a 64-bit integer column; on SQLite it can be the primary key that numbers the rows."""
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), *parts, **options)
