"""The outbox as the configuration wants it: which smarthost, who we are there, and whether mail is
signed.
"""

from __future__ import annotations

import socket

from config.settings import Settings
from gateway.clock import Clock
from gateway.oauth.tokens import Tokens
from gateway.outbox.signing import Signer
from gateway.outbox.submit import Smarthost, SmarthostServer, TokenSource
from gateway.outbox.worker import Outbox
from gateway.store.engine import Database


def open_outbox(settings: Settings, database: Database, clock: Clock) -> Outbox:
    """The outbox; without a host mail waits in it. ConfigError for a key that cannot be used."""
    given = settings.outbound
    if not given.host:
        return Outbox(database, None, None, clock)
    client = next((each for each in settings.oauth if each.name == given.oauth), None)
    token: TokenSource | None = None
    if client is not None:
        tokens, known = Tokens(database, clock), client

        async def access(refused: str | None) -> str:
            return await tokens.access_token(known, given.username, refused=refused)

        token = access
    hostname = settings.smtp.hostname or socket.gethostname() or "localhost"
    server = SmarthostServer(
        given.host,
        given.port,
        given.tls,
        given.tls_ca,
        given.username,
        given.password.get_secret_value(),
        token,
        hostname,
    )
    return Outbox(database, Smarthost(server), Signer.of(given), clock)
