"""``ticketgate workflow ...``: actions that run at a status (interfaces.md 2.4; behaviour.md 3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config.documents import BadDocument, parse_json
from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import HIGHEST, ON_OFF, As, AsJson, DryRun, Yes, one_of, switch
from gateway.cli.output import (
    agree,
    count,
    emit,
    emit_done,
    facts,
    refuse_unasked,
    say,
    table,
    visible,
)
from gateway.cli.show_workflow import (
    PipelineName,
    StatusName,
    condition,
    described,
    outline,
    workflow_of,
)
from gateway.cli.usage_errors import options_checked
from gateway.cli.workflow_runs import comment, enroll, runs, try_, unenroll
from gateway.daemon.assemble import Installation
from gateway.errors import Invalid, Rejected, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from gateway.desk.workflows import Saved, WorkflowDesk, WorkflowPlan

app = App("Set up workflows: actions that run at a status.")

Sources = list[str] | None

app.command("enroll")(enroll)
app.command("unenroll")(unenroll)
app.command("comment")(comment)
app.command("runs")(runs)
app.command("test")(try_)


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List workflows."""
    rows = run(context, lambda opened: _all_described(opened, comments=True))
    rows.sort(key=lambda each: (each["pipeline"], each["status"]))
    if as_json:
        emit({"workflows": rows})
    else:
        table(("Pipeline", "Status", "Enabled", "Version", "Actions"), map(_table_row, rows))


def _table_row(shown: dict[str, Any]) -> tuple[object, ...]:
    enabled = "on" if shown["enabled"] else "off"
    place = (shown["pipeline"], shown["status"])
    return *place, enabled, shown["version"], len(shown["actions"])


@app.command()
def show(
    context: typer.Context, pipeline: PipelineName, status: StatusName, as_json: AsJson = False
) -> None:
    """Show a workflow with the comments on its actions."""
    shown = run(context, lambda opened: _shown(opened, pipeline, status))
    if as_json:
        emit(shown)
        return
    facts(_fields(shown))
    say()
    for line in outline(shown["actions"]):
        say(visible(line))


def _fields(shown: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield (name, value) for each setting of a workflow."""
    for name, value in shown.items():
        is_condition = value and name in ("filter", "unenroll_when")
        if name not in ("actions", "versions"):
            label = name.replace("_", " ").capitalize()
            yield label, condition(value) if is_condition else value


async def _shown(opened: Installation, pipeline: str, status: str) -> dict[str, Any]:
    from gateway.store.setup import desk_config, workflow_history

    async with opened.database.read() as connection:
        desk = await desk_config.load_desk(connection)
        workflow = workflow_of(desk, pipeline, status)
        shown = await described(connection, desk, workflow)
        versions = await workflow_history.versions(connection, workflow.id)
    keys = ("version", "author", "at", "note")
    return shown | {"versions": [{key: getattr(each, key) for key in keys} for each in versions]}


PipelineOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="PIPELINE",
        help="Export only workflows of this pipeline. Default: all.",
    ),
]


@app.command("export")
def export(context: typer.Context, pipeline: PipelineOption = None) -> None:
    """Print workflows as TOML. Save the output in a file, edit it, and import it."""

    async def act(opened: Installation) -> str:
        from gateway.cli.workflow_file import toml_of

        return toml_of(
            row
            for row in await _all_described(opened)
            if pipeline is None or row["pipeline"].casefold() == pipeline.casefold()
        )

    say(run(context, act), end="")


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A TOML file like the output of workflow export.")
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Import workflows from a file, all or none. The changes are shown first."""

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.cli.workflow_file import differences, read_plans

        plans, problems = read_plans(file)
        before = await _all_described(opened)
        await _rehearse(opened, as_user, plans, problems)
        diff = differences({(row["pipeline"], row["status"]): row for row in before}, plans)
        if not as_json:
            say("\n".join(diff) or "nothing to change")
        if not agree("Make these changes?", yes=yes, dry_run=dry_run):
            return {"imported": False, "diff": diff, "workflows": []}
        saved = await opened.automator(as_user).put(plans)
        return {"imported": True, "diff": diff, "workflows": [_saved(each) for each in saved]}

    with options_checked(context):
        refuse_unasked(yes=yes, dry_run=dry_run)
    done = run(context, act)
    if as_json:
        emit_done(done)


async def _all_described(opened: Installation, *, comments: bool = False) -> list[dict[str, Any]]:
    """Return all workflows; with ``comments``, also the comments on their actions."""
    from gateway.store.setup import desk_config

    async with opened.database.read() as connection:
        desk = await desk_config.load_desk(connection)
        found = desk.workflows.values()
        return [await described(connection, desk, each, comments=comments) for each in found]


async def _rehearse(
    opened: Installation, actor: str | None, plans: list[WorkflowPlan], problems: list[str]
) -> None:
    """Check the plans without storing anything; raise all ``problems`` as one error, if any."""
    from gateway.store.upkeep.rehearsal import rehearsal

    async with rehearsal(opened.database) as rehearsed:
        try:
            await opened.automator(actor, database=rehearsed).put(plans)
        except Rejected as error:
            if not problems:
                raise
            problems.append(error.message)
    if problems:
        raise Invalid("; ".join(problems))


EnabledOption = Annotated[
    str | None,
    typer.Option("--enabled", metavar=ON_OFF, help="Whether tickets enter the workflow."),
]
ReEnrollOption = Annotated[
    str | None,
    typer.Option(
        "--re-enroll", metavar=ON_OFF, help="Whether a ticket may enter the workflow again."
    ),
]
OnLeaveOption = Annotated[
    str | None,
    typer.Option(
        "--on-leave",
        metavar="continue|unenroll",
        help="Whether the workflow continues or ends when the ticket leaves the status.",
    ),
]
IncludeSourceOption = Annotated[
    Sources,
    typer.Option(
        "--include-source",
        metavar="SOURCE",
        help="Enrol tickets of this source, like chat; may be repeated.",
    ),
]
ExcludeSourceOption = Annotated[
    Sources,
    typer.Option(
        "--exclude-source",
        metavar="SOURCE",
        help="Do not enrol tickets of this source; may be repeated.",
    ),
]
EnrollExistingOption = Annotated[
    bool,
    typer.Option("--enroll-existing", help="Also enrol the tickets that are in the status now."),
]


@app.command("set")
def set_(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    enabled: EnabledOption = None,
    re_enroll: ReEnrollOption = None,
    on_leave: OnLeaveOption = None,
    include_source: IncludeSourceOption = None,
    exclude_source: ExcludeSourceOption = None,
    enroll_existing: EnrollExistingOption = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Switch a workflow on or off, and set which tickets enter it."""
    with options_checked(context):
        given = {
            "enabled": switch("--enabled", enabled),
            "re_enroll": switch("--re-enroll", re_enroll),
            "on_leave": one_of("--on-leave", on_leave, ("continue", "unenroll")),
        }
        settings = {name: value for name, value in given.items() if value is not None}
        if not settings and not include_source and not exclude_source and not enroll_existing:
            raise UsageError("nothing to set: give an option")

    async def act(opened: Installation) -> dict[str, Any]:
        values: dict[str, Any] = dict(settings)
        if include_source or exclude_source:
            before = set((await _shown(opened, pipeline, status))["exclude_sources"])
            excluded = (before - set(include_source or ())) | set(exclude_source or ())
            values["exclude_sources"] = sorted(excluded)
        desk, existing = opened.automator(as_user), enroll_existing
        _, inside, enrolled = await desk.set(pipeline, status, values, enroll_existing=existing)
        counts = {"tickets_in_status": inside, "enrolled": enrolled}
        return await _shown(opened, pipeline, status) | counts

    shown, switched_on = run(context, act), settings.get("enabled") is True
    if as_json:
        emit_done(shown)
    else:
        _show_switched(shown, enroll_existing=enroll_existing, switched_on=switched_on)


def _show_switched(shown: dict[str, Any], *, enroll_existing: bool, switched_on: bool) -> None:
    inside = shown["tickets_in_status"]
    say(f"{shown['pipeline']} / {shown['status']} is {'on' if shown['enabled'] else 'off'}")
    if enroll_existing:
        enrolled = shown["enrolled"]
        say(f"{enrolled} of {count(inside, 'ticket')} in the status {_was(enrolled)} enrolled")
    elif switched_on and inside:
        waiting = f"{count(inside, 'ticket')} in the status now"
        say(f"not enrolled: {waiting}; --enroll-existing enrols them")


AfterOption = Annotated[
    str,
    typer.Option(
        "--after",
        metavar="ID|start",
        help="The id of the action after which to insert. The word start means: at the beginning "
        "of the workflow. BRANCH/PATH means: at the beginning of that path of the branch.",
    ),
]
JsonActionOption = Annotated[
    str,
    typer.Option(
        "--json-action",
        metavar="JSON",
        help='The new action, like {"id": "wait", "kind": "delay", "for": "2d"}.',
    ),
]


@app.command()
def add(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    after: AfterOption,
    json_action: JsonActionOption,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Insert an action. Tickets that have not passed this place yet will run the action."""
    with options_checked(context):
        action = _object(json_action)
    _save(context, lambda desk: desk.add(pipeline, status, after, action), as_user, as_json=as_json)


def _object(given: str) -> dict[str, Any]:
    try:
        action = parse_json(given)
    except BadDocument as error:
        raise UsageError(f"--json-action {error}") from None
    if not isinstance(action, dict):
        raise UsageError("--json-action must be a JSON object with id and kind")
    return action


@app.command()
def edit(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="The id of the action.")],
    values: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key and its new value as JSON or text, like for=3d; may be repeated.",
        ),
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Change keys of an action. The command workflow export prints all keys."""
    with options_checked(context):
        changes = dict(_pair(each) for each in values)
    _save(
        context,
        lambda desk: desk.change(pipeline, status, action, changes),
        as_user,
        as_json=as_json,
    )


def _pair(given: str) -> tuple[str, Any]:
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise UsageError(f"--set must be like KEY=VALUE, not {given!r}")
    try:
        found = parse_json(value)
    except BadDocument:
        return key, value
    if isinstance(found, int | float) and key != "stop_on_failure":
        return key, value  # a tag may be called 2026
    return key, found


ActionArgument = Annotated[
    str | None,
    typer.Argument(metavar="ACTION", help="The id of the action; leave the id out with --whole."),
]
FollowingOption = Annotated[
    bool,
    typer.Option(
        "--following",
        help="Also delete all actions after this action. Runs that wait in a deleted action end.",
    ),
]
KeepOption = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="BRANCH",
        help="The path whose actions stay when a branch is deleted. The word otherwise means the "
        "last path.",
    ),
]
WholeOption = Annotated[
    bool, typer.Option("--whole", help="Delete the workflow; its history stays.")
]


@app.command()
def delete(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    action: ActionArgument = None,
    following: FollowingOption = False,
    keep: KeepOption = None,
    whole: WholeOption = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Delete an action. With --whole, delete the workflow. Prints how many tickets are affected."""
    with options_checked(context):
        if (action is None) != whole:
            raise UsageError("give either ACTION or --whole")
    if action is not None:

        async def act(desk: WorkflowDesk) -> Saved:
            return await desk.delete(pipeline, status, action, following=following, keep=keep)

        _save(context, act, as_user, as_json=as_json)
        return
    ended = run(context, lambda opened: opened.automator(as_user).drop(pipeline, status))
    if as_json:
        emit_done({"ended": ended})
    else:
        say(f"deleted; {count(ended, 'ticket')} {_was(ended)} in it")


@app.command()
def restore(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    version: Annotated[
        int,
        typer.Argument(
            metavar="VERSION",
            max=HIGHEST,
            help="The number of the earlier version (see workflow show --json).",
        ),
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Restore the actions of an earlier version, as a new version."""
    _save(context, lambda desk: desk.restore(pipeline, status, version), as_user, as_json=as_json)


def _save(
    context: typer.Context,
    act: Callable[[WorkflowDesk], Awaitable[Saved]],
    actor: str | None,
    *,
    as_json: bool,
) -> None:
    """Change a workflow and print its new version."""
    _show_saved(run(context, lambda opened: act(opened.automator(actor))), as_json=as_json)


def _saved(saved: Saved) -> dict[str, Any]:
    pipeline, _, status = saved.workflow.name.partition(" / ")
    counts = {"version": saved.version, "waiting": saved.waiting, "ended": saved.ended}
    return {"pipeline": pipeline, "status": status, **counts}


def _show_saved(saved: Saved, *, as_json: bool) -> None:
    if as_json:
        emit_done(_saved(saved))
        return
    say(f"{saved.workflow.name} is at version {saved.version}")
    if saved.waiting:
        waiting = f"{count(saved.waiting, 'ticket')} {_was(saved.waiting)} waiting"
        say(f"{waiting} in the deleted actions; {count(saved.ended, 'run')} ended")


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
