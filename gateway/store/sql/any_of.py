"""An SQL condition that compares a column with many values, sent as one parameter.

For ``IN``, SQLAlchemy writes a new statement for each number of values and sends each value as a
parameter. A batch of mails needs hundreds of values. Here all values are one parameter: a JSON list
on SQLite, an array on PostgreSQL. So the statement is always the same and stays prepared.
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
    """A type for parameters that hold a list of strings or of integers."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, item: type[sa.types.TypeEngine[Any]]) -> None:
        """Make a type whose values are lists; ``item`` is sa.Text or sa.BigInteger."""
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """Return the type of the parameter: text on SQLite, an array on PostgreSQL."""
        return dialect.type_descriptor(
            postgresql.ARRAY(self.item) if dialect.name == "postgresql" else sa.Text()
        )

    def process_bind_param(self, value: Collection[Any] | None, dialect: Dialect) -> Any:
        """Return the list on PostgreSQL, the list as JSON text on SQLite."""
        values = list(value or ())
        return values if dialect.name == "postgresql" else json.dumps(values)


class _Among(FunctionElement[bool]):
    """The condition that :func:`among` returns; a function for each database writes its SQL."""

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
    """Return the condition that ``column`` is one of the values in the parameter ``name``."""
    is_number = isinstance(column.type, sa.Integer)
    values = Values(sa.BigInteger if is_number else sa.Text)
    return _Among(column, sa.bindparam(name, type_=values))
