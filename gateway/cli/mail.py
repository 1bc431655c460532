"""``ticketgate mail ...``: incoming mail, what became of it and why (interfaces.md 2.2).

``retry`` and ``release`` process the mail at once. The exit code is 65 for an unknown mail, and for
a mail whose state does not allow the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import HIGHEST, As, AsJson, one_of
from gateway.cli.output import columns, emit, facts, paragraph, say, say_bytes, table
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.desk.held_mail import HeldMailDesk
    from gateway.store.queues.mail_register import RegisteredMail

app = App("Look at incoming mail and process it again.")

Id = Annotated[int, typer.Argument(metavar="ID", max=HIGHEST, help="The number of the mail.")]
STATES = ("pending", "done", "ignored", "quarantined", "held", "duplicate")


StateOption = Annotated[
    str | None,
    typer.Option("--state", metavar="|".join(STATES), help="List only mail in this state."),
]
LimitOption = Annotated[
    int, typer.Option("--limit", metavar="N", min=1, max=HIGHEST, help="List the newest N mails.")
]


@app.command("list")
def list_(
    context: typer.Context,
    state: StateOption = None,
    limit: LimitOption = 1000,
    as_json: AsJson = False,
) -> None:
    """List incoming mail, newest first."""
    with options_checked(context):
        one_of("--state", state, STATES)

    async def act(opened: Installation) -> tuple[int, list[dict[str, Any]]]:
        register = await opened.register()
        rows = await register.listing(state, limit)
        places = await _places(opened, rows)
        return await register.total(state), [_described(row, places) for row in rows]

    total, shown = run(context, act)
    if as_json:
        emit({"total": total, "mail": shown})
        return
    keys = ("id", "received_at", "state", "kind", "from", "subject", "ticket", "reason")
    table(
        ("ID", "Received", "State", "Kind", "From", "Subject", "Ticket", "Why"),
        ([each[k][:19] if k == "received_at" else each[k] for k in keys] for each in shown),
        title=f"{len(shown)} of {total}" if len(shown) < total else None,
    )


@app.command()
def show(context: typer.Context, mail_id: Id, as_json: AsJson = False) -> None:
    """Show everything known about a mail."""

    async def act(opened: Installation) -> dict[str, Any]:
        row = await (await opened.register()).get(mail_id)
        return _whole(row, await _places(opened, [row]))

    shown = run(context, act)
    if as_json:
        emit(shown)
    else:
        facts(
            (name.replace("_", " ").capitalize(), value)
            for name, value in shown.items()
            if not isinstance(value, dict | list)
        )


@app.command()
def raw(context: typer.Context, mail_id: Id) -> None:
    """Print a mail byte for byte as it was received."""

    async def act(opened: Installation) -> bytes:
        return await (await opened.register()).raw(mail_id)

    say_bytes(run(context, act))


@app.command()
def explain(context: typer.Context, mail_id: Id, as_json: AsJson = False) -> None:
    """Print step by step what was decided about a mail, and why."""

    async def act(opened: Installation) -> RegisteredMail:
        return await (await opened.register()).get(mail_id)

    row = run(context, act)
    outcome = row.outcome or {}
    steps = outcome.get("steps", [])
    if as_json:
        found = {"steps": steps, "rule": outcome.get("rule"), "state": row.state}
        emit(found | {"reason": row.reason, "matched_by": outcome.get("matched_by")})
        return
    columns(steps, Step="step", Verdict="verdict", Why="why")
    say(paragraph(f"{row.state}: {row.reason or 'not processed yet'}"))


@app.command()
def retry(context: typer.Context, mail_id: Id, as_user: As = None, as_json: AsJson = False) -> None:
    """Process a held, ignored or quarantined mail again. The present rules apply."""
    _process_again(context, mail_id, as_user, lambda desk: desk.retry(mail_id), as_json=as_json)


@app.command()
def release(
    context: typer.Context, mail_id: Id, as_user: As = None, as_json: AsJson = False
) -> None:
    """Process a quarantined mail as if it arrived now. The reason for quarantine is ignored."""
    _process_again(context, mail_id, as_user, lambda desk: desk.release(mail_id), as_json=as_json)


@app.command()
def discard(
    context: typer.Context, mail_id: Id, as_user: As = None, as_json: AsJson = False
) -> None:
    """Discard a held or quarantined mail. The command mail raw can still print it."""

    async def act(opened: Installation) -> dict[str, Any]:
        await opened.held_mail(as_user).discard(mail_id)
        row = await (await opened.register()).get(mail_id)
        return _whole(row, {})

    shown = run(context, act)
    if as_json:
        emit({"ticket": None, "message": None, "changes": [], "mail": shown})
    else:
        say(f"mail {mail_id} is {shown['state']}: {paragraph(shown['reason'])}")


def _process_again(
    context: typer.Context,
    mail_id: int,
    actor: str | None,
    decide: Callable[[HeldMailDesk], Awaitable[None]],
    *,
    as_json: bool,
) -> None:
    async def act(opened: Installation) -> dict[str, Any]:
        await decide(opened.held_mail(actor))
        await (await opened.intake(processes=1)).drain([mail_id])
        row = await (await opened.register()).get(mail_id)
        return await _changed(opened, row) | {"mail": _whole(row, await _places(opened, [row]))}

    shown = run(context, act)
    if as_json:
        emit(shown)
    else:
        say(_state_line(shown["mail"]))


def _state_line(mail: dict[str, Any]) -> str:
    """Return a line with the state of a mail and the reason for this state."""
    waits = "the daemon processes it" if mail["state"] == "pending" else ""
    why = paragraph(mail["reason"] or waits)
    return f"mail {mail['id']} is {mail['state']}{': ' * bool(why)}{why}"


async def _changed(opened: Installation, row: RegisteredMail) -> dict[str, Any]:
    """Return the ticket and message of a processed mail, and the events that it caused."""
    from gateway.desk import views
    from gateway.store.tickets import threads, tickets

    nothing: dict[str, Any] = {"ticket": None, "message": None, "changes": []}
    if row.thread_id is None:
        return nothing
    async with opened.database.read() as connection:
        messages = await threads.messages(connection, [row.thread_id])
        message = next((views.message(each) for each in messages if each.id == row.message), None)
        if row.ticket is None:
            return nothing | {"message": message}
        ticket = await views.resolve(connection, row.ticket)
        events = (await tickets.events(connection, [ticket.number]))[ticket.number]
        own = [
            each
            for each in events
            if each.at == row.processed_at and each.cause["message_id"] == row.message_id
        ]
        shown = await views.describe(connection, [ticket])
    return {"ticket": shown[0], "message": message, "changes": [views.event(each) for each in own]}


async def _places(
    opened: Installation, rows: list[RegisteredMail]
) -> dict[int, tuple[int, int | None]]:
    """Return where the mail of each row is now, (thread, ticket), by the row's thread id."""
    from gateway.store.tickets import threads

    ids = {row.thread_id for row in rows if row.thread_id is not None}
    async with opened.database.read() as connection:
        return await threads.finally_at(connection, ids) if ids else {}


def _described(row: RegisteredMail, places: dict[int, tuple[int, int | None]]) -> dict[str, Any]:
    _, ticket = places.get(row.thread_id or 0, (None, row.ticket))
    return {
        "id": row.id,
        "received_at": row.received_at.isoformat(),
        "channel": row.channel,
        "source": row.source,
        "message_id": row.message_id,
        "from": row.sender,
        "subject": row.subject,
        "state": row.state,
        "kind": row.kind,
        "ticket": ticket,
        "reason": row.reason,
    }


def _whole(row: RegisteredMail, places: dict[int, tuple[int, int | None]]) -> dict[str, Any]:
    envelope = row.envelope
    thread, _ = places.get(row.thread_id or 0, (row.thread_id, None))
    return _described(row, places) | {
        "thread": thread,
        "size": row.size,
        "sha256": row.sha256,
        "tries": row.tries,
        "released": row.released,
        "processed_at": row.processed_at.isoformat() if row.processed_at is not None else None,
        "duplicate_of": row.original_id,
        "envelope_sender": envelope.sender,
        "recipients": list(envelope.recipients),
        "peer": envelope.peer,
        "tls": envelope.tls,
        "origin": envelope.origin,
        "outcome": row.outcome,
    }
