"""Check the database: the file itself, references, numbers, raw mail and blobs.

Nothing is changed, and the database is read as of one instant, so a check may run beside the
daemon. A blob without a row is reported but does not count as damage, since a crash may leave one
(gateway/store/queues/blobs.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import HEAD, Database, schema_version
from gateway.store.queues.blobs import Blobs, intact
from gateway.store.schema import tables
from gateway.store.upkeep.copy import batches, snapshot

Progress = Callable[[str, int], None]

T = tables
# References without a foreign key, and their targets.
POINTERS: tuple[tuple[sa.Column[int], sa.Column[int]], ...] = (
    (T.message.c.mail_id, T.mail.c.id),
    (T.message.c.sender_id, T.contact.c.id),
    (T.message.c.author_id, T.user.c.id),
    (T.message.c.ticket_note, T.ticket.c.number),
    (T.message_ref.c.thread_id, T.thread.c.id),
    (T.message_ref.c.message, T.message.c.id),
    (T.thread.c.redirect_to, T.thread.c.id),
    (T.ticket.c.merged_into, T.ticket.c.number),
    (T.mail.c.original_id, T.mail.c.id),
    (T.mail.c.message, T.message.c.id),
    (T.mail.c.thread_id, T.thread.c.id),
    (T.mail.c.ticket, T.ticket.c.number),
    (T.mail.c.channel_id, T.channel.c.id),
    (T.pipeline.c.on_email_sent, T.status.c.id),
    (T.pipeline.c.on_customer_reply, T.status.c.id),
    (T.channel.c.outbound_status_id, T.status.c.id),
    (T.outgoing.c.author_id, T.user.c.id),
)
COUNTED_COLUMNS = {
    "ticket": T.ticket.c.number,
    "thread": T.thread.c.id,
    "message": T.message.c.id,
    "event": T.event.c.id,
    "contact": T.contact.c.id,
    "outgoing": T.outgoing.c.id,
    "delivery": T.delivery.c.id,
    "enrolment": T.enrolment.c.id,
    "action_run": T.action_run.c.id,
    "notice": T.notice.c.id,
    "webhook_call": T.webhook_call.c.id,
    "task": T.task.c.id,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem: the check that found it, how often it occurs, and a description or example."""

    check: str
    count: int
    detail: str


@dataclass(slots=True)
class CheckReport:
    """The findings of a check; ``spare`` holds keys of blobs that no mail names."""

    mails: int = 0
    blobs: int = 0
    findings: list[Finding] = field(default_factory=list)
    spare: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Return whether there are no findings; ``spare`` blobs do not count."""
        return not self.findings

    def note(self, check: str, count: int, detail: str) -> None:
        """Add a finding, unless ``count`` is 0."""
        if count:
            self.findings.append(Finding(check, count, detail))


async def check(
    database: Database, blobs: Blobs, progress: Progress = lambda _what, _steps: None
) -> CheckReport:
    """Check the database and its blobs.

    ``progress`` gets "mail" or "blobs", and how many were just checked.
    """
    report = CheckReport()
    found = await schema_version(database)
    report.note("head", int(found != HEAD), f"the schema is at {found}, the program at {HEAD}")
    if found != HEAD:
        return report
    async with snapshot(database) as connection:
        if database.dialect == "sqlite":
            verdict = [row[0] for row in await connection.exec_driver_sql("PRAGMA integrity_check")]
            report.note("integrity", 0 if verdict == ["ok"] else len(verdict), verdict[0])
        await _references(connection, report)
        await _numbers(connection, report)
        await _raw_mail(connection, report, progress)
        keys = {
            str(key)
            for key in (
                await connection.execute(sa.select(T.mail.c.blob).where(T.mail.c.blob.is_not(None)))
            ).scalars()
        }
    await _blobs(blobs, keys, report, progress)
    return report


async def _references(connection: AsyncConnection, report: CheckReport) -> None:
    watched = [
        (key.parent, key.column)
        for table in tables.metadata.sorted_tables
        for key in table.foreign_keys
    ]
    for column, target in (*watched, *POINTERS):
        other = target.table.alias()
        lost = (
            sa.select(sa.func.count())
            .select_from(column.table)
            .where(column.is_not(None), ~sa.exists().where(other.c[target.name] == column))
        )
        count = int((await connection.execute(lost)).scalar_one())
        report.note(
            "references",
            count,
            (f"{column.table.name}.{column.name} refers to missing rows of {target.table.name}"),
        )
    foreign = (
        sa.select(sa.func.count())
        .select_from(T.ticket.join(T.status))
        .where(T.status.c.pipeline_id != T.ticket.c.pipeline_id)
    )
    report.note(
        "references",
        int((await connection.execute(foreign)).scalar_one()),
        "tickets are in a status of another pipeline",
    )
    cycle = (
        sa.select(sa.func.count())
        .select_from(T.thread)
        .where(T.thread.c.redirect_to == T.thread.c.id)
    )
    report.note(
        "references",
        int((await connection.execute(cycle)).scalar_one()),
        "threads redirect to themselves",
    )


async def _numbers(connection: AsyncConnection, report: CheckReport) -> None:
    query = sa.select(T.counter.c.name, T.counter.c.value)
    counters = dict((await connection.execute(query)).all())
    for name, column in COUNTED_COLUMNS.items():
        highest = (await connection.execute(sa.select(sa.func.max(column)))).scalar() or 0
        behind = int(counters.get(name, -1) < highest)
        report.note("numbers", behind, f"the counter {name} is behind the highest number in use")


async def _raw_mail(connection: AsyncConnection, report: CheckReport, progress: Progress) -> None:
    """Check that every mail has its bytes in one place, and that the database has them intact."""
    report.mails = int(
        (await connection.execute(sa.select(sa.func.count()).select_from(T.mail))).scalar_one()
    )
    has_raw = sa.exists().where(T.raw_mail.c.mail_id == T.mail.c.id)
    without = (
        sa.select(sa.func.count())
        .select_from(T.mail)
        .where(T.mail.c.blob.is_(None), ~has_raw, T.mail.c.erased.is_(None))
    )
    report.note(
        "raw mail", int((await connection.execute(without)).scalar_one()), "mails have no raw bytes"
    )
    digests = dict(
        (
            await connection.execute(
                sa.select(T.mail.c.id, T.mail.c.sha256).where(T.mail.c.blob.is_(None))
            )
        ).all()
    )
    damaged: list[int] = []
    async for rows in batches(connection, T.raw_mail):
        damaged.extend(row.mail_id for row in rows if digests.get(row.mail_id) != _digest(row.data))
        progress("mail", len(rows))
    report.note("raw mail", len(damaged), f"raw mails are not as received, such as {damaged[:1]}")


def _digest(data: object) -> str | None:
    """Return the digest of a raw mail; None where the value in SQLite is not bytes."""
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else None


async def _blobs(blobs: Blobs, keys: set[str], report: CheckReport, progress: Progress) -> None:
    report.blobs = len(keys)
    damaged: list[str] = []
    for key in sorted(keys):
        if not await intact(blobs, key):
            damaged.append(key)
        progress("blobs", 1)
    report.note(
        "blobs",
        len(damaged),
        f"blobs are missing or damaged, such as {damaged[0] if damaged else ''}",
    )
    report.spare = [key async for key in blobs.listing() if key not in keys]
