"""``deliver``: store one mail from stdin in the spool, for pipe transports, .forward and procmail.

Exit codes: 0 only after the mail is safely on disk, 64 for wrong usage, 65 for a mail that cannot
be taken (empty or too large), else 75.
"""

from __future__ import annotations

import getpass
import os
import sys
from typing import Annotated

import typer

from core.model.message import Envelope
from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import AsJson
from gateway.cli.output import emit, output_optional
from gateway.daemon.assemble import Installation
from gateway.errors import Invalid, Unavailable

app = App("Store one mail from stdin in the spool.")


RecipientOption = Annotated[
    list[str] | None,
    typer.Option(
        "--recipient", metavar="ADDRESS", help="A recipient of the envelope; may be repeated."
    ),
]
SenderOption = Annotated[
    str | None,
    typer.Option(
        "--sender", metavar="ADDRESS", help="The sender of the envelope; <> for a bounce."
    ),
]


@app.command()
def deliver(
    context: typer.Context,
    recipient: RecipientOption = None,
    sender: SenderOption = None,
    as_json: AsJson = False,
) -> None:
    """Store one mail from stdin in the spool. The daemon, or agenda run, turns it into a ticket."""

    async def act(opened: Installation) -> int:
        raw = _read_mail(opened.limits.message_bytes)
        accept = await opened.acceptor()
        envelope = Envelope(
            sender.strip("<>") if sender is not None else None,
            tuple(recipient or ()),
            "deliver",
            opened.clock.now(),
            peer=_user(),
            trusted_hop=True,
        )
        try:
            return (await accept.accept(raw, envelope)).mail_id
        except OSError as error:
            raise Unavailable(f"cannot store the mail: {os.strerror(error.errno or 0)}") from error

    try:
        mail_id = run(context, act, create=True)
    except typer.Exit as ending:
        # A mail transport bounces mail when it sees 78; a broken installation must only delay it.
        final = ending.exit_code in (0, os.EX_DATAERR, os.EX_USAGE)
        raise typer.Exit(ending.exit_code if final else os.EX_TEMPFAIL) from None
    if as_json:
        with output_optional():
            emit({"mail_id": mail_id})


def _user() -> str:
    """Return the name of the user who runs us, or the number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container, or a service whose user has no entry
        return f"uid {os.getuid()}"


def _read_mail(limit: int) -> bytes:
    """Return the mail on stdin; raise Invalid if it is empty or larger than ``limit`` bytes."""
    raw = sys.stdin.buffer.read(limit + 1)
    if len(raw) > limit:
        raise Invalid(f"the mail is larger than {limit} bytes")
    if not raw.strip():
        raise Invalid("there is no mail on stdin")
    return raw
