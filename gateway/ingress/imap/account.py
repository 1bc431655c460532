"""A mailbox of the configuration, and how to sign in to it.

What can go wrong: a password or a token is refused
(:class:`gateway.ingress.imap.connection.LoginRefused`,
:class:`gateway.oauth.tokens.AccessRefused`). A token that the server refuses is replaced once,
since it may have been revoked before its time; a password never.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from config.rules import folder_of
from config.settings import ImapSettings, OauthSettings, Settings
from gateway import log
from gateway.errors import UsageError
from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connect import ImapServer
from gateway.ingress.imap.connection import LoginRefused
from gateway.oauth.tokens import Tokens


@dataclass(frozen=True, slots=True)
class ImapAccount:
    """One ``[[imap]]`` table, with the ``[[oauth]]`` client it names."""

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
    def shown(self) -> str:
        """The name as it may stand in a log."""
        return log.redact(self.name)

    @property
    def place(self) -> str:
        """What the UIDs belong to; the port is only a way there."""
        return f"{self.username}@{self.host.lower()}/{self.folder}"

    def server(self) -> ImapServer:
        """Where to connect. OSError where the file of trusted authorities cannot be read."""
        return ImapServer(
            self.host,
            self.port,
            ssl.create_default_context(cafile=self.tls_ca or None) if self.tls else None,
        )

    async def sign_in(self, session: ImapSession, tokens: Tokens) -> None:
        """Makes the server know who we are."""
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
    """The mailboxes of the configuration."""
    clients = {client.name: client for client in settings.oauth}
    return [_account(table, clients.get(table.oauth)) for table in settings.imap]


def _account(table: ImapSettings, client: OauthSettings | None) -> ImapAccount:
    return ImapAccount(
        table.name,
        table.host,
        table.port,
        table.tls,
        table.tls_ca,
        table.username,
        table.password.get_secret_value(),
        client,
        folder_of(table.folder),
        table.channel.strip().lower(),
        table.after,
        folder_of(table.move_to),
        folder_of(table.sent_folder),
    )


def named(given: Sequence[ImapAccount], name: str) -> list[ImapAccount]:
    """The mailbox of this name, or those of the channel with this address; UsageError where there
    is none.
    """
    found = [each for each in given if each.name == name] or [
        each for each in given if each.channel == name.strip().lower()
    ]
    if not found:
        known = ", ".join(sorted(each.name for each in given)) or "none"
        raise UsageError(f"the configuration has no mailbox {name!r}; [[imap]] tables: {known}")
    return found
