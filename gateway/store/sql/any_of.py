"""``column is one of these values`` with one parameter, however many values there are.

``IN`` with a list is written anew by SQLAlchemy for each number of values and sends a parameter for
each; for a batch of mails that is hundreds. Here the values travel as one: a JSON list on SQLite,
an array on PostgreSQL, and the statement is a constant that stays prepared. What can go wrong:
values of another type than the column's; the database says so.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Values(sa.types.TypeDecorator[Collection[Any]]):
    """A list of strings, or of integers, as one parameter."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, item: type[sa.types.TypeEngine[Any]]) -> None:
        """``item`` is sa.Text or sa.BigInteger."""
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """JSON text on SQLite, an array on PostgreSQL."""
        return dialect.type_descriptor(
            postgresql.ARRAY(self.item) if dialect.name == "postgresql" else sa.Text()
        )

    def process_bind_param(self, value: Collection[Any] | None, dialect: Dialect) -> Any:
        """What is sent."""
        values = list(value or ())
        return values if dialect.name == "postgresql" else json.dumps(values)


class _Among(FunctionElement[bool]):
    """Column and parameter; written out for each database below."""

    name = "among"
    type = sa.Boolean()
    inherit_cache = True
    # Else SQLAlchemy writes "... = 1" on SQLite, and no index is used any more; a test asks the
    # planner.
    _is_implicitly_boolean = True


@compiles(_Among, "sqlite")
def _sqlite(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    # two fragments the compiler wrote
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608


@compiles(_Among, "postgresql")
def _postgresql(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} = ANY ({values})"


def among(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """``column`` equals one of the values of the parameter ``name``: a collection of integers or of
    strings, which may be empty.
    """
    item: type[sa.types.TypeEngine[Any]] = (
        sa.BigInteger if isinstance(column.type, sa.Integer) else sa.Text
    )
    return _Among(column, sa.bindparam(name, type_=Values(item)))
