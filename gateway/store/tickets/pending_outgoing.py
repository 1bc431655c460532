"""What one transaction sends, tells and does by workflows: rows collected in memory and written
with the rest of its book.

Only ``gateway.apply.applier`` fills it. What can go wrong: a key that was used before
(IntegrityError), which is the last of several guards against doing a thing twice; the transaction
is undone then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
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
from gateway.store.sql.bulk import Work

OUTGOING, DELIVERY, NOTICE = tables.outgoing, tables.delivery, tables.notice
SENT_DRAFT = (
    sa.update(OUTGOING) .where(OUTGOING.c.id == sa.bindparam("_id")) .values({name: sa.bindparam(f"_{name}",
    type_=OUTGOING.c[name].type) for name in ("ticket", "thread_id", "message", "message_id",
    "subject", "raw", "return_address")}) .values(draft=None)
)  # fmt: skip
RELEASE = (
    sa.update(DELIVERY) .where(DELIVERY.c.outgoing_id == sa.bindparam("_outgoing"),
    DELIVERY.c.state == "scheduled") .values(state="queued", due_at=sa.bindparam("_due",
    type_=DELIVERY.c.due_at.type), created_at=sa.bindparam("_due", type_=DELIVERY.c.due_at.type))
)  # fmt: skip
CAME_BACK = (
    sa.update(DELIVERY)
    .where(DELIVERY.c.id == sa.bindparam("_id"))
    .values(
        state="failed",
        settled=True,
        last_reply=sa.bindparam("_reply", type_=DELIVERY.c.last_reply.type),
        ended_at=sa.bindparam("_at", type_=DELIVERY.c.ended_at.type),
    )
)
FAIL_DRAFT = (
    sa.update(DELIVERY)
    .where(DELIVERY.c.outgoing_id == sa.bindparam("_outgoing"), DELIVERY.c.state == "scheduled")
    .values(
        state="failed",
        settled=False,
        due_at=None,
        last_reply=sa.bindparam("_reply", type_=DELIVERY.c.last_reply.type),
        ended_at=sa.bindparam("_at", type_=DELIVERY.c.ended_at.type),
    )
)
SETTLE = sa.update(DELIVERY).where(DELIVERY.c.id == sa.bindparam("_id")).values(settled=True)
TOLD = (
    sa.update(NOTICE)
    .where(NOTICE.c.id == sa.bindparam("_id"))
    .values(outgoing_id=sa.bindparam("_outgoing", type_=NOTICE.c.outgoing_id.type))
)
TASK_DONE = (
    sa.update(tables.task)
    .where(tables.task.c.id == sa.bindparam("_id"))
    .values(done_at=sa.bindparam("_done_at", type_=tables.task.c.done_at.type))
)
DROP = sa.delete(NOTICE).where(NOTICE.c.id == sa.bindparam("_id"))
_KNOWN = sa.select(
    DELIVERY.c.id,
    DELIVERY.c.recipient,
    DELIVERY.c.state,
    OUTGOING.c.message_id,
    OUTGOING.c.ticket,
    OUTGOING.c.author_id,
    OUTGOING.c.automatic,
).join(OUTGOING, OUTGOING.c.id == DELIVERY.c.outgoing_id)
BY_MESSAGE = _KNOWN.where(among(OUTGOING.c.message, "messages"))
BY_ID = _KNOWN.where(among(DELIVERY.c.id, "ids"))


@dataclass(frozen=True, slots=True)
class OutgoingRow:
    """A mail on its way out; the columns of the table."""

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


OUTGOING_COLUMNS = tuple(each.name for each in fields(OutgoingRow))


@dataclass(slots=True)
class PendingOutgoing:
    """See the module."""

    outgoing: list[OutgoingRow] = field(default_factory=list)
    drafts: list[dict[str, Any]] = field(default_factory=list)  # rows of SENT_DRAFT
    released: list[dict[str, Any]] = field(default_factory=list)  # rows of RELEASE
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)  # rows of CAME_BACK
    failed_drafts: list[dict[str, Any]] = field(default_factory=list)
    settled: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)  # notices for nobody
    tasks: list[dict[str, Any]] = field(default_factory=list)
    done_tasks: list[dict[str, Any]] = field(default_factory=list)  # rows of TASK_DONE
    calls: list[dict[str, Any]] = field(default_factory=list)
    runs: list[ActionRun] = field(default_factory=list)
    new_enrolments: dict[int, Enrolment] = field(default_factory=dict)
    changed_enrolments: dict[int, Enrolment] = field(default_factory=dict)

    def work(self) -> Work:
        """The statements, in an order that foreign keys allow."""
        return [
            (
                OUTGOING,
                [{name: getattr(row, name) for name in OUTGOING_COLUMNS} for row in self.outgoing],
            ),
            (tables.outgoing_file, self.files),
            (SENT_DRAFT, self.drafts),
            (DELIVERY, self.deliveries),
            (RELEASE, self.released),
            (CAME_BACK, self.failed),
            (FAIL_DRAFT, self.failed_drafts),
            (SETTLE, self.settled),
            (NOTICE, self.notices),
            (TOLD, self.told),
            (DROP, self.dropped),
            (tables.task, self.tasks),
            (TASK_DONE, self.done_tasks),
            (tables.webhook_call, self.calls),
            *workflows.writing(self.new_enrolments.values(), self.changed_enrolments.values()),
            *workflows.writing_runs(self.runs),
        ]

    def automatic(self) -> int:
        """How many automatic mails are not written yet."""
        return sum(row.automatic for row in self.outgoing)

    def receipts(self, template: str, address: str) -> tuple[int, int]:
        """How many mails of a template that are not written yet go to an address, and to its
        domain.
        """
        mails = {row.id for row in self.outgoing if row.automatic and row.template == template}
        there = [each for each in self.deliveries if each["outgoing_id"] in mails]
        domain = address.rpartition("@")[2].lower()
        return sum(each["recipient"] == address for each in there), sum(
            each["domain"] == domain for each in there
        )

    def queue(
        self,
        row: OutgoingRow,
        recipients: Collection[str],
        allot: Callable[[str], int],
        *,
        state: str,
        due_at: datetime,
    ) -> None:
        """A mail with a delivery for each recipient."""
        self.outgoing.append(row)
        for each in dict.fromkeys(recipients):
            self.deliveries.append(
                {
                    "id": allot("delivery"),
                    "outgoing_id": row.id,
                    "recipient": each,
                    "domain": each.rpartition("@")[2].lower(),
                    "state": state,
                    "attempts": 0,
                    "due_at": due_at,
                    "created_at": row.created_at,
                    "settled": True,
                }
            )


async def deliveries(
    connection: AsyncConnection, *, messages: Collection[int] = (), ids: Collection[int] = ()
) -> list[Delivered]:
    """The deliveries of these messages, and those with these ids."""
    found: dict[int, Delivered] = {}
    for query, name, wanted in ((BY_MESSAGE, "messages", messages), (BY_ID, "ids", ids)):
        if wanted:
            found.update(
                (row.id, Delivered(*row))
                for row in await connection.execute(query, {name: list(wanted)})
            )
    return [found[each] for each in sorted(found)]


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
# SQLite takes the index of automatic mails only for a condition that is worded like the index's
# own.
AUTOMATIC = sa.select(sa.func.count()).where(
    sa.text("outgoing.automatic"),
    OUTGOING.c.created_at > sa.bindparam("since", type_=OUTGOING.c.created_at.type),
)


async def receipts(
    connection: AsyncConnection, template: str, address: str, now: datetime
) -> tuple[int, int, int]:
    """How many mails of a template went to an address within the hour, within the day, and to its
    domain within the hour.
    """
    hour, day = now - timedelta(hours=1), now - timedelta(days=1)
    asked = (
        (TO_ADDRESS, address, hour),
        (TO_ADDRESS, address, day),
        (TO_DOMAIN, address.rpartition("@")[2].lower(), hour),
    )
    found = [
        (
            await connection.execute(query, {"template": template, "place": place, "since": since})
        ).scalar_one()
        for query, place, since in asked
    ]
    return found[0], found[1], found[2]


async def automatic_since(connection: AsyncConnection, since: datetime) -> int:
    """How many automatic mails there were."""
    return int((await connection.execute(AUTOMATIC, {"since": since})).scalar_one())


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
    """How far each of these messages came, recipient by recipient."""
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
    """The bytes of these messages of ours."""
    if not messages:
        return {}
    return {
        row.message: row.raw
        for row in await connection.execute(RAW_OF_MESSAGES, {"messages": list(messages)})
    }
