"""Column types that keep promises about what is stored.

``Text`` cleans, ``Instant`` refuses naive times (a programming error), ``Document`` refuses what
JSON cannot say.
"""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def clean(value: str, limit: int | None = None) -> str:
    """The storable form of a string: NFC, no NUL, no lone surrogate (replaced by U+FFFD), at most
    ``limit`` characters.
    """
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

    # SQLAlchemy's signature
    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """What is written."""
        return None if value is None else clean(value, self.limit)


class Instant(sa.types.TypeDecorator[datetime]):
    """An instant in UTC with microseconds: an integer of microseconds since 1970 on both databases,
    so that order and equality are exact.
    """

    impl = sa.BigInteger
    cache_ok = True

    # SQLAlchemy's signature
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Microseconds since 1970; ValueError for a time without a zone."""
        return None if value is None else microseconds(value)

    # SQLAlchemy's signature
    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Aware UTC."""
        return None if value is None else instant(value)


def microseconds(value: datetime) -> int:
    """Microseconds since 1970 of an aware instant; ValueError for a time without a zone."""
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
    delta = value - EPOCH
    return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds


def instant(value: int) -> datetime:
    """The aware UTC instant so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=value)


ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: Any) -> str:
    """Compact JSON whose strings are all clean; ValueError or TypeError for what JSON cannot say.

    The encoded text may be looked at as a whole to see that nothing needs cleaning, but only the
    strings may be changed: normalising the text would join the ``n`` of an escaped line end with an
    accent that follows it.
    """
    text = ENCODE(value)
    if "\\u0000" not in text and (
        text.isascii() or (not UNSTORABLE.search(text) and unicodedata.is_normalized("NFC", text))
    ):
        return text
    return ENCODE(_cleaned(value))


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case dict():
            return {_cleaned(key): _cleaned(item) for key, item in value.items()}
        case list() | tuple():
            return [_cleaned(item) for item in value]
        case _:
            return value


class Document(sa.types.TypeDecorator[Any]):
    """JSON as text: lists, objects, strings and numbers; strings in it are cleaned like Text."""

    impl = sa.Text
    cache_ok = True

    # SQLAlchemy's signature
    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Compact JSON, clean: see :func:`encode`."""
        return None if value is None else encode(value)

    # SQLAlchemy's signature
    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """The value again."""
        return None if value is None else json.loads(value)
