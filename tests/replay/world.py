"""A desk for tests: real intake, reading processes and database, and a clock that the test sets.

Mails are processed singly (:meth:`World.mail`) or as one batch (:meth:`World.batch`); people act
through :class:`gateway.desk.tickets.TicketDesk`; results are read back as the commands show them.
:meth:`World.check` asserts the invariants (behaviour.md 2.7).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from core.mail import reply_tokens
from core.model.message import Envelope, Message
from core.model.ticket import Thread
from gateway.cli.replay import Tally, lines
from gateway.clock import Clock
from gateway.desk import views
from gateway.desk.tickets import TicketDesk
from gateway.desk.transaction import BUILT_IN
from gateway.ingress.accept import Acceptor
from gateway.ingress.connection_limits import Limits
from gateway.intake.batch import Rules
from gateway.intake.mails_in_hand import ReadMails
from gateway.intake.sandbox.pool import Sandbox
from gateway.intake.worker import Intake
from gateway.store.engine import Database
from gateway.store.queues import mail_register
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.mail_register import MailRegister
from gateway.store.queues.spool import Finished, Spool
from gateway.store.schema import tables as schema
from gateway.store.setup import seed
from gateway.store.setup.desk_config import load_desk
from gateway.store.tickets import threads, tickets
from gateway.store.tickets.threads import RefRow
from gateway.store.tickets.unit_of_work import UnitOfWork

ZONE = ZoneInfo("Europe/Amsterdam")
TRUSTED = "mx.example.net"
MARK = re.compile(r"\$(reply|tag|own|forged)\((\d+)(?:,(\d+))?\)")
AUTOMATIC = {"A", "B", "S9"}

Json = dict[str, Any]


class World:
    """A desk for tests; ``database`` is open and holds the initial data."""

    def __init__(
        self, database: Database, sandbox: Sandbox, clock: Clock, folder: Path, **rules: Any
    ) -> None:
        self.database = database
        self.clock = clock
        self.spool = Spool(database, open_blobs(f"file://{folder}"))
        self.register = MailRegister(database, self.spool.blobs)
        self.rules = Rules(ZONE, frozenset({TRUSTED}), **rules)
        self.intake = Intake(database, self.spool, sandbox, self.rules, clock)
        self._accept = Acceptor(self.spool, Limits(), folder, wake=lambda: None)

    def let_anyone_join(self) -> None:
        """Set ``[threads] join`` to anyone, as for an archive."""
        self.intake.rules = replace(self.rules, join="anyone")

    # ---- mail

    def envelope(
        self,
        to: Sequence[str] = (),
        sender: str | None = None,
        *,
        trusted_hop: bool = True,
        automation: bool = True,
        source: Any = "replay",
    ) -> Envelope:
        """Return the envelope of the next mail."""
        return Envelope(
            sender,
            tuple(to),
            source,
            self.clock.now(),
            trusted_hop=trusted_hop,
            automation=automation,
        )

    async def put(self, raws: Sequence[bytes], envelope: Envelope | None = None) -> list[int]:
        """Store a mail in the spool, not processed yet."""
        receipts = await self._accept.accept_all(
            [(raw, envelope or self.envelope()) for raw in raws]
        )
        return [receipt.mail_id for receipt in receipts]

    async def batch(self, raws: Sequence[bytes], envelope: Envelope | None = None) -> list[Json]:
        """Process all mails in one batch, as the daemon does; return their replay lines."""
        ids = await self.put(raws, envelope)
        return await self.lines(ids, await self.intake.drain(ids))

    async def mail(self, raw: bytes, envelope: Envelope | None = None) -> Json:
        """Process one mail in a batch of its own."""
        return (await self.batch([raw], envelope))[0]

    async def file(
        self, messages: Sequence[Message], envelope: Envelope | None = None
    ) -> list[Json]:
        """Process mails given as read, as one batch: for rules that do not depend on bytes."""
        ids = await self.put([f"mail {place}".encode() for place in range(len(messages))], envelope)
        mails = await self.spool.claim("test", len(ids), 60.0, self.clock.now(), ids)
        return await self.lines(ids, await self.intake.file(ReadMails(mails, messages)))

    async def set_state(self, mail_id: int, *, released: bool = False) -> None:
        """Set the state of the mail to pending."""
        async with self.database.write(ordered=True) as connection:
            await mail_register.set_state(
                connection, mail_id, "pending", reason=None, now=self.clock.now(), released=released
            )

    async def release(self, mail_id: int) -> Json:
        """Release a mail, as ``mail release`` does."""
        await self.set_state(mail_id, released=True)
        return (await self.lines([mail_id], await self.intake.drain([mail_id])))[0]

    async def lines(self, ids: Sequence[int], rows: Sequence[Finished]) -> list[Json]:
        """Return the lines of ``replay --json`` for these mails."""
        async with self.database.read() as connection:
            where = await threads.finally_at(
                connection, {row.thread_id for row in rows if row.thread_id}
            )
        return lines(Tally(dict.fromkeys(ids, "mail"), list(rows)), where)

    async def filled(self, text: str) -> bytes:
        """Return a test mail with ``$reply(1)``, ``$tag(1)``, ``$own(thread)`` filled in."""
        async with self.database.read() as connection:
            desk = await load_desk(connection)
        key, channel = desk.keys[0], desk.default_channel
        assert channel is not None

        def mark(found: re.Match[str]) -> str:
            number, second = int(found[2]), int(found[3]) if found[3] else None
            match found[1]:
                case "reply":
                    return reply_tokens.reply_address(key, channel.address, number, second)
                case "tag":
                    return f"[{reply_tokens.tag(key, number)}]"
                case "own":
                    return (
                        f"<{reply_tokens.message_id(key, f'n{second or 0}', number, 'localhost')}>"
                    )
                case _:
                    return reply_tokens.reply_address(b"not our key", channel.address, number)

        return MARK.sub(mark, text.strip("\n")).replace("\n", "\r\n").encode()

    # ---- people

    def desk(self, actor: str = BUILT_IN) -> TicketDesk:
        """Return the desk of a person."""
        return TicketDesk(self.database, self.clock, ZONE, actor)

    async def forward_thread(self, number: int, message_id: str, address: str) -> int:
        """Store the thread of a forward (O05), started by ``message_id`` to ``address``."""
        async with self.database.write(ordered=True) as connection:
            unit = await UnitOfWork.open(connection, self.clock.now())
            await unit.load_tickets([number])
            await unit.load_contacts([address])
            thread = Thread(
                unit.allot("thread"),
                "forward",
                self.clock.now(),
                ticket=number,
                attached_at=self.clock.now(),
            )
            unit.set_thread(thread, new=True)
            unit.set_participant(thread.id, unit.ensure_contact(address, "").id, "participant")
            unit.remember(RefRow(message_id, thread.id, unit.allot("message")))
            await unit.flush()
        return thread.id

    # ---- results

    async def ticket(self, number: int) -> Json:
        """Return a ticket with threads, messages and events, as ``ticket show`` prints it."""
        async with self.database.read() as connection:
            found = await tickets.load(connection, [number])
            row = found[number]
            return await views.show(connection, row, await views.messages_of(connection, row), {})

    async def tickets(self) -> list[Json]:
        """Return every ticket that ``ticket list`` shows."""
        async with self.database.read() as connection:
            return await views.listing(connection)

    async def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Return the rows of a table, ordered by their columns."""
        found = schema.metadata.tables[table]
        chosen = [found.c[name] for name in columns] or list(found.c)
        async with self.database.read() as connection:
            return sorted(
                (tuple(row) for row in await connection.execute(sa.select(*chosen))), key=repr
            )

    async def dump(
        self, without: Collection[str] = ("mail", "raw_mail", "counter")
    ) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything that is stored, except these tables."""
        names = [name for name in schema.metadata.tables if name not in without]
        return {name: await self.rows(name) for name in names}

    async def check(self) -> None:
        """Assert INV1, INV4, INV6, INV9, and that no row is orphaned."""
        async with self.database.read() as connection:
            desk = await load_desk(connection)
            held = {
                row.number: tickets.from_row(row)
                for row in await connection.execute(tickets.SELECT_TICKET)
            }
            strings = {
                row.id: Thread(*row) for row in await connection.execute(threads.SELECT_THREAD)
            }
            events = (
                await connection.execute(sa.select(schema.event).order_by(schema.event.c.id))
            ).all()
            placed = set(
                (await connection.execute(sa.select(schema.message.c.thread_id))).scalars()
            ) - {None}
        self._check_moves(events)
        for ticket in held.values():
            if desk.pipelines[ticket.pipeline_id].status(
                ticket.status_id
            ).state == "open" and not _dated_by_hand(events, ticket.number):
                assert (ticket.closed_at, ticket.close_date) == (None, None), (
                    f"INV4: ticket {ticket.number} is open and has a close date"
                )
            own = [
                each
                for each in strings.values()
                if each.ticket == ticket.number
                and each.kind == "normal"
                and each.redirect_to is None
            ]
            assert ticket.merged_into is None or not own, (
                f"ticket {ticket.number} is merged away and keeps threads"
            )
            assert not own or any(each.origin for each in own), (
                f"ticket {ticket.number} has mail and no origin thread"
            )
        for thread in strings.values():
            seen = {thread.id}
            follower = thread
            while follower.redirect_to is not None:
                follower = strings[follower.redirect_to]
                assert follower.id not in seen, "threads redirect in a circle"
                seen.add(follower.id)
        assert placed <= strings.keys()

    def _check_moves(self, events: Sequence[Any]) -> None:
        moves = [event for event in events if event.type == "status_changed"]
        for event in moves:
            cause = event.cause
            assert cause["rule"], "INV9: a move without a rule"
            assert cause["message_id"] or cause["user"] or event.actor, (
                "INV9: a move without a cause"
            )
            assert event.before != event.after, "setting the same status again is no move"
        direct = Counter(
            (event.cause["message_id"], event.at)
            for event in moves
            if event.cause["rule"] in AUTOMATIC and event.cause["message_id"]
        )
        assert max(direct.values(), default=0) <= 1, "INV1: a message moved a ticket twice"


async def start_again(database: Database) -> None:
    """Empty every table and store the initial data; much faster than a new database."""
    names = [table.name for table in reversed(schema.metadata.sorted_tables)]
    async with database.write() as connection:
        if database.dialect == "postgresql":
            tables = (
                await connection.exec_driver_sql(
                    "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
                )
            ).scalars()
            for name in tables:
                if name not in {*names, "alembic_version"}:
                    await connection.exec_driver_sql(f"DELETE FROM {name}")
            sequences = (
                await connection.exec_driver_sql(
                    "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"
                )
            ).scalars()
            for name in sequences:
                await connection.exec_driver_sql(f"ALTER SEQUENCE {name} RESTART")
        else:
            await connection.exec_driver_sql(
                "INSERT INTO message_search (message_search) VALUES ('delete-all')"
            )
            await connection.exec_driver_sql("DELETE FROM sqlite_sequence")
        for name in names:
            await connection.exec_driver_sql(f'DELETE FROM "{name}"')
        await seed.sow(connection)


def _dated_by_hand(events: Sequence[Any], number: int) -> bool:
    return any(
        event.ticket == number
        and event.type == "close_date_changed"
        and event.cause["rule"] == "user"
        for event in events
    )


def told(event: Json) -> str:
    """Return an event as one line: ``status_changed B: New -> Waiting on us (why)``."""
    change = (
        f": {event['before'] or '-'} -> {event['after'] or '-'}"
        if event["before"] or event["after"]
        else ""
    )
    return f"{event['type']} {event['cause']['rule']}{change}" + (
        f" ({event['detail']})" if event["detail"] else ""
    )


def days(count: float) -> timedelta:
    """Return a timedelta of ``count`` days."""
    return timedelta(days=count)


def plain(value: Any) -> str:
    """Return a value in a form that compares equal in every spelling."""
    return json.dumps(value, sort_keys=True, default=str)
