"""The outbox worker: submit due deliveries to the smarthost and record results (reliability.md 26).

No transaction is open while waiting for the network. Each result is recorded right afterwards in a
transaction of its own. After a crash between submission and record, the mail is submitted again
with the same bytes once the lease ends. This is the only case in which this worker submits a mail
twice.

Without a smarthost all mail waits. When the smarthost is unreachable or refuses our account, the
other due deliveries are deferred without an attempt.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from logging import DEBUG, INFO, WARNING
from time import monotonic
from typing import Final, assert_never

from core.mail import reply_tokens
from core.rules.retry import next_attempt
from gateway import log
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.outbox.results import Deferred, PermanentFailure, Result, Sent
from gateway.outbox.signing import CannotSign, Signer
from gateway.outbox.submit import Smarthost
from gateway.outbox.wire import lines
from gateway.store.engine import Database
from gateway.store.queues.outbox import AttemptRecord, ClaimedDelivery, Deliveries
from gateway.store.queues.wake import Wake

CLAIM_DELIVERIES: Final = 50  # at once
MAX_CONNECTIONS: Final = 4  # while more than MANY_DELIVERIES are claimed; else 1
MANY_DELIVERIES: Final = 20
DEFER_DELIVERIES: Final = 1000  # in one transaction, when the smarthost is away
LEASE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 2.0
# between attempts to record what the smarthost accepted; less than a lease in all
STORE_RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_REPLY_CODES: Final = re.compile(r"\d{3}(?: \d\.\d{1,3}\.\d{1,3})?(?= |$)")
_log = log.logger("outbox")


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of one attempt."""

    delivery: int
    ticket: int | None
    recipient: str
    state: str
    reply: str


@dataclass(slots=True)
class _Pass:
    """One pass: an attempt for each delivery that is due at ``began``.

    ``broken`` is the failure of the smarthost, once there is one; ``key`` signs return paths.
    """

    smarthost: Smarthost
    began: datetime
    key: bytes
    broken: Deferred | None = None
    halted: bool = False  # the database is away
    outcomes: list[AttemptResult] = field(default_factory=list)


class Outbox:
    """The outbox worker of one process.

    Without a ``smarthost`` mail waits; without a ``signer`` it is sent unsigned. ``pause`` sleeps
    for a number of seconds.
    """

    def __init__(
        self,
        database: Database,
        smarthost: Smarthost | None,
        signer: Signer | None,
        clock: Clock,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.deliveries = Deliveries(database)
        self.node = database.node
        self.smarthost = smarthost
        self.signer = signer
        self.clock = clock
        self._wait = pause
        self._random = random.Random()  # noqa: S311  # spreads attempts; not a secret

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Attempt due deliveries until ``stop`` is set; then finish the attempts in progress."""
        if self.smarthost is None:
            await stop.wait()
            return
        lost_touch = True  # with what was claimed by an earlier process, or while the database left
        while not stop.is_set():
            try:
                if lost_touch:
                    await self.deliveries.free_orphans(self.node)
                    lost_touch = False
                await self._one_pass(self.smarthost, stop)
                pause = await self._pause()
            except Unavailable as error:
                _log.warning("outbox put off", reason=error.message)
                lost_touch, pause = True, RETRY_SECONDS
            await wake.wait_or_stop(stop, "outbox", pause)
        await self.close()

    async def run_due(self) -> list[AttemptResult]:
        """Attempt every due delivery once; without a smarthost, do nothing."""
        if self.smarthost is None:
            return []
        try:
            return await self._one_pass(self.smarthost, asyncio.Event())
        finally:
            await self.close()

    async def next_due(self) -> datetime | None:
        """Return when the next attempt is due; None if none waits or there is no smarthost."""
        return (
            await self.deliveries.earliest_due(self.clock.now())
            if self.smarthost is not None
            else None
        )

    async def close(self) -> None:
        """Close the kept connections."""
        if self.smarthost is not None:
            await self.smarthost.close()

    async def _pause(self) -> float:
        now = self.clock.now()
        due = await self.deliveries.earliest_due(now)
        return (
            max(0.0, min(POLL_SECONDS, (due - now).total_seconds()))
            if due is not None
            else POLL_SECONDS
        )

    async def _one_pass(self, smarthost: Smarthost, stop: asyncio.Event) -> list[AttemptResult]:
        """Attempt each delivery that is due now, once; return the results."""
        run = _Pass(smarthost, self.clock.now(), await self.deliveries.signing_key())
        while not stop.is_set():
            away = run.broken is not None
            size = DEFER_DELIVERIES if away else CLAIM_DELIVERIES
            jobs = await self.deliveries.claim(
                self.node, size, LEASE_SECONDS, self.clock.now(), due=run.began, bare=away
            )
            if not jobs:
                break
            await (self._put_off(run, jobs) if away else self._try(run, jobs, stop))
        return run.outcomes

    async def _put_off(self, run: _Pass, jobs: Sequence[ClaimedDelivery]) -> None:
        """Defer deliveries without an attempt; the reason is the smarthost's known failure."""
        if jobs and run.broken is not None:
            await self._record(run, [(job, run.broken) for job in jobs], tried=False)
            _log.warning(
                "deliveries put off", deliveries=len(jobs), reply=_loggable(run.broken.reply)
            )

    async def _try(self, run: _Pass, jobs: Sequence[ClaimedDelivery], stop: asyncio.Event) -> None:
        """Attempt each delivery, using up to four connections at once.

        If the smarthost fails, the deliveries not attempted yet are deferred. If ``stop`` is set or
        the lease ends, they are released.
        """
        left = list(reversed(jobs))
        prepared: dict[int, asyncio.Task[bytes]] = {}
        lease = _Lease(self, [job.id for job in jobs])
        lanes = MAX_CONNECTIONS if len(jobs) > MANY_DELIVERIES else 1

        async def lane() -> None:
            while (
                left and run.broken is None and not run.halted and not stop.is_set() and lease.good
            ):
                job = left.pop()
                result = await self._attempt(run, job, prepared)
                if isinstance(result, Deferred) and result.everybody:
                    run.broken = result
                try:
                    await self._record(run, [(job, result)])
                except Unavailable:
                    run.halted = True  # the other lanes finish their current attempt
                    raise

        holding = asyncio.create_task(lease.hold(), name="lease")
        try:
            ended = await asyncio.gather(*(lane() for _ in range(lanes)), return_exceptions=True)
        finally:
            for task in (holding, *prepared.values()):
                task.cancel()
            await asyncio.gather(holding, *prepared.values(), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        if run.broken is not None:
            await self._put_off(run, left)
        elif left:
            await self.deliveries.give_back(self.node, [job.id for job in left])

    async def _attempt(
        self, run: _Pass, job: ClaimedDelivery, prepared: dict[int, asyncio.Task[bytes]]
    ) -> Result:
        """Submit a mail to one recipient."""
        if not job.raw:
            return PermanentFailure("there is no mail to send")
        sender = (
            reply_tokens.return_path(run.key, job.return_address, job.id)
            if job.return_address is not None
            else ""
        )
        if job.outgoing not in prepared:
            prepared[job.outgoing] = asyncio.create_task(self._prepared(job.raw), name="signature")
        try:
            raw = await asyncio.shield(prepared[job.outgoing])
        except CannotSign as error:
            return PermanentFailure(error.message)
        return await run.smarthost.submit(sender, job.recipient, raw)

    async def _prepared(self, raw: bytes) -> bytes:
        """Return the bytes to send; they are the same at each attempt and for each recipient."""
        raw = lines(raw)
        return await self.signer.sign(raw) if self.signer is not None else raw

    async def _record(
        self, run: _Pass, results: Sequence[tuple[ClaimedDelivery, Result]], *, tried: bool = True
    ) -> None:
        """Record results, with several retries while the database is away."""
        now = self.clock.now()
        marks = [self._mark(job, result, now) for job, result in results]
        for seconds in STORE_RETRY_SECONDS:
            try:
                held = await self.deliveries.mark(self.node, marks)
                break
            except Unavailable as error:
                _log.warning(
                    "results cannot be stored", deliveries=len(marks), **log.error_fields(error)
                )
            await self._wait(seconds)
        else:
            held = await self.deliveries.mark(self.node, marks)
        for (job, _), mark in zip(results, marks, strict=True):
            _log_attempt(job, mark, tried=tried, lost=mark.id not in held)
            if mark.id in held:
                run.outcomes.append(
                    AttemptResult(job.id, job.ticket, job.recipient, mark.state, mark.reply)
                )

    def _mark(self, job: ClaimedDelivery, result: Result, now: datetime) -> AttemptRecord:
        match result:
            case Sent(reply=reply):
                return AttemptRecord(job.id, "sent", reply, ended_at=now)
            case PermanentFailure(reply=reply):
                return AttemptRecord(job.id, "failed", reply, ended_at=now)
            case Deferred(reply=reply):
                due = next_attempt(job.attempts + 1, job.first_at, now, self._random.random())
                if due is None:
                    return AttemptRecord(
                        job.id,
                        "failed",
                        f"given up after five days; the last answer was: {reply}",
                        ended_at=now,
                    )
                return AttemptRecord(job.id, "deferred", reply, due_at=due)
            case _:
                assert_never(result)


class _Lease:
    """The lease on claimed deliveries, extended for as long as they are being attempted."""

    def __init__(self, outbox: Outbox, ids: Sequence[int]) -> None:
        self._outbox = outbox
        self._ids = ids
        self._until = monotonic() + LEASE_SECONDS

    @property
    def good(self) -> bool:
        """Return whether the lease lasts long enough to begin another attempt."""
        return monotonic() < self._until - LEASE_SECONDS / 3

    async def hold(self) -> None:
        """Extend the lease until cancelled. The lease runs out if the database is away too long."""
        outbox = self._outbox
        while True:
            await asyncio.sleep(LEASE_SECONDS / 6)
            began = monotonic()
            try:
                await outbox.deliveries.keep(
                    outbox.node, self._ids, LEASE_SECONDS, outbox.clock.now()
                )
            except Unavailable as error:
                _log.warning("lease cannot be extended", **log.error_fields(error))
            else:
                self._until = began + LEASE_SECONDS


def _loggable(reply: str) -> str:
    """Return the codes of a reply, without its text, which may quote a mail or an address."""
    codes = _REPLY_CODES.match(reply)
    return codes.group() if codes is not None else log.redact(reply)


def _log_attempt(job: ClaimedDelivery, mark: AttemptRecord, *, tried: bool, lost: bool) -> None:
    """Log an attempt in one line; at level debug if it was deferred without an attempt."""
    level = WARNING if lost or mark.state == "failed" else INFO if tried else DEBUG
    _log.log(
        level,
        "delivery",
        delivery=job.id,
        outgoing=job.outgoing,
        ticket=job.ticket,
        recipient=log.address(job.recipient),
        state=mark.state,
        attempts=job.attempts + 1,
        reply=_loggable(mark.reply),
        due_at=mark.due_at.isoformat() if mark.due_at is not None else None,
        lost=lost,
    )
