"""Mailboxes read by IMAP: their leases, the UIDs read so far, and the last problem.

Also records which mails must still be flagged, moved or deleted on the server ("settled").

Only the process that holds the lease of a mailbox changes the mailbox. A process that has lost the
lease gets :class:`MailboxLeaseLost`, and nothing is changed. Stored mails are recorded by
:mod:`gateway.store.imap.taken_mail`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import Database
from gateway.store.imap.taken_mail import (
    AT_UIDVALIDITY,
    KNOWN_UIDS,
    MAILBOX,
    SUPERSEDED,
    TAKEN,
    MailboxLeaseLost,
)
from gateway.store.sql.any_of import among
from gateway.store.sql.nodes import dead

Automation = Literal["all", "fresh", "none"]
State = Literal["new", "ok", "failing", "refused"]
IS_UNFETCHABLE = (TAKEN.c.mail_id.is_(None), sa.text("NOT mailbox_mail.settled"))
IS_UNSETTLED = (sa.text("NOT mailbox_mail.settled"), TAKEN.c.mail_id.is_not(None))

# Copies the mails taken from a mailbox into the table of those known by digest, as a generation.
SUPERSEDE = sa.insert(SUPERSEDED).from_select(
    ["mailbox_id", "digest", "generation", "uid", "mail_id"],
    sa.select(
        TAKEN.c.mailbox_id,
        TAKEN.c.digest,
        sa.select(sa.func.coalesce(sa.func.max(SUPERSEDED.c.generation), 0) + 1)
        .where(SUPERSEDED.c.mailbox_id == sa.bindparam("box"))
        .scalar_subquery(),
        TAKEN.c.uid,
        TAKEN.c.mail_id,
    ).where(
        TAKEN.c.mailbox_id == sa.bindparam("box"),
        TAKEN.c.mail_id.is_not(None),
        TAKEN.c.digest.is_not(None),
    ),
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The row of a mailbox; see the columns of ``schema.mailbox``."""

    id: int
    name: str
    place: str
    uidvalidity: int
    last_uid: int
    backlog_end: int
    backlog_since: date | None
    backlog_automation: Automation
    first_seen_at: datetime | None
    state: State
    problem: str | None
    failing_since: datetime | None
    last_pass_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class Owed:
    """A mail that could not be fetched: the reason, the number of tries, and the next try."""

    uid: int
    problem: str
    tries: int
    retry_at: datetime | None


class Mailboxes:
    """The mailboxes in ``database``; only the holder of a mailbox's lease changes the mailbox."""

    __slots__ = ("database",)

    def __init__(self, database: Database) -> None:
        self.database = database

    async def listing(self) -> list[Mailbox]:
        """Return all mailboxes, sorted by name; some may no longer be in the configuration."""
        query = sa.select(MAILBOX).order_by(MAILBOX.c.name)
        async with self.database.read() as connection:
            return [Mailbox(**row) for row in (await connection.execute(query)).mappings()]

    async def get(self, name: str) -> Mailbox | None:
        """Return a mailbox, or None where it has no row."""
        return next((each for each in await self.listing() if each.name == name), None)

    async def register(self, wanted: Sequence[tuple[str, str]]) -> None:
        """Insert a row for each (name, place) whose name has no row yet.

        The place is account, server and folder.

        A known name with a new place is another mailbox: its row is reset, as if never opened.
        """
        known = {each.name: each.place for each in await self.listing()}
        if all(known.get(name) == place for name, place in wanted):
            return
        fresh: dict[str, Any] = dict.fromkeys(
            ("first_seen_at", "problem", "failing_since", "last_pass_at", "backlog_since")
        )
        fresh |= {"uidvalidity": 0, "backlog_automation": "fresh", "state": "new"}
        async with self.database.write(ordered=True) as connection:
            known = dict(
                (await connection.execute(sa.select(MAILBOX.c.name, MAILBOX.c.place))).all()
            )
            for name, place in wanted:
                if name not in known:
                    await connection.execute(sa.insert(MAILBOX).values(name=name, place=place))
                elif known[name] != place:
                    await connection.execute(
                        sa.update(MAILBOX)
                        .where(MAILBOX.c.name == name)
                        .values(place=place, **fresh)
                    )

    # ---- the lease

    async def claim(
        self, names: Collection[str], seconds: float, now: datetime
    ) -> dict[str, Mailbox]:
        """Take or renew leases until ``seconds`` after ``now``; return the mailboxes we then hold.

        Leases of dead processes of this host count as free. When our row is locked by another
        transaction of this process, renewing waits until that transaction ends. A free row that
        another process has locked is skipped.
        """
        named = MAILBOX.c.name.in_(sorted(names))
        lease = {"lease_owner": self.database.node, "lease_until": now + timedelta(seconds=seconds)}
        async with self.database.write(durable=False) as connection:
            kept = await connection.execute(
                sa.update(MAILBOX)
                .where(named, MAILBOX.c.lease_owner == self.database.node)
                .values(**lease)
                .returning(MAILBOX)
            )
            rows = list(kept.mappings())
            if ids := await self._free(connection, named, now):
                taken = await connection.execute(
                    sa.update(MAILBOX)
                    .where(MAILBOX.c.id.in_(ids))
                    .values(**lease)
                    .returning(MAILBOX)
                )
                rows += taken.mappings()
        return {row["name"]: Mailbox(**row) for row in rows}

    async def _free(
        self, connection: AsyncConnection, named: sa.ColumnElement[bool], now: datetime
    ) -> list[int]:
        """Lock rows with a free lease; return their ids. Rows locked by others are skipped."""
        others = MAILBOX.c.lease_owner != self.database.node
        held = sa.select(MAILBOX.c.lease_owner).where(
            named, MAILBOX.c.lease_owner.is_not(None), others
        )
        gone = dead(set((await connection.execute(held)).scalars()), self.database.node)
        free = sa.or_(
            MAILBOX.c.lease_owner.is_(None),
            MAILBOX.c.lease_owner.in_(sorted(gone)),
            sa.and_(MAILBOX.c.lease_until < now, others),
        )
        query = (
            sa.select(MAILBOX.c.id)
            .where(named, free)
            .order_by(MAILBOX.c.id)
            .with_for_update(skip_locked=True)
        )
        return list((await connection.execute(query)).scalars())

    async def release(self, names: Collection[str]) -> None:
        """Give up our leases of these mailboxes."""
        mine = sa.update(MAILBOX).where(
            MAILBOX.c.name.in_(sorted(names)), MAILBOX.c.lease_owner == self.database.node
        )
        async with self.database.write(durable=False) as connection:
            await connection.execute(mine.values(lease_owner=None, lease_until=None))

    async def _change(self, box: int, *, durable: bool = True, **values: Any) -> None:
        async with self.database.write(durable=durable) as connection:
            await self._set(connection, box, **values)

    async def _set(self, connection: AsyncConnection, box: int, **values: Any) -> None:
        mine = sa.update(MAILBOX).where(
            MAILBOX.c.id == box, MAILBOX.c.lease_owner == self.database.node
        )
        if not (await connection.execute(mine.values(**values))).rowcount:
            raise MailboxLeaseLost("another process reads the mailbox now")

    # ---- how far it was read

    async def begin(self, box: int, uidvalidity: int, last: int, now: datetime) -> None:
        """Record a new UIDVALIDITY: at the first opening, or after the server has changed it.

        ``last`` is the newest UID. Earlier UIDs count for nothing from now on, even if the server
        returns to an earlier UIDVALIDITY: mail stored under them is recognised by its digest.
        """
        first = sa.func.coalesce(
            MAILBOX.c.first_seen_at,
            sa.literal(now, MAILBOX.c.first_seen_at.type),
            type_=MAILBOX.c.first_seen_at.type,
        )
        async with self.database.write(ordered=True) as connection:
            await self._set(
                connection,
                box,
                uidvalidity=uidvalidity,
                last_uid=0,
                backlog_end=last,
                first_seen_at=first,
            )
            await connection.execute(SUPERSEDE, {"box": box})
            await connection.execute(sa.delete(TAKEN).where(TAKEN.c.mailbox_id == box))

    async def plan(
        self, box: int, since: date | None, automation: Automation, last: int, now: datetime
    ) -> None:
        """Let the mailbox be read again up to the UID ``last``, as if opened for the first time."""
        unread: dict[str, Any] = {"first_seen_at": now, "last_uid": 0, "last_pass_at": None}
        plan: dict[str, Any] = {"backlog_since": since, "backlog_automation": automation}
        await self._change(box, **unread, **plan, backlog_end=last)

    async def advance(self, box: int, last: int) -> None:
        """Record that mail up to the UID ``last`` is done: each mail is recorded or gone."""
        await self._change(box, last_uid=last)

    async def known(self, box: int, uidvalidity: int, uids: Collection[int]) -> set[int]:
        """Return which of these UIDs are recorded: as stored, or as impossible to fetch."""
        wanted = {"box": box, "validity": uidvalidity, "uids": sorted(uids)}
        async with self.database.read() as connection:
            return set((await connection.execute(KNOWN_UIDS, wanted)).scalars())

    # ---- unsettled and unfetchable mails

    async def unsettled(self, box: int, uidvalidity: int, limit: int) -> list[int]:
        """Return the UIDs of stored mails that must still be flagged, moved or deleted.

        The UIDs are in ascending order.
        """
        query = sa.select(TAKEN.c.uid).where(AT_UIDVALIDITY, *IS_UNSETTLED).order_by(TAKEN.c.uid)
        given = {"box": box, "validity": uidvalidity}
        async with self.database.read() as connection:
            return list((await connection.execute(query.limit(limit), given)).scalars())

    async def settle(self, box: int, uidvalidity: int, uids: Collection[int]) -> None:
        """Record that mails are settled: flagged, moved or deleted on the server.

        If a crash loses the record, this is done again.
        """
        settled = sa.update(TAKEN).where(AT_UIDVALIDITY, among(TAKEN.c.uid, "uids"))
        these = {"box": box, "validity": uidvalidity, "uids": sorted(uids)}
        async with self.database.write(durable=False) as connection:
            await connection.execute(settled.values(settled=True), these)

    async def record_unfetchable(
        self, box: int, uidvalidity: int, uid: int, problem: str, retry_at: datetime
    ) -> None:
        """Record that a mail cannot be fetched, so that users see it and later mail is not held up.

        Does nothing where the mail is stored already.
        """
        key = {"mailbox_id": box, "uidvalidity": uidvalidity, "uid": uid}
        here = sa.and_(*(TAKEN.c[name] == value for name, value in key.items()))
        async with self.database.write() as connection:
            # locks the row, so that the mailbox stays ours until the end
            await self._set(connection, box, lease_owner=self.database.node)
            row = (
                await connection.execute(sa.select(TAKEN.c.tries, TAKEN.c.mail_id).where(here))
            ).one_or_none()
            if row is None:
                await connection.execute(
                    sa.insert(TAKEN).values(
                        **key, settled=False, problem=problem, tries=1, retry_at=retry_at
                    )
                )
            elif row.mail_id is None:
                await connection.execute(
                    sa.update(TAKEN)
                    .where(here)
                    .values(problem=problem, tries=row.tries + 1, retry_at=retry_at)
                )

    async def owed(self, box: int, uidvalidity: int, due: datetime | None = None) -> list[Owed]:
        """Return mails that could not be fetched.

        If ``due`` is given, return only those whose next try is due by then.
        """
        query = sa.select(TAKEN.c.uid, TAKEN.c.problem, TAKEN.c.tries, TAKEN.c.retry_at).where(
            AT_UIDVALIDITY,
            sa.text("NOT mailbox_mail.settled"),
            TAKEN.c.mail_id.is_(None),
            TAKEN.c.problem.is_not(None),
        )
        if due is not None:
            query = query.where(TAKEN.c.retry_at <= due)
        async with self.database.read() as connection:
            return [
                Owed(*row)
                for row in await connection.execute(
                    query.order_by(TAKEN.c.uid), {"box": box, "validity": uidvalidity}
                )
            ]

    async def owed_counts(self) -> dict[int, int]:
        """Return how many mails could not be fetched, by mailbox id.

        Mailboxes without such mails are absent.
        """
        query = sa.select(TAKEN.c.mailbox_id, sa.func.count()).where(*IS_UNFETCHABLE)
        async with self.database.read() as connection:
            return dict((await connection.execute(query.group_by(TAKEN.c.mailbox_id))).all())

    async def drop_unfetchable(self, box: int, uidvalidity: int, uids: Collection[int]) -> None:
        """Delete the records of mails that could not be fetched and have left the server."""
        drop = sa.delete(TAKEN).where(AT_UIDVALIDITY, among(TAKEN.c.uid, "uids"), *IS_UNFETCHABLE)
        these = {"box": box, "validity": uidvalidity, "uids": sorted(uids)}
        async with self.database.write() as connection:
            await connection.execute(drop, these)

    # ---- state

    async def mark_ok(self, box: int, now: datetime) -> None:
        """Record that reading works and that all mail in the mailbox is stored."""
        await self._change(
            box, durable=False, state="ok", problem=None, failing_since=None, last_pass_at=now
        )

    async def mark_failing(self, box: int, state: State, problem: str, now: datetime) -> None:
        """Record why reading failed, as one sentence; the first failure sets ``failing_since``."""
        since = sa.func.coalesce(
            MAILBOX.c.failing_since,
            sa.literal(now, MAILBOX.c.failing_since.type),
            type_=MAILBOX.c.failing_since.type,
        )
        await self._change(box, durable=False, state=state, problem=problem, failing_since=since)
