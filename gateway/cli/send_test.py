"""``send-test``: send one mail through the SMTP port, to get a first ticket."""

from __future__ import annotations

import os
import smtplib
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Annotated

import typer

from config.listen import Listen, parse_listen
from config.load import load
from gateway.cli.group import App
from gateway.cli.opening import named_file
from gateway.cli.option_values import AsJson
from gateway.cli.output import emit, say
from gateway.cli.usage_errors import options_checked
from gateway.errors import Refused, Unavailable, UsageError

app = App("Send one mail through the SMTP port, to try the daemon out.")
ANY_HOST = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
ChannelAddress = Annotated[
    str, typer.Argument(metavar="ADDRESS", help="The address of the channel to write to.")
]
Sender = Annotated[
    str, typer.Option("--from", metavar="ADDRESS", help="The address of the sender.")
]


@app.command()
def send_test(
    context: typer.Context,
    address: ChannelAddress = "support@localhost",
    sender: Sender = "customer@example.com",
    as_json: AsJson = False,
) -> None:
    """Send one mail through the SMTP port, to try the daemon out."""
    with options_checked(context):
        settings = load(named_file(context), os.environ).settings
        if not settings.smtp.listen:
            raise UsageError("the SMTP listener is switched off ([smtp] listen is empty)")
        place = parse_listen(settings.smtp.listen[0])
        message = _message(sender, address)
        _send(message, sender, address, place)
    if as_json:
        message_id = message["Message-ID"].strip("<>")
        emit({"to": address, "from": sender, "message_id": message_id, "server": str(place)})
    else:
        say(f"sent to {address} through {place}; see it with: ticketgate ticket list")


def _send(message: EmailMessage, sender: str, address: str, place: Listen) -> None:
    try:
        host = "127.0.0.1" if place.host in ANY_HOST else place.host
        with smtplib.SMTP(host, place.port, timeout=30) as client:
            client.send_message(message, from_addr=sender, to_addrs=[address])
    except smtplib.SMTPRecipientsRefused as error:
        code, text = error.recipients[address]
        reply = f"{code} {text.decode(errors='replace')}"
        raise Refused(f"the server refused {address}: {reply}") from None
    except (OSError, smtplib.SMTPException) as error:
        problem = f"cannot send to {place}: {error}; is the daemon running (make run)?"
        raise Unavailable(problem) from None


def _message(sender: str, address: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"First customer <{sender}>"
    message["To"] = address
    message["Subject"] = "Hello, ticketgate"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain="example.com")
    message.set_content("This is the first mail.\n\nIt should become a ticket within a second.\n")
    return message
