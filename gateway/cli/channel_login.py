"""``ticketgate channel login``: authorise access to a mailbox by OAuth.

Exit codes: 65 when the user or the provider declines, 75 when the provider does not answer, 64 for
an unknown mailbox. After an error or Ctrl-C nothing new is stored, and earlier tokens are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.rules.rights import Right
from gateway.cli.opening import run
from gateway.cli.option_values import As, AsJson, MailboxName
from gateway.cli.output import emit, say
from gateway.daemon.assemble import Installation

if TYPE_CHECKING:
    from config.settings import OauthSettings
    from gateway.ingress.imap.account import ImapAccount
    from gateway.oauth.login import AuthorizationRequest


def login(
    context: typer.Context,
    name: MailboxName,
    paste: Annotated[
        bool,
        typer.Option(
            "--paste",
            help="Use a browser on another machine, then paste the address of its last page.",
        ),
    ] = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Authorise access to a mailbox (OAuth). Mailboxes with a password do not need it."""

    def tell(text: str) -> None:
        say(text, error=as_json)

    for account in run(context, lambda opened: _found(opened, name, as_user)):
        document = (
            _password(account, tell)
            if account.client is None
            else _provider(context, account, account.client, tell, paste=paste)
        )
        if as_json:
            emit(document)


async def _found(opened: Installation, name: str, actor: str | None) -> list[ImapAccount]:
    from gateway.ingress.imap.account import accounts, find_accounts

    await opened.channels(actor).check(Right.MANAGE_CHANNELS)
    return find_accounts(accounts(opened.settings), name)


def _password(account: ImapAccount, tell: Callable[[str], None]) -> dict[str, Any]:
    tell(
        f"{account.name} signs in with a password: nothing to do here. To try it: "
        f"ticketgate channel test {account.name}"
    )
    return _document(account, None, None)


def _provider(
    context: typer.Context,
    account: ImapAccount,
    client: OauthSettings,
    tell: Callable[[str], None],
    *,
    paste: bool,
) -> dict[str, Any]:
    """Log in to one mailbox; prompts come before the event loop starts, so that Ctrl-C works."""
    question, address = None, ""
    if paste and client.grant == "authorization_code":
        from gateway.oauth.login import AuthorizationRequest

        question = AuthorizationRequest(client, account.username)
        tell(f"Open this address in a browser and sign in as {account.username}:\n{question.url}")
        tell("The browser will end at a page that it cannot open.")
        address = typer.prompt("Paste the address of that page here", err=True)

    async def act(opened: Installation) -> Any:
        return await _sign_in(opened, account, client, tell, question, address)

    until = run(context, act)
    tell(f"{account.name}: access granted. To try it: ticketgate channel test {account.name}")
    return _document(account, client.name, until)


async def _sign_in(
    opened: Installation,
    account: ImapAccount,
    client: OauthSettings,
    tell: Callable[[str], None],
    question: AuthorizationRequest | None,
    address: str,
) -> Any:
    from gateway.oauth import login

    opened.start_log()
    tokens = opened.tokens
    match client.grant:
        case "client_credentials":
            await login.client_login(tokens, client)
        case "device_code":
            await login.device_login(tokens, client, account.username, tell, asyncio.sleep)
        case "authorization_code" if question is not None:
            await question.exchange_pasted(tokens, address)
        case "authorization_code":
            await login.browser_login(tokens, client, account.username, tell)
    row = await tokens.stored(client, account.username)
    return row.access_until if row is not None else None


def _document(account: ImapAccount, client: str | None, until: Any) -> dict[str, Any]:
    return {
        "mailbox": account.name,
        "client": client,
        "account": account.username,
        "ok": True,
        "access_until": until,
    }
