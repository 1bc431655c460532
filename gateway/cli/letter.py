"""What commands that send mail share: the options, the files, and what they print (interfaces.md
2.1, 2.2).
"""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.acting import acted
from gateway.cli.opening import run
from gateway.cli.output import emit, paragraph
from gateway.daemon.assemble import Installation
from gateway.errors import Refused

if TYPE_CHECKING:
    from gateway.compose.mime import File
    from gateway.desk.correspondence import CorrespondenceDesk
    from gateway.desk.tickets import ActResult

Text = Annotated[
    str, typer.Option("--text", metavar="T", help="What is written; - reads it from stdin.")
]
HtmlFile = Annotated[
    Path | None, typer.Option("--html-file", metavar="F", help="The same as HTML, beside the text.")
]
Attach = Annotated[
    list[Path] | None,
    typer.Option("--attach", metavar="F", help="A file that goes with it; may be repeated."),
]
To = Annotated[list[str] | None, typer.Option("--to", metavar="ADDR", help="May be repeated.")]
Cc = Annotated[
    list[str] | None,
    typer.Option("--cc", metavar="ADDR", help="Added to the others; may be repeated."),
]
Subject = Annotated[str | None, typer.Option("--subject", metavar="S")]
As = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="The address of the user who acts.")
]


def words(text: str) -> str:
    """The text of an option, or stdin for ``-``."""
    return typer.get_text_stream("stdin").read() if text == "-" else text


def html_of(file: Path | None) -> str | None:
    """What is in an HTML file; Refused when it cannot be read."""
    return _content(file).decode("utf-8", "replace") if file is not None else None


def files_of(paths: list[Path] | None) -> tuple[File, ...]:
    """Files to attach; Refused when one cannot be read."""
    from gateway.compose.mime import File

    return tuple(
        File(
            path.name,
            mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            _content(path),
        )
        for path in paths or ()
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None


def send(
    context: typer.Context,
    act: Callable[[CorrespondenceDesk], Awaitable[ActResult]],
    actor: str | None,
    *,
    as_json: bool,
) -> None:
    """Send, and tell what it changed: ``{"ticket", "message", "changes"}``."""

    async def whole(opened: Installation) -> tuple[dict[str, Any], ActResult]:
        outcome = await act(opened.correspondent(actor))
        return await acted(opened, outcome), outcome

    done, outcome = run(context, whole)
    if as_json:
        emit(done)
        return
    if outcome.message is None:
        print("it goes out later: outbox list shows it, outbox cancel stops it")
    else:
        people = [each["address"] for part in ("to", "cc") for each in outcome.message.head[part]]
        print(paragraph(f"queued for {', '.join(people)}"))
    for each in outcome.events:
        if each.type == "status_changed":
            print(paragraph(f"ticket {each.ticket}: {each.before} -> {each.after}"))
