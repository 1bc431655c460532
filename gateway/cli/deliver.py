"""``deliver``: one mail on stdin into the spool, for pipe transports, ``.forward`` and procmail. 0
only after it is durable, else 75.
"""

from __future__ import annotations

import getpass
import os
import sys
from typing import Annotated

import typer

from core.model.message import Envelope
from gateway.cli.opening import run
from gateway.cli.output import AsJson, emit
from gateway.daemon.assemble import Installation
from gateway.errors import Refused, Unavailable

app = typer.Typer(help="Take one mail on stdin into the spool.")


@app.command()
def deliver(
    context: typer.Context,
    recipient: Annotated[
        list[str] | None, typer.Option("--recipient", help="Envelope recipient; may be repeated.")
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--sender", help="Envelope sender; <> or nothing for a report.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Store the mail durably; it is processed by the daemon, or by ``agenda run``."""

    async def act(opened: Installation) -> int:
        limit = opened.limits.message_bytes
        raw = sys.stdin.buffer.read(limit + 1)
        if len(raw) > limit:
            raise Refused(f"the mail is larger than {limit} bytes")
        if not raw.strip():
            raise Refused("there is no mail on stdin")
        accept = await opened.acceptor()
        envelope = Envelope(
            sender.strip("<>") if sender is not None else None,
            tuple(recipient or ()),
            "deliver",
            opened.clock.now(),
            peer=getpass.getuser(),
            trusted_hop=True,
        )
        try:
            return (await accept.accept(raw, envelope)).mail_id
        except OSError as error:
            raise Unavailable(
                f"the mail could not be stored: {os.strerror(error.errno or 0)}"
            ) from error

    try:
        mail_id = run(context, act)
    except typer.Exit as ending:
        # A mail transport returns mail to its sender for 78: what is wrong with our installation
        # must only ever put it off.
        raise typer.Exit(
            os.EX_TEMPFAIL
            if ending.exit_code not in (0, os.EX_DATAERR, os.EX_USAGE)
            else ending.exit_code
        ) from None
    if as_json:
        emit({"mail_id": mail_id})
