"""Deliveries: claim them under a lease, record the results of attempts, retry or cancel them.

A delivery is one recipient of an outgoing mail.

Only the process that holds the lease of a delivery may record a result. So a delivery that was sent
or cancelled is never sent again. The database may go away after the smarthost accepted a mail; then
the lease runs out and the mail is sent once more, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import NotFound, Refused
from gateway.store.engine import Database
from gateway.store.queues.wake import tell_others
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import write_rows
from gateway.store.sql.nodes import dead

State = Literal["scheduled", "queued", "sent", "deferred", "failed", "cancelled"]
WAITING_STATES: tuple[State, ...] = ("scheduled", "queued", "deferred")
CLAIM_BYTES = 32 << 20  # raw bytes one claim loads, unless a single mail is larger

DELIVERY, OUTGOING = tables.delivery, tables.outgoing
INSTANT = DELIVERY.c.due_at.type
# The index of waiting deliveries is only used when the query repeats its condition, with literals.
IS_WAITING = sa.text("delivery.state IN ('queued', 'deferred')")
ID_IN_IDS = among(DELIVERY.c.id, "ids")
IS_UNLEASED = sa.or_(
    DELIVERY.c.lease_until.is_(None), DELIVERY.c.lease_until < sa.bindparam("now", type_=INSTANT)
)
CLAIMABLE = (
    sa.select(DELIVERY)
    .where(IS_WAITING, DELIVERY.c.due_at <= sa.bindparam("due", type_=INSTANT), IS_UNLEASED)
    .order_by(DELIVERY.c.due_at)
    .limit(sa.bindparam("size"))
    .with_for_update(skip_locked=True)
)
NEXT_DUE = (
    sa.select(DELIVERY.c.due_at).where(IS_WAITING, IS_UNLEASED).order_by(DELIVERY.c.due_at).limit(1)
)
TAKE_LEASE = (
    sa.update(DELIVERY)
    .where(ID_IN_IDS)
    .values(lease_owner=sa.bindparam("owner"), lease_until=sa.bindparam("until", type_=INSTANT))
)
LEASED_BY_OWNER = sa.and_(ID_IN_IDS, IS_WAITING, DELIVERY.c.lease_owner == sa.bindparam("owner"))
EXTEND_LEASE = (
    sa.update(DELIVERY)
    .where(LEASED_BY_OWNER)
    .values(lease_until=sa.bindparam("until", type_=INSTANT))
)
RELEASE_LEASE = (
    sa.update(DELIVERY).where(LEASED_BY_OWNER).values(lease_owner=None, lease_until=None)
)
STILL_LEASED = sa.select(DELIVERY.c.id).where(LEASED_BY_OWNER).with_for_update()
SELECT_SIZE = sa.select(OUTGOING.c.id, sa.func.length(OUTGOING.c.raw)).where(
    among(OUTGOING.c.id, "mails")
)
SELECT_MAIL = sa.select(
    OUTGOING.c.id, OUTGOING.c.ticket, OUTGOING.c.automatic, OUTGOING.c.return_address
).where(among(OUTGOING.c.id, "mails"))
SELECT_RAW = sa.select(OUTGOING.c.id, OUTGOING.c.raw).where(among(OUTGOING.c.id, "mails"))
NEWEST_SIGNING_KEY = (
    sa.select(tables.signing_key.c.secret).order_by(tables.signing_key.c.id.desc()).limit(1)
)
# Stores the result of an attempt and ends the lease.
RECORD_ATTEMPT = (
    sa.update(DELIVERY)
    .where(DELIVERY.c.id == sa.bindparam("_id"))
    .values(
        {
            name: sa.bindparam(f"_{name}", type_=DELIVERY.c[name].type)
            for name in ("state", "due_at", "last_reply", "ended_at", "settled")
        }
    )
    .values(attempts=DELIVERY.c.attempts + 1, lease_owner=None, lease_until=None)
)
# The fields of ListedDelivery, in their order.
SELECT_LISTED = sa.select(
    DELIVERY.c.id,
    OUTGOING.c.ticket,
    OUTGOING.c.message_id,
    DELIVERY.c.recipient,
    DELIVERY.c.state,
    DELIVERY.c.attempts,
    DELIVERY.c.due_at,
    DELIVERY.c.last_reply,
    OUTGOING.c.automatic,
    OUTGOING.c.template,
    OUTGOING.c.subject,
).join(OUTGOING, OUTGOING.c.id == DELIVERY.c.outgoing_id)
SELECT_DETAILS = sa.select(
    DELIVERY.c.outgoing_id,
    DELIVERY.c.created_at,
    DELIVERY.c.ended_at,
    OUTGOING.c.return_address,
    OUTGOING.c.raw,
    OUTGOING.c.draft,
).join(OUTGOING, OUTGOING.c.id == DELIVERY.c.outgoing_id)
LOCK_DELIVERIES = sa.select(DELIVERY).where(ID_IN_IDS).order_by(DELIVERY.c.id).with_for_update()


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery claimed by one worker.

    ``attempts`` counts earlier attempts; attempts go on until five days after ``first_at``. ``raw``
    holds the bytes of the mail, which all its recipients share. It is empty if the claim was
    ``bare`` (:meth:`Deliveries.claim`).
    """

    id: int
    outgoing: int
    ticket: int | None
    recipient: str
    attempts: int
    created_at: datetime
    first_at: datetime
    return_address: str | None
    automatic: bool
    raw: bytes


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """The result of an attempt.

    ``due_at`` is the time of the next attempt, if any; ``ended_at`` is set if no attempt follows.
    """

    id: int
    state: Literal["sent", "deferred", "failed"]
    reply: str
    due_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedDelivery:
    """One delivery in a list; the fields are the JSON keys of interfaces.md 2.2."""

    id: int
    ticket: int | None
    message_id: str | None
    recipient: str
    state: State
    attempts: int
    due_at: datetime | None
    last_reply: str | None
    automatic: bool
    template: str | None
    subject: str


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """All that is known of one delivery, with its mail, or with the draft if no mail exists yet."""

    listed: ListedDelivery
    outgoing: int
    created_at: datetime
    ended_at: datetime | None
    return_address: str | None
    raw: bytes | None
    draft: dict[str, Any] | None


class Deliveries:
    """The deliveries in ``database``."""

    __slots__ = ("database",)

    def __init__(self, database: Database) -> None:
        self.database = database

    async def claim(
        self,
        owner: str,
        limit: int,
        lease_seconds: float,
        now: datetime,
        *,
        due: datetime | None = None,
        bare: bool = False,
    ) -> list[ClaimedDelivery]:
        """Claim up to ``limit`` free deliveries, due at ``due`` (default: ``now``) or earlier.

        Deliveries with the earliest due time come first.

        The lease lasts ``lease_seconds`` from ``now``. It is not synced to disk, since losing it in
        a crash does no harm. One claim loads at most :data:`CLAIM_BYTES` of mail, or one larger
        mail; a ``bare`` claim loads no mail.
        """
        async with self.database.write(durable=False) as connection:
            rows = (
                await connection.execute(CLAIMABLE, {"now": now, "due": due or now, "size": limit})
            ).all()
            if rows and not bare:
                mails = list({row.outgoing_id for row in rows})
                sizes = await connection.execute(SELECT_SIZE, {"mails": mails})
                rows = _affordable(rows, dict(sizes.all()))
            if not rows:
                return []
            until = now + timedelta(seconds=lease_seconds)
            await connection.execute(
                TAKE_LEASE, {"ids": [row.id for row in rows], "owner": owner, "until": until}
            )
            mails = list({row.outgoing_id for row in rows})
            about = {row.id: row for row in await connection.execute(SELECT_MAIL, {"mails": mails})}
            raws = (
                {} if bare else dict((await connection.execute(SELECT_RAW, {"mails": mails})).all())
            )
        return [
            _job(row, about[row.outgoing_id], raws.get(row.outgoing_id))
            for row in sorted(rows, key=lambda row: (row.due_at, row.id))
        ]

    async def keep(
        self, owner: str, ids: Collection[int], lease_seconds: float, now: datetime
    ) -> None:
        """Extend the leases that ``owner`` still holds, to ``now`` plus ``lease_seconds``."""
        async with self.database.write(durable=False) as connection:
            await connection.execute(
                EXTEND_LEASE,
                {
                    "ids": sorted(ids),
                    "owner": owner,
                    "until": now + timedelta(seconds=lease_seconds),
                },
            )

    async def give_back(self, owner: str, ids: Collection[int]) -> None:
        """Release claimed deliveries that were not attempted."""
        async with self.database.write(durable=False) as connection:
            await connection.execute(RELEASE_LEASE, {"ids": sorted(ids), "owner": owner})

    async def free_orphans(self, node: str) -> int:
        """Release deliveries claimed by dead processes of this host; return how many.

        ``node`` is the name of the process that starts now.
        """
        host = node.rpartition("-")[0]
        query = sa.select(DELIVERY.c.id, DELIVERY.c.lease_owner).where(
            IS_WAITING, DELIVERY.c.lease_owner.startswith(f"{host}-", autoescape=True)
        )
        async with self.database.read() as connection:
            claimed = (await connection.execute(query)).all()
        owners = dead({row.lease_owner for row in claimed}, node)
        orphans = [row for row in claimed if row.lease_owner in owners]
        for owner in owners:
            await self.give_back(owner, [row.id for row in orphans if row.lease_owner == owner])
        return len(orphans)

    async def mark(self, owner: str, marks: Sequence[AttemptRecord]) -> set[int]:
        """Record attempts durably; return the ids of the deliveries that ``owner`` still held.

        Attempts of other deliveries are not recorded.
        """
        async with self.database.write() as connection:
            held = set(
                (
                    await connection.execute(
                        STILL_LEASED, {"ids": [each.id for each in marks], "owner": owner}
                    )
                ).scalars()
            )
            rows = [_attempt_row(each) for each in marks if each.id in held]
            await write_rows(connection, [(RECORD_ATTEMPT, rows)])
        return held

    async def signing_key(self) -> bytes:
        """Return the newest signing key, which is used to sign return paths."""
        async with self.database.read() as connection:
            return bytes((await connection.execute(NEWEST_SIGNING_KEY)).scalar_one())

    async def earliest_due(self, now: datetime) -> datetime | None:
        """Return when the next unclaimed delivery is due, or None where no delivery waits."""
        async with self.database.read() as connection:
            due: datetime | None = (await connection.execute(NEXT_DUE, {"now": now})).scalar()
            return due

    async def listing(
        self, state: State | None = None, limit: int | None = None
    ) -> list[ListedDelivery]:
        """Return the newest ``limit`` deliveries, newest first; scheduled drafts are included."""
        conditions = [] if state is None else [DELIVERY.c.state == state]
        query = SELECT_LISTED.where(*conditions).order_by(DELIVERY.c.id.desc()).limit(limit)
        async with self.database.read() as connection:
            return [ListedDelivery(*row) for row in await connection.execute(query)]

    async def show(self, delivery: int) -> DeliveryView:
        """Return one delivery; NotFound where there is none."""
        async with self.database.read() as connection:
            listed = (
                await connection.execute(SELECT_LISTED.where(DELIVERY.c.id == delivery))
            ).one_or_none()
            row = (
                await connection.execute(SELECT_DETAILS.where(DELIVERY.c.id == delivery))
            ).one_or_none()
        if listed is None or row is None:
            raise NotFound(f"no delivery {delivery}")
        return DeliveryView(
            listed=ListedDelivery(*listed),
            outgoing=row.outgoing_id,
            created_at=row.created_at,
            ended_at=row.ended_at,
            return_address=row.return_address,
            raw=row.raw,
            draft=row.draft,
        )


async def retry(connection: AsyncConnection, ids: Collection[int], now: datetime) -> None:
    """Queue failed or deferred deliveries again: due now, and attempted for another five days.

    If :func:`_refuse` raises an error, nothing is queued. Earlier attempts stay counted. A
    scheduled mail that failed before it was composed is scheduled again instead.
    """
    draft = sa.exists().where(
        OUTGOING.c.id == DELIVERY.c.outgoing_id, OUTGOING.c.draft.is_not(None)
    )
    state = sa.case((draft, "scheduled"), else_="queued")
    values = {"state": state, "due_at": now, "queued_at": now, "ended_at": None, "settled": True}
    await _change(connection, ids, ("failed", "deferred"), values, now)


async def cancel(connection: AsyncConnection, ids: Collection[int], now: datetime) -> None:
    """Cancel deliveries that are not sent yet; if :func:`_refuse` raises, cancel nothing."""
    values = {"state": "cancelled", "due_at": None, "ended_at": now}
    await _change(connection, ids, WAITING_STATES, values, now)


async def failing(connection: AsyncConnection, tickets: Collection[int]) -> set[int]:
    """Return which of these tickets have a failed delivery."""
    query = sa.select(OUTGOING.c.ticket).join(DELIVERY, DELIVERY.c.outgoing_id == OUTGOING.c.id)
    query = query.where(OUTGOING.c.ticket.in_(tickets), DELIVERY.c.state == "failed")
    return set((await connection.execute(query.distinct())).scalars())


async def _change(
    connection: AsyncConnection,
    ids: Collection[int],
    allowed: tuple[State, ...],
    values: dict[str, Any],
    now: datetime,
) -> None:
    await _refuse(connection, ids, allowed, now)
    await connection.execute(
        sa.update(DELIVERY)
        .where(ID_IN_IDS)
        .values(values | {"lease_owner": None, "lease_until": None}),
        {"ids": sorted(set(ids))},
    )
    await tell_others(connection, "outbox")


async def _refuse(
    connection: AsyncConnection, ids: Collection[int], allowed: tuple[State, ...], now: datetime
) -> None:
    """Raise an error if one of these deliveries may not be changed.

    Raises NotFound for an unknown delivery. Raises Refused if its state is not in ``allowed``, or
    if it is being sent.
    """
    found = {
        row.id: row for row in await connection.execute(LOCK_DELIVERIES, {"ids": sorted(set(ids))})
    }
    for each in ids:
        row = found.get(each)
        if row is None:
            raise NotFound(f"no delivery {each}")
        if row.state not in allowed:
            raise Refused(
                f"delivery {each} is already {row.state}"
                if row.state not in WAITING_STATES
                else f"delivery {each} is {row.state}"
            )
        if row.state != "failed" and row.lease_until is not None and row.lease_until >= now:
            raise Refused(f"delivery {each} is being sent right now")


def _attempt_row(attempt: AttemptRecord) -> dict[str, Any]:
    """Return the parameters of ``RECORD_ATTEMPT``."""
    return {
        "_id": attempt.id,
        "_state": attempt.state,
        "_due_at": attempt.due_at,
        "_last_reply": attempt.reply,
        "_ended_at": attempt.ended_at,
        "_settled": attempt.state != "failed",
    }


def _affordable(rows: Sequence[Any], sizes: dict[int, int | None]) -> list[Any]:
    """Return as many of the first rows as fit into :data:`CLAIM_BYTES`, counting each mail once."""
    seen: set[int] = set()
    total = 0
    taken: list[Any] = []
    for row in rows:
        if row.outgoing_id not in seen:
            total += sizes.get(row.outgoing_id) or 0
            if taken and total > CLAIM_BYTES:
                break
            seen.add(row.outgoing_id)
        taken.append(row)
    return taken


def _job(row: Any, mail: Any, raw: bytes | None) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=row.id,
        outgoing=row.outgoing_id,
        ticket=mail.ticket,
        recipient=row.recipient,
        attempts=row.attempts,
        created_at=row.created_at,
        first_at=max(row.created_at, row.queued_at or row.created_at),
        return_address=mail.return_address,
        automatic=mail.automatic,
        raw=bytes(raw or b""),
    )
