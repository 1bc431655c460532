"""Access tokens for mailboxes (RFC 6749): taken from the database while they are good, renewed by one process at a time, refused loudly.

What can go wrong: the provider is away (:class:`TokenUnavailable`, tried again), or does not want us any more (:class:`AccessRefused`, a state that stays
until a person signs in or a quarter of an hour has passed, so that nobody hammers it). No token, secret or address stands in an error or in the log.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from config.settings import Oauth
from gateway import log
from gateway.clock import Clock
from gateway.errors import TicketgateError
from gateway.ingress.oauth_http import Answer, TokenUnavailable, post
from gateway.store.engine import Database
from gateway.store.tokens import Key, StoredToken, TokenRows

SPARE: Final = timedelta(minutes=2)  # a token that ends sooner is renewed first
REFUSED: Final = timedelta(minutes=15)  # so long a refusal is believed
SOON: Final = timedelta(days=7)  # the end of a refresh token is told so long before
LEASE: Final = 30.0  # seconds for renewing; longer than one request may take
_PAUSE: Final = 0.5  # seconds between two looks at what another process renews
_LOOKS: Final = 120
_DESCRIPTION: Final = 300
_PASSING: Final = frozenset({"temporarily_unavailable", "server_error", "slow_down"})

_MICROSOFT: Final = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/"
_SCOPES: Final = {
    "microsoft": "https://outlook.office.com/IMAP.AccessAsUser.All offline_access",
    "google": "https://mail.google.com/",
    "custom": "",
}
_log = log.logger("oauth")


class AccessRefused(TicketgateError):
    """A person has to do something before this mailbox can be read: exit 65."""

    exit_code = os.EX_DATAERR


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider is asked for what; "" where that is not known."""

    authorize: str
    device: str
    token: str


def endpoints(client: Oauth) -> Endpoints:
    """The addresses of the client's provider, each as the configuration says where it does."""
    match client.provider:
        case "microsoft":
            base = _MICROSOFT.format(tenant=client.tenant or "organizations")
            known = Endpoints(f"{base}authorize", f"{base}devicecode", f"{base}token")
        case "google":
            known = Endpoints(
                "https://accounts.google.com/o/oauth2/v2/auth",
                "https://oauth2.googleapis.com/device/code",
                "https://oauth2.googleapis.com/token",
            )
        case "custom":
            known = Endpoints("", "", "")
    return Endpoints(client.authorize_url or known.authorize, client.device_url or known.device, client.token_url or known.token)


def scope(client: Oauth) -> str:
    """What is asked for: the configured scope, else what reading mail needs."""
    if client.scope:
        return client.scope
    if client.provider == "microsoft" and client.grant == "client_credentials":
        return "https://outlook.office365.com/.default"
    return _SCOPES[client.provider]


def identity(client: Oauth) -> dict[str, str]:
    """Who asks: the fields of every form."""
    secret = client.client_secret.get_secret_value()
    return {"client_id": client.client_id} | ({"client_secret": secret} if secret else {})


class Tokens:
    """The tokens of one process, in the database that all share. ``pause`` waits the seconds it is given while another process renews."""

    def __init__(self, database: Database, clock: Clock, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.rows = TokenRows(database)
        self.clock = clock
        self._pause = pause
        self._running: dict[Key, asyncio.Task[str]] = {}

    async def access_token(self, client: Oauth, account: str, *, refused: str | None = None) -> str:
        """A token that is good for some minutes at least. ``refused`` is one that the mail server did not accept: another is wanted.

        Raises AccessRefused, TokenUnavailable or StoreUnavailable. Who is cancelled while waiting does not stop the renewal: its result must be kept.
        """
        key = key_of(client, account)
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(self._obtain(client, key, refused), name=f"token {client.name}")
            self._running[key] = running
            running.add_done_callback(lambda ended: self._over(key, ended))
        return await asyncio.shield(running)

    def _over(self, key: Key, ended: asyncio.Task[str]) -> None:
        self._running.pop(key, None)
        if not ended.cancelled():
            ended.exception()  # whoever waited has it; nobody may have

    async def _obtain(self, client: Oauth, key: Key, refused: str | None) -> str:
        for _ in range(_LOOKS):
            row = await self.rows.get(key)
            if (token := self._good(row, refused)) is not None:
                return token
            self._raise_refusal(row, client)
            if await self.rows.lease(key, LEASE, self.clock.now()):
                break
            await self._pause(_PAUSE)
        else:
            raise TokenUnavailable("another process has been renewing the access for too long")
        row = await self.rows.get(key)
        if (token := self._good(row, refused)) is not None:  # renewed between the look and the lease
            await self.rows.release(key)
            return token
        return await self._renew(client, key, row)

    def _good(self, row: StoredToken | None, refused: str | None) -> str | None:
        if row is None or row.access_token is None or row.access_until is None or row.access_token == refused:
            return None
        return row.access_token if row.access_until - self.clock.now() >= SPARE else None

    def _raise_refusal(self, row: StoredToken | None, client: Oauth) -> None:
        if row is not None and row.refused_at is not None and self.clock.now() - row.refused_at < REFUSED:
            raise AccessRefused(row.problem or "the provider refuses us")
        if client.grant != "client_credentials" and (row is None or row.refresh_token is None):
            raise AccessRefused("nobody has signed in to this mailbox yet: ticketgate channel login does that")

    async def _renew(self, client: Oauth, key: Key, row: StoredToken | None) -> str:
        """Asks the provider, with no transaction open, and keeps what it gives."""
        form = {**identity(client), "grant_type": "client_credentials", "scope": scope(client)}
        if client.grant != "client_credentials":
            assert row is not None  # else it would have been refused
            form = {**identity(client), "grant_type": "refresh_token", "refresh_token": row.refresh_token or ""}
        try:
            answer = await post(endpoints(client).token, {name: value for name, value in form.items() if value})
            return await self.keep(client, key, answer, signed_in=False)
        except AccessRefused as error:
            await self.rows.refuse(key, error.message, self.clock.now())
            _log.error("access refused", client=client.name, reason=log.redact(error.message))
            raise
        except TokenUnavailable:
            await self.rows.release(key)
            raise

    async def keep(self, client: Oauth, key: Key, answer: Answer, *, signed_in: bool) -> str:
        """Stores what a provider gave and returns the access token; AccessRefused or TokenUnavailable where it gave none."""
        document = accepted(answer)
        token = document.get("access_token")
        if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
            raise TokenUnavailable("the provider sent no access token")
        now = self.clock.now()
        refresh = document.get("refresh_token")
        until = now + timedelta(seconds=_seconds(document.get("expires_in"), 3600))
        ends = _seconds(document.get("refresh_token_expires_in", document.get("refresh_expires_in")), 0)
        await self.rows.keep(
            key,
            token,
            until,
            refresh if isinstance(refresh, str) and refresh else None,
            now + timedelta(seconds=ends) if ends else None,
            now,
            signed_in=signed_in,
        )
        _log.info("access granted", client=client.name, until=until.isoformat(), signed_in=signed_in)
        return token

    async def problem(self, client: Oauth, account: str) -> str | None:
        """What a person should know about the access to this mailbox: that it is refused, or soon will be."""
        row = await self.rows.get(key_of(client, account))
        if row is not None and row.problem is not None:
            return row.problem
        if client.grant == "client_credentials":
            return None
        if row is None or row.refresh_token is None:
            return "nobody has signed in to this mailbox yet: ticketgate channel login does that"
        if row.refresh_until is not None and row.refresh_until - self.clock.now() < SOON:
            return f"access ends on {row.refresh_until:%Y-%m-%d %H:%M} UTC: sign in again with ticketgate channel login"
        return None

    async def stored(self, client: Oauth, account: str) -> StoredToken | None:
        """What is known of this account, None where nobody has signed in."""
        return await self.rows.get(key_of(client, account))


def key_of(client: Oauth, account: str) -> Key:
    """The row of an account. A client that acts for itself has one token for all its mailboxes."""
    return client.name, "" if client.grant == "client_credentials" else account


def accepted(answer: Answer) -> Mapping[str, Any]:
    """The object of a good answer; AccessRefused with what the provider says, TokenUnavailable where that may pass."""
    error = answer.document.get("error")
    if answer.status < 400 and error is None:
        return answer.document
    said = f"{error} ({description})" if (description := _cleaned(answer.document.get("error_description"))) else f"{_cleaned(error)}"
    if error in _PASSING:
        raise TokenUnavailable(f"the provider asks for patience: {said}")
    advice = {
        "invalid_grant": "access was revoked or has ended: sign in again with ticketgate channel login",
        "invalid_client": "the provider does not know this client or its secret: check client_id and client_secret in [[oauth]]",
        "unauthorized_client": "this client may not ask for this: check grant, tenant and what the provider lets it do",
        "invalid_scope": "this client may not ask for this scope: check scope in [[oauth]]",
        "access_denied": "access was denied",
    }.get(str(error), "the provider refuses us")
    raise AccessRefused(f"{advice}. It says: {said}")


def _cleaned(value: object) -> str:
    """What a provider says, as one line that can be shown."""
    return "".join(each if each.isprintable() else " " for each in value)[:_DESCRIPTION].strip() if isinstance(value, str) else ""


def _seconds(value: object, otherwise: int) -> int:
    try:
        seconds = int(value)  # type: ignore[call-overload]  # a number, a string of digits as some send, or anything else
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return int(seconds) if 0 < seconds < 10**9 else otherwise
