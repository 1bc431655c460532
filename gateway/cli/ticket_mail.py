"""``ticket reply`` and ``ticket forward`` (interfaces.md 2.2; behaviour.md 2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.mail_options import (
    Attach,
    Cc,
    HtmlFile,
    RequiredTo,
    Text,
    To,
    files_of,
    html_of,
    send,
    text_of,
)
from gateway.cli.option_values import HIGHEST, As, AsJson, TicketNumber
from gateway.cli.usage_errors import options_checked
from gateway.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

Thread = Annotated[
    int | None,
    typer.Option(
        "--thread",
        metavar="ID",
        max=HIGHEST,
        help="Reply on the thread with this number (see ticket show). "
        "Default: the thread on which a customer wrote last.",
    ),
]
NewThread = Annotated[bool, typer.Option("--new-thread", help="Start a new thread on the ticket.")]
NewSubject = Annotated[
    str | None,
    typer.Option(
        "--subject", metavar="TEXT", help="The subject of the mail; only allowed with --new-thread."
    ),
]
SetStatus = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Move the ticket to this status. Default: the status that the pipeline sets when a "
        "user replies to the customer.",
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="ISO-TIME",
        help="Send at this time, like 2026-01-31T09:00Z; to stop the mail, use outbox cancel.",
    ),
]


def reply(
    context: typer.Context,
    number: TicketNumber,
    text: Text,
    html_file: HtmlFile = None,
    attach: Attach = None,
    to: To = None,
    cc: Cc = None,
    thread: Thread = None,
    new_thread: NewThread = False,
    subject: NewSubject = None,
    status: SetStatus = None,
    at: At = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Reply to the customer. The mail goes to whoever wrote last, with a copy to participants.

    Strangers never get a copy.
    """
    with options_checked(context):
        from gateway.desk.correspondence import MailDraft

        _check_thread(thread, subject, new_thread=new_thread)
        mail = MailDraft(
            text_of(text),
            html_of(html_file),
            files_of(attach),
            tuple(to or ()),
            tuple(cc or ()),
            subject,
            thread,
            new_thread,
            status,
            at=_instant(at),
        )
    send(context, lambda person: person.reply(number, mail), as_user, as_json=as_json)


def _check_thread(thread: int | None, subject: str | None, *, new_thread: bool) -> None:
    if thread is not None and new_thread:
        raise UsageError("--thread and --new-thread exclude each other")
    if subject is not None and not new_thread:
        raise UsageError("--subject needs --new-thread: a reply keeps the subject of its thread")


def _instant(given: str | None) -> datetime | None:
    from gateway.clock import parse_instant

    return parse_instant(given, "--at") if given is not None else None


def forward(
    context: typer.Context,
    number: TicketNumber,
    to: RequiredTo,
    text: Text = "",
    cc: Cc = None,
    message: Annotated[
        int | None,
        typer.Option(
            "--message",
            metavar="ID",
            max=HIGHEST,
            help="The id of the message (see ticket show --json). "
            "Default: the newest incoming message.",
        ),
    ] = None,
    attach: Attach = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Forward a mail of the ticket to other people. Their answers never move the ticket."""
    with options_checked(context):
        from gateway.desk.correspondence import MailDraft

        mail = MailDraft(
            text_of(text), None, files_of(attach), tuple(to), tuple(cc or ()), message=message
        )
    send(context, lambda person: person.forward(number, mail), as_user, as_json=as_json)
