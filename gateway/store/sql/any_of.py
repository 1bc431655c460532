"""The condition that a column has one of many values, with one parameter for all values.

SQLAlchemy rewrites ``IN`` for each number of values and sends a parameter for each; a batch of
mails has hundreds. Here the values are one parameter (a JSON list on SQLite, an array on
PostgreSQL), and the statement is a constant that stays prepared.
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
    """The type of a parameter that holds a list of strings or integers."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, item: type[sa.types.TypeEngine[Any]]) -> None:
        """Make the type for lists of ``item``, which is sa.Text or sa.BigInteger."""
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """Return the column type of the parameter: text on SQLite, an array on PostgreSQL."""
        return dialect.type_descriptor(
            postgresql.ARRAY(self.item) if dialect.name == "postgresql" else sa.Text()
        )

    def process_bind_param(self, value: Collection[Any] | None, dialect: Dialect) -> Any:
        """Return the list for PostgreSQL, its JSON text for SQLite."""
        values = list(value or ())
        return values if dialect.name == "postgresql" else json.dumps(values)


class _Among(FunctionElement[bool]):
    """The condition of :func:`among`; the two functions below write its SQL for each database."""

    name = "among"
    type = sa.Boolean()
    inherit_cache = True
    # Else SQLAlchemy writes "... = 1" on SQLite, which prevents the use of an index.
    _is_implicitly_boolean = True


@compiles(_Among, "sqlite")
def _sqlite(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    # both fragments are from the compiler
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608


@compiles(_Among, "postgresql")
def _postgresql(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} = ANY ({values})"


def among(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """Return the condition that ``column`` is in the list given as the parameter ``name``."""
    is_number = isinstance(column.type, sa.Integer)
    values = Values(sa.BigInteger if is_number else sa.Text)
    return _Among(column, sa.bindparam(name, type_=values))
