"""``ticketgate channel ...``: the addresses mail comes in at, and whether it makes tickets
(interfaces.md 2.2).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gateway.cli.channel_login import login
from gateway.cli.channel_mailbox import import_, try_
from gateway.cli.letter import As, Attach, Cc, HtmlFile, Text, files_of, html_of, send, words
from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, emit, emit_done, table
from gateway.cli.words import switch
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

if TYPE_CHECKING:
    from gateway.desk.channels import ChannelChanges
    from gateway.ingress.imap.health import MailboxHealth

app = typer.Typer(help="The addresses mail comes in at.", no_args_is_help=True)

Address = Annotated[str, typer.Argument(metavar="ADDRESS")]


@app.command("send")
def send_(
    context: typer.Context,
    address: Address,
    to: Annotated[list[str], typer.Option("--to", metavar="ADDR", help="May be repeated.")],
    subject: Annotated[str, typer.Option("--subject", metavar="S")],
    text: Text,
    html_file: HtmlFile = None,
    attach: Attach = None,
    cc: Cc = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Writes a new mail from a channel; where the channel makes tickets, it opens one."""
    with explained():
        from gateway.desk.correspondence import MailDraft

        mail = MailDraft(
            words(text), html_of(html_file), files_of(attach), tuple(to), tuple(cc or ()), subject
        )
    send(context, lambda person: person.send(address, mail), as_user, as_json=as_json)


app.command("login")(login)
app.command("test")(try_)
app.command("import")(import_)


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Lists all channels."""
    shown, strays = run(context, _all)
    if as_json:
        emit({"channels": shown})
    else:
        _table(shown)
    for each in strays:
        print(
            (
                f"mailbox {each.name}: there is no channel {each.channel}; its mail goes to the "
                "default channel"
            ),
            file=sys.stderr,
        )


@app.command()
def add(
    context: typer.Context,
    address: Address,
    name: Annotated[str | None, typer.Option("--name")] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", help="Default: the default pipeline.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", help="Where its tickets start. Default: the first open status."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Makes an address of ours a channel: mail to it makes tickets."""

    async def act(opened: Installation) -> list[dict[str, Any]]:
        channel = await opened.channels().add_channel(address, name, pipeline, status)
        return [each for each in await _described(opened) if each["address"] == channel.address]

    _show(run(context, act), as_json=as_json)


@app.command("set")
def set_(
    context: typer.Context,
    address: Address,
    tickets: Annotated[
        str | None,
        typer.Option("--tickets", metavar="on|off", help="Whether its mail makes tickets."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name")] = None,
    pipeline: Annotated[str | None, typer.Option("--pipeline")] = None,
    status: Annotated[str | None, typer.Option("--status")] = None,
    outbound_status: Annotated[
        str | None,
        typer.Option("--outbound-status", help="Where tickets start that our own mail opens."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="ADDR|@DOMAIN", help="Replaces the list; none empties it."),
    ] = None,
    deny: Annotated[
        list[str] | None,
        typer.Option("--deny", metavar="ADDR|@DOMAIN", help="Replaces the list; none empties it."),
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Mail that names no channel goes here.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sets a channel; tickets and threads that exist stay as they are."""
    with explained():
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
            raise UsageError("say what is to be set")

    async def act(opened: Installation) -> list[dict[str, Any]]:
        channel = await opened.channels().set_channel(address, changes)
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
    """Every channel as it is shown, and the mailboxes that belong to none."""
    from gateway.store.setup import pipelines

    async with opened.database.read() as connection:
        known = await pipelines.load_pipelines(connection)
        channels = await pipelines.load_channels(connection)
    boxes = await _mailboxes(opened)
    strays = [
        each for each in boxes if each.channel not in {channel.address for channel in channels}
    ]
    shown = [
        {
            "address": channel.address,
            "name": channel.name,
            "pipeline": known[channel.pipeline_id].name,
            "status": known[channel.pipeline_id].status(channel.status_id).name
            if channel.status_id is not None
            else None,
            "tickets": channel.tickets,
            "default": channel.is_default,
            "allow": sorted(channel.allow),
            "deny": sorted(channel.deny),
            "health": "; ".join(
                each.summary
                for each in boxes
                if each.channel == channel.address and each.summary != "ok"
            )
            or "ok",
            "mailboxes": [_mailbox(each) for each in boxes if each.channel == channel.address],
        }
        for channel in channels
    ]
    return shown, strays


async def _mailboxes(opened: Installation) -> list[MailboxHealth]:
    """How the mailboxes of the configuration are."""
    if not opened.settings.imap:
        return []
    from gateway.ingress.imap.account import accounts
    from gateway.ingress.imap.health import mailbox_health
    from gateway.store.imap.mailboxes import Mailboxes

    tokens = opened.tokens
    return await mailbox_health(
        accounts(opened.settings), Mailboxes(opened.database), tokens, opened.clock.now()
    )


def _mailbox(told: MailboxHealth) -> dict[str, Any]:
    return {
        "name": told.name,
        "state": told.state,
        "detail": told.detail or None,
        "since": told.since,
        "last_pass_at": told.last_pass_at,
        "owed": told.owed,
        "node": told.node,
    }
