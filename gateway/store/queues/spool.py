"""The spool: mail waiting to be processed, where its bytes are, and the results of processing.

``put`` returns when the mails are durable. A worker claims mails for a limited time (a lease). It
finishes each mail in the transaction that stores the result. A mail whose lease ran out can be
claimed again, and finishing a mail twice is refused, so each mail takes effect exactly once.

When the database is away or full, nothing is stored. Claimed mails can be claimed again after their
lease.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import Envelope
from gateway import log
from gateway.errors import Rejected, Unavailable
from gateway.store.engine import Database
from gateway.store.imap import taken_mail
from gateway.store.queues.blob_files import PlacedBlob
from gateway.store.queues.blobs import Blobs
from gateway.store.queues.mail_register import NO_LEASE, MailState, pack, unpack
from gateway.store.queues.raw_places import Place, RawMail, RawPlaces
from gateway.store.queues.wake import tell_others
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import write_rows
from gateway.store.sql.nodes import dead

_log = log.logger("spool")

TRIES = 2  # a mail that fails this often is held
CLAIM_BYTES = 32 << 20  # raw bytes one claim loads, unless a single mail is larger

MAIL = tables.mail
RAW = tables.raw_mail
# The index of unfinished mail is only used when the query repeats its condition, with literals.
IS_WAITING = sa.text("mail.state = 'pending' AND mail.state <> 'done'")
ID_IN_IDS = among(MAIL.c.id, "ids")
IS_UNLEASED = sa.or_(
    MAIL.c.lease_until.is_(None),
    MAIL.c.lease_until < sa.bindparam("now", type_=MAIL.c.lease_until.type),
)
CLAIMED_COLUMNS = (
    MAIL.c.id,
    MAIL.c.received_at,
    MAIL.c.source,
    MAIL.c.envelope,
    MAIL.c.size,
    MAIL.c.tries,
    MAIL.c.released,
    MAIL.c.blob,
)
# The first waiting mails that nobody holds, locked.
CLAIMABLE = (
    sa.select(*CLAIMED_COLUMNS)
    .where(IS_WAITING, IS_UNLEASED)
    .order_by(MAIL.c.id)
    .limit(sa.bindparam("size"))
    .with_for_update(skip_locked=True)
)
TAKE_LEASE = (
    sa.update(MAIL)
    .where(ID_IN_IDS)
    .values(
        lease_owner=sa.bindparam("owner"),
        lease_until=sa.bindparam("until", type_=MAIL.c.lease_until.type),
        tries=MAIL.c.tries + 1,
    )
)
SELECT_RAW = sa.select(RAW.c.mail_id, RAW.c.data).where(among(RAW.c.mail_id, "ids"))
RENEW_LEASE = (
    sa.update(MAIL)
    .where(ID_IN_IDS, IS_WAITING, MAIL.c.lease_owner == sa.bindparam("owner"))
    .values(lease_until=sa.bindparam("until", type_=MAIL.c.lease_until.type))
)
STILL_PENDING = sa.select(MAIL.c.id).where(IS_WAITING, ID_IN_IDS).with_for_update()


class MailToStore(RawMail, Protocol):
    """A mail to be stored: its raw bytes and the envelope."""

    @property
    def envelope(self) -> Envelope:
        """Return what the transport told us about the mail."""
        ...

    @property
    def mark(self) -> taken_mail.MailboxPosition | None:
        """Return the mail's position in a mailbox; None for mail from another source."""
        ...


@dataclass(frozen=True, slots=True)
class Claimed:
    """A mail claimed by one worker.

    ``tries`` includes this claim. ``released`` is set if a person released the mail from
    quarantine.
    """

    id: int
    envelope: Envelope
    raw: bytes
    size: int
    tries: int
    released: bool
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of processing a mail, as columns of its row; ``state`` is never pending."""

    mail_id: int
    state: MailState
    kind: str | None
    channel_id: int | None
    message_id: str | None
    sender: str | None
    subject: str | None
    fingerprint: bytes | None
    original_id: int | None
    message: int | None
    thread_id: int | None
    ticket: int | None
    reason: str | None
    outcome: Any
    processed_at: datetime


class ClaimLost(Unavailable):
    """Another worker finished a mail of this batch; roll the transaction back."""


class Spool:
    """Mail waiting to be processed: rows in ``database``, large raw mail in ``blobs``."""

    __slots__ = ("_places", "blobs", "database")

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self.database = database
        self.blobs = blobs
        self._places = RawPlaces(database, blobs)

    async def put(self, mails: Sequence[MailToStore]) -> list[int]:
        """Store all of the mails or none, durably; return their ids in the order given.

        New ids ascend. A mail that was already fetched from its mailbox and stored keeps its id.
        Files of the caller stay where they are. Raises ``DiskFull`` or ``StoreUnavailable``, and
        ``MailboxLeaseLost`` where another process now reads one of the mailboxes.
        """
        places = await self._places.place(mails)
        ended = False
        try:
            async with self.database.write() as connection:
                ids, fresh = await _insert(connection, self.database.node, mails, places)
                ended = True
        except Exception:
            if ended:  # in the commit, which may have happened all the same
                self._places.doubt(places)
            else:
                await self._places.unused(places)
            raise
        await self._places.used([place for place, new in zip(places, fresh, strict=True) if new])
        await self._places.unused(
            [place for place, new in zip(places, fresh, strict=True) if not new]
        )
        return ids

    async def claim(
        self,
        node: str,
        limit: int,
        lease_seconds: float,
        now: datetime,
        ids: Collection[int] | None = None,
    ) -> list[Claimed]:
        """Claim up to ``limit`` waiting mails, earliest received first; with ``ids``, only these.

        The lease lasts ``lease_seconds`` from ``now``. It is not synced to disk, since losing it in
        a crash does no harm. One claim loads at most :data:`CLAIM_BYTES` of mail, or one larger
        mail.
        """
        query = CLAIMABLE if ids is None else CLAIMABLE.where(ID_IN_IDS)
        values = {"now": now, "size": limit} | ({"ids": sorted(ids)} if ids is not None else {})
        async with self.database.write(durable=False) as connection:
            rows = _affordable((await connection.execute(query, values)).all())
            if not rows:
                return []
            mine = [row.id for row in rows]
            await connection.execute(
                TAKE_LEASE,
                {"ids": mine, "owner": node, "until": now + timedelta(seconds=lease_seconds)},
            )
            raws = dict((await connection.execute(SELECT_RAW, {"ids": mine})).all())
        await self._fetch([row for row in rows if row.blob is not None], raws, now)
        return [_claimed(row, raws[row.id]) for row in rows if row.id in raws]

    async def _fetch(self, rows: Sequence[Any], raws: dict[int, bytes], now: datetime) -> None:
        """Add the blobs of claimed mails to ``raws``.

        A mail whose blob is missing counts as failed. A mail whose blob cannot be read now waits
        until its lease ends; this does not count as a try. The other mails are not held up.
        """
        lost: list[int] = []
        unread: list[int] = []
        for row in rows:
            try:
                raws[row.id] = await self.blobs.get(row.blob)
            except Rejected:
                lost.append(row.id)
            except Unavailable as error:
                unread.append(row.id)
                _log.error("mail waits for its blob", mail_id=row.id, reason=error.message)
        if lost:
            await self.fail(lost, "Its raw bytes are missing from the blob store.", now)
        if unread:
            await self._update(unread, {"tries": MAIL.c.tries - 1})

    async def renew(
        self, node: str, ids: Collection[int], lease_seconds: float, now: datetime
    ) -> None:
        """Let the leases that ``node`` still holds last ``lease_seconds`` from ``now``."""
        until = now + timedelta(seconds=lease_seconds)
        async with self.database.write(durable=False) as connection:
            await connection.execute(
                RENEW_LEASE, {"ids": sorted(ids), "owner": node, "until": until}
            )

    async def put_off(self, ids: Collection[int]) -> None:
        """Release claimed mails that nobody tried to read; the claim does not count as a try."""
        await self._update(ids, NO_LEASE | {"tries": MAIL.c.tries - 1})

    async def release(self, node: str, held: Collection[int]) -> None:
        """Release all mails claimed by ``node`` except ``held``; the claim does not count as a try.

        A node calls this after it lost the connection to the database: it may have claimed mails
        without knowing it, or failed to release mails.
        """
        others = sa.update(MAIL).where(
            IS_WAITING, MAIL.c.lease_owner == sa.bindparam("node"), sa.not_(ID_IN_IDS)
        )
        async with self.database.write(durable=False) as connection:
            await connection.execute(
                others.values(NO_LEASE | {"tries": MAIL.c.tries - 1}),
                {"node": node, "ids": sorted(held)},
            )

    async def free_orphans(self, node: str) -> int:
        """Release mails claimed by dead processes of this host; return how many.

        ``node`` is the name of the process that starts now. A mail that was claimed more than once
        waits until its lease ends, since it may have killed the process.
        """
        host = node.rpartition("-")[0]
        query = sa.select(MAIL.c.id, MAIL.c.lease_owner).where(
            IS_WAITING,
            MAIL.c.lease_owner.startswith(f"{host}-", autoescape=True),
            MAIL.c.tries < TRIES,
        )
        async with self.database.read() as connection:
            claimed = (await connection.execute(query)).all()
        gone = dead({row.lease_owner for row in claimed}, node)
        orphans = [row.id for row in claimed if row.lease_owner in gone]
        if orphans:
            await self._update(orphans, NO_LEASE)
        return len(orphans)

    async def fail(self, ids: Collection[int], reason: str, now: datetime) -> None:
        """Release claimed mails after a failure; a mail that has failed twice is held.

        ``reason`` is shown with the held mail.
        """
        again = MAIL.c.tries < TRIES
        state = sa.case((again, "pending"), else_="held")
        processed_at = sa.case((again, None), else_=sa.literal(now, MAIL.c.processed_at.type))
        values = {"state": state, "reason": reason, "processed_at": processed_at}
        await self._update(ids, NO_LEASE | values)

    async def _update(self, ids: Collection[int], values: Mapping[str, Any]) -> None:
        async with self.database.write() as connection:
            await connection.execute(
                sa.update(MAIL)
                .where(MAIL.c.id.in_(sorted(ids)), MAIL.c.state == "pending")
                .values(values)
            )

    async def pending_count(self) -> int:
        """Return the number of mails that wait to be processed or are being processed."""
        query = sa.select(sa.func.count()).select_from(MAIL).where(IS_WAITING)
        async with self.database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def next_due(self) -> datetime | None:
        """Return when the next mail can be claimed; None where no mail waits.

        A time in 1970 means that a mail can be claimed now.
        """
        instant = MAIL.c.lease_until.type
        free = sa.func.coalesce(MAIL.c.lease_until, 0, type_=instant)
        query = sa.select(sa.func.min(free, type_=instant)).where(IS_WAITING)
        async with self.database.read() as connection:
            due: datetime | None = (await connection.execute(query)).scalar()
            return due


def _affordable(rows: Sequence[Any]) -> list[Any]:
    """Return as many of the first rows as fit into :data:`CLAIM_BYTES`, but at least one."""
    totals = accumulate(row.size for row in rows)
    fitting = sum(total <= CLAIM_BYTES for total in totals)
    return list(rows[: max(fitting, 1)])


async def _insert(
    connection: AsyncConnection, node: str, mails: Sequence[MailToStore], places: Sequence[Place]
) -> tuple[list[int], list[bool]]:
    """Insert the rows of mails; return their ids, and which of them are new."""
    marked = {mail.mark: bytes.fromhex(mail.sha256)[:16] for mail in mails if mail.mark is not None}
    known = (
        await taken_mail.find_taken(connection, node, marked)
        if marked
        else taken_mail.NOTHING_TAKEN
    )
    had = {**known.there, **known.again}
    numbers = iter(await _numbers(connection, sum(mail.mark not in had for mail in mails)))
    ids = [had[mail.mark] if mail.mark in had else next(numbers) for mail in mails]
    fresh = [
        (mail_id, mail, place)
        for mail_id, mail, place in zip(ids, mails, places, strict=True)
        if mail.mark not in had
    ]
    raws = [
        {"mail_id": mail_id, "data": place}
        for mail_id, _, place in fresh
        if isinstance(place, bytes)
    ]
    await write_rows(connection, [(MAIL, [_row(*each) for each in fresh]), (RAW, raws)])
    if marked:
        own = {
            mail.mark: mail_id
            for mail, mail_id in zip(mails, ids, strict=True)
            if mail.mark is not None
        }
        await taken_mail.record(connection, marked, own, known)
    await tell_others(connection, "mail")
    return ids, [mail.mark not in had for mail in mails]


async def _numbers(connection: AsyncConnection, n: int) -> list[int]:
    """Return ``n`` new mail ids: from PostgreSQL's sequence, or those after SQLite's last id."""
    if connection.dialect.name == "sqlite":
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'mail'"
        last = (await connection.exec_driver_sql(query)).scalar() or 0
        return list(range(last + 1, last + 1 + n))
    query = "SELECT nextval(pg_get_serial_sequence('mail', 'id')) FROM generate_series(1, $1::int)"
    return sorted((await connection.exec_driver_sql(query, (n,))).scalars())


def _row(mail_id: int, mail: MailToStore, place: Place) -> dict[str, Any]:
    return {
        "id": mail_id,
        "received_at": mail.envelope.received_at,
        "source": mail.envelope.source,
        "envelope": pack(mail.envelope),
        "size": mail.size,
        "sha256": mail.sha256,
        "blob": place.key if isinstance(place, PlacedBlob) else None,
    }


def _claimed(row: Any, raw: bytes) -> Claimed:
    return Claimed(
        id=row.id,
        envelope=unpack(row.envelope, row.source, row.received_at),
        raw=bytes(raw),
        size=row.size,
        tries=row.tries + 1,
        released=row.released,
        received_at=row.received_at,
    )


_RESULT_COLUMNS = tuple(name for name in Finished.__slots__ if name != "mail_id")
_WRITE_RESULT = (
    sa.update(MAIL)
    .where(MAIL.c.id == sa.bindparam("mail_id"))
    .values(
        {name: sa.bindparam(f"_{name}", type_=MAIL.c[name].type) for name in _RESULT_COLUMNS}
        | NO_LEASE
    )
)


async def finish(connection: AsyncConnection, results: Sequence[Finished]) -> None:
    """Record results in the caller's transaction; raise ClaimLost if a mail no longer waits."""
    if not results:
        return
    ids = sorted({each.mail_id for each in results})
    if len((await connection.execute(STILL_PENDING, {"ids": ids})).all()) != len(ids):
        raise ClaimLost("a mail of this batch was finished by another daemon")
    await write_rows(connection, [(_WRITE_RESULT, [_result_row(each) for each in results])])


def _result_row(result: Finished) -> dict[str, Any]:
    """Return the parameters of ``_WRITE_RESULT``."""
    values = {f"_{name}": getattr(result, name) for name in _RESULT_COLUMNS}
    return {"mail_id": result.mail_id} | values
