"""``ticketgate pipeline ...``: pipelines, their statuses and switches (interfaces.md 2.3).

When a rule refuses a change, the exit code is 65 and nothing was changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import HIGHEST, ON_OFF, As, AsJson, DryRun, Yes, one_of, switch
from gateway.cli.output import (
    agree,
    columns,
    count,
    emit,
    emit_done,
    facts,
    refuse_unasked,
    say,
    table,
    visible,
)
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation
from gateway.errors import NotFound, UsageError

if TYPE_CHECKING:
    from core.model.ticket import Channel
    from core.pipeline import Pipeline
    from gateway.desk.pipelines import PipelineDesk, Switches
    from gateway.store.engine import Database

app = App("Set up pipelines and their statuses.")
statuses = App("Set up the statuses of a pipeline.")
app.add_typer(statuses, name="status")

PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE", help="The name of the pipeline.")]
StatusName = Annotated[str, typer.Argument(metavar="STATUS", help="The name of the status.")]
State = Annotated[
    str,
    typer.Option(
        "--state",
        metavar="open|closed",
        help="Whether tickets in this status count as open or closed.",
    ),
]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List pipelines."""
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
def show(context: typer.Context, name: PipelineName, as_json: AsJson = False) -> None:
    """Show a pipeline with the channels that make tickets in it."""
    _show(run(context, lambda opened: _one(opened.database, name)), as_json=as_json)


@app.command()
def add(
    context: typer.Context,
    name: PipelineName,
    status: Annotated[
        list[str],
        typer.Option(
            "--status",
            metavar="NAME:open|closed",
            help="A status, like New:open. Repeat in order, with at least one open and one closed.",
        ),
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Add a pipeline. Its triggers are off; the command pipeline set turns them on."""
    with options_checked(context):
        steps = [_status_plan(each) for each in status]
    _change(context, lambda desk: desk.add_pipeline(name, steps), as_user, as_json=as_json)


CloseDateOption = Annotated[
    str | None,
    typer.Option(
        "--close-date", metavar=ON_OFF, help="Whether closing a ticket sets its close date."
    ),
]
OnEmailSentOption = Annotated[
    str | None,
    typer.Option(
        "--on-email-sent",
        metavar="STATUS|off",
        help="The status to which a ticket moves when a user replies to the customer (trigger A).",
    ),
]
OnCustomerReplyOption = Annotated[
    str | None,
    typer.Option(
        "--on-customer-reply",
        metavar="STATUS|off",
        help="The status to which a ticket moves when the customer replies (trigger B).",
    ),
]
StrangersOption = Annotated[
    str | None,
    typer.Option(
        "--strangers",
        metavar="move|flag",
        help="Whether a stranger's reply moves the ticket or only flags it.",
    ),
]
RelayOption = Annotated[
    str | None,
    typer.Option(
        "--relay",
        metavar=ON_OFF,
        help="Whether a user's answer to a notification is sent on to the customer.",
    ),
]
AllowBackOption = Annotated[
    str | None,
    typer.Option(
        "--allow-back",
        metavar=ON_OFF,
        help="Whether users may move tickets back to an earlier status.",
    ),
]


@app.command("set")
def set_(
    context: typer.Context,
    name: PipelineName,
    close_date: CloseDateOption = None,
    on_email_sent: OnEmailSentOption = None,
    on_customer_reply: OnCustomerReplyOption = None,
    strangers: StrangersOption = None,
    relay: RelayOption = None,
    allow_back: AllowBackOption = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Set switches of a pipeline. Tickets stay where they are."""
    switches: Switches = {}
    with options_checked(context):
        if close_date is not None:
            switches["set_close_date"] = switch("--close-date", close_date) is True
        if on_email_sent is not None:
            switches["on_email_sent"] = _status_or_off(on_email_sent)
        if on_customer_reply is not None:
            switches["on_customer_reply"] = _status_or_off(on_customer_reply)
        if strangers is not None:
            switches["strangers"] = one_of("--strangers", strangers, ("move", "flag"))
        if relay is not None:
            switches["relay"] = switch("--relay", relay) is True
        if allow_back is not None:
            switches["allow_back"] = switch("--allow-back", allow_back) is True
        if not switches:
            raise UsageError("nothing to set: give an option")
    _change(context, lambda desk: desk.set_pipeline(name, switches), as_user, as_json=as_json)


def _status_or_off(given: str) -> str | None:
    return None if given == "off" else given


@app.command("rename")
def rename_pipeline(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The present name of the pipeline.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name of the pipeline.")],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Rename a pipeline. Tickets, channels and workflows follow."""
    _change(context, lambda desk: desk.rename_pipeline(old, new), as_user, as_json=as_json)


@statuses.command("add")
def add_status(
    context: typer.Context,
    pipeline: PipelineName,
    name: StatusName,
    state: State,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Add a status at the end of a pipeline."""
    with options_checked(context):
        chosen = one_of("--state", state, ("open", "closed"))
    _change(context, lambda desk: desk.add_status(pipeline, name, chosen), as_user, as_json=as_json)


@statuses.command()
def rename(
    context: typer.Context,
    pipeline: PipelineName,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The present name of the status.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name of the status.")],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Rename a status. Tickets, triggers, channels, workflows and scheduled replies follow."""
    _change(context, lambda desk: desk.rename_status(pipeline, old, new), as_user, as_json=as_json)


@statuses.command()
def move(
    context: typer.Context,
    pipeline: PipelineName,
    name: StatusName,
    position: Annotated[
        int,
        typer.Option(
            "--position", metavar="N", max=HIGHEST, help="The new position, counted from 1."
        ),
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Move a status to another position. Tickets stay where they are."""
    _change(
        context, lambda desk: desk.move_status(pipeline, name, position), as_user, as_json=as_json
    )


@statuses.command("set")
def set_status(
    context: typer.Context,
    pipeline: PipelineName,
    name: StatusName,
    state: State,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Make a status open or closed. Tickets in this status keep their dates."""
    with options_checked(context):
        chosen = one_of("--state", state, ("open", "closed"))
    status, inside = run(
        context, lambda opened: opened.pipelines(as_user).flip_status(pipeline, name, chosen)
    )
    if as_json:
        shown = {"name": status.name, "state": status.state, "position": status.position}
        emit_done({"status": shown, "backfill_offered": inside})
    else:
        keep = f"{count(inside, 'ticket')} in it {'keeps its' if inside == 1 else 'keep their'}"
        say(f"{visible(status.name)} is {status.state}; {keep} dates")


MoveToOption = Annotated[
    str | None,
    typer.Option(
        "--move-to",
        metavar="STATUS",
        help="First move tickets and settings of the deleted status to this status.",
    ),
]


@statuses.command()
def delete(
    context: typer.Context,
    pipeline: PipelineName,
    name: StatusName,
    move_to: MoveToOption = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Delete a status. If tickets or settings still use it, give --move-to."""
    deleted = run(
        context, lambda opened: opened.pipelines(as_user).delete_status(pipeline, name, move_to)
    )
    if as_json:
        from gateway.desk import views

        changes = [views.event(each) for each in deleted.events]
        emit_done({"deleted": name, "moved": list(deleted.moved), "changes": changes})
    else:
        moved = len(deleted.moved)
        were = "was" if moved == 1 else "were"
        say(f"{visible(name)} was deleted; {count(moved, 'ticket')} {were} moved")


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A TOML file like the output of pipeline export.")
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Import pipelines from a file, all or none. The changes are shown first."""

    async def act(opened: Installation) -> tuple[str, bool]:
        from gateway.cli.pipeline_file import read_plans
        from gateway.store.upkeep.rehearsal import rehearsal

        plans = read_plans(file)
        before = await _exported(opened.database)
        async with rehearsal(opened.database) as rehearsed:
            await opened.pipelines(as_user, database=rehearsed).arrange_pipelines(plans)
            diff = _diff(before, await _exported(rehearsed))
        if not as_json:
            say(diff or "nothing to change")
        done = agree("Make these changes?", yes=yes, dry_run=dry_run)
        if done:
            await opened.pipelines(as_user).arrange_pipelines(plans)
        return diff, done

    with options_checked(context):
        refuse_unasked(yes=yes, dry_run=dry_run)
    diff, done = run(context, act)
    if as_json:
        emit_done({"diff": diff, "changed": done and bool(diff)})


@app.command()
def export(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="PIPELINE", help="The pipeline to export. Default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print pipelines as TOML. Save the output in a file, edit it, and import it."""
    if as_json:
        emit(
            {
                "pipelines": run(context, lambda opened: _described(opened.database))
                if name is None
                else [run(context, lambda opened: _one(opened.database, name))]
            }
        )
    else:
        say(run(context, lambda opened: _exported(opened.database, name)), end="")


def _change(
    context: typer.Context,
    act: Callable[[PipelineDesk], Awaitable[Pipeline]],
    actor: str | None,
    *,
    as_json: bool,
) -> None:
    """Change a pipeline and print the changed pipeline."""

    async def whole(opened: Installation) -> dict[str, Any]:
        changed = await act(opened.pipelines(actor))
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
    columns(shown["statuses"], Position="position", Status="name", State="state")


async def _one(database: Database, name: str) -> dict[str, Any]:
    for each in await _described(database):
        if each["name"].casefold() == name.casefold():
            return each
    raise NotFound(f"unknown pipeline {name!r}")


async def _described(database: Database) -> list[dict[str, Any]]:
    from gateway.store.setup import pipelines

    async with database.read() as connection:
        found = await pipelines.load_pipelines(connection)
        channels = await pipelines.load_channels(connection)
    return [_pipeline(each, channels) for each in found.values()]


def _pipeline(pipeline: Pipeline, channels: Iterable[Channel]) -> dict[str, Any]:
    def status_name(status_id: int | None) -> str | None:
        return pipeline.status(status_id).name if status_id is not None else None

    return {
        "name": pipeline.name,
        "statuses": [
            {"name": each.name, "state": each.state, "position": each.position}
            for each in pipeline.statuses
        ],
        "close_date": pipeline.set_close_date,
        "on_email_sent": status_name(pipeline.on_email_sent),
        "on_customer_reply": status_name(pipeline.on_customer_reply),
        "strangers": pipeline.strangers,
        "relay": pipeline.relay,
        "allow_back": pipeline.allow_back,
        "default": pipeline.is_default,
        "channels": sorted(
            each.address for each in channels if each.tickets and each.pipeline_id == pipeline.id
        ),
    }


async def _exported(database: Database, name: str | None = None) -> str:
    from gateway.cli.pipeline_file import toml_of
    from gateway.store.setup import pipelines

    async with database.read() as connection:
        if name is not None:
            return toml_of([await pipelines.named(connection, name)])
        return toml_of((await pipelines.load_pipelines(connection)).values())


def _diff(before: str, after: str) -> str:
    from difflib import unified_diff

    lines: Iterable[str] = unified_diff(
        before.splitlines(), after.splitlines(), "as it is", "as it would be", lineterm=""
    )
    return "\n".join(lines)


def _status_plan(given: str) -> tuple[str, Literal["open", "closed"]]:
    name, colon, state = given.rpartition(":")
    if not colon or not name.strip():
        raise UsageError(f"--status must be like NAME:open or NAME:closed, not {given!r}")
    return name.strip(), one_of("--status", state.strip().lower(), ("open", "closed"))
