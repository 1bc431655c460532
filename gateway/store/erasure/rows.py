"""Statements with which an erasure changes columns of rows, selected by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa


def update_by_id(table: sa.Table, columns: Iterable[str]) -> sa.Update:
    """Return a statement that sets these columns of the row with a given id.

    :func:`update_row` makes its parameters.
    """
    values = {name: sa.bindparam(f"_{name}", type_=table.c[name].type) for name in columns}
    return sa.update(table).where(table.c.id == sa.bindparam("_id")).values(values)


def update_row(row_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of :func:`update_by_id` for one row."""
    return {"_id": row_id, **{f"_{name}": value for name, value in values.items()}}
