"""``ticketgate channel ...``: addresses that receive and send mail, and their mailboxes.

See interfaces.md 2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gateway.cli.channel_login import login
from gateway.cli.channel_mailbox import import_, try_
from gateway.cli.group import App
from gateway.cli.mail_options import (
    Attach,
    Cc,
    HtmlFile,
    RequiredSubject,
    RequiredTo,
    Text,
    files_of,
    html_of,
    send,
    text_of,
)
from gateway.cli.opening import run
from gateway.cli.option_values import ON_OFF, As, AsJson, switch
from gateway.cli.output import emit, emit_done, say, table
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

if TYPE_CHECKING:
    from core.model.ticket import Channel
    from core.pipeline import Pipeline
    from gateway.desk.channels import ChannelChanges
    from gateway.ingress.imap.health import MailboxHealth

app = App("Set up channels and their mailboxes.")

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address of the channel.")]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="The name shown as sender in mail from the channel, like Support.",
    ),
]
Rules = list[str] | None


@app.command("send")
def send_(
    context: typer.Context,
    address: Address,
    to: RequiredTo,
    subject: RequiredSubject,
    text: Text,
    html_file: HtmlFile = None,
    attach: Attach = None,
    cc: Cc = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Send a new mail from a channel. The mail opens a ticket if the channel makes tickets."""
    with options_checked(context):
        from gateway.desk.correspondence import MailDraft

        mail = MailDraft(
            text_of(text), html_of(html_file), files_of(attach), tuple(to), tuple(cc or ()), subject
        )
    send(context, lambda person: person.send(address, mail), as_user, as_json=as_json)


app.command("login")(login)
app.command("test")(try_)
app.command("import")(import_)


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List channels and the state of their mailboxes."""
    shown, strays = run(context, _all)
    if as_json:
        emit({"channels": shown})
    else:
        _table(shown)
    for each in strays:
        say(
            f"mailbox {each.name}: there is no channel {each.channel}; "
            "its mail goes to the default channel",
            error=True,
        )


FirstPipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="PIPELINE",
        help="The pipeline of tickets from this channel. Default: the default pipeline.",
    ),
]
FirstStatus = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="The status in which new tickets start. Default: the first open status.",
    ),
]


@app.command()
def add(
    context: typer.Context,
    address: Address,
    name: Name = None,
    pipeline: FirstPipeline = None,
    status: FirstStatus = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Add a channel: mail to its address makes tickets."""

    async def act(opened: Installation) -> list[dict[str, Any]]:
        channel = await opened.channels(as_user).add_channel(address, name, pipeline, status)
        return [each for each in await _described(opened) if each["address"] == channel.address]

    _show(run(context, act), as_json=as_json)


TicketsOption = Annotated[
    str | None,
    typer.Option("--tickets", metavar=ON_OFF, help="Whether mail to the channel makes tickets."),
]
PipelineOption = Annotated[
    str | None, typer.Option("--pipeline", metavar="PIPELINE", help="The pipeline of new tickets.")
]
StatusOption = Annotated[
    str | None, typer.Option("--status", metavar="STATUS", help="The status of new tickets.")
]
OutboundStatusOption = Annotated[
    str | None,
    typer.Option(
        "--outbound-status",
        metavar="STATUS",
        help="The status of tickets opened by the command channel send.",
    ),
]
AllowOption = Annotated[
    Rules,
    typer.Option(
        "--allow",
        metavar="ADDRESS|@DOMAIN|none",
        help="Accept mail of this sender despite --deny and the spam check; may be repeated. "
        "Replaces the earlier list; the word none empties it.",
    ),
]
DenyOption = Annotated[
    Rules,
    typer.Option(
        "--deny",
        metavar="ADDRESS|@DOMAIN|none",
        help="Quarantine mail of this sender; may be repeated. "
        "Replaces the earlier list; the word none empties it.",
    ),
]
DefaultOption = Annotated[
    bool, typer.Option("--default", help="Use this channel for mail addressed to no channel.")
]


@app.command("set")
def set_(
    context: typer.Context,
    address: Address,
    tickets: TicketsOption = None,
    name: Name = None,
    pipeline: PipelineOption = None,
    status: StatusOption = None,
    outbound_status: OutboundStatusOption = None,
    allow: AllowOption = None,
    deny: DenyOption = None,
    default: DefaultOption = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Change a channel. Existing tickets and threads stay as they are."""
    with options_checked(context):
        given = {
            "tickets": switch("--tickets", tickets),
            "name": name,
            "pipeline": pipeline,
            "status": status,
            "outbound_status": outbound_status,
            "allow": _rules(allow) if allow else None,
            "deny": _rules(deny) if deny else None,
            "is_default": True if default else None,
        }
        changes = cast(
            "ChannelChanges", {key: value for key, value in given.items() if value is not None}
        )
        if not changes:
            raise UsageError("nothing to set: give an option")

    async def act(opened: Installation) -> list[dict[str, Any]]:
        channel = await opened.channels(as_user).set_channel(address, changes)
        return [each for each in await _described(opened) if each["address"] == channel.address]

    _show(run(context, act), as_json=as_json)


def _rules(given: list[str]) -> list[str]:
    return [] if given == ["none"] else given


def _show(shown: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        emit_done({"channel": shown[0]})
    else:
        _table(shown)


def _table(shown: list[dict[str, Any]]) -> None:
    table(
        ("Address", "Name", "Pipeline", "Starts in", "Tickets", "Default", "Health"),
        (
            (
                each["address"],
                each["name"],
                each["pipeline"],
                each["status"] or "first open",
                "on" if each["tickets"] else "off",
                "yes" if each["default"] else "",
                each["health"],
            )
            for each in shown
        ),
    )


async def _described(opened: Installation) -> list[dict[str, Any]]:
    return (await _all(opened))[0]


async def _all(opened: Installation) -> tuple[list[dict[str, Any]], list[MailboxHealth]]:
    """Return the documents of all channels, and the mailboxes whose channel does not exist."""
    from gateway.store.setup import pipelines

    async with opened.database.read() as connection:
        known = await pipelines.load_pipelines(connection)
        channels = await pipelines.load_channels(connection)
    boxes, addresses = await _mailboxes(opened), {each.address for each in channels}
    strays = [each for each in boxes if each.channel not in addresses]
    return [_channel(each, known[each.pipeline_id], boxes) for each in channels], strays


def _channel(channel: Channel, pipeline: Pipeline, boxes: list[MailboxHealth]) -> dict[str, Any]:
    own = [each for each in boxes if each.channel == channel.address]
    start = channel.status_id
    return {
        "address": channel.address,
        "name": channel.name,
        "pipeline": pipeline.name,
        "status": pipeline.status(start).name if start is not None else None,
        "tickets": channel.tickets,
        "default": channel.is_default,
        "allow": sorted(channel.allow),
        "deny": sorted(channel.deny),
        "health": "; ".join(each.summary for each in own if each.summary != "ok") or "ok",
        "mailboxes": [_mailbox(each) for each in own],
    }


async def _mailboxes(opened: Installation) -> list[MailboxHealth]:
    """Return the health of each mailbox in the configuration."""
    if not opened.settings.imap:
        return []
    from gateway.ingress.imap.account import accounts
    from gateway.ingress.imap.health import mailbox_health
    from gateway.store.imap.mailboxes import Mailboxes

    found, boxes = accounts(opened.settings), Mailboxes(opened.database)
    return await mailbox_health(found, boxes, opened.tokens, opened.clock.now())


def _mailbox(health: MailboxHealth) -> dict[str, Any]:
    return {
        "name": health.name,
        "state": health.state,
        "detail": health.detail or None,
        "since": health.since,
        "last_pass_at": health.last_pass_at,
        "owed": health.owed,
        "node": health.node,
    }
