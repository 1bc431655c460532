"""Column types that keep promises about what is stored.

``Text`` cleans, ``Instant`` refuses naive times (a programming error), ``Document`` refuses what JSON cannot say.
"""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def clean(value: str, limit: int | None = None) -> str:
    """The storable form of a string: NFC, no NUL, no lone surrogate (replaced by U+FFFD), at most ``limit`` characters."""
    if not value.isascii():
        if UNSTORABLE.search(value):
            value = UNSTORABLE.sub("\ufffd", value)
        if not unicodedata.is_normalized("NFC", value):
            value = unicodedata.normalize("NFC", value)
    elif "\0" in value:
        value = value.replace("\0", "\ufffd")
    return value[:limit] if limit is not None and len(value) > limit else value


class Text(sa.types.TypeDecorator[str]):
    """Text that any of the two databases can hold, cut at ``limit`` characters (reliability.md 17)."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """What is written."""
        return None if value is None else clean(value, self.limit)


class Instant(sa.types.TypeDecorator[datetime]):
    """An instant in UTC with microseconds: an integer of microseconds since 1970 on both databases, so that order and equality are exact."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Microseconds since 1970; ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        delta = value - EPOCH
        return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Aware UTC."""
        if value is None:
            return None
        seconds, microseconds = divmod(value, 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Document(sa.types.TypeDecorator[Any]):
    """JSON as text: lists, objects, strings and numbers; strings in it are cleaned like Text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Compact JSON. A NUL inside a string is escaped by JSON itself; a lone surrogate is replaced."""
        if value is None:
            return None
        return clean(ENCODE(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The value again."""
        return None if value is None else json.loads(value)
