"""``ticketgate channel test`` and ``channel import``: a mailbox tried step by step, and what lies
in it taken in before the daemon does.

What can go wrong: the mailbox is read by a daemon (75: it does the same already), the server is
away (75: the same command goes on where it stopped), or what stands in the configuration does not
work (78).
"""

from __future__ import annotations

import os
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.opening import run
from gateway.cli.output import AsJson, emit, visible
from gateway.daemon.assemble import Installation

if TYPE_CHECKING:
    from gateway.ingress.imap.check import CheckStep

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The name of an [[imap]] table, or the address of its channel."
    ),
]


def try_(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Try a mailbox step by step and say what fails and what to do. Changes nothing."""
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
                print(
                    f"{'ok   ' if step.ok else 'FAILS'} {step.step:<10} {visible(step.detail)}",
                    flush=True,
                )
                if step.advice:
                    print(f"      {'':<10} -> {visible(step.advice)}", flush=True)
    return steps


def _document(step: CheckStep) -> dict[str, Any]:
    return {"step": step.step, "ok": step.ok, "detail": step.detail, "advice": step.advice or None}


def import_(
    context: typer.Context,
    name: Name,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="DATE", help="Only mail that came in on this day or later."
        ),
    ] = None,
    no_automation: Annotated[
        bool,
        typer.Option(
            "--no-automation",
            help="Threads and tickets only: no acknowledgements, no status rules.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take in what lies in a mailbox, oldest first. Interrupted, the same command goes on where it
    stopped.
    """
    try:
        first = date.fromisoformat(since) if since is not None else None
    except ValueError:
        raise typer.BadParameter("--since is a date like 2026-01-31") from None

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.cli.channel_import import import_mailbox

        return await import_mailbox(opened, name, first, automation=not no_automation)

    told = run(context, act)
    if as_json:
        emit(told)
    else:
        print(
            f"{told['imported']} mails taken in"
            + (f", {told['left']} left: the same command goes on" if told["left"] else "")
        )
        if told["owed"]:
            print(
                f"{told['owed']} could not be fetched: channel test {told['mailbox']} tells which"
            )
    if told["left"]:
        raise typer.Exit(os.EX_TEMPFAIL)
