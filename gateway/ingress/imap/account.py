"""A configured mailbox and how to sign in to it.

A token that the server refuses is replaced once, since it may have been revoked early; a password
is not tried twice.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from config.checks import folder_of
from config.settings import ImapSettings, OauthSettings, Settings
from gateway import log
from gateway.errors import UsageError
from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connect import ImapServer
from gateway.ingress.imap.connection import LoginRefused
from gateway.oauth.tokens import Tokens


@dataclass(frozen=True, slots=True)
class ImapAccount:
    """One ``[[imap]]`` table with the ``[[oauth]]`` client it names."""

    name: str
    host: str
    port: int
    tls: bool
    tls_ca: str
    username: str = field(repr=False)
    password: str = field(repr=False)
    client: OauthSettings | None
    folder: str
    channel: str
    after: Literal["keep", "seen", "move", "delete"]
    move_to: str
    sent_folder: str = ""

    @property
    def log_name(self) -> str:
        """The name as it may appear in the log."""
        return log.redact(self.name)

    @property
    def place(self) -> str:
        """The account, server (without port) and folder that the UIDs belong to."""
        return f"{self.username}@{self.host.lower()}/{self.folder}"

    def server(self) -> ImapServer:
        """Return the server to connect to; raises OSError if ``tls_ca`` cannot be read."""
        return ImapServer(
            self.host,
            self.port,
            ssl.create_default_context(cafile=self.tls_ca or None) if self.tls else None,
        )

    async def sign_in(self, session: ImapSession, tokens: Tokens) -> None:
        """Sign in, unless the server's greeting says that we are signed in already (PREAUTH).

        Raises LoginRefused or AccessRefused.
        """
        if session.authenticated:
            return
        if self.client is None:
            await session.login(self.username, self.password)
            return
        token = await tokens.access_token(self.client, self.username)
        try:
            await session.bearer(self.username, token)
        except LoginRefused:
            await session.bearer(
                self.username, await tokens.access_token(self.client, self.username, refused=token)
            )


def accounts(settings: Settings) -> list[ImapAccount]:
    """Return the mailboxes of the configuration."""
    clients = {client.name: client for client in settings.oauth}
    return [_account(table, clients.get(table.oauth)) for table in settings.imap]


def _account(table: ImapSettings, client: OauthSettings | None) -> ImapAccount:
    return ImapAccount(
        name=table.name,
        host=table.host,
        port=table.port,
        tls=table.tls,
        tls_ca=table.tls_ca,
        username=table.username,
        password=table.password.get_secret_value(),
        client=client,
        folder=folder_of(table.folder),
        channel=table.channel.strip().lower(),
        after=table.after,
        move_to=folder_of(table.move_to),
        sent_folder=folder_of(table.sent_folder),
    )


def find_accounts(known: Sequence[ImapAccount], name: str) -> list[ImapAccount]:
    """Return the mailbox with this name, or all mailboxes of the channel with this address.

    Raises UsageError if no mailbox fits.
    """
    address = name.strip().lower()
    found = [each for each in known if each.name == name] or [
        each for each in known if each.channel == address
    ]
    if not found:
        names = ", ".join(sorted(each.name for each in known)) or "none"
        raise UsageError(f"no mailbox {name!r} in the configuration; [[imap]] tables: {names}")
    return found
