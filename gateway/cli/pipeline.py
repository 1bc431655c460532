"""``ticketgate pipeline ...``: pipelines, their statuses and switches (interfaces.md 2.3). Refused
by a rule: exit 65, nothing changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, agree, emit, emit_done, facts, refuse_unasked, table, visible
from gateway.cli.words import one_of, switch
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

if TYPE_CHECKING:
    from core.pipeline import Pipeline
    from gateway.desk.pipelines import PipelineDesk, Switches
    from gateway.store.engine import Database

app = typer.Typer(help="Pipelines and their statuses.", no_args_is_help=True)
statuses = typer.Typer(help="The statuses of a pipeline.", no_args_is_help=True)
app.add_typer(statuses, name="status")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The pipeline.")]
P = Annotated[str, typer.Argument(metavar="P", help="The pipeline.")]
OnOff = "on|off"


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Lists all pipelines."""
    shown = run(context, lambda opened: _described(opened.database))
    if as_json:
        emit({"pipelines": shown})
    else:
        table(
            ("Name", "Statuses", "Close date", "A: email sent", "B: customer reply", "Channels"),
            (
                (
                    each["name"],
                    ", ".join(
                        f"{status['name']} ({status['state']})" for status in each["statuses"]
                    ),
                    "on" if each["close_date"] else "off",
                    each["on_email_sent"] or "off",
                    each["on_customer_reply"] or "off",
                    ", ".join(each["channels"]),
                )
                for each in shown
            ),
        )


@app.command()
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Shows a pipeline with the channels that make tickets in it."""
    _show(run(context, lambda opened: _one(opened.database, name)), as_json=as_json)


@app.command()
def add(
    context: typer.Context,
    name: Name,
    status: Annotated[
        list[str],
        typer.Option(
            "--status", metavar="NAME:open|closed", help="In order; at least one of each."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Makes a pipeline; its triggers are off until they are set."""
    with explained():
        steps = [_step(each) for each in status]
    _change(context, lambda desk: desk.add_pipeline(name, steps), as_json=as_json)


@app.command("set")
def set_(
    context: typer.Context,
    name: Name,
    close_date: Annotated[
        str | None,
        typer.Option("--close-date", metavar=OnOff, help="Set the date when a ticket is closed."),
    ] = None,
    on_email_sent: Annotated[
        str | None, typer.Option("--on-email-sent", metavar="STATUS|off", help="Trigger A.")
    ] = None,
    on_customer_reply: Annotated[
        str | None, typer.Option("--on-customer-reply", metavar="STATUS|off", help="Trigger B.")
    ] = None,
    strangers: Annotated[
        str | None,
        typer.Option("--strangers", metavar="move|flag", help="What a stranger's reply does."),
    ] = None,
    relay: Annotated[
        str | None,
        typer.Option(
            "--relay",
            metavar="on|off",
            help="Whether an agent's answer to a notice goes to the customer.",
        ),
    ] = None,
    allow_back: Annotated[
        str | None,
        typer.Option("--allow-back", metavar=OnOff, help="Off: people may not move tickets back."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sets the switches of a pipeline; no existing ticket changes."""
    switches: Switches = {}
    with explained():
        if (dates := switch("--close-date", close_date)) is not None:
            switches["set_close_date"] = dates
        if on_email_sent is not None:
            switches["on_email_sent"] = None if on_email_sent == "off" else on_email_sent
        if on_customer_reply is not None:
            switches["on_customer_reply"] = (
                None if on_customer_reply == "off" else on_customer_reply
            )
        if strangers is not None:
            switches["strangers"] = one_of("--strangers", strangers, ("move", "flag"))
        if relay is not None:
            switches["relay"] = switch("--relay", relay) is True
        if (back := switch("--allow-back", allow_back)) is not None:
            switches["allow_back"] = back
        if not switches:
            raise UsageError("say what is to be set")
    _change(context, lambda desk: desk.set_pipeline(name, switches), as_json=as_json)


@statuses.command("add")
def add_status(
    context: typer.Context,
    pipeline: P,
    name: str,
    state: Annotated[str, typer.Option("--state", metavar="open|closed")],
    as_json: AsJson = False,
) -> None:
    """Adds a status at the end."""
    with explained():
        chosen = one_of("--state", state, ("open", "closed"))
    _change(context, lambda desk: desk.add_status(pipeline, name, chosen), as_json=as_json)


@statuses.command()
def rename(
    context: typer.Context, pipeline: P, old: str, new: str, as_json: AsJson = False
) -> None:
    """Gives a status another name; tickets, triggers and channels stay with it."""
    _change(context, lambda desk: desk.rename_status(pipeline, old, new), as_json=as_json)


@statuses.command()
def move(
    context: typer.Context,
    pipeline: P,
    name: str,
    position: Annotated[int, typer.Option("--position", metavar="N", help="Counted from 1.")],
    as_json: AsJson = False,
) -> None:
    """Puts a status at another place; no ticket moves."""
    _change(context, lambda desk: desk.move_status(pipeline, name, position), as_json=as_json)


@statuses.command("set")
def set_status(
    context: typer.Context,
    pipeline: P,
    name: str,
    state: Annotated[str, typer.Option("--state", metavar="open|closed")],
    as_json: AsJson = False,
) -> None:
    """Makes a status open or closed. Tickets in it keep their dates; how many there are is told."""
    with explained():
        chosen = one_of("--state", state, ("open", "closed"))
    status, inside = run(
        context, lambda opened: opened.pipelines().flip_status(pipeline, name, chosen)
    )
    if as_json:
        emit_done(
            {
                "status": {"name": status.name, "state": status.state, "position": status.position},
                "backfill_offered": inside,
            }
        )
    else:
        print(
            f"{visible(status.name)} is {status.state}; {inside} tickets in it keep their "
            "dates as they are"
        )


@statuses.command()
def delete(
    context: typer.Context,
    pipeline: P,
    name: str,
    move_to: Annotated[
        str | None,
        typer.Option(
            "--move-to", metavar="NAME", help="Where its tickets and references go first."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Removes a status; one that is in use only with --move-to."""
    deleted = run(context, lambda opened: opened.pipelines().delete_status(pipeline, name, move_to))
    if as_json:
        from gateway.desk import views

        emit_done(
            {
                "deleted": name,
                "moved": list(deleted.moved),
                "changes": [views.event(each) for each in deleted.events],
            }
        )
    else:
        print(f"{visible(name)} is gone; {len(deleted.moved)} tickets were moved")


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML, as export writes it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Shows what a file would change, and changes it: all of it or nothing."""

    async def act(opened: Installation) -> tuple[str, bool]:
        from gateway.cli.pipelinefile import read
        from gateway.store.upkeep.rehearsal import rehearsal

        plans = read(file)
        before = await _exported(opened.database)
        async with rehearsal(opened.database) as rehearsed:
            await opened.pipelines(database=rehearsed).arrange_pipelines(plans)
            diff = _diff(before, await _exported(rehearsed))
        if not as_json:
            print(diff or "nothing would change")
        done = agree("Change this?", yes=yes, dry_run=dry_run)
        if done:
            await opened.pipelines().arrange_pipelines(plans)
        return diff, done

    with explained():
        refuse_unasked(yes=yes, dry_run=dry_run)
    diff, done = run(context, act)
    if as_json:
        emit_done({"diff": diff, "changed": done and bool(diff)})


@app.command()
def export(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints pipelines as TOML."""
    if as_json:
        emit(
            {
                "pipelines": run(context, lambda opened: _described(opened.database))
                if name is None
                else [run(context, lambda opened: _one(opened.database, name))]
            }
        )
    else:
        print(run(context, lambda opened: _exported(opened.database, name)), end="")


def _change(
    context: typer.Context, act: Callable[[PipelineDesk], Awaitable[Pipeline]], *, as_json: bool
) -> None:
    """One change of a pipeline, and how it stands afterwards."""

    async def whole(opened: Installation) -> dict[str, Any]:
        changed = await act(opened.pipelines())
        return await _one(opened.database, changed.name)

    changed = run(context, whole)
    if as_json:
        emit_done(changed)
    else:
        _show(changed, as_json=False)


def _show(shown: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(shown)
        return
    facts(
        (
            ("Pipeline", shown["name"]),
            (
                "Close date",
                "set when a ticket is closed" if shown["close_date"] else "not set automatically",
            ),
            ("Email sent", shown["on_email_sent"] or "off"),
            ("Customer reply", shown["on_customer_reply"] or "off"),
            ("Strangers", shown["strangers"]),
            ("Relay", "on" if shown["relay"] else "off"),
            ("Moving back", "allowed" if shown["allow_back"] else "not allowed"),
            ("Channels", ", ".join(shown["channels"])),
        )
    )
    table(
        ("Position", "Status", "State"),
        ((each["position"], each["name"], each["state"]) for each in shown["statuses"]),
    )


async def _one(database: Database, name: str) -> dict[str, Any]:
    from gateway.errors import Refused

    for each in await _described(database):
        if each["name"].casefold() == name.casefold():
            return each
    raise Refused(f"there is no pipeline {name!r}")


async def _described(database: Database) -> list[dict[str, Any]]:
    from gateway.store.setup import pipelines

    async with database.read() as connection:
        found = await pipelines.load_pipelines(connection)
        channels = await pipelines.load_channels(connection)
    return [
        {
            "name": pipeline.name,
            "statuses": [
                {"name": each.name, "state": each.state, "position": each.position}
                for each in pipeline.statuses
            ],
            "close_date": pipeline.set_close_date,
            "on_email_sent": pipeline.status(pipeline.on_email_sent).name
            if pipeline.on_email_sent is not None
            else None,
            "on_customer_reply": pipeline.status(pipeline.on_customer_reply).name
            if pipeline.on_customer_reply is not None
            else None,
            "strangers": pipeline.strangers,
            "relay": pipeline.relay,
            "allow_back": pipeline.allow_back,
            "default": pipeline.is_default,
            "channels": sorted(
                each.address
                for each in channels
                if each.tickets and each.pipeline_id == pipeline.id
            ),
        }
        for pipeline in found.values()
    ]


async def _exported(database: Database, name: str | None = None) -> str:
    from gateway.cli.pipelinefile import written
    from gateway.store.setup import pipelines

    async with database.read() as connection:
        found = (
            (await pipelines.load_pipelines(connection)).values()
            if name is None
            else [await pipelines.named(connection, name)]
        )
    return written(found)


def _diff(before: str, after: str) -> str:
    from difflib import unified_diff

    lines: Iterable[str] = unified_diff(
        before.splitlines(), after.splitlines(), "as it is", "as it would be", lineterm=""
    )
    return "\n".join(lines)


def _step(given: str) -> tuple[str, Literal["open", "closed"]]:
    name, colon, state = given.rpartition(":")
    if not colon or not name.strip():
        raise UsageError(f"--status is like NAME:open or NAME:closed, not {given!r}")
    return name.strip(), one_of("--status", state.strip().lower(), ("open", "closed"))
