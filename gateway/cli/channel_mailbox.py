"""``ticketgate channel test`` and ``channel import``: check a mailbox, import its mail.

Exit codes: 75 when a daemon reads the mailbox already; 75 when the server does not answer (run the
same command again to continue); 78 when the configuration of the mailbox does not work.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.rules.rights import Right
from gateway.cli.opening import run
from gateway.cli.option_values import As, AsJson, MailboxName, day
from gateway.cli.output import count, emit, say, visible
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation

if TYPE_CHECKING:
    from gateway.ingress.imap.check import CheckStep


def try_(context: typer.Context, name: MailboxName, as_json: AsJson = False) -> None:
    """Check a mailbox step by step; show what fails and what to do. Nothing is changed."""
    steps = run(context, lambda opened: _steps(opened, name, as_json=as_json))
    if as_json:
        emit({"ok": all(step.ok for step in steps), "steps": [_document(step) for step in steps]})
    failed = [step for step in steps if not step.ok]
    if failed:
        raise typer.Exit(os.EX_CONFIG if any(step.lasting for step in failed) else os.EX_TEMPFAIL)


async def _steps(opened: Installation, name: str, *, as_json: bool) -> list[CheckStep]:
    from gateway.ingress.imap.account import accounts, find_accounts
    from gateway.ingress.imap.check import check_mailbox
    from gateway.store.imap.mailboxes import Mailboxes

    opened.start_log()
    steps = []
    for account in find_accounts(accounts(opened.settings), name):
        async for step in check_mailbox(account, Mailboxes(opened.database), opened.tokens):
            steps.append(step)
            if not as_json:
                say(
                    f"{'ok   ' if step.ok else 'FAILS'} {step.step:<10} {visible(step.detail)}",
                    flush=True,
                )
                if step.advice:
                    say(f"      {'':<10} -> {visible(step.advice)}", flush=True)
    return steps


def _document(step: CheckStep) -> dict[str, Any]:
    return {"step": step.step, "ok": step.ok, "detail": step.detail, "advice": step.advice or None}


SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="DATE",
        help="Import only mail received on this day, like 2026-01-31, or later.",
    ),
]
NoAutomationOption = Annotated[
    bool,
    typer.Option(
        "--no-automation",
        help="Only make threads and tickets; send no acknowledgements, apply no status rules.",
    ),
]


def import_(
    context: typer.Context,
    name: MailboxName,
    since: SinceOption = None,
    no_automation: NoAutomationOption = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Import the mail of a mailbox, oldest first. If interrupted, run the command again."""
    with options_checked(context):
        first = day(since)

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.cli.channel_import import import_mailbox

        await opened.channels(as_user).check(Right.MANAGE_CHANNELS)
        return await import_mailbox(opened, name, first, automation=not no_automation)

    done = run(context, act)
    if as_json:
        emit(done)
    else:
        left = f", {done['left']} left: run it again to continue" if done["left"] else ""
        say(f"{count(done['imported'], 'mail')} imported{left}")
        if done["owed"]:
            say(
                f"{count(done['owed'], 'mail')} could not be fetched: "
                f"channel test {done['mailbox']} lists them"
            )
    if done["left"]:
        raise typer.Exit(os.EX_TEMPFAIL)
