"""``ticket reply`` and ``ticket forward``: mail out of a ticket (interfaces.md 2.2; behaviour.md
2.3).
"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.letter import (
    As,
    Attach,
    Cc,
    HtmlFile,
    Subject,
    Text,
    To,
    files_of,
    html_of,
    send,
    words,
)
from gateway.cli.opening import explained
from gateway.cli.output import AsJson
from gateway.cli.words import HIGHEST
from gateway.errors import UsageError

Number = Annotated[int, typer.Argument(metavar="N", max=HIGHEST, help="The ticket's number.")]


def reply(
    context: typer.Context,
    number: Number,
    text: Text,
    html_file: HtmlFile = None,
    attach: Attach = None,
    to: To = None,
    cc: Cc = None,
    thread: Annotated[
        int | None,
        typer.Option(
            "--thread", metavar="ID", max=HIGHEST, help="Default: the thread it was created on."
        ),
    ] = None,
    new_thread: Annotated[
        bool, typer.Option("--new-thread", help="Starts another conversation on the ticket.")
    ] = False,
    subject: Subject = None,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="NAME", help="Send and set: wins over the trigger."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="ISO-TIME", help="Not before; outbox cancel undoes it."),
    ] = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Writes to the customer from the ticket. Default: to whoever wrote last, with those who take
    part in copy; never to strangers.
    """
    with explained():
        from gateway.clock import parse_instant
        from gateway.desk.correspondence import MailDraft

        if thread is not None and new_thread:
            raise UsageError("--thread and --new-thread exclude each other")
        if subject is not None and not new_thread:
            raise UsageError(
                "--subject goes with --new-thread: an answer keeps the subject of its conversation"
            )
        mail = MailDraft(
            words(text),
            html_of(html_file),
            files_of(attach),
            tuple(to or ()),
            tuple(cc or ()),
            subject,
            thread,
            new_thread,
            status,
            at=parse_instant(at, "--at") if at is not None else None,
        )
    send(context, lambda person: person.reply(number, mail), as_user, as_json=as_json)


def forward(
    context: typer.Context,
    number: Number,
    to: Annotated[list[str], typer.Option("--to", metavar="ADDR", help="May be repeated.")],
    text: Text = "",
    cc: Cc = None,
    message: Annotated[
        int | None,
        typer.Option(
            "--message", metavar="ID", max=HIGHEST, help="Default: the newest that came in."
        ),
    ] = None,
    attach: Attach = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Passes a mail of the ticket on to somebody else; answers to it never move the ticket."""
    with explained():
        from gateway.desk.correspondence import MailDraft

        mail = MailDraft(
            words(text), None, files_of(attach), tuple(to), tuple(cc or ()), message=message
        )
    send(context, lambda person: person.forward(number, mail), as_user, as_json=as_json)
