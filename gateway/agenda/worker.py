"""What is due: runs of workflows, mails for later, failures that tickets have to be told of, and
words to users (architecture: the agenda).

Each piece of work is one ordered transaction that also says what comes next, so a crash loses
nothing and does nothing twice, and any number of daemons may do it. Nothing is sent from here: mail
goes into the outbox. When work on several tickets fails it is done one by one, and only the guilty
run is put off; after five times it ends as FAILED where people see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.decide import decide
from core.decisions.outgoing import FinishRun, MoveRun, RecordRun
from core.events import Cause, Delivered, DeliveryFailed
from core.workflow.run import BACK_OFF, RETRIES
from gateway import log
from gateway.agenda.notifications import notify
from gateway.agenda.workflow_runner import WorkflowRunner
from gateway.apply.applier import Applier
from gateway.clock import Clock
from gateway.compose import template_catalogue
from gateway.compose.automatic_mail import AutomaticMail
from gateway.compose.route import MailIdentity, MailWriter
from gateway.desk.correspondence import CorrespondenceDesk, FilesOf
from gateway.desk.transaction import state_of
from gateway.errors import Rejected, Unavailable
from gateway.store.engine import Database
from gateway.store.queues import drafts, notices
from gateway.store.queues.wake import Wake
from gateway.store.setup import workflow_history, workflows
from gateway.store.tickets import pending_outgoing
from gateway.store.tickets.unit_of_work import UnitOfWork

BATCH = 25  # tickets of one transaction; intake waits for it at most
POLL_SECONDS = 1.0
RETRY_SECONDS = 2.0
FORGETS_EVERY = timedelta(hours=1)
FORGOTTEN_AT_ONCE = 1000  # entries of the action log in one transaction
_log = log.logger("agenda")


@dataclass(frozen=True, slots=True)
class Ran:
    """One thing that was done, for ``agenda run``."""

    what: str
    ticket: int | None
    detail: str


class Agenda:
    """The agenda of one process.

    ``log_days`` is how long the action log goes back, 0 = for ever; ``woken`` is called when the
    outbox has something new; ``files_of`` gives what is attached to a mail in the register.
    """

    name = "agenda"

    def __init__(
        self,
        database: Database,
        clock: Clock,
        house: MailIdentity,
        *,
        log_days: int = 0,
        woken: Callable[[], None] = lambda: None,
        files_of: FilesOf | None = None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.house = house
        self.log_days = log_days
        self.woken = woken
        self.files_of = files_of
        self._forgot_at: datetime | None = None

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Until ``stop``: do what is due as soon as it is."""
        while not stop.is_set():
            try:
                if await self.run_due():
                    self.woken()
                    continue
                pause = await self._pause()
            except Unavailable as error:
                _log.warning("agenda put off", reason=error.message)
                pause = RETRY_SECONDS
            waiting = [
                asyncio.ensure_future(stop.wait()),
                asyncio.ensure_future(wake.wait("agenda", pause)),
            ]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _pause(self) -> float:
        """Seconds until something is due, at most the poll: another process may add work."""
        due = await self.next_due()
        return (
            max(0.0, min(POLL_SECONDS, (due - self.clock.now()).total_seconds()))
            if due is not None
            else POLL_SECONDS
        )

    async def next_due(self) -> datetime | None:
        """When there is something to do; the past where there is already."""
        async with self.database.read() as connection:
            found = [
                await workflows.next_due(connection),
                await drafts.next_due(connection),
                await notices.next_due(connection),
            ]
        return min((each for each in found if each is not None), default=None)

    async def run_due(self) -> list[Ran]:
        """One pass over everything that is due now."""
        await self._forget()
        return [
            *await self._drafts(),
            *await self._runs(),
            *await self._failures(),
            *await self._notices(),
        ]

    async def _forget(self) -> None:
        """The action log loses what is older than it is to be (behaviour.md 3.7)."""
        now = self.clock.now()
        if not self.log_days or (
            self._forgot_at is not None and now - self._forgot_at < FORGETS_EVERY
        ):
            return
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE:
            async with self.database.write(durable=False) as connection:
                forgotten = await workflow_history.forget_runs(
                    connection, now - timedelta(days=self.log_days), FORGOTTEN_AT_ONCE
                )
        self._forgot_at = now

    # ---- mails for later

    async def _drafts(self) -> list[Ran]:
        async with self.database.read() as connection:
            waiting = await drafts.due(connection, self.clock.now(), BATCH)
        return [
            Ran("scheduled mail", each.ticket, await self._draft(each) or "queued")
            for each in waiting
        ]

    async def _draft(self, draft: drafts.DueDraft) -> str | None:
        """Why a mail could not be sent, or None; what we did not foresee ends it as well, or it
        would be due for ever.
        """
        try:
            author = CorrespondenceDesk(
                self.database, self.clock, self.house, draft.author, files_of=self.files_of
            )
            await author.send_draft(draft)
        except Unavailable:
            raise
        except Rejected as error:
            why = error.message
        except Exception as error:  # noqa: BLE001  # one mail's trouble must not stop the others
            why = f"it could not be made: {type(error).__name__} in our rules"
            _log.exception("scheduled mail failed", outgoing=draft.number)
        else:
            return None
        async with self.database.write(ordered=True) as connection:
            await drafts.fail(connection, draft.number, why, self.clock.now())
        return why

    # ---- runs

    async def _runs(self) -> list[Ran]:
        async with self.database.read() as connection:
            waiting = await workflows.due(connection, self.clock.now(), BATCH)
        if not waiting:
            return []
        ids = [enrolment for enrolment, _ in waiting]
        try:
            return await self._turn(ids)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  # one ticket's trouble must not stop the others
            if len(ids) == 1:
                return [await self._guilty(ids[0], error)]
        done = []
        for each in ids:
            try:
                done += await self._turn([each])
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001  # the same, for one
                done.append(await self._guilty(each, error))
        return done

    async def _turn(self, ids: Sequence[int]) -> list[Ran]:
        """These runs go on as far as they can, in one transaction."""
        async with self.database.write(ordered=True) as connection:
            now = self.clock.now()
            still = dict(await workflows.due(connection, now, 10 * BATCH))
            mine = [each for each in ids if each in still]
            if not mine:
                return [Ran("run", None, "done by another process")] if ids else []
            unit = await UnitOfWork.open(connection, now)
            await unit.load_tickets([still[each] for each in mine])
            turn = WorkflowRunner(
                unit,
                self.house,
                now,
                await template_catalogue.load(connection),
                await workflows.done(connection, mine),
            )
            done = []
            for each in mine:
                done += [Ran("action", ticket, detail) for ticket, detail in await turn.take(each)]
            await turn.write()
        return done

    async def _guilty(self, enrolment: int, error: Exception) -> Ran:
        """What we did not foresee is tried again, then given up: a run never stands in the way for
        ever.
        """
        why = f"{type(error).__name__} in our rules"
        async with self.database.write(ordered=True) as connection:
            now = self.clock.now()
            tickets = dict(await workflows.due(connection, now, 10 * BATCH))
            if enrolment not in tickets:
                return Ran("run", None, why)
            unit = await UnitOfWork.open(connection, now)
            await unit.load_tickets([tickets[enrolment]])
            run = next(each for each in unit.enrolments[tickets[enrolment]] if each.id == enrolment)
            workflow = state_of(unit, self.house.zone).workflow(run.workflow_id)
            action = workflow.graph.following(run.place) if workflow is not None else None
            over = run.attempts >= RETRIES or workflow is None
            applier = Applier(unit, now, "workflow", self.house.zone)
            version, name = (
                (workflow.version if workflow is not None else 0),
                (action.id if action is not None else None),
            )
            record = RecordRun(
                run.workflow_id,
                version,
                run.ticket,
                run.id,
                name,
                "FAILED" if over else "RETRY",
                why,
            )
            later = MoveRun(
                run.id,
                run.place,
                now + BACK_OFF * 2**run.attempts,
                run.entered_at,
                None,
                run.attempts + 1,
            )
            applier.perform([record, FinishRun(run.id, "FAILED", why) if over else later])
            await unit.flush()
        _log.error("run failed", enrolment=enrolment, ticket=run.ticket, exc_info=error)
        return Ran("run", run.ticket, why)

    # ---- failures and words to users

    async def _failures(self) -> list[Ran]:
        """Mail that failed for good is told on its ticket (O12)."""
        async with self.database.read() as connection:
            if not await notices.unsettled(connection, 1):
                return []
        async with self.database.write(ordered=True) as connection:
            now = self.clock.now()
            reasons = await notices.unsettled(connection, BATCH)
            unit = await UnitOfWork.open(connection, now)
            found = await pending_outgoing.deliveries(connection, ids=list(reasons))
            await unit.load_tickets({each.ticket for each in found if each.ticket is not None})
            await unit.load_contacts([each.recipient for each in found])
            applier = Applier(unit, now, "outbox", self.house.zone)
            state = state_of(unit, self.house.zone)
            grouped: dict[int | None, list[Delivered]] = {}
            for each in found:
                ticket = unit.live_ticket(each.ticket)
                grouped.setdefault(ticket.number if ticket is not None else None, []).append(each)
            for number, failed in grouped.items():
                if number is None:
                    unit.outward.settled.extend({"_id": each.id} for each in failed)
                    continue
                cause = Cause("mail", failed[0].message_id)
                applier.perform(
                    decide(
                        DeliveryFailed(unit.tickets[number], tuple(failed), reasons, cause),
                        state,
                        now,
                    )
                )
            await unit.flush()
        return [
            Ran("failed mail", each.ticket, f"{each.recipient}: {reasons.get(each.id, '')}")
            for each in found
        ]

    async def _notices(self) -> list[Ran]:
        """One mail a user, of everything he is to be told by now."""
        async with self.database.read() as connection:
            if not await notices.due(connection, self.clock.now(), 1):
                return []
        async with self.database.write(ordered=True) as connection:
            now = self.clock.now()
            waiting = await notices.due(connection, now, 20 * BATCH)
            unit = await UnitOfWork.open(connection, now)
            await unit.load_tickets({each.ticket for each in waiting})
            applier = Applier(unit, now, "agenda", self.house.zone)
            told = notify(AutomaticMail(MailWriter(unit, self.house, now)), applier, waiting)
            await unit.flush()
        return [Ran("notice", ticket, to) for ticket, to in told]
