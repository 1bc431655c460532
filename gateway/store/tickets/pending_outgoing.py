"""Rows that a transaction has still to write: mail, notifications, tasks, webhook calls, runs.

Only ``gateway.apply``, and the desk for its drafts, add rows. If a key is in the database already,
writing raises IntegrityError and writes nothing. This is the last guard against doing things twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.events import Delivered
from core.model.workflow import Enrolment
from gateway.store.schema import tables
from gateway.store.setup import workflows
from gateway.store.setup.workflows import ActionRun
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import Rows, Work
from gateway.store.tickets.organisations import organisational_domain

OUTGOING, DELIVERY, NOTICE, TASK = tables.outgoing, tables.delivery, tables.notice, tables.task


# ---- statements; their parameters are the fields of a row below, each with a leading underscore


def _new(column: sa.Column[Any], name: str) -> sa.BindParameter[Any]:
    """Return the bind parameter that holds the new value of a column."""
    return sa.bindparam(f"_{name}", type_=column.type)


SENT_DRAFT = (
    sa.update(OUTGOING)
    .where(OUTGOING.c.id == sa.bindparam("_id"))
    .values(
        draft=None,
        ticket=_new(OUTGOING.c.ticket, "ticket"),
        thread_id=_new(OUTGOING.c.thread_id, "thread_id"),
        message=_new(OUTGOING.c.message, "message"),
        message_id=_new(OUTGOING.c.message_id, "message_id"),
        subject=_new(OUTGOING.c.subject, "subject"),
        raw=_new(OUTGOING.c.raw, "raw"),
        return_address=_new(OUTGOING.c.return_address, "return_address"),
    )
)
SCHEDULED = sa.and_(
    DELIVERY.c.outgoing_id == sa.bindparam("_outgoing_id"), DELIVERY.c.state == "scheduled"
)
RELEASE = (
    sa.update(DELIVERY)
    .where(SCHEDULED)
    .values(
        state="queued",
        due_at=_new(DELIVERY.c.due_at, "due_at"),
        created_at=_new(DELIVERY.c.created_at, "due_at"),
    )
)
FAIL_DRAFT = (
    sa.update(DELIVERY)
    .where(SCHEDULED)
    .values(
        state="failed",
        settled=False,
        due_at=None,
        last_reply=_new(DELIVERY.c.last_reply, "reply"),
        ended_at=_new(DELIVERY.c.ended_at, "at"),
    )
)
FAIL_DELIVERY = (
    sa.update(DELIVERY)
    .where(DELIVERY.c.id == sa.bindparam("_id"))
    .values(
        state="failed",
        settled=True,
        last_reply=_new(DELIVERY.c.last_reply, "reply"),
        ended_at=_new(DELIVERY.c.ended_at, "at"),
    )
)
SETTLE = sa.update(DELIVERY).where(DELIVERY.c.id == sa.bindparam("_id")).values(settled=True)
COVER_NOTICE = (
    sa.update(NOTICE)
    .where(NOTICE.c.id == sa.bindparam("_id"))
    .values(outgoing_id=_new(NOTICE.c.outgoing_id, "outgoing_id"))
)
DROP_NOTICE = sa.delete(NOTICE).where(NOTICE.c.id == sa.bindparam("_id"))
FINISH_TASK = (
    sa.update(TASK)
    .where(TASK.c.id == sa.bindparam("_id"))
    .values(done_at=_new(TASK.c.done_at, "done_at"))
)


# ---- rows


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRow:
    """An outgoing mail; the fields are the columns of the table."""

    id: int
    ticket: int | None
    thread_id: int | None
    message: int | None
    message_id: str | None
    automatic: bool
    template: str | None
    subject: str
    author_id: int | None
    return_address: str | None
    raw: bytes | None
    draft: dict[str, Any] | None
    key: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingFileRow:
    """A file attached to a draft."""

    outgoing_id: int
    position: int
    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One recipient of an outgoing mail."""

    id: int
    outgoing_id: int
    recipient: str
    domain: str
    state: str
    due_at: datetime
    created_at: datetime
    attempts: int = 0
    settled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SentDraft:
    """A draft whose mail was made; ``id`` is the key of its outgoing row."""

    id: int
    ticket: int | None
    thread_id: int | None
    message: int | None
    message_id: str
    subject: str
    raw: bytes
    return_address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedDraft:
    """A draft that is to be sent now: its scheduled deliveries become due."""

    outgoing_id: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDraft:
    """A draft that could not be sent: its scheduled deliveries fail, with the reason ``reply``."""

    outgoing_id: int
    reply: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDelivery:
    """A delivery that the smarthost accepted and that failed later; ``reply`` is the reason."""

    id: int
    reply: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRow:
    """A notification for a user."""

    id: int
    user_id: int
    kind: str
    ticket: int
    detail: str
    thread_id: int | None
    created_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveredNotice:
    """A notification, and the outgoing mail that brings it to the user."""

    id: int
    outgoing_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task for people to do on a ticket."""

    id: int
    ticket: int
    text: str
    due_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTask:
    """A task that is done."""

    id: int
    done_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRow:
    """A call of a webhook; ``body`` is JSON."""

    id: int
    ticket: int
    url: str
    body: str
    key: str
    due_at: datetime
    created_at: datetime
    state: str = "queued"
    attempts: int = 0


def _rows(items: Sequence[Any], prefix: str = "") -> Rows:
    """Return dataclass instances as mappings; ``prefix`` is put before each name if given."""
    names = [each.name for each in fields(items[0])] if items else []
    return [{prefix + name: getattr(item, name) for name in names} for item in items]


def _ids(numbers: Sequence[int]) -> Rows:
    return [{"_id": each} for each in numbers]


@dataclass(slots=True)
class PendingOutgoing:
    """The rows that a transaction has still to write; each list holds rows of one kind."""

    outgoing: list[OutgoingRow] = field(default_factory=list)
    files: list[OutgoingFileRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    sent_drafts: list[SentDraft] = field(default_factory=list)
    released_drafts: list[ReleasedDraft] = field(default_factory=list)
    failed_drafts: list[FailedDraft] = field(default_factory=list)
    failed: list[FailedDelivery] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)  # ids of deliveries
    notices: list[NoticeRow] = field(default_factory=list)
    covered_notices: list[CoveredNotice] = field(default_factory=list)
    dropped_notices: list[int] = field(default_factory=list)
    tasks: list[TaskRow] = field(default_factory=list)
    finished_tasks: list[FinishedTask] = field(default_factory=list)
    calls: list[WebhookRow] = field(default_factory=list)
    runs: list[ActionRun] = field(default_factory=list)
    new_enrolments: dict[int, Enrolment] = field(default_factory=dict)
    changed_enrolments: dict[int, Enrolment] = field(default_factory=dict)

    def work(self) -> Work:
        """Return the statements with their rows, in an order that foreign keys allow."""
        return [
            (OUTGOING, _rows(self.outgoing)),
            (tables.outgoing_file, _rows(self.files)),
            (SENT_DRAFT, _rows(self.sent_drafts, "_")),
            (DELIVERY, _rows(self.deliveries)),
            (RELEASE, _rows(self.released_drafts, "_")),
            (FAIL_DRAFT, _rows(self.failed_drafts, "_")),
            (FAIL_DELIVERY, _rows(self.failed, "_")),
            (SETTLE, _ids(self.settled)),
            (NOTICE, _rows(self.notices)),
            (COVER_NOTICE, _rows(self.covered_notices, "_")),
            (DROP_NOTICE, _ids(self.dropped_notices)),
            (TASK, _rows(self.tasks)),
            (FINISH_TASK, _rows(self.finished_tasks, "_")),
            (tables.webhook_call, _rows(self.calls)),
            *workflows.writing(self.new_enrolments.values(), self.changed_enrolments.values()),
            *workflows.writing_runs(self.runs),
        ]

    def automatic(self) -> int:
        """Return how many automatic mails are still to be written."""
        return sum(row.automatic for row in self.outgoing)

    def receipts(self, template: str, address: str) -> tuple[int, int]:
        """Return how many unwritten mails of a template go to an address, and to its domain."""
        mails = {row.id for row in self.outgoing if row.automatic and row.template == template}
        sent = [each for each in self.deliveries if each.outgoing_id in mails]
        domain = _domain(address)
        to_address = sum(each.recipient == address for each in sent)
        return to_address, sum(each.domain == domain for each in sent)

    def queue(
        self,
        row: OutgoingRow,
        recipients: Collection[str],
        allot: Callable[[str], int],
        *,
        state: str,
        due_at: datetime,
    ) -> None:
        """Add an outgoing mail with a delivery for each recipient."""
        self.outgoing.append(row)
        self.deliveries.extend(
            DeliveryRow(
                id=allot("delivery"),
                outgoing_id=row.id,
                recipient=each,
                domain=_domain(each),
                state=state,
                due_at=due_at,
                created_at=row.created_at,
            )
            for each in dict.fromkeys(recipients)
        )


def _domain(address: str) -> str:
    return organisational_domain(address.rpartition("@")[2])


# ---- reading

# What a report or a failure has to know of a delivery: the fields of Delivered.
_DELIVERED = sa.select(
    DELIVERY.c.id,
    DELIVERY.c.recipient,
    DELIVERY.c.state,
    OUTGOING.c.message_id,
    OUTGOING.c.ticket,
    OUTGOING.c.author_id,
    OUTGOING.c.automatic,
).join(OUTGOING, OUTGOING.c.id == DELIVERY.c.outgoing_id)
BY_MESSAGE = _DELIVERED.where(among(OUTGOING.c.message, "messages"))
BY_ID = _DELIVERED.where(among(DELIVERY.c.id, "ids"))


async def deliveries(
    connection: AsyncConnection, *, messages: Collection[int] = (), ids: Collection[int] = ()
) -> list[Delivered]:
    """Return the deliveries of these messages and the deliveries with these ids."""
    found: dict[int, Delivered] = {}
    for query, name, wanted in ((BY_MESSAGE, "messages", messages), (BY_ID, "ids", ids)):
        if wanted:
            found.update(
                (row.id, Delivered(*row))
                for row in await connection.execute(query, {name: list(wanted)})
            )
    return [found[each] for each in sorted(found)]


# Counts the automatic mails of a template since an instant.
_RECEIPTS = (
    sa.select(sa.func.count())
    .select_from(DELIVERY.join(OUTGOING, OUTGOING.c.id == DELIVERY.c.outgoing_id))
    .where(
        OUTGOING.c.automatic,
        OUTGOING.c.template == sa.bindparam("template"),
        DELIVERY.c.state != "cancelled",
    )
    .where(DELIVERY.c.created_at > sa.bindparam("since", type_=DELIVERY.c.created_at.type))
)
TO_ADDRESS = _RECEIPTS.where(DELIVERY.c.recipient == sa.bindparam("place"))
TO_DOMAIN = _RECEIPTS.where(DELIVERY.c.domain == sa.bindparam("place"))
# SQLite uses the index of automatic mails only for a condition worded like the index's own.
AUTOMATIC = sa.select(sa.func.count()).where(
    sa.text("outgoing.automatic"),
    OUTGOING.c.created_at > sa.bindparam("since", type_=OUTGOING.c.created_at.type),
)


async def receipts(
    connection: AsyncConnection, template: str, address: str, now: datetime
) -> tuple[int, int, int]:
    """Return how many mails of a template were made, as three counts.

    The counts are: mails to the address in the last hour, to the address in the last day, and to
    the address's domain in the last hour.
    """
    hour, day = now - timedelta(hours=1), now - timedelta(days=1)
    asked = (
        (TO_ADDRESS, address, hour),
        (TO_ADDRESS, address, day),
        (TO_DOMAIN, _domain(address), hour),
    )
    found = [
        (
            await connection.execute(query, {"template": template, "place": place, "since": since})
        ).scalar_one()
        for query, place, since in asked
    ]
    return found[0], found[1], found[2]


async def automatic_since(connection: AsyncConnection, since: datetime) -> int:
    """Count the automatic mails since an instant."""
    return int((await connection.execute(AUTOMATIC, {"since": since})).scalar_one())


# Selects the deliveries of messages of ours, with their state and the last reply.
OF_MESSAGES = (
    sa.select(
        OUTGOING.c.message,
        DELIVERY.c.id,
        DELIVERY.c.recipient,
        DELIVERY.c.state,
        DELIVERY.c.attempts,
        DELIVERY.c.last_reply,
    )
    .join(OUTGOING, OUTGOING.c.id == DELIVERY.c.outgoing_id)
    .where(among(OUTGOING.c.message, "messages"))
    .order_by(DELIVERY.c.id)
)
RAW_OF_MESSAGES = sa.select(OUTGOING.c.message, OUTGOING.c.raw).where(
    among(OUTGOING.c.message, "messages"), OUTGOING.c.raw.is_not(None)
)


async def of_messages(
    connection: AsyncConnection, messages: Collection[int]
) -> dict[int, list[dict[str, Any]]]:
    """Return the deliveries of these messages, keyed by message id."""
    found: dict[int, list[dict[str, Any]]] = {}
    if messages:
        for row in (await connection.execute(OF_MESSAGES, {"messages": list(messages)})).mappings():
            found.setdefault(row["message"], []).append(
                {name: value for name, value in row.items() if name != "message"}
            )
    return found


async def raw_of_messages(
    connection: AsyncConnection, messages: Collection[int]
) -> dict[int, bytes]:
    """Return the bytes of these messages, which we sent, keyed by message id."""
    if not messages:
        return {}
    rows = await connection.execute(RAW_OF_MESSAGES, {"messages": list(messages)})
    return {row.message: row.raw for row in rows}
