"""Worker for due runs, scheduled mail, failures and notifications (docs/architecture.md, agenda).

Each piece of work is one ordered transaction that also records what comes next, so a crash loses
nothing and repeats nothing, and any number of daemons may work side by side. No mail is sent from
here: it goes into the outbox. Several runs are executed in one transaction; if it fails, each run
is executed alone, and a run that fails alone is put off. After five retries it ends as FAILED,
which users see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from core.events import Cause, Delivered, DeliveryFailed, DraftFailed, RunFailed
from gateway import log
from gateway.agenda.notifications import notify
from gateway.agenda.transaction import AgendaTransaction
from gateway.agenda.workflow_runner import WorkflowRunner
from gateway.clock import Clock
from gateway.compose import template_catalogue
from gateway.compose.automatic_mail import AutomaticMail
from gateway.compose.route import MailIdentity, MailWriter
from gateway.desk.correspondence import CorrespondenceDesk, FilesOf
from gateway.errors import Rejected, Unavailable
from gateway.store.engine import Database
from gateway.store.queues import drafts, notices
from gateway.store.queues.wake import Wake
from gateway.store.setup import workflow_history, workflows
from gateway.store.tickets import pending_outgoing
from gateway.store.tickets.unit_of_work import UnitOfWork

BATCH: Final = 25  # tickets in one transaction, for which intake may have to wait
MOST_DUE: Final = 10 * BATCH  # due runs among which those of a batch are looked for
POLL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0
FORGETS_EVERY: Final = timedelta(hours=1)
FORGOTTEN_AT_ONCE = 1000  # entries of the action log in one transaction
_log = log.logger("agenda")


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished piece of work, as ``agenda run`` prints it."""

    what: str
    ticket: int | None
    detail: str


class Agenda:
    """Does what is due: runs, scheduled mail, reports of failed mail, notifications.

    ``log_days``: how long entries of the action log are kept, 0 = for ever. ``woken`` is called
    when there is new mail in the outbox. ``files_of`` returns the attachments of a received mail.
    """

    name = "agenda"

    def __init__(
        self,
        database: Database,
        clock: Clock,
        identity: MailIdentity,
        *,
        log_days: int = 0,
        woken: Callable[[], None] = lambda: None,
        files_of: FilesOf | None = None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.identity = identity
        self.log_days = log_days
        self.woken = woken
        self.files_of = files_of
        self._forgot_at: datetime | None = None

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Do work as soon as it is due, until ``stop`` is set."""
        while not stop.is_set():
            try:
                if await self.run_due():
                    self.woken()
                    continue
                pause = await self._pause()
            except Unavailable as error:
                _log.warning("agenda paused", reason=error.message)
                pause = RETRY_SECONDS
            await wake.wait_or_stop(stop, "agenda", pause)

    async def _pause(self) -> float:
        """Return the seconds until something is due, at most POLL_SECONDS."""
        due = await self.next_due()
        if due is None:
            return POLL_SECONDS
        return max(0.0, min(POLL_SECONDS, (due - self.clock.now()).total_seconds()))

    async def next_due(self) -> datetime | None:
        """Return when something is due next: an instant in the past if something is due already."""
        queues = (workflows.next_due, drafts.next_due, notices.next_due)
        async with self.database.read() as connection:
            found = [await ask(connection) for ask in queues]
        return min((each for each in found if each is not None), default=None)

    async def run_due(self) -> list[Ran]:
        """Do everything that is due now, once."""
        await self._forget()
        done = [*await self._send_drafts(), *await self._execute_runs()]
        return [*done, *await self._tell_failures(), *await self._send_notices()]

    async def _forget(self) -> None:
        """Delete entries of the action log that are older than ``log_days`` (behaviour.md 3.7)."""
        now = self.clock.now()
        if not self.log_days or (
            self._forgot_at is not None and now - self._forgot_at < FORGETS_EVERY
        ):
            return
        oldest = now - timedelta(days=self.log_days)
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE:
            async with self.database.write(durable=False) as connection:
                forgotten = await workflow_history.forget_runs(
                    connection, oldest, FORGOTTEN_AT_ONCE
                )
        self._forgot_at = now

    @asynccontextmanager
    async def _acting(self, actor: str) -> AsyncIterator[AgendaTransaction]:
        """Yield a transaction; write everything at its end, or nothing if an error is raised."""
        async with self.database.write(ordered=True) as connection:
            now = self.clock.now()
            unit = await UnitOfWork.open(connection, now)
            act = AgendaTransaction(unit, now, self.identity.zone, actor)
            yield act
            await act.write()

    # ---- scheduled mail

    async def _send_drafts(self) -> list[Ran]:
        async with self.database.read() as connection:
            due = await drafts.due(connection, self.clock.now(), BATCH)
        return [Ran("scheduled mail", each.ticket, await self._send_draft(each)) for each in due]

    async def _send_draft(self, draft: drafts.DueDraft) -> str:
        """Queue a scheduled mail; return "queued", or why it could not be queued.

        After an unforeseen error the mail counts as failed, since it would else stay due for ever.
        """
        try:
            author = CorrespondenceDesk(
                self.database, self.clock, self.identity, draft.author, files_of=self.files_of
            )
            await author.send_draft(draft)
        except Unavailable:
            raise
        except Rejected as error:
            why = error.message
        except Exception as error:  # noqa: BLE001  # one mail's trouble must not stop the others
            why = f"internal error ({type(error).__name__}), see the log"
            _log.exception("scheduled mail failed", outgoing=draft.number)
        else:
            return "queued"
        async with self._acting("agenda") as act:
            act.do(DraftFailed(draft.number, why))
        return why

    # ---- runs

    async def _execute_runs(self) -> list[Ran]:
        async with self.database.read() as connection:
            due = await workflows.due(connection, self.clock.now(), BATCH)
        ids = [enrolment for enrolment, _ in due]
        if not ids:
            return []
        try:
            return await self._execute(ids)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  # one ticket's trouble must not stop the others
            if len(ids) == 1:
                return [await self._retry_or_fail_run(ids[0], error)]
        return [done for each in ids for done in await self._execute_alone(each)]

    async def _execute_alone(self, enrolment: int) -> list[Ran]:
        try:
            return await self._execute([enrolment])
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  # the same, for one
            return [await self._retry_or_fail_run(enrolment, error)]

    async def _execute(self, ids: Sequence[int]) -> list[Ran]:
        """Execute these runs until each waits or ends, in one transaction."""
        async with self.database.write(ordered=True) as connection:
            now = self.clock.now()
            due = dict(await workflows.due(connection, now, MOST_DUE))
            mine = [each for each in ids if each in due]
            if not mine:
                return [Ran("run", None, "done by another process")]
            unit = await UnitOfWork.open(connection, now)
            await unit.load_tickets([due[each] for each in mine])
            runner = WorkflowRunner(
                unit,
                self.identity,
                now,
                await template_catalogue.load(connection),
                await workflows.done(connection, mine),
            )
            done = [each for number in mine for each in await runner.run(number)]
            await runner.write()
        return [Ran("action", ticket, detail) for ticket, detail in done]

    async def _retry_or_fail_run(self, enrolment: int, error: Exception) -> Ran:
        """Plan a retry of a run that failed unexpectedly, or end the run after the last retry."""
        why = f"internal error ({type(error).__name__}), see the log"
        async with self._acting("workflow") as act:
            tickets = dict(await workflows.due(act.unit.connection, act.now, MOST_DUE))
            if enrolment not in tickets:
                return Ran("run", None, why)
            ticket = tickets[enrolment]
            await act.unit.load_tickets([ticket])
            runs = act.unit.enrolments[ticket]
            run = next(each for each in runs if each.id == enrolment)
            act.do(RunFailed(run, act.state.workflow(run.workflow_id), why))
        _log.error("run failed", enrolment=enrolment, ticket=ticket, exc_info=error)
        return Ran("run", ticket, why)

    # ---- failures and notices

    async def _tell_failures(self) -> list[Ran]:
        """Report on each ticket which of its mails failed for good (O12)."""
        async with self.database.read() as connection:
            if not await notices.unsettled(connection, 1):
                return []
        async with self._acting("outbox") as act:
            unit = act.unit
            reasons = await notices.unsettled(unit.connection, BATCH)
            found = await pending_outgoing.deliveries(unit.connection, ids=list(reasons))
            await unit.load_tickets({each.ticket for each in found if each.ticket is not None})
            await unit.load_contacts([each.recipient for each in found])
            for number, failed in _by_ticket(unit, found).items():
                ticket = unit.tickets[number] if number is not None else None
                cause = Cause("mail", failed[0].message_id)
                act.do(DeliveryFailed(ticket, tuple(failed), reasons, cause))
        return [
            Ran("failed mail", each.ticket, f"{each.recipient}: {reasons.get(each.id, '')}")
            for each in found
        ]

    async def _send_notices(self) -> list[Ran]:
        """Queue one mail for each user whose notifications are due."""
        async with self.database.read() as connection:
            if not await notices.due(connection, self.clock.now(), 1):
                return []
        async with self._acting("agenda") as act:
            unit = act.unit
            due = await notices.due(unit.connection, act.now, 20 * BATCH)
            await unit.load_tickets({each.ticket for each in due})
            told = notify(AutomaticMail(MailWriter(unit, self.identity, act.now)), act, due)
        return [Ran("notice", ticket, to) for ticket, to in told]


def _by_ticket(unit: UnitOfWork, found: Collection[Delivered]) -> dict[int | None, list[Delivered]]:
    """Return the deliveries, grouped by ticket number after merges; None means no ticket."""
    grouped: dict[int | None, list[Delivered]] = {}
    for each in found:
        ticket = unit.live_ticket(each.ticket)
        grouped.setdefault(ticket.number if ticket is not None else None, []).append(each)
    return grouped
