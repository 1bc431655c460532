"""``ticketgate channel test`` and ``channel import``: a mailbox tried step by step, and what lies in it taken in before the daemon does.

What can go wrong: the mailbox is read by a daemon (75: it does the same already), the server is away (75: the same command goes on where it stopped),
or what stands in the configuration does not work (78).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.opening import Opened, run
from gateway.cli.output import AsJson, emit, progress, visible
from gateway.errors import TryAgain, UsageError

if TYPE_CHECKING:
    from gateway.ingress.imap_account import Account
    from gateway.ingress.imap_trial import Step
    from gateway.store.mailboxes import Mailbox, Mailboxes

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of an [[imap]] table, or the address of its channel.")]
LEASE_SECONDS = 15.0
RENEW_SECONDS = 5.0
TRIES = 5  # connections in a row without a single mail
PAUSE_SECONDS = 1.0  # after the first of them; each pause is longer by as much


def try_(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Try a mailbox step by step and say what fails and what to do. Changes nothing."""
    steps = run(context, lambda opened: _steps(opened, name, as_json=as_json))
    if as_json:
        emit({"ok": all(step.ok for step in steps), "steps": [_document(step) for step in steps]})
    failed = [step for step in steps if not step.ok]
    if failed:
        raise typer.Exit(os.EX_CONFIG if any(step.lasting for step in failed) else os.EX_TEMPFAIL)


async def _steps(opened: Opened, name: str, *, as_json: bool) -> list[Step]:
    from gateway.ingress.imap_account import accounts, named
    from gateway.ingress.imap_trial import trial
    from gateway.ingress.oauth import Tokens
    from gateway.store.mailboxes import Mailboxes

    opened.start_log()
    steps = []
    for account in named(accounts(opened.settings), name):
        async for step in trial(account, Mailboxes(opened.database), Tokens(opened.database, opened.clock)):
            steps.append(step)
            if not as_json:
                print(f"{'ok   ' if step.ok else 'FAILS'} {step.step:<10} {visible(step.detail)}", flush=True)
                if step.advice:
                    print(f"      {'':<10} -> {visible(step.advice)}", flush=True)
    return steps


def _document(step: Step) -> dict[str, Any]:
    return {"step": step.step, "ok": step.ok, "detail": step.detail, "advice": step.advice or None}


def import_(
    context: typer.Context,
    name: Name,
    since: Annotated[str | None, typer.Option("--since", metavar="DATE", help="Only mail that came in on this day or later.")] = None,
    no_automation: Annotated[
        bool, typer.Option("--no-automation", help="Threads and tickets only: no acknowledgements, no status rules.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take in what lies in a mailbox, oldest first. Interrupted, the same command goes on where it stopped."""
    try:
        first = date.fromisoformat(since) if since is not None else None
    except ValueError:
        raise typer.BadParameter("--since is a date like 2026-01-31") from None
    told = run(context, lambda opened: _import(opened, name, first, automation=not no_automation))
    if as_json:
        emit(told)
    else:
        print(f"{told['imported']} mails taken in" + (f", {told['left']} left: the same command goes on" if told["left"] else ""))
        if told["owed"]:
            print(f"{told['owed']} could not be fetched: channel test {told['mailbox']} tells which")
    if told["left"]:
        raise typer.Exit(os.EX_TEMPFAIL)


async def _import(opened: Opened, name: str, since: date | None, *, automation: bool) -> dict[str, Any]:
    from gateway.ingress.imap_account import accounts, named
    from gateway.store.mailboxes import Mailboxes

    found = named(accounts(opened.settings), name)
    if len(found) > 1:
        raise UsageError(f"{name} has several mailboxes: say which one ({', '.join(each.name for each in found)})")
    opened.start_log()
    boxes = Mailboxes(opened.database)
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with _held(boxes, found[0], opened, stop), _processed(opened):
        return await Import(opened, boxes, found[0], stop).run(since, automation=automation)


class Import:
    """One run over one mailbox, over as many connections as it takes."""

    def __init__(self, opened: Opened, boxes: Mailboxes, account: Account, stop: asyncio.Event) -> None:
        self.opened = opened
        self.boxes = boxes
        self.account = account
        self.stop = stop
        self.done = 0
        self.left = 0

    async def run(self, since: date | None, *, automation: bool) -> dict[str, Any]:
        """Take in everything; what is left when it was stopped is told."""
        from gateway.ingress.imap_session import ImapError

        fruitless = 0
        planned = False
        while not self.stop.is_set():
            before = self.done
            try:
                await self._connection(since, automation=automation, plan=not planned)
                break
            except ImapError:
                planned = planned or self.left > 0 or self.done > 0
                fruitless = fruitless + 1 if self.done == before else 0
                if fruitless >= TRIES:
                    raise
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), fruitless * PAUSE_SECONDS)
        box = await self.boxes.get(self.account.name)
        owed = (await self.boxes.owed_counts()).get(box.id, 0) if box is not None else 0
        return {"mailbox": self.account.name, "imported": self.done, "left": self.left, "owed": owed}

    async def _connection(self, since: date | None, *, automation: bool, plan: bool) -> None:
        from gateway.ingress.accept import Accept
        from gateway.ingress.imap_commands import Session
        from gateway.ingress.imap_fetch import Suspicion
        from gateway.ingress.imap_reader import Reader
        from gateway.ingress.oauth import Tokens

        session = await Session.open(self.account.server())
        try:
            await self.account.sign_in(session, Tokens(self.opened.database, self.opened.clock))
            accept = Accept(await self.opened.spool(), self.opened.limits, self.opened.incoming, wake=lambda: None)
            box = await self.boxes.get(self.account.name)
            assert box is not None
            reader = Reader(self.account, session, box, accept, self.boxes, self.opened.clock, Suspicion())
            await reader.open()
            if plan:
                await reader.plan(since, "all" if automation else "none")
            self.left = await reader.count()
            with progress("mails", self.left) as shown:
                if await reader.catch_up(self.stop, lambda mails: self._advance(mails, shown)):
                    self.left = 0
        finally:
            await session.close()

    def _advance(self, mails: int, shown: Callable[[int], None]) -> None:
        self.done += mails
        self.left = max(0, self.left - mails)
        shown(mails)


@asynccontextmanager
async def _held(boxes: Mailboxes, account: Account, opened: Opened, stop: asyncio.Event) -> AsyncIterator[Mailbox]:
    """Holds the lease of a mailbox; TryAgain where somebody else does."""
    await boxes.register([(account.name, account.place, account.channel)])
    held = await boxes.claim([account.name], LEASE_SECONDS, opened.clock.now())
    if account.name not in held:
        box = await boxes.get(account.name)
        raise TryAgain(f"{account.name} is being read by {box.lease_owner if box is not None else 'somebody else'}: stop that daemon first")
    keeping = asyncio.create_task(_keep(boxes, account, opened, stop))
    try:
        yield held[account.name]
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await boxes.release([account.name])


async def _keep(boxes: Mailboxes, account: Account, opened: Opened, stop: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        with contextlib.suppress(TryAgain):
            if account.name not in await boxes.claim([account.name], LEASE_SECONDS, opened.clock.now()):
                stop.set()


@asynccontextmanager
async def _processed(opened: Opened) -> AsyncIterator[None]:
    """Mail becomes tickets while more is taken in, and what is left of it at the end."""
    from gateway.intake.worker import Intake
    from gateway.store.wake import Wake

    intake = Intake(opened.database, await opened.spool(), await opened.sandbox(), opened.rules, opened.clock)
    over = asyncio.Event()
    working = asyncio.create_task(intake.serve(over, Wake()))
    try:
        yield
    finally:
        over.set()
        await working
        await intake.drain()
