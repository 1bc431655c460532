"""``ticketgate workflow ...``: what a status does (interfaces.md 2.4; behaviour.md 3). P and S are
names of a pipeline and of its status.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, agree, emit, emit_done, facts, refuse_unasked, table, visible
from gateway.cli.words import HIGHEST, one_of, switch
from gateway.cli.workflow_page import condition, outline
from gateway.cli.workflow_runs import comment, described, enroll, runs, try_, unenroll
from gateway.daemon.assemble import Installation
from gateway.errors import Refused, Rejected, UsageError

if TYPE_CHECKING:
    from gateway.desk.workflows import Saved

app = typer.Typer(help="What a status does.", no_args_is_help=True)

P = Annotated[str, typer.Argument(metavar="P", help="A pipeline.")]
S = Annotated[str, typer.Argument(metavar="S", help="One of its statuses.")]
As = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="The address of the user who acts.")
]

app.command("enroll")(enroll)
app.command("unenroll")(unenroll)
app.command("comment")(comment)
app.command("runs")(runs)
app.command("test")(try_)


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Lists all workflows."""

    async def act(opened: Installation) -> list[dict[str, Any]]:
        async with opened.database.read() as connection:
            from gateway.store.setup import desk_config

            desk = await desk_config.load_desk(connection)
            found = [await described(connection, desk, each) for each in desk.workflows.values()]
        return sorted(found, key=lambda each: (each["pipeline"], each["status"]))

    rows = run(context, act)
    if as_json:
        emit({"workflows": rows})
    else:
        shown = (
            (
                r["pipeline"],
                r["status"],
                "on" if r["enabled"] else "off",
                r["version"],
                len(r["actions"]),
            )
            for r in rows
        )
        table(("Pipeline", "Status", "Is", "Version", "Actions"), shown)


@app.command()
def show(context: typer.Context, pipeline: P, status: S, as_json: AsJson = False) -> None:
    """Shows a workflow with the comments on its actions."""
    shown = run(context, lambda opened: _shown(opened, pipeline, status))
    if as_json:
        emit(shown)
        return
    conditions = ("filter", "unenroll_when")
    told = (
        (name, condition(value) if name in conditions and value else value)
        for name, value in shown.items()
    )
    facts(
        (name.replace("_", " ").capitalize(), value)
        for name, value in told
        if name not in ("actions", "versions")
    )
    print()
    for line in outline(shown["actions"]):
        print(visible(line))


async def _shown(opened: Installation, pipeline: str, status: str) -> dict[str, Any]:
    from gateway.cli.workflow_runs import found_in
    from gateway.store.setup import desk_config, workflow_history

    async with opened.database.read() as connection:
        desk = await desk_config.load_desk(connection)
        workflow = found_in(desk, pipeline, status)
        shown = await described(connection, desk, workflow)
        versions = await workflow_history.versions(connection, workflow.id)
    return shown | {
        "versions": [
            {"version": v.version, "author": v.author, "at": v.at, "note": v.note} for v in versions
        ]
    }


@app.command("export")
def export(
    context: typer.Context,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", help="Default: those of all.")
    ] = None,
) -> None:
    """Prints workflows as TOML, as import reads them."""

    async def act(opened: Installation) -> str:
        from gateway.cli.workflowfile import written
        from gateway.store.setup import desk_config

        async with opened.database.read() as connection:
            desk = await desk_config.load_desk(connection)
            rows = [
                await described(connection, desk, each, comments=False)
                for each in desk.workflows.values()
            ]
        return written(
            row
            for row in rows
            if pipeline is None or row["pipeline"].casefold() == pipeline.casefold()
        )

    print(run(context, act), end="")


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Brings workflows to what a file says, all or none; shows the difference first. A changed one
    gets a new version.
    """

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.cli.workflowfile import differences, read
        from gateway.store.setup import desk_config
        from gateway.store.upkeep.rehearsal import rehearsal

        plans, wrong = read(file)
        async with opened.database.read() as connection:
            desk = await desk_config.load_desk(connection)
            before = {
                (r["pipeline"], r["status"]): r
                for r in [
                    await described(connection, desk, w, comments=False)
                    for w in desk.workflows.values()
                ]
            }
        async with rehearsal(
            opened.database
        ) as rehearsed:  # everything that is wrong is told before anybody is asked
            try:
                await opened.automator(as_user, database=rehearsed).put(plans)
            except Rejected as error:
                wrong.append(error.message)
        if wrong:
            raise Refused("; ".join(wrong))
        diff = differences(before, plans)
        if not as_json:
            print("\n".join(diff) or "nothing changes")
        if not agree("Change this?", yes=yes, dry_run=dry_run):
            return {"imported": False, "diff": diff, "workflows": []}
        saved = await opened.automator(as_user).put(plans)
        return {"imported": True, "diff": diff, "workflows": [_saved(each) for each in saved]}

    with explained():
        refuse_unasked(yes=yes, dry_run=dry_run)
    done = run(context, act)
    if as_json:
        emit_done(done)


@app.command("set")
def set_(
    context: typer.Context,
    pipeline: P,
    status: S,
    enabled: Annotated[str | None, typer.Option("--enabled", metavar="on|off")] = None,
    re_enroll: Annotated[
        str | None,
        typer.Option("--re-enroll", metavar="on|off", help="Whether a ticket may come again."),
    ] = None,
    on_leave: Annotated[
        str | None,
        typer.Option(
            "--on-leave", metavar="continue|unenroll", help="When a ticket leaves the status."
        ),
    ] = None,
    include_source: Annotated[
        list[str] | None,
        typer.Option("--include-source", metavar="SRC", help="Like chat; may be repeated."),
    ] = None,
    exclude_source: Annotated[
        list[str] | None, typer.Option("--exclude-source", metavar="SRC", help="May be repeated.")
    ] = None,
    enroll_existing: Annotated[
        bool, typer.Option("--enroll-existing", help="Also the tickets that are in the status now.")
    ] = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Switches a workflow and sets who enters it."""
    with explained():
        given = {
            "enabled": switch("--enabled", enabled),
            "re_enroll": switch("--re-enroll", re_enroll),
            "on_leave": one_of("--on-leave", on_leave, ("continue", "unenroll")),
        }
        settings: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        if not settings and not include_source and not exclude_source and not enroll_existing:
            raise UsageError("say what is to be set")

    async def act(opened: Installation) -> dict[str, Any]:
        if include_source or exclude_source:
            excluded = set((await _shown(opened, pipeline, status))["exclude_sources"])
            settings["exclude_sources"] = sorted(
                (excluded - set(include_source or ())) | set(exclude_source or ())
            )
        _, inside, enrolled = await opened.automator(as_user).set(
            pipeline, status, settings, enroll_existing=enroll_existing
        )
        return await _shown(opened, pipeline, status) | {
            "tickets_in_status": inside,
            "enrolled": enrolled,
        }

    shown = run(context, act)
    if as_json:
        emit_done(shown)
    else:
        print(f"{shown['pipeline']} / {shown['status']} is {'on' if shown['enabled'] else 'off'}")
        if enroll_existing:
            print(
                f"{shown['enrolled']} of the {shown['tickets_in_status']} tickets in the "
                "status were put in"
            )
        if settings.get("enabled") and shown["tickets_in_status"] and not enroll_existing:
            print(
                f"{shown['tickets_in_status']} tickets are in the status now and stay out: "
                "--enroll-existing puts them in"
            )


@app.command()
def add(
    context: typer.Context,
    pipeline: P,
    status: S,
    after: Annotated[
        str,
        typer.Option(
            "--after",
            metavar="ID|start",
            help="An action, start, or BRANCH/PATH for the start of a path.",
        ),
    ],
    json_action: Annotated[
        str,
        typer.Option(
            "--json-action",
            metavar="JSON",
            help='Like {"id": "wait", "kind": "delay", "for": "2d"}',
        ),
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Inserts an action; tickets that wait before it will run it."""
    with explained():
        try:
            action = json.loads(json_action)
        except (ValueError, RecursionError):
            raise UsageError("--json-action is no JSON") from None
        if not isinstance(action, dict):
            raise UsageError("--json-action is a JSON object with id and kind")
    _tell(
        run(context, lambda opened: opened.automator(as_user).add(pipeline, status, after, action)),
        as_json=as_json,
    )


@app.command()
def edit(
    context: typer.Context,
    pipeline: P,
    status: S,
    action: Annotated[str, typer.Argument(metavar="ACTION")],
    values: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="VALUE as JSON, or as text where it is none; may be repeated.",
        ),
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Changes keys of an action."""
    with explained():
        changes = dict(_pair(each) for each in values)
    _tell(
        run(
            context,
            lambda opened: opened.automator(as_user).change(pipeline, status, action, changes),
        ),
        as_json=as_json,
    )


def _pair(given: str) -> tuple[str, Any]:
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes KEY=VALUE, not {given!r}")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return key, value
    return key, value if isinstance(
        found, int | float
    ) and key != "stop_on_failure" else found  # a tag may be called 2026


@app.command()
def delete(
    context: typer.Context,
    pipeline: P,
    status: S,
    action: Annotated[
        str | None,
        typer.Argument(metavar="ACTION", help="Without it: the whole workflow, with --whole."),
    ] = None,
    following: Annotated[
        bool,
        typer.Option("--following", help="This and all below it; tickets that stand there end."),
    ] = False,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="BRANCH",
            help="Of a branch: the path that stays (otherwise for the last).",
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="The workflow itself; its history stays.")
    ] = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Deletes only this action, or it and all below it; tells how many tickets stood there."""
    with explained():
        if (action is None) != whole:
            raise UsageError("name an action, or say --whole")
    if action is not None:
        _tell(
            run(
                context,
                lambda o: o.automator(as_user).delete(
                    pipeline, status, action, following=following, keep=keep
                ),
            ),
            as_json=as_json,
        )
        return
    ended = run(context, lambda opened: opened.automator(as_user).drop(pipeline, status))
    if as_json:
        emit_done({"ended": ended})
    else:
        print(f"deleted; {ended} tickets were in it")


@app.command()
def restore(
    context: typer.Context,
    pipeline: P,
    status: S,
    version: Annotated[int, typer.Argument(metavar="VERSION", max=HIGHEST)],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Makes the actions of an earlier version the newest again."""
    _tell(
        run(context, lambda opened: opened.automator(as_user).restore(pipeline, status, version)),
        as_json=as_json,
    )


def _saved(saved: Saved) -> dict[str, Any]:
    pipeline, _, status = saved.workflow.name.partition(" / ")
    return {
        "pipeline": pipeline,
        "status": status,
        "version": saved.version,
        "waiting": saved.waiting,
        "ended": saved.ended,
    }


def _tell(saved: Saved, *, as_json: bool) -> None:
    if as_json:
        emit_done(_saved(saved))
        return
    print(f"{saved.workflow.name} is at version {saved.version}")
    if saved.waiting:
        print(
            f"{saved.waiting} tickets stood in what was deleted; {saved.ended} of their runs ended"
        )
