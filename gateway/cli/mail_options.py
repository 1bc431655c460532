"""Options and output shared by the commands that send mail (interfaces.md 2.1, 2.2)."""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.act_result import print_redirected, run_act
from gateway.cli.output import emit, paragraph, say
from gateway.cli.show_ticket import sentence

if TYPE_CHECKING:
    from gateway.compose.mime import File
    from gateway.desk.correspondence import CorrespondenceDesk
    from gateway.desk.tickets import ActResult

Text = Annotated[
    str,
    typer.Option(
        "--text", metavar="TEXT", help="The text of the mail, or - to read the text from stdin."
    ),
]
HtmlFile = Annotated[
    Path | None, typer.Option("--html-file", metavar="FILE", help="A file with the text as HTML.")
]
Attach = Annotated[
    list[Path] | None,
    typer.Option("--attach", metavar="FILE", help="Attach a file; may be repeated."),
]
RequiredTo = Annotated[
    list[str], typer.Option("--to", metavar="ADDRESS", help="A recipient; may be repeated.")
]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="ADDRESS",
        help="Send to this recipient instead of the usual recipients; may be repeated.",
    ),
]
Cc = Annotated[
    list[str] | None,
    typer.Option("--cc", metavar="ADDRESS", help="Send a copy to this address; may be repeated."),
]
RequiredSubject = Annotated[
    str, typer.Option("--subject", metavar="TEXT", help="The subject of the mail.")
]


def text_of(given: str) -> str:
    """Return the text given to an option, or the text on stdin if ``-`` was given."""
    return typer.get_text_stream("stdin").read() if given == "-" else given


def html_of(file: Path | None) -> str | None:
    """Return the content of a text file; raise Invalid if it cannot be read."""
    return _content(file).decode("utf-8", "replace") if file is not None else None


def files_of(paths: list[Path] | None) -> tuple[File, ...]:
    """Return the files to attach; raise Invalid if a file cannot be read."""
    from gateway.compose.mime import File

    return tuple(File(each.name, _type(each), _content(each)) for each in paths or ())


def _type(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _content(path: Path) -> bytes:
    from gateway.ingress.mail_files import read_limited

    return read_limited(path)


def send(
    context: typer.Context,
    act: Callable[[CorrespondenceDesk], Awaitable[ActResult]],
    actor: str | None,
    *,
    as_json: bool,
) -> None:
    """Send a mail and print the changes, or the JSON ``{"ticket", "message", "changes"}``."""
    document, outcome = run_act(context, lambda opened: act(opened.correspondent(actor)))
    if as_json:
        emit(document)
        return
    print_redirected(document)
    if outcome.message is None:
        say("scheduled: outbox list shows it, outbox cancel stops it")
    else:
        people = [each["address"] for part in ("to", "cc") for each in outcome.message.head[part]]
        say(paragraph(f"queued for {', '.join(people)}"))
    for each in outcome.events:
        if each.type == "status_changed":
            say(sentence(each.ticket, each.type, each.before, each.after, each.detail))
