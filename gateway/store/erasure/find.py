"""Find the rows and raw mails that contain a person's address or name, in the usual spellings.

The search is a few large queries, which may run for long beside the daemon. Before rows are
changed, the rows added since the search must be searched too. The search misses an address spelt in
words (``ann at example org``) and an address inside an encoded attachment.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from gateway.errors import Invalid, Rejected
from gateway.store.queues.blobs import Blobs
from gateway.store.schema import tables
from gateway.store.sql import sqlite
from gateway.store.sql.any_of import among

ERASED = "[erased]"
BATCH_BLOBS = 8  # blobs, or raw mails of PostgreSQL, in memory at once

MAIL, RAW_MAIL = tables.mail, tables.raw_mail
TEXTS: dict[sa.Table, tuple[str, ...]] = {
    tables.message: (
        "head",
        "subject",
        "text",
        "reply_text",
        "message_id",
        "parents",
        "attachments",
        "evidence",
    ),
    tables.event: ("actor", "cause", "before", "after", "detail"),
    tables.mail: ("envelope", "message_id", "sender", "subject", "reason", "outcome"),
}
SMALL_TABLES: dict[sa.Table, tuple[str, ...]] = {
    tables.ticket: ("subject",),
    tables.contact: ("name",),
    tables.channel: ("allow", "deny"),
    tables.message_ref: ("ref",),
}
_ADDRESS = re.compile(r"[^@\s<>]+@[^@\s<>]+")
Found = dict[str, set[Any]]  # keys of rows, by name of their table


class Likeness:
    """The spellings of a person to look for: an address and display names.

    A single-word name is recognised only next to the address. A malformed address raises Invalid.
    """

    __slots__ = ("_address", "_beside", "_bytes", "_id", "_names", "address", "forms", "names")

    def __init__(self, address: str, names: Collection[str] = ()) -> None:
        self.address = address_key(address)
        if not _ADDRESS.fullmatch(self.address):
            raise Invalid(f"invalid address {address!r}", "address")
        self.names = frozenset(
            " ".join(name.split())
            for name in names
            if name.strip() and address_key(name) != self.address
        )
        local, _, domain = self.address.rpartition("@")
        # links and quoted-printable encode the sign; return paths of lists write it as "="
        self.forms = tuple(f"{local}{sign}{domain}" for sign in ("@", "%40", "=40", "="))
        after = rf"{re.escape(domain)}(?![\w-]|\.\w)"
        boundary = r"(?:(?<![\w.+%-])|(?<=[=%][0-9a-f]{2}))"
        pattern = (
            rf"(?:{boundary}{re.escape(local)}(?:@|%40|=40)|(?<![\w.]){re.escape(local)}=){after}"
        )
        self._address = re.compile(pattern, re.IGNORECASE)
        self._bytes = re.compile(pattern.encode())
        self._id = re.compile(
            rf"(?<![^\W_]){re.escape(local)}(?:@|%40|=40|=){re.escape(domain)}(?![^\W_])",
            re.IGNORECASE,
        )
        written = [
            r"\s+".join(map(re.escape, name.split()))
            for name in sorted(self.names, key=len, reverse=True)
        ]
        self._beside = re.compile(
            rf"(?<!\w)[\"']?(?:{'|'.join(written)})[\"']?\s*[<(\[]\s*(?:mailto:)?{pattern}[>)\]]?",
            re.IGNORECASE,
        )
        whole = [each for each in written if r"\s" in each]
        self._names = (
            re.compile(rf"(?<!\w)(?:{'|'.join(whole)})(?!\w)", re.IGNORECASE) if whole else None
        )

    def is_in(self, text: str) -> bool:
        """Return whether a text contains the address."""
        return self._address.search(text) is not None

    def is_in_id(self, message_id: str | None) -> bool:
        """Return whether a Message-ID contains the address, even inside a longer word."""
        return message_id is not None and self._id.search(message_id) is not None

    def is_in_raw(self, data: bytes) -> bool:
        """Return whether the undecoded bytes of a raw mail contain the address."""
        lowered = data.lower()
        return (
            any(form.encode() in lowered for form in self.forms)
            and self._bytes.search(lowered) is not None
        )

    def hidden(self, value: Any, *, names: bool = False) -> Any:
        """Return a text or JSON value with :data:`ERASED` in place of the address.

        With ``names``, the names are replaced as well.
        """
        match value:
            case str():
                return self._hidden(value, names=names)
            case dict() if (
                "address" in value and address_key(str(value["address"] or "")) == self.address
            ):
                return value | {"name": ERASED, "address": None}
            case dict():
                return {key: self.hidden(item, names=names) for key, item in value.items()}
            case list() | tuple():
                return [self.hidden(item, names=names) for item in value]
            case _:
                return value

    def hidden_in(self, column: str, value: Any, *, names: bool = False) -> Any:
        """Return a column's value with the person hidden as in :meth:`hidden`.

        Message-IDs that contain the address are left out.
        """
        match column:
            case "message_id":
                return None if self.is_in_id(value) else value
            case "parents":
                return [each for each in value if not self.is_in_id(each)]
            case "cause":
                return self.hidden(
                    value | {"message_id": self.hidden_in("message_id", value.get("message_id"))}
                )
            case _:
                return self.hidden(value, names=names)

    def _hidden(self, text: str, *, names: bool) -> str:
        if self.names and self.is_in(text):
            text = self._beside.sub(ERASED, text)
        text = self._address.sub(ERASED, text)
        return self._names.sub(ERASED, text) if names and self._names is not None else text


def may_name(
    connection: AsyncConnection, like: Likeness, columns: Iterable[sa.Column[Any]]
) -> sa.ColumnElement[bool]:
    """Return an SQL condition for rows that may name the person.

    Some of these rows do not name the person, so check each with ``like``.
    """
    position = sa.func.instr if connection.dialect.name == "sqlite" else sa.func.strpos
    texts = [sa.func.lower(sa.type_coerce(column, sa.Text)) for column in columns]
    return sa.or_(*(position(text, form) > 0 for text in texts for form in like.forms))


async def highest_keys(connection: AsyncConnection) -> dict[str, int]:
    """Return the highest key of each large table, by the table's name."""
    found = {}
    for table in TEXTS:
        found[table.name] = int(
            (await connection.execute(sa.select(sa.func.max(table.c.id)))).scalar() or 0
        )
    return found


async def rows_naming(
    connection: AsyncConnection, like: Likeness, after: Mapping[str, int]
) -> Found:
    """Return, by table, the keys of rows that may name the person.

    Rows up to the keys in ``after`` are not searched.
    """
    return {
        table.name: await _keys_naming(connection, like, table, names, after.get(table.name, 0))
        for table, names in TEXTS.items()
    }


async def small_rows_naming(connection: AsyncConnection, like: Likeness) -> Found:
    """Return, by table, the keys of rows in :data:`SMALL_TABLES` that may name the person."""
    return {
        table.name: await _keys_naming(connection, like, table, names)
        for table, names in SMALL_TABLES.items()
    }


async def _keys_naming(
    connection: AsyncConnection,
    like: Likeness,
    table: sa.Table,
    names: Iterable[str],
    after: int | None = None,
) -> set[Any]:
    """Return the keys of rows that may name the person in one of the columns ``names``.

    Rows up to the key ``after`` are not searched.
    """
    key = table.primary_key.columns[0]
    query = sa.select(key).where(may_name(connection, like, (table.c[name] for name in names)))
    if after is not None:
        query = query.where(key > after)
    return set((await connection.execute(query)).scalars())


async def raw_mails_naming(
    connection: AsyncConnection, blobs: Blobs, like: Likeness, after: int
) -> set[int]:
    """Return the ids of mails whose raw mail names the person; only ids above ``after``."""
    inside = _raws_of_sqlite if connection.dialect.name == "sqlite" else _raws_of_postgresql
    query = (
        sa.select(MAIL.c.id, MAIL.c.blob)
        .where(MAIL.c.blob.is_not(None), MAIL.c.id > after)
        .order_by(MAIL.c.id)
    )
    large = (await connection.execute(query)).all()
    return await inside(connection, like, after) | await _blobs_naming(
        blobs, like, [(row.id, row.blob) for row in large]
    )


async def _raws_of_sqlite(connection: AsyncConnection, like: Likeness, after: int) -> set[int]:
    def look(raw: sqlite3.Connection) -> set[int]:
        # not by lower() of SQLite, which stops at a NUL
        raw.create_function(
            "names_person",
            1,
            lambda data: isinstance(data, bytes) and like.is_in_raw(data),
            deterministic=True,
        )
        return {
            row[0]
            for row in raw.execute(
                "SELECT mail_id FROM raw_mail WHERE mail_id > ? AND names_person(data)", (after,)
            )
        }

    return await sqlite.in_thread(connection, look)


async def _raws_of_postgresql(connection: AsyncConnection, like: Likeness, after: int) -> set[int]:
    written = sa.func.lower(sa.func.encode(RAW_MAIL.c.data, "escape"))
    forms = (
        sa.func.encode(sa.literal(form.encode(), sa.LargeBinary), "escape") for form in like.forms
    )
    query = sa.select(RAW_MAIL.c.mail_id).where(
        RAW_MAIL.c.mail_id > after, sa.or_(*(sa.func.strpos(written, form) > 0 for form in forms))
    )
    candidates = sorted((await connection.execute(query)).scalars())
    found: set[int] = set()
    for at in range(0, len(candidates), BATCH_BLOBS):
        some = sa.select(RAW_MAIL.c.mail_id, RAW_MAIL.c.data).where(
            among(RAW_MAIL.c.mail_id, "ids")
        )
        for row in await connection.execute(some, {"ids": candidates[at : at + BATCH_BLOBS]}):
            if like.is_in_raw(bytes(row.data)):
                found.add(row.mail_id)
    return found


async def _blobs_naming(blobs: Blobs, like: Likeness, large: list[tuple[int, str]]) -> set[int]:
    async def names(key: str) -> bool:
        try:
            return await asyncio.to_thread(like.is_in_raw, await blobs.get(key))
        except Rejected:
            return False  # deleted meanwhile

    found: set[int] = set()
    for at in range(0, len(large), BATCH_BLOBS):
        some = large[at : at + BATCH_BLOBS]
        answers = await asyncio.gather(*(names(key) for _, key in some))
        found.update(mail_id for (mail_id, _), yes in zip(some, answers, strict=True) if yes)
    return found
