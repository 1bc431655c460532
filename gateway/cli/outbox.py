"""``ticketgate outbox ...``: deliveries of outgoing mail (interfaces.md 2.2).

These commands send nothing: the daemon or ``agenda run`` sends the mail. The exit code is 65, and
nothing changes, when a delivery is unknown or its state does not allow the command.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.act_result import acted
from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import HIGHEST, As, AsJson, one_of
from gateway.cli.output import emit, facts, paragraph, say, table
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.desk.outbox import OutboxDesk
    from gateway.desk.tickets import ActResult
    from gateway.store.queues.outbox import Deliveries, DeliveryView, ListedDelivery

app = App("Look at outgoing mail, retry and cancel it.")

Id = Annotated[int, typer.Argument(metavar="ID", max=HIGHEST, help="The number of the delivery.")]
Ids = Annotated[
    list[int],
    typer.Argument(
        metavar="ID...", max=HIGHEST, help="The numbers of the deliveries (see outbox list)."
    ),
]
STATES = ("scheduled", "queued", "sent", "deferred", "failed", "cancelled")


StateOption = Annotated[
    str | None,
    typer.Option("--state", metavar="|".join(STATES), help="List only deliveries in this state."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        max=HIGHEST,
        help="List only the newest N deliveries. Default: all.",
    ),
]


@app.command("list")
def list_(
    context: typer.Context,
    state: StateOption = None,
    limit: LimitOption = None,
    as_json: AsJson = False,
) -> None:
    """List deliveries, newest first. A mail has one delivery for each recipient."""
    with options_checked(context):
        one_of("--state", state, STATES)

    async def act(opened: Installation) -> list[dict[str, Any]]:
        found = await _deliveries(opened).listing(one_of("--state", state, STATES), limit)
        return [_described(each) for each in found]

    shown = run(context, act)
    if as_json:
        emit({"deliveries": shown})
        return
    columns = ("id", "state", "recipient", "subject", "ticket", "attempts", "due_at", "last_reply")
    table(
        ("ID", "State", "Recipient", "Subject", "Ticket", "Attempts", "Due at", "Last reply"),
        (
            [(each[name] or "")[:19] if name == "due_at" else each[name] for name in columns]
            for each in shown
        ),
    )


@app.command()
def show(context: typer.Context, delivery: Id, as_json: AsJson = False) -> None:
    """Show a delivery: its state, the server's last reply, and the mail."""

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
        say()
        say(paragraph(shown["raw"]))


@app.command()
def retry(
    context: typer.Context, deliveries: Ids, as_user: As = None, as_json: AsJson = False
) -> None:
    """Queue failed or deferred deliveries for sending now. Each is tried for five days."""
    _act(context, deliveries, lambda person: person.retry(deliveries), as_user, as_json=as_json)


@app.command()
def cancel(
    context: typer.Context, deliveries: Ids, as_user: As = None, as_json: AsJson = False
) -> None:
    """Cancel unsent deliveries and scheduled replies. Either all are cancelled or none."""
    _act(context, deliveries, lambda person: person.cancel(deliveries), as_user, as_json=as_json)


def _act(
    context: typer.Context,
    ids: list[int],
    act: Callable[[OutboxDesk], Awaitable[ActResult]],
    actor: str | None,
    *,
    as_json: bool,
) -> None:
    """Run one act and print what it changed (interfaces.md 2.1)."""

    async def whole(opened: Installation) -> dict[str, Any]:
        outcome, outbox = await act(opened.deliveries(actor)), _deliveries(opened)
        listed = [_described((await outbox.show(each)).listed) for each in dict.fromkeys(ids)]
        return await acted(opened, outcome) | {"deliveries": listed}

    done = run(context, whole)
    if as_json:
        emit(done)
        return
    for each in done["deliveries"]:
        say(f"delivery {each['id']} is {each['state']}")


def _deliveries(opened: Installation) -> Deliveries:
    from gateway.store.queues.outbox import Deliveries

    return Deliveries(opened.database)


def _described(listed: ListedDelivery) -> dict[str, Any]:
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
    """Return the headers of an outgoing mail, unfolded and decoded."""
    from email import policy
    from email.parser import BytesHeaderParser

    made = BytesHeaderParser(policy=policy.default).parsebytes(raw.partition(b"\r\n\r\n")[0])
    return [{"name": name, "value": str(value)} for name, value in made.items()]
