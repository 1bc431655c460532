"""``workflow runs | test | enroll | unenroll | comment``: tickets in a workflow, and what is said
about it (behaviour.md 3.6, 3.7).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, time
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from core.model.workflow import RunOutcome
from gateway.cli.acting import acted
from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, emit, emit_done, paragraph, table
from gateway.cli.words import HIGHEST, day, one_of
from gateway.daemon.assemble import Installation
from gateway.errors import Refused, UsageError

if TYPE_CHECKING:
    from core.model.workflow import Enrolment, Workflow
    from core.pipeline import Pipeline, Status
    from gateway.desk.tickets import ActResult
    from gateway.desk.workflows import WorkflowDesk
    from gateway.store.setup.desk_config import DeskConfig

P = Annotated[str, typer.Argument(metavar="P", help="A pipeline.")]
S = Annotated[str, typer.Argument(metavar="S", help="One of its statuses.")]
Ticket = Annotated[int, typer.Option("--ticket", metavar="N", max=HIGHEST)]
As = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="The address of the user who acts.")
]


def found_in(desk: DeskConfig, pipeline: str, status: str) -> Workflow:
    """The workflow of a status; Refused when one of the names is not there."""
    own, place = _place(desk, pipeline, status)
    workflow = desk.workflows.get(place.id)
    if workflow is None:
        raise Refused(f"status {place.name!r} of pipeline {own.name} has no workflow")
    return workflow


def _place(desk: DeskConfig, pipeline: str, status: str) -> tuple[Pipeline, Status]:
    own = next(
        (each for each in desk.pipelines.values() if each.name.casefold() == pipeline.casefold()),
        None,
    )
    if own is None:
        raise Refused(f"there is no pipeline {pipeline!r}")
    found = own.named(status)
    if found is None:
        raise Refused(f"pipeline {own.name} has no status {status!r}")
    return own, found


async def described(
    connection: Any, desk: DeskConfig, workflow: Workflow, *, comments: bool = True
) -> dict[str, Any]:
    """The keys of the TOML file, the version, and the comments on each action."""
    from gateway.store.setup import workflow_history, workflows

    pipeline = desk.pipelines[workflow.pipeline_id]
    actions = await workflows.actions_of(connection, workflow.id, workflow.version)
    said: dict[str, list[dict[str, Any]]] = {}
    if comments:
        for each in await workflow_history.comments(connection, workflow.id):
            said.setdefault(each.action, []).append(
                {
                    "id": each.id,
                    "author": each.author,
                    "text": each.text,
                    "at": each.at,
                    "resolved_at": each.resolved_at,
                }
            )
    return {
        "pipeline": pipeline.name,
        "status": pipeline.status(workflow.status_id).name,
        "enabled": workflow.enabled,
        "re_enroll": workflow.re_enroll,
        "on_leave": workflow.on_leave,
        "exclude_sources": sorted(workflow.exclude_sources),
        "filter": workflow.filter,
        "unenroll_when": workflow.unenroll_when,
        "window": workflow.window,
        "version": workflow.version,
        "actions": [_commented(each, said) for each in actions] if comments else actions,
    }


def _commented(action: dict[str, Any], said: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    shown = {**action, "comments": said.get(action["id"], [])}
    if "branches" in action:
        shown["branches"] = [
            {**each, "actions": [_commented(a, said) for a in each.get("actions", [])]}
            for each in action["branches"]
        ]
    if "otherwise" in action:
        shown["otherwise"] = [_commented(each, said) for each in action["otherwise"]]
    return shown


def enroll(
    context: typer.Context,
    pipeline: P,
    status: S,
    ticket: Ticket,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Puts a ticket into a workflow, whatever its filters say and whether or not it was in it
    before.
    """
    _act(
        context,
        lambda automator: automator.enroll(pipeline, status, ticket),
        as_user,
        "enrolled",
        as_json=as_json,
    )


def unenroll(
    context: typer.Context,
    pipeline: P,
    status: S,
    ticket: Ticket,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Takes a ticket out of a workflow."""
    _act(
        context,
        lambda automator: automator.unenroll(pipeline, status, ticket),
        as_user,
        "unenrolled",
        as_json=as_json,
    )


def _act(
    context: typer.Context,
    act: Callable[[WorkflowDesk], Awaitable[ActResult]],
    actor: str | None,
    word: str,
    *,
    as_json: bool,
) -> None:
    """One act on one ticket, and what it changed: interfaces.md 2.1."""

    async def whole(opened: Installation) -> dict[str, Any]:
        return await acted(opened, await act(opened.automator(actor))) | {word: True}

    done = run(context, whole)
    if as_json:
        emit(done)
    else:
        print(word)


def comment(
    context: typer.Context,
    pipeline: P,
    status: S,
    action: Annotated[str, typer.Argument(metavar="ACTION")],
    text: Annotated[str | None, typer.Option("--text", metavar="T")] = None,
    resolve: Annotated[
        int | None,
        typer.Option(
            "--resolve", metavar="ID", max=HIGHEST, help="The matter of this comment is settled."
        ),
    ] = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Leaves a word on an action for other users, or settles one; nothing is sent."""
    with explained():
        if (text is None) == (resolve is None):
            raise UsageError("say --text, or --resolve with the number of a comment")

    async def act(opened: Installation) -> int:
        automator = opened.automator(as_user)
        if text is not None:
            return await automator.comment(pipeline, status, action, text)
        await automator.resolve(pipeline, status, action, resolve or 0)
        return resolve or 0

    number = run(context, act)
    if as_json:
        emit_done({"comment": number})
    else:
        print(f"comment {number}{'' if resolve is None else ' is settled'}")


def runs(
    context: typer.Context,
    pipeline: P,
    status: S,
    ticket: Annotated[
        int | None, typer.Option("--ticket", metavar="N", max=HIGHEST, help="Default: all.")
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="ID", help="What this action did.")
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option("--outcome", metavar="OUTCOME", help=", ".join(get_args(RunOutcome))),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DATE", help="What was done on this day or later."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="DATE", help="What was done on this day or earlier."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists who was enrolled and what was done, oldest first, by earlier workflows of the status
    too; the options beside --ticket choose among what was done.
    """
    with explained():
        one_of("--outcome", outcome, get_args(RunOutcome))
        first, last = day(since), day(until)

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.store.setup import desk_config, workflow_history

        async with opened.database.read() as connection:
            desk = await desk_config.load_desk(connection)
            own, place = _place(desk, pipeline, status)
            all_of_it = await workflow_history.of_status(connection, place.id)
            if not all_of_it:
                raise Refused(
                    f"status {place.name!r} of pipeline {own.name} has no workflow and never "
                    "had one"
                )
            held = await workflow_history.enrolments(connection, all_of_it, ticket)
            begin = datetime.combine(first, time.min, opened.zone) if first is not None else None
            end = datetime.combine(last, time.max, opened.zone) if last is not None else None
            done = await workflow_history.runs(
                connection, all_of_it, workflow_history.Wanted(ticket, action, outcome, begin, end)
            )
        return {
            "enrolments": [_enrolment(each, desk.workflows.get(place.id)) for each in held],
            "runs": [
                {
                    "at": r.at,
                    "ticket": r.ticket,
                    "action": r.action,
                    "version": r.version,
                    "outcome": r.outcome,
                    "detail": r.detail,
                    "enrolment": r.enrolment_id,
                }
                for r in done
            ],
        }

    shown = run(context, act)
    if as_json:
        emit(shown)
        return
    table(
        ("Ticket", "State", "At", "Due", "Ended because"),
        (
            (e["ticket"], e["state"], e["at_action"], e["due_at"], e["end_reason"])
            for e in shown["enrolments"]
        ),
    )
    table(
        ("At", "Ticket", "Action", "Outcome", "Detail"),
        ((r["at"], r["ticket"], r["action"], r["outcome"], r["detail"]) for r in shown["runs"]),
    )


def _enrolment(run: Enrolment, workflow: Workflow | None) -> dict[str, Any]:
    """Where a run stands: in the delay it waits in, or before what comes next."""
    at: str | None = None
    if workflow is not None and run.state == "ACTIVE" and run.place in workflow.graph:
        standing = workflow.graph.action(run.place)
        waits = (
            standing is not None
            and standing.kind == "delay"
            and not run.attempts
            and run.wait_for != "past"
        )
        following = workflow.graph.following(run.place)
        at = run.place if waits else following.id if following is not None else None
    return {
        "id": run.id,
        "ticket": run.ticket,
        "state": run.state,
        "at_action": at,
        "due_at": run.due_at,
        "cause": run.cause,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "end_reason": run.end_reason,
    }


def try_(
    context: typer.Context, pipeline: P, status: S, ticket: Ticket, as_json: AsJson = False
) -> None:
    """Shows which way a ticket would go and which mails it would send, delays passed over; nothing
    is sent or changed.
    """

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.agenda.dry_run import tryout

        return await tryout(
            opened.database, opened.clock, opened.identity, pipeline, status, ticket
        )

    shown = run(context, act)
    if as_json:
        emit(shown)
        return
    for each in shown["path"]:
        print(
            paragraph(
                f"{each['action']}  {each['kind']}  "
                f"{each['outcome']}{'  ' + each['detail'] if each['detail'] else ''}"
            )
        )
    for mail in shown["mails"]:
        print(
            paragraph(
                f"\nTo: {', '.join(mail['to'])}\nSubject: {mail['subject']}\n\n{mail['text']}"
            )
        )
