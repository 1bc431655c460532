"""``ticketgate ticket ...``: what an agent can do with tickets (interfaces.md 2.2).

When a rule refuses an act, the exit code is 65, stderr tells why, and nothing was changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from core.model.ticket import Priority, Source
from gateway.cli import ticket_mail
from gateway.cli.act_result import print_redirected, run_act
from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import HIGHEST, As, AsJson, TicketNumber, day, one_of
from gateway.cli.output import emit, say, table
from gateway.cli.show_ticket import sentence, show_ticket
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

if TYPE_CHECKING:
    from gateway.desk.tickets import ActResult, TicketChanges, TicketDesk

app = App("Work on tickets.")
people = App("Add, approve and remove people of a ticket.")
app.add_typer(people, name="contact")
app.command("reply")(ticket_mail.reply)
app.command("forward")(ticket_mail.forward)

CloseDate = Annotated[
    str | None,
    typer.Option(
        "--close-date",
        metavar="DATE",
        help="The close date, like 2026-01-31, instead of the date that the rules would set.",
    ),
]
FreeThread = Annotated[
    int,
    typer.Option(
        "--thread",
        metavar="ID",
        max=HIGHEST,
        help="The number of a thread without a ticket (see mail show).",
    ),
]


AllOption = Annotated[
    bool, typer.Option("--all", help="Also list merged tickets and tickets in the trash.")
]


@app.command("list")
def list_(
    context: typer.Context,
    everything: AllOption = False,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="TEXT",
            help="List only tickets with these words in a message or the subject.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List tickets, open and closed."""

    async def act(opened: Installation) -> list[dict[str, Any]]:
        from gateway.desk import views

        async with opened.database.read() as connection:
            return await views.listing(connection, everything=everything, text=search)

    rows = run(context, act)
    if as_json:
        emit({"tickets": rows})
    else:
        _table(rows)


def _table(rows: list[dict[str, Any]]) -> None:
    table(
        ("Number", "Status", "Requester", "Subject", "Created", "Closed", "Flags"),
        (
            (
                row["number"],
                row["status"] if row["deleted_at"] is None else "(trash)",
                row["requester"]["address"] if row["requester"] else None,
                row["subject"],
                row["created_at"][:16],
                row["close_date"],
                ", ".join(row["flags"]),
            )
            for row in rows
        ),
    )


@app.command()
def show(context: typer.Context, number: TicketNumber, as_json: AsJson = False) -> None:
    """Show a ticket with its messages and history. For a merged ticket, show the surviving one."""

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.cli.stored_html import html_of
        from gateway.desk import views

        async with opened.database.read() as connection:
            ticket = await views.resolve(connection, number)
            held = await views.messages_of(connection, ticket)
        html = await html_of(opened, held[1]) if as_json else {}
        async with opened.database.read() as connection:
            return await views.show(connection, ticket, held, html)

    shown = run(context, act)
    if as_json:
        emit(shown)
    else:
        show_ticket(shown)


SubjectOption = Annotated[
    str | None,
    typer.Option(
        "--subject", metavar="TEXT", help="The subject of the ticket, like Printer on fire."
    ),
]
RequesterOption = Annotated[
    str | None,
    typer.Option("--from", metavar="ADDRESS", help="The customer's address, like ann@example.org."),
]
PipelineOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="PIPELINE",
        help="The pipeline of the ticket. Default: the default pipeline.",
    ),
]
StatusOption = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="The status of the ticket. Default: the first open status.",
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="|".join(get_args(Source)), help="Where the request came from."
    ),
]
PriorityOption = Annotated[
    str | None,
    typer.Option(
        "--priority", metavar="|".join(get_args(Priority)), help="The priority of the ticket."
    ),
]
ThreadOption = Annotated[
    int | None,
    typer.Option(
        "--thread",
        metavar="ID",
        max=HIGHEST,
        help="The number of a thread without a ticket (see mail show).",
    ),
]


@app.command()
def create(
    context: typer.Context,
    subject: SubjectOption = None,
    requester: RequesterOption = None,
    pipeline: PipelineOption = None,
    status: StatusOption = None,
    source: SourceOption = None,
    close_date: CloseDate = None,
    priority: PriorityOption = None,
    thread: ThreadOption = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Create a ticket and print its number. Give --subject, or --thread for an existing thread."""
    with options_checked(context):
        if subject is None and thread is None:
            raise UsageError("missing option --subject or --thread")
        chosen_source = one_of("--source", source, get_args(Source))
        chosen_priority = one_of("--priority", priority, get_args(Priority))
        close_on = day(close_date)

    async def act(desk: TicketDesk) -> ActResult:
        from gateway.desk.tickets import NewTicket

        return await desk.create(
            NewTicket(
                subject,
                requester,
                pipeline,
                status,
                chosen_source,
                close_on,
                chosen_priority,
                thread,
            )
        )

    _act(context, act, as_user, as_json=as_json, only_number=True)


@app.command()
def attach(
    context: typer.Context,
    number: TicketNumber,
    thread: FreeThread,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Attach a thread to a ticket. The first thread of a ticket becomes its origin thread."""
    _act(context, lambda desk: desk.attach(number, thread), as_user, as_json=as_json)


NoteText = Annotated[
    str, typer.Option("--text", metavar="TEXT", help="The text of the note; only users see it.")
]


@app.command()
def note(
    context: typer.Context,
    number: TicketNumber,
    text: NoteText,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Add a note for other users. Nothing is sent, and the status stays."""
    _act(context, lambda desk: desk.note(number, text), as_user, as_json=as_json)


DoneOption = Annotated[
    int,
    typer.Option(
        "--done", metavar="ID", max=HIGHEST, help="The number of the task (see ticket show)."
    ),
]


@app.command()
def task(
    context: typer.Context,
    number: TicketNumber,
    done: DoneOption,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Mark a task of a ticket as done."""
    _act(context, lambda desk: desk.finish_task(number, done), as_user, as_json=as_json)


TicketNumbers = Annotated[
    list[int],
    typer.Argument(
        metavar="N...",
        max=HIGHEST,
        help="The numbers of the tickets. Either all tickets move or none.",
    ),
]
TargetStatus = Annotated[
    str, typer.Option("--status", metavar="STATUS", help="The status to move the tickets to.")
]
TargetPipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="PIPELINE",
        help="The pipeline of the status. Default: the present pipeline of each ticket.",
    ),
]


@app.command()
def move(
    context: typer.Context,
    numbers: TicketNumbers,
    status: TargetStatus,
    pipeline: TargetPipeline = None,
    close_date: CloseDate = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Move tickets to a status."""
    with options_checked(context):
        close_on = day(close_date)
    _act(
        context,
        lambda desk: desk.move(numbers, status, pipeline, close_on),
        as_user,
        as_json=as_json,
    )


SetSubjectOption = Annotated[
    str | None,
    typer.Option(
        "--subject", metavar="TEXT", help="The subject of the ticket, like Printer on fire."
    ),
]
SetPriorityOption = Annotated[
    str | None,
    typer.Option(
        "--priority",
        metavar="|".join((*get_args(Priority), "none")),
        help="The priority of the ticket.",
    ),
]
CloseDateOption = Annotated[
    str | None,
    typer.Option(
        "--close-date",
        metavar="DATE|none",
        help="The close date, like 2026-01-31; the word none removes the date.",
    ),
]
OwnerOption = Annotated[
    str | None,
    typer.Option(
        "--owner",
        metavar="USER|none",
        help="The address or name of the user in charge; the word none leaves nobody in charge.",
    ),
]
SetRequesterOption = Annotated[
    str | None,
    typer.Option(
        "--requester", metavar="ADDRESS", help="The customer's address, like ann@example.org."
    ),
]


@app.command("set")
def set_(
    context: typer.Context,
    number: TicketNumber,
    subject: SetSubjectOption = None,
    priority: SetPriorityOption = None,
    close_date: CloseDateOption = None,
    owner: OwnerOption = None,
    requester: SetRequesterOption = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Set fields of a ticket, but not its status."""
    changes: TicketChanges = {}
    with options_checked(context):
        if subject is not None:
            changes["subject"] = subject
        if priority is not None:
            changes["priority"] = _none_or(
                one_of("--priority", priority, (*get_args(Priority), "none"))
            )
        if close_date is not None:
            changes["close_date"] = day(_none_or(close_date))
        if owner is not None:
            changes["owner"] = _none_or(owner)
        if requester is not None:
            changes["requester"] = requester
        if not changes:
            raise UsageError("nothing to set: give an option")
    _act(context, lambda desk: desk.set(number, changes), as_user, as_json=as_json)


def _none_or(given: str) -> Any:
    return None if given == "none" else given


IntoOption = Annotated[
    int,
    typer.Option("--into", metavar="M", max=HIGHEST, help="The number of the ticket that stays."),
]


@app.command()
def merge(
    context: typer.Context,
    number: TicketNumber,
    into: IntoOption,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Merge a ticket into another, with threads, people and notes. Both numbers stay valid."""
    _act(context, lambda desk: desk.merge(number, into), as_user, as_json=as_json)


@app.command()
def unmerge(
    context: typer.Context, number: TicketNumber, as_user: As = None, as_json: AsJson = False
) -> None:
    """Undo a merge of the last 30 days. N is the ticket that was merged into another."""
    _act(context, lambda desk: desk.unmerge(number), as_user, as_json=as_json)


MessagesOption = Annotated[
    list[int],
    typer.Option(
        "--message",
        metavar="ID",
        max=HIGHEST,
        help="The id of a message (see ticket show --json); may be repeated.",
    ),
]


@app.command()
def split(
    context: typer.Context,
    number: TicketNumber,
    message: MessagesOption,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Move messages of a ticket to a new ticket. Prints the number of the new ticket."""
    _act(
        context,
        lambda desk: desk.split(number, message),
        as_user,
        as_json=as_json,
        only_number=True,
    )


@app.command()
def delete(
    context: typer.Context, number: TicketNumber, as_user: As = None, as_json: AsJson = False
) -> None:
    """Move a ticket to the trash."""
    _act(context, lambda desk: desk.delete(number), as_user, as_json=as_json)


@app.command()
def restore(
    context: typer.Context, number: TicketNumber, as_user: As = None, as_json: AsJson = False
) -> None:
    """Take a ticket out of the trash."""
    _act(context, lambda desk: desk.restore(number), as_user, as_json=as_json)


PersonAddress = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address of the person.")]


def _person(change: Literal["add", "approve", "remove"], text: str) -> None:
    def command(
        context: typer.Context,
        number: TicketNumber,
        address: PersonAddress,
        as_user: As = None,
        as_json: AsJson = False,
    ) -> None:
        _act(context, lambda desk: desk.person(number, change, address), as_user, as_json=as_json)

    people.command(change, help=text)(command)


_person("add", "Add a person to the ticket. Their mail counts as the customer's.")
_person("approve", "Make a stranger who wrote on the ticket a participant.")
_person("remove", "Remove a person from the ticket.")


def _act(
    context: typer.Context,
    act: Callable[[TicketDesk], Awaitable[ActResult]],
    actor: str | None,
    *,
    as_json: bool,
    only_number: bool = False,
) -> None:
    """Run one act and print what it changed (interfaces.md 2.1)."""
    document, outcome = run_act(context, lambda opened: act(opened.desk(actor)))
    if as_json:
        emit(document)
    elif only_number:
        say(document["ticket"]["number"])
    else:
        print_redirected(document)
        for each in outcome.events:
            say(sentence(each.ticket, each.type, each.before, each.after, each.detail))
        if not outcome.events:
            say("nothing changed")
