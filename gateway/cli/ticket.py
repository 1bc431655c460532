"""``ticketgate ticket ...``: what an agent can do (interfaces.md 2.2). Refused by a rule: exit 65,
the reason on stderr, nothing changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from core.model.ticket import Priority, Source
from gateway.cli import ticket_mail
from gateway.cli.acting import acted
from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, emit, table
from gateway.cli.ticket_page import page, sentence
from gateway.cli.words import HIGHEST, day, one_of
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

if TYPE_CHECKING:
    from gateway.desk.tickets import ActResult, TicketChanges, TicketDesk

app = typer.Typer(help="What an agent can do with tickets.", no_args_is_help=True)
people = typer.Typer(help="Who is on a ticket.", no_args_is_help=True)
app.add_typer(people, name="contact")
app.command("reply")(ticket_mail.reply)
app.command("forward")(ticket_mail.forward)

Number = Annotated[int, typer.Argument(metavar="N", max=HIGHEST, help="The ticket's number.")]
As = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="The address of the user who acts.")
]
CloseDate = Annotated[
    str | None,
    typer.Option("--close-date", metavar="DATE", help="Like 2026-01-31; it wins over every rule."),
]


@app.command("list")
def list_(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those in the trash and merged away.")
    ] = False,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="TEXT", help="Words in messages, or text in the subject."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists every ticket, open and closed."""

    async def act(opened: Installation) -> list[dict[str, Any]]:
        from gateway.desk import views

        async with opened.database.read() as connection:
            return await views.listing(connection, everything=everything, text=search)

    rows = run(context, act)
    if as_json:
        emit({"tickets": rows})
    else:
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
def show(context: typer.Context, number: Number, as_json: AsJson = False) -> None:
    """Shows a ticket with its messages and its history; a merged-away number shows the ticket it
    went into.
    """

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.cli.html import html_of
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
        page(shown)


@app.command()
def create(
    context: typer.Context,
    subject: Annotated[str | None, typer.Option("--subject", help="What it is about.")] = None,
    requester: Annotated[
        str | None, typer.Option("--from", metavar="ADDR", help="The requester.")
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", help="Default: the default pipeline.")
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="Default: the first open status.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help=", ".join(get_args(Source)))
    ] = None,
    close_date: CloseDate = None,
    priority: Annotated[
        str | None, typer.Option("--priority", help=", ".join(get_args(Priority)))
    ] = None,
    thread: Annotated[
        int | None,
        typer.Option("--thread", max=HIGHEST, help="Make this conversation without a ticket one."),
    ] = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Makes a ticket by hand, or out of a conversation that has none; prints its number."""
    with explained():
        if subject is None and thread is None:
            raise UsageError("a ticket needs --subject, or --thread")
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
    number: Number,
    thread: Annotated[
        int, typer.Option("--thread", max=HIGHEST, help="A conversation without a ticket.")
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Puts a conversation without a ticket onto a ticket; the first one becomes its origin."""
    _act(context, lambda desk: desk.attach(number, thread), as_user, as_json=as_json)


@app.command()
def note(
    context: typer.Context,
    number: Number,
    text: Annotated[str, typer.Option("--text", help="For agents only.")],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Writes a note; it never moves the status."""
    _act(context, lambda desk: desk.note(number, text), as_user, as_json=as_json)


@app.command()
def task(
    context: typer.Context,
    number: Number,
    done: Annotated[
        int, typer.Option("--done", metavar="ID", max=HIGHEST, help="As show numbers it.")
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Says that a task of a ticket is done."""
    _act(context, lambda desk: desk.finish_task(number, done), as_user, as_json=as_json)


@app.command()
def move(
    context: typer.Context,
    numbers: Annotated[
        list[int],
        typer.Argument(metavar="N...", max=HIGHEST, help="All of them are moved, or none."),
    ],
    status: Annotated[str, typer.Option("--status", metavar="NAME")],
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", help="Default: that of each ticket.")
    ] = None,
    close_date: CloseDate = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Moves tickets to a status."""
    with explained():
        close_on = day(close_date)
    _act(
        context,
        lambda desk: desk.move(numbers, status, pipeline, close_on),
        as_user,
        as_json=as_json,
    )


@app.command("set")
def set_(
    context: typer.Context,
    number: Number,
    subject: Annotated[str | None, typer.Option("--subject")] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", help=f"{', '.join(get_args(Priority))} or none")
    ] = None,
    close_date: Annotated[str | None, typer.Option("--close-date", metavar="DATE|none")] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="USER|none", help="A user's address or name.")
    ] = None,
    requester: Annotated[str | None, typer.Option("--requester", metavar="ADDR")] = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Sets fields that are not the status."""
    changes: TicketChanges = {}
    with explained():
        if subject is not None:
            changes["subject"] = subject
        if priority is not None:
            changes["priority"] = (
                None if priority == "none" else one_of("--priority", priority, get_args(Priority))
            )
        if close_date is not None:
            changes["close_date"] = None if close_date == "none" else day(close_date)
        if owner is not None:
            changes["owner"] = None if owner == "none" else owner
        if requester is not None:
            changes["requester"] = requester
        if not changes:
            raise UsageError("say what is to be set")
    _act(context, lambda desk: desk.set(number, changes), as_user, as_json=as_json)


@app.command()
def merge(
    context: typer.Context,
    number: Number,
    into: Annotated[int, typer.Option("--into", metavar="M", help="The ticket that stays.")],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Puts a ticket with its threads, people and notes into another; its number leads there from
    now on.
    """
    _act(context, lambda desk: desk.merge(number, into), as_user, as_json=as_json)


@app.command()
def unmerge(
    context: typer.Context, number: Number, as_user: As = None, as_json: AsJson = False
) -> None:
    """Takes a merge of the last 30 days back."""
    _act(context, lambda desk: desk.unmerge(number), as_user, as_json=as_json)


@app.command()
def split(
    context: typer.Context,
    number: Number,
    message: Annotated[
        list[int],
        typer.Option(
            "--message",
            metavar="ID",
            max=HIGHEST,
            help="A mail of the ticket, as show --json numbers it.",
        ),
    ],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Makes mails of a ticket a ticket of their own; prints its number."""
    _act(
        context,
        lambda desk: desk.split(number, message),
        as_user,
        as_json=as_json,
        only_number=True,
    )


@app.command()
def delete(
    context: typer.Context, number: Number, as_user: As = None, as_json: AsJson = False
) -> None:
    """Puts a ticket into the trash."""
    _act(context, lambda desk: desk.delete(number), as_user, as_json=as_json)


@app.command()
def restore(
    context: typer.Context, number: Number, as_user: As = None, as_json: AsJson = False
) -> None:
    """Takes a ticket out of the trash."""
    _act(context, lambda desk: desk.restore(number), as_user, as_json=as_json)


def _person(change: Literal["add", "approve", "remove"], text: str) -> None:
    def command(
        context: typer.Context,
        number: Number,
        address: Annotated[str, typer.Argument(metavar="ADDR")],
        as_user: As = None,
        as_json: AsJson = False,
    ) -> None:
        _act(context, lambda desk: desk.person(number, change, address), as_user, as_json=as_json)

    people.command(change, help=text)(command)


_person("add", "Puts a contact on the ticket: he is associated from now on.")
_person("approve", "Makes a stranger who wrote a participant.")
_person("remove", "Takes somebody off the ticket.")


def _act(
    context: typer.Context,
    act: Callable[[TicketDesk], Awaitable[ActResult]],
    actor: str | None,
    *,
    as_json: bool,
    only_number: bool = False,
) -> None:
    """One act, and what it changed: interfaces.md 2.1."""

    async def whole(opened: Installation) -> tuple[dict[str, Any], ActResult]:
        outcome = await act(opened.desk(actor))
        return await acted(opened, outcome), outcome

    done, outcome = run(context, whole)
    if as_json:
        emit(done)
    elif only_number:
        print(done["ticket"]["number"])
    else:
        for each in outcome.events:
            print(
                f"ticket {each.ticket}: {sentence(each.type, each.before, each.after, each.detail)}"
            )
        if not outcome.events:
            print("nothing changed")
