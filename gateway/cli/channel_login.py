"""``ticketgate channel login``: leads a person through letting us into a mailbox of Microsoft, Google or another provider.

What can go wrong: the person or the provider says no (65), the provider is away (75), there is no such mailbox (64). Nothing is stored then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.opening import Opened, run
from gateway.cli.output import AsJson, emit, visible
from gateway.errors import UsageError

if TYPE_CHECKING:
    from gateway.ingress.imap_account import Account
    from gateway.ingress.oauth import Tokens


def login(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of an [[imap]] table, or the address of its channel.")],
    paste: Annotated[bool, typer.Option("--paste", help="The browser runs on another machine: paste the address it ends at.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let us into a mailbox of a provider that wants access tokens (OAuth) instead of a password."""
    told = run(context, lambda opened: _login(opened, name, paste=paste, quiet=as_json))
    for each in told:
        if as_json:
            emit(each)
        elif each["ok"]:
            print(f"{each['mailbox']}: we are let in. Try it: ticketgate channel test {each['mailbox']}")


async def _login(opened: Opened, name: str, *, paste: bool, quiet: bool) -> list[dict[str, Any]]:
    from gateway.ingress.imap_account import accounts, named
    from gateway.ingress.oauth import Tokens

    found = named(accounts(opened.settings), name)
    if all(account.client is None for account in found):
        raise UsageError(
            f"{found[0].name} signs in with a password: there is nothing to do here; ticketgate channel test {found[0].name} tries it"
        )
    opened.start_log()
    tokens = Tokens(opened.database, opened.clock)
    told = []
    for account in found:
        if account.client is not None:
            await _one(tokens, account, paste=paste, quiet=quiet)
            row = await tokens.stored(account.client, account.username)
            until = row.access_until if row is not None else None
            told.append(
                {"mailbox": account.name, "client": account.client.name, "account": account.username, "ok": True, "access_until": until}
            )
    return told


async def _one(tokens: Tokens, account: Account, *, paste: bool, quiet: bool) -> None:
    from gateway.ingress import oauth_login

    client = account.client
    assert client is not None
    match client.grant:
        case "client_credentials":
            await oauth_login.client_login(tokens, client)
        case "device_code":
            await oauth_login.device_login(tokens, client, account.username, _show(quiet), asyncio.sleep)
        case "authorization_code" if paste:
            await oauth_login.pasted_login(tokens, client, account.username, _show(quiet), _ask)
        case "authorization_code":
            await oauth_login.browser_login(tokens, client, account.username, _show(quiet))


def _show(quiet: bool) -> Callable[[str], None]:
    def show(text: str) -> None:
        typer.echo("\n".join(visible(line) for line in text.splitlines()), err=quiet)

    return show


async def _ask(question: str) -> str:
    answer: str = await asyncio.to_thread(typer.prompt, question, err=True)
    return answer
