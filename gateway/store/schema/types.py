"""Column types that check what is stored.

``Text`` cleans strings, ``Instant`` refuses times without a zone, and ``Document`` refuses values
that JSON cannot express.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from core.normal_form import is_nfc, nfc

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def clean(value: str, limit: int | None = None) -> str:
    """Return a string in the form that is stored.

    The form is NFC (:mod:`core.normal_form`), has U+FFFD for each NUL and lone surrogate, and at
    most ``limit`` characters.
    """
    if not value.isascii():
        if UNSTORABLE.search(value):
            value = UNSTORABLE.sub("\ufffd", value)
        value = nfc(value)
    elif "\0" in value:
        value = value.replace("\0", "\ufffd")
    return value[:limit] if limit is not None and len(value) > limit else value


class Text(sa.types.TypeDecorator[str]):
    """Text that both databases can store, cut at ``limit`` characters (reliability.md 17)."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text in the form that is stored: see :func:`clean`."""
        return None if value is None else clean(value, self.limit)


class Instant(sa.types.TypeDecorator[datetime]):
    """A time in UTC, stored as integer microseconds since 1970, so that times sort exactly."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return microseconds since 1970; ValueError for a time without a zone."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return an aware time in UTC."""
        return None if value is None else instant(value)


def microseconds(value: datetime) -> int:
    """Return the microseconds since 1970; ValueError for a time without a zone."""
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
    delta = value - EPOCH
    return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds


def instant(value: int) -> datetime:
    """Return the aware UTC time that is ``value`` microseconds after 1970."""
    return EPOCH + timedelta(microseconds=value)


ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: Any) -> str:
    """Return compact JSON with clean strings; ValueError or TypeError for values outside JSON.

    Strings are cleaned one by one, because JSON text writes a line end as a backslash and ``n``. If
    the JSON text were normalised as a whole, that ``n`` would be joined with an accent after it.
    """
    text = ENCODE(value)
    if "\\u0000" not in text and (text.isascii() or (not UNSTORABLE.search(text) and is_nfc(text))):
        return text
    return ENCODE(_cleaned(value))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value


class Document(sa.types.TypeDecorator[Any]):
    """A JSON value, stored as text; its strings are cleaned like Text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return the value as compact JSON text: see :func:`encode`."""
        return None if value is None else encode(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Return the value that the JSON text holds."""
        return None if value is None else json.loads(value)
