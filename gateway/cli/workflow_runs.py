"""``workflow runs | test | enroll | unenroll | comment`` (behaviour.md 3.6, 3.7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from core.model.workflow import RunOutcome
from gateway.cli.act_result import acted, print_redirected
from gateway.cli.opening import run
from gateway.cli.option_values import HIGHEST, As, AsJson, day, one_of
from gateway.cli.output import emit, emit_done, paragraph, say, table
from gateway.cli.show_workflow import PipelineName, StatusName, status_of
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation
from gateway.errors import NotFound, UsageError

if TYPE_CHECKING:
    from core.model.workflow import Enrolment, Workflow
    from gateway.desk.tickets import ActResult
    from gateway.desk.workflows import WorkflowDesk
    from gateway.store.setup.workflow_history import Wanted

TicketOption = Annotated[
    int, typer.Option("--ticket", metavar="N", max=HIGHEST, help="The number of the ticket.")
]


def enroll(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    ticket: TicketOption,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Enrol a ticket in a workflow. The workflow's filters and earlier enrolments do not matter."""
    _act(
        context,
        lambda automator: automator.enroll(pipeline, status, ticket),
        as_user,
        "enrolled",
        as_json=as_json,
    )


def unenroll(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    ticket: TicketOption,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Take a ticket out of a workflow."""
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
    """Run one act on a ticket and print what it changed (interfaces.md 2.1)."""

    async def whole(opened: Installation) -> dict[str, Any]:
        return await acted(opened, await act(opened.automator(actor))) | {word: True}

    done = run(context, whole)
    if as_json:
        emit(done)
    else:
        print_redirected(done)
        say(word)


CommentText = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", help="The text of the comment, which only users see."),
]
Resolve = Annotated[
    int | None,
    typer.Option(
        "--resolve",
        metavar="ID",
        max=HIGHEST,
        help="Resolve the comment with this number (see workflow show).",
    ),
]


def comment(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="The id of the action.")],
    text: CommentText = None,
    resolve: Resolve = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Comment on an action for other users, or resolve a comment. Nothing is sent."""
    with options_checked(context):
        if (text is None) == (resolve is None):
            raise UsageError("give either --text or --resolve")

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
        say(f"comment {number} was {'added' if resolve is None else 'resolved'}")


@dataclass(frozen=True)
class RunFilter:
    """The options of ``workflow runs``: which executed actions to list."""

    ticket: int | None
    action: str | None
    outcome: str | None
    since: date | None
    until: date | None

    def wanted(self, zone: tzinfo) -> Wanted:
        """Return the filter for the store; days begin and end at midnight in ``zone``."""
        from gateway.store.setup import workflow_history

        begin = datetime.combine(self.since, time.min, zone) if self.since is not None else None
        end = datetime.combine(self.until, time.max, zone) if self.until is not None else None
        return workflow_history.Wanted(self.ticket, self.action, self.outcome, begin, end)


RunsTicketOption = Annotated[
    int | None,
    typer.Option(
        "--ticket", metavar="N", max=HIGHEST, help="List only runs for this ticket. Default: all."
    ),
]
ActionOption = Annotated[
    str | None,
    typer.Option("--action", metavar="ID", help="List only runs of the action with this id."),
]
OutcomeOption = Annotated[
    str | None,
    typer.Option(
        "--outcome",
        metavar="OUTCOME",
        help=f"List only runs with this outcome: {', '.join(get_args(RunOutcome))}.",
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="DATE",
        help="List only actions run on this day, like 2026-01-31, or later.",
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="DATE",
        help="List only actions run on this day, like 2026-01-31, or earlier.",
    ),
]


def runs(
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    ticket: RunsTicketOption = None,
    action: ActionOption = None,
    outcome: OutcomeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: AsJson = False,
) -> None:
    """List enrolments and executed actions, oldest first. Deleted workflows are included."""
    with options_checked(context):
        one_of("--outcome", outcome, get_args(RunOutcome))
        chosen = RunFilter(ticket, action, outcome, day(since), day(until))
    shown = run(context, lambda opened: _history(opened, pipeline, status, chosen))
    if as_json:
        emit(shown)
    else:
        _show_history(shown)


async def _history(
    opened: Installation, pipeline: str, status: str, chosen: RunFilter
) -> dict[str, Any]:
    from gateway.store.setup import desk_config, workflow_history

    async with opened.database.read() as connection:
        desk = await desk_config.load_desk(connection)
        found, place = status_of(desk, pipeline, status)
        ids = await workflow_history.of_status(connection, place.id)
        if not ids:
            raise NotFound(f"status {place.name!r} of pipeline {found.name} never had a workflow")
        enrolments = await workflow_history.enrolments(connection, ids, chosen.ticket)
        executed = await workflow_history.runs(connection, ids, chosen.wanted(opened.zone))
    return {
        "enrolments": [_enrolment(each, desk.workflows.get(place.id)) for each in enrolments],
        "runs": [
            {
                "at": each.at,
                "ticket": each.ticket,
                "action": each.action,
                "version": each.version,
                "outcome": each.outcome,
                "detail": each.detail,
                "enrolment": each.enrolment_id,
            }
            for each in executed
        ],
    }


def _show_history(shown: dict[str, Any]) -> None:
    table(
        ("Ticket", "State", "At", "Due", "Ended because"),
        (
            (each["ticket"], each["state"], each["at_action"], each["due_at"], each["end_reason"])
            for each in shown["enrolments"]
        ),
    )
    table(
        ("At", "Ticket", "Action", "Outcome", "Detail"),
        (
            (each["at"], each["ticket"], each["action"], each["outcome"], each["detail"])
            for each in shown["runs"]
        ),
    )


def _enrolment(run: Enrolment, workflow: Workflow | None) -> dict[str, Any]:
    """Return an enrolment with its present action: the action that waits or runs next."""
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
    context: typer.Context,
    pipeline: PipelineName,
    status: StatusName,
    ticket: TicketOption,
    as_json: AsJson = False,
) -> None:
    """Show which actions would run for a ticket, and their mails. Nothing is sent or changed."""

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
        words = (each["action"], each["kind"], each["outcome"], each["detail"])
        say(paragraph("  ".join(word for word in words if word)))
    for mail in shown["mails"]:
        head = f"To: {', '.join(mail['to'])}\nSubject: {mail['subject']}"
        say(paragraph(f"\n{head}\n\n{mail['text']}"))
