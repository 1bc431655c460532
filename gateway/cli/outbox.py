"""``ticketgate outbox ...``: mail going out, recipient by recipient, and what the smarthost said
(interfaces.md 2.2).

Nothing is sent from here: the daemon does that, or ``agenda run``. What can go wrong: there is no
such delivery, or it is in a state in which that makes no sense (exit 65; nothing was changed then).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.acting import acted
from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, emit, facts, paragraph, table
from gateway.cli.words import HIGHEST, one_of
from gateway.daemon.assemble import Installation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.desk.outbox import OutboxDesk
    from gateway.desk.tickets import ActResult
    from gateway.store.queues.outbox import Deliveries, DeliveryRow, DeliveryView

app = typer.Typer(help="Mail going out, and what became of it.", no_args_is_help=True)

Id = Annotated[int, typer.Argument(metavar="ID", max=HIGHEST)]
As = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="The address of the user who acts.")
]
Ids = Annotated[list[int], typer.Argument(metavar="ID...", max=HIGHEST)]
STATES = ("scheduled", "queued", "sent", "deferred", "failed", "cancelled")


@app.command("list")
def list_(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option("--state", metavar="S", help=", ".join(STATES))
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, max=HIGHEST, help="The newest so many."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists deliveries, newest first: one for each recipient of each mail."""
    with explained():
        one_of("--state", state, STATES)

    async def act(opened: Installation) -> list[dict[str, Any]]:
        found = await _deliveries(opened).listing(one_of("--state", state, STATES), limit)
        return [_described(each) for each in found]

    shown = run(context, act)
    if as_json:
        emit({"deliveries": shown})
        return
    columns = ("id", "state", "recipient", "subject", "ticket", "attempts", "due_at", "last_reply")
    heads = [name.replace("_", " ").capitalize() for name in columns]
    table(
        heads,
        (
            [(each[name] or "")[:19] if name == "due_at" else each[name] for name in columns]
            for each in shown
        ),
    )


@app.command()
def show(context: typer.Context, delivery: Id, as_json: AsJson = False) -> None:
    """Shows one delivery: its state, what was answered last, and the mail with its headers."""

    async def act(opened: Installation) -> dict[str, Any]:
        return _whole(await _deliveries(opened).show(delivery))

    shown = run(context, act)
    if as_json:
        emit(shown)
        return
    facts(
        (name.replace("_", " ").capitalize(), value)
        for name, value in shown.items()
        if not isinstance(value, dict | list) and name != "raw"
    )
    if shown["raw"] is not None:
        print()
        print(paragraph(shown["raw"]))


@app.command()
def retry(
    context: typer.Context, deliveries: Ids, as_user: As = None, as_json: AsJson = False
) -> None:
    """Puts deliveries that failed or were put off in line again, due now and for another five days."""
    _act(context, deliveries, lambda person: person.retry(deliveries), as_user, as_json=as_json)


@app.command()
def cancel(
    context: typer.Context, deliveries: Ids, as_user: As = None, as_json: AsJson = False
) -> None:
    """Stops deliveries that were not sent yet, and replies that were to be sent later; all of them
    or none.
    """
    _act(context, deliveries, lambda person: person.cancel(deliveries), as_user, as_json=as_json)


def _act(
    context: typer.Context,
    ids: list[int],
    act: Callable[[OutboxDesk], Awaitable[ActResult]],
    actor: str | None,
    *,
    as_json: bool,
) -> None:
    """One act, and what it changed: interfaces.md 2.1."""

    async def whole(opened: Installation) -> dict[str, Any]:
        outcome, outbox = await act(opened.deliveries(actor)), _deliveries(opened)
        listed = [_described((await outbox.show(each)).listed) for each in dict.fromkeys(ids)]
        return await acted(opened, outcome) | {"deliveries": listed}

    done = run(context, whole)
    if as_json:
        emit(done)
        return
    for each in done["deliveries"]:
        print(f"delivery {each['id']} is {each['state']}")


def _deliveries(opened: Installation) -> Deliveries:
    from gateway.store.queues.outbox import Deliveries

    return Deliveries(opened.database)


def _described(listed: DeliveryRow) -> dict[str, Any]:
    due = listed.due_at
    return asdict(listed) | {"due_at": due.isoformat() if due is not None else None}


def _whole(shown: DeliveryView) -> dict[str, Any]:
    return _described(shown.listed) | {
        "outgoing": shown.outgoing,
        "created_at": shown.created_at.isoformat(),
        "ended_at": shown.ended_at.isoformat() if shown.ended_at is not None else None,
        "return_address": shown.return_address,
        "headers": _headers(shown.raw or b""),
        "raw": shown.raw.decode("utf-8", "replace") if shown.raw is not None else None,
        "draft": shown.draft,
    }


def _headers(raw: bytes) -> list[dict[str, str]]:
    """The headers of a mail we made ourselves, unfolded and decoded."""
    from email import policy
    from email.parser import BytesHeaderParser

    made = BytesHeaderParser(policy=policy.default).parsebytes(raw.partition(b"\r\n\r\n")[0])
    return [{"name": name, "value": str(value)} for name, value in made.items()]
