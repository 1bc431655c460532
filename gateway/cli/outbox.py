"""``ticketgate outbox ...``: mail going out, recipient by recipient (interfaces.md 2, 2.2)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.opening import Opened, explained, run
from gateway.cli.output import AsJson, emit, facts, paragraph, table
from gateway.cli.words import HIGHEST, one_of

app = typer.Typer(help="Mail going out.", no_args_is_help=True)
STATES = ("scheduled", "queued", "sent", "deferred", "failed", "cancelled")
Ids = Annotated[list[int], typer.Argument(metavar="ID...", max=HIGHEST)]


@app.command("list")
def list_(
    context: typer.Context,
    state: Annotated[str | None, typer.Option("--state", metavar="S", help=", ".join(STATES))] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lists deliveries, one for each recipient of a mail, the newest first."""

    async def act(opened: Opened) -> list[dict[str, Any]]:
        from gateway.store.outbox import Deliveries

        return await Deliveries(opened.database).listing(chosen, limit)

    with explained():
        chosen = one_of("--state", state, STATES)
    rows = run(context, act)
    if as_json:
        emit({"deliveries": rows})
        return
    table(
        ("Id", "Ticket", "To", "State", "Tries", "Due", "Last answer", "Subject"),
        (
            (
                row["id"],
                row["ticket"],
                row["recipient"],
                row["state"],
                row["attempts"],
                row["due_at"].isoformat()[:16] if row["due_at"] is not None and row["state"] not in ("sent", "failed") else None,
                row["last_reply"],
                row["subject"],
            )
            for row in rows
        ),
    )


@app.command()
def show(context: typer.Context, number: Annotated[int, typer.Argument(metavar="ID", max=HIGHEST)], as_json: AsJson = False) -> None:
    """Shows a delivery and the mail as it goes out."""

    async def act(opened: Opened) -> dict[str, Any]:
        from gateway.store.outbox import Deliveries

        found = await Deliveries(opened.database).show(number)
        mail = found.raw.decode("ascii", "replace").replace("\r\n", "\n") if found.raw is not None else None
        return found.listed | {
            "created_at": found.created_at,
            "ended_at": found.ended_at,
            "draft": found.draft["text"] if found.draft is not None else None,
            "raw": mail,
        }

    shown = run(context, act)
    if as_json:
        emit(shown)
        return
    facts((name.replace("_", " ").capitalize(), value) for name, value in shown.items() if name not in ("raw", "draft"))
    print("\n" + paragraph(shown["raw"] or shown["draft"] or ""))


@app.command()
def retry(context: typer.Context, numbers: Ids, as_json: AsJson = False) -> None:
    """Puts failed and waiting deliveries in line again: all of them or none."""
    _change(context, numbers, "retry", as_json=as_json)


@app.command()
def cancel(context: typer.Context, numbers: Ids, as_json: AsJson = False) -> None:
    """Stops deliveries that were not sent yet, also of a mail for later: all of them or none."""
    _change(context, numbers, "cancel", as_json=as_json)


def _change(context: typer.Context, numbers: list[int], what: str, *, as_json: bool) -> None:
    async def act(opened: Opened) -> list[dict[str, Any]]:
        from gateway.store.outbox import Deliveries

        deliveries = Deliveries(opened.database)
        await (deliveries.retry if what == "retry" else deliveries.cancel)(numbers, opened.clock.now())
        return [(await deliveries.show(each)).listed for each in dict.fromkeys(numbers)]

    changed = run(context, act)
    if as_json:
        emit({"deliveries": changed})
    else:
        for row in changed:
            print(f"delivery {row['id']} is {row['state']}")
