"""``send-test``: one mail through the SMTP port with the standard library, so that a newcomer sees
a ticket within a minute.
"""

from __future__ import annotations

import os
import smtplib
import sys
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Annotated

import typer

from config.listen import parse_listen
from config.load import load
from gateway.cli.opening import explained, named_file
from gateway.cli.output import AsJson, emit
from gateway.errors import Refused, Unavailable, UsageError

app = typer.Typer(help="Send one mail through the SMTP port.")
DEFAULT_TO = "support@localhost"


@app.command()
def send_test(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The channel to write to.")] = DEFAULT_TO,
    sender: Annotated[
        str, typer.Option("--from", help="The customer's address.")
    ] = "customer@example.com",
    as_json: AsJson = False,
) -> None:
    """Connect, send, and say what the server answered."""
    with explained():
        settings = load(named_file(context), os.environ).settings
        if not settings.smtp.listen:
            raise UsageError("the SMTP listener is switched off ([smtp] listen is empty)")
        place = parse_listen(settings.smtp.listen[0])
        message = _message(sender, address)
        try:
            with smtplib.SMTP(
                place.host if place.host not in ("0.0.0.0", "::") else "127.0.0.1",  # noqa: S104
                place.port,
                timeout=30,
            ) as client:  # compared, not bound
                client.send_message(message, from_addr=sender, to_addrs=[address])
        except smtplib.SMTPRecipientsRefused as error:
            code, text = error.recipients[address]
            raise Refused(
                f"the server refused {address}: {code} {text.decode(errors='replace')}"
            ) from None
        except (OSError, smtplib.SMTPException) as error:
            raise Unavailable(
                f"no mail was sent to {place}: {error}. Is the daemon running (make run)?"
            ) from None
    sent = {
        "to": address,
        "from": sender,
        "message_id": message["Message-ID"].strip("<>"),
        "server": str(place),
    }
    if as_json:
        emit(sent)
    else:
        print(
            f"Sent to {address} through {place}. Now look: ticketgate ticket list", file=sys.stdout
        )


def _message(sender: str, address: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"A first customer <{sender}>"
    message["To"] = address
    message["Subject"] = "Hello, ticketgate"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain="example.com")
    message.set_content("This is a first mail.\n\nIt should become a ticket within a second.\n")
    return message
