"""Access tokens for mailboxes (RFC 6749): taken from the database while they are good, renewed by
one process at a time, refused loudly.

What can go wrong: the provider is away (:class:`TokenUnavailable`, tried again), or does not want
us any more (:class:`AccessRefused`, a state that stays until a person signs in or a quarter of an
hour has passed, so that nobody hammers it). No token, secret or address stands in an error or in
the log.

A refresh token that was replaced must not get lost: while a request is on its way nobody is
cancelled, and what came is stored again and again while the database is away. Only a crash between
the provider's answer and the commit can lose it (:mod:`gateway.store.imap.oauth_tokens`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from config.settings import OauthSettings
from gateway import log
from gateway.clock import Clock
from gateway.errors import Rejected, TicketgateError, Unavailable
from gateway.oauth.http import Answer, TokenUnavailable, post
from gateway.store.engine import Database
from gateway.store.imap.oauth_tokens import Granted, Key, StoredToken, TokenRows

SPARE: Final = timedelta(minutes=2)  # a token that ends sooner is renewed first
REFUSED: Final = timedelta(minutes=15)  # so long a refusal is believed
SOON: Final = timedelta(days=7)  # the end of a refresh token is told so long before
LEASE: Final = 30.0  # seconds for renewing; longer than one request and the storing of what it gave
PAUSE: Final = 0.5  # seconds between two looks at what another process renews
LOOKS: Final = 120
STORING: Final = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts to store what a provider gave
_DESCRIPTION: Final = 300
_PASSING: Final = frozenset(
    {
        "temporarily_unavailable",
        "server_error",
        "slow_down",
        "rate_limit_exceeded",
        "internal_failure",
    }
)
_NOBODY: Final = (
    "nobody has signed in to this mailbox yet: run ticketgate channel login with its name"
)

_MICROSOFT: Final = "https://login.microsoftonline.com/{}/oauth2/v2.0/"
_SCOPES: Final = {
    "microsoft": "https://outlook.office.com/IMAP.AccessAsUser.All offline_access",
    "google": "https://mail.google.com/",
    "custom": "",
}
_ADVICE: Final = {
    "invalid_grant": "access was revoked or has ended: sign in again with ticketgate channel login",
    "invalid_client": (
        "the provider does not know this client or its secret, which may have ended: check "
        "client_id and client_secret in [[oauth]]"
    ),
    "unauthorized_client": (
        "this client may not ask for this: check grant and tenant in [[oauth]], and what the "
        "provider lets it do"
    ),
    "invalid_scope": "this client may not ask for this scope: check scope in [[oauth]]",
    "access_denied": "access was denied",
}
_log = log.logger("oauth")


class AccessRefused(Rejected):
    """A person has to act before this mailbox can be read."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider is asked for what; "" where that is not known."""

    authorize: str
    device: str
    token: str


def endpoints(client: OauthSettings) -> Endpoints:
    """The addresses of the client's provider, each as the configuration says where it does."""
    match client.provider:
        case "microsoft":
            base = _MICROSOFT.format(quote(client.tenant or "organizations", safe=""))
            known = Endpoints(f"{base}authorize", f"{base}devicecode", f"{base}token")
        case "google":
            known = Endpoints(
                "https://accounts.google.com/o/oauth2/v2/auth",
                "https://oauth2.googleapis.com/device/code",
                "https://oauth2.googleapis.com/token",
            )
        case "custom":
            known = Endpoints("", "", "")
    return Endpoints(
        client.authorize_url or known.authorize,
        client.device_url or known.device,
        client.token_url or known.token,
    )


def scope(client: OauthSettings) -> str:
    """What is asked for: the configured scope, else what reading mail needs."""
    if client.scope:
        return client.scope
    if client.provider == "microsoft" and client.grant == "client_credentials":
        return "https://outlook.office365.com/.default"
    return _SCOPES[client.provider]


def form(client: OauthSettings, **fields: str) -> dict[str, str]:
    """What is posted: who asks, and the fields that are not empty."""
    whole = {
        "client_id": client.client_id,
        "client_secret": client.client_secret.get_secret_value(),
        **fields,
    }
    return {name: value for name, value in whole.items() if value}


def own_form(client: OauthSettings) -> dict[str, str]:
    """What a client posts that acts for itself."""
    return form(client, grant_type="client_credentials", scope=scope(client))


class Tokens:
    """The tokens of one process, in the database that all share. ``pause`` waits the seconds it is
    given.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """One object a process, for the lease does not keep two of them apart."""
        self.rows = TokenRows(database)
        self.clock = clock
        self._pause = pause
        self._running: dict[Key, asyncio.Task[str | None]] = {}
        self._not_before: dict[str, datetime] = {}  # of a client whose provider asked for patience

    async def access_token(
        self, client: OauthSettings, account: str, *, refused: str | None = None
    ) -> str:
        """A token that is good for some minutes at least. ``refused`` is one that the mail server
        did not accept: another is wanted.

        Raises AccessRefused, TokenUnavailable or StoreUnavailable. Who is cancelled while a request
        is on its way waits for its end.
        """
        key, given = key_of(client, account), False
        for _ in range(LOOKS):
            row = await self.rows.get(key)
            if (token := self._good(row, refused)) is not None:
                return token
            self._raise_refusal(client, row)
            renewed = await _finished(self._renewal(client, key, refused))
            if renewed is not None and (
                renewed != refused or given
            ):  # a provider may give the same one again: it is asked twice then, not for ever
                return renewed
            given = renewed is not None
            await self._pause(PAUSE)
        raise TokenUnavailable("another process has been renewing the access for too long")

    def _renewal(
        self, client: OauthSettings, key: Key, refused: str | None
    ) -> asyncio.Task[str | None]:
        """The renewal that is under way for this account, begun where there is none."""
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(
                self._renew(client, key, refused), name=f"token {client.name}"
            )
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return running

    async def _renew(self, client: OauthSettings, key: Key, refused: str | None) -> str | None:
        """A new token, or one that was renewed since the last look; None where the row has to be
        looked at again.
        """
        now = self.clock.now()
        if (until := self._not_before.get(client.name, now)) > now:
            raise TokenUnavailable(
                f"the provider wants to be left alone until {until:%H:%M:%S} UTC",
                (until - now).total_seconds(),
            )
        row = await self.rows.lease(key, LEASE, now)
        if row is None:
            return None
        try:
            token = self._good(row, refused)
            if token is None:
                self._raise_refusal(client, row)
                return await self._ask(client, key, row)
        except TicketgateError as error:
            if isinstance(error, TokenUnavailable):
                self._not_before[client.name] = self.clock.now() + timedelta(seconds=error.after)
            await self._give_back(key)
            raise
        await self._give_back(key)
        return token

    async def _ask(self, client: OauthSettings, key: Key, row: StoredToken) -> str | None:
        """Asks the provider, with no transaction open, and keeps what it gives; None where somebody
        signed in meanwhile.
        """
        own = client.grant == "client_credentials"
        posted = (
            own_form(client)
            if own
            else form(client, grant_type="refresh_token", refresh_token=row.refresh_token or "")
        )
        try:
            granted = self._granted(await post(endpoints(client).token, posted), posted)
        except AccessRefused as error:
            if not await self.rows.refused(key, row.refresh_token, error.message, self.clock.now()):
                return None
            _log.error(
                "access refused", client=log.redact(client.name), reason=log.redact(error.message)
            )
            raise
        if not await self._stored(lambda: self.rows.renewed(key, row.refresh_token, granted)):
            return None
        _log.info(
            "access renewed", client=log.redact(client.name), until=granted.access_until.isoformat()
        )
        return granted.access_token

    async def _stored(self, store: Callable[[], Awaitable[bool]]) -> bool:
        """Stores what cannot be asked for a second time, with some patience for the database."""
        for seconds in STORING:
            try:
                return await store()
            except Unavailable as error:
                _log.warning("access cannot be stored", **log.error_fields(error))
            await self._pause(seconds)
        return await store()

    async def _give_back(self, key: Key) -> None:
        with contextlib.suppress(Unavailable):  # then it runs out
            await self.rows.release(key)

    def _good(self, row: StoredToken | None, refused: str | None) -> str | None:
        if (
            row is None
            or row.access_token is None
            or row.access_until is None
            or row.access_token == refused
        ):
            return None
        return row.access_token if row.access_until - self.clock.now() >= SPARE else None

    def _raise_refusal(self, client: OauthSettings, row: StoredToken | None) -> None:
        if (
            row is not None
            and row.refused_at is not None
            and self.clock.now() - row.refused_at < REFUSED
        ):
            raise AccessRefused(row.problem or "the provider refuses us")
        if client.grant != "client_credentials" and (row is None or row.refresh_token is None):
            raise AccessRefused(_NOBODY)

    def _granted(self, answer: Answer, posted: Mapping[str, str]) -> Granted:
        """What a good answer gives; AccessRefused or TokenUnavailable where it is none."""
        document = accepted(answer, posted)
        token, refresh = document.get("access_token"), document.get("refresh_token")
        if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
            raise TokenUnavailable("the provider sent no access token")
        now = self.clock.now()
        ends = _seconds(
            document.get("refresh_token_expires_in", document.get("refresh_expires_in")), 0
        )
        return Granted(
            token,
            now + timedelta(seconds=_seconds(document.get("expires_in"), 3600)),
            refresh if isinstance(refresh, str) and refresh else None,
            now + timedelta(seconds=ends) if ends else None,
        )

    async def sign_in(
        self, client: OauthSettings, account: str, posted: Mapping[str, str], answer: Answer
    ) -> None:
        """Keeps what the provider gave to a person who agreed, and forgets what was refused before.
        Nothing is stored where it gave nothing lasting.
        """
        granted = self._granted(answer, posted)
        if client.grant != "client_credentials" and granted.refresh_token is None:
            raise AccessRefused(
                "the provider gave access for a short time only (no refresh token): check that "
                "scope asks for offline access"
            )

        async def store() -> bool:
            await self.rows.signed_in(key_of(client, account), granted, self.clock.now())
            return True

        await self._stored(store)
        _log.info(
            "signed in",
            client=log.redact(client.name),
            account=log.address(account),
            until=granted.access_until.isoformat(),
        )

    async def problem(self, client: OauthSettings, account: str) -> str | None:
        """What a person should know about the access to this mailbox: that it is refused, or soon
        will be.
        """
        row = await self.rows.get(key_of(client, account))
        if row is not None and row.problem is not None:
            return row.problem
        if client.grant == "client_credentials":
            return None
        if row is None or row.refresh_token is None:
            return _NOBODY
        if row.refresh_until is not None and row.refresh_until - self.clock.now() < SOON:
            return (
                f"access ends on {row.refresh_until:%Y-%m-%d %H:%M} UTC: sign in again with "
                "ticketgate channel login"
            )
        return None

    async def stored(self, client: OauthSettings, account: str) -> StoredToken | None:
        """What is known of this account, None where nobody has signed in."""
        return await self.rows.get(key_of(client, account))


async def _finished(running: asyncio.Task[str | None]) -> str | None:
    """The result of a task that many wait for: none of them cancels it, and one that is cancelled
    leaves when it is over.
    """
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if not running.done():
            await asyncio.wait({running})
        raise


def key_of(client: OauthSettings, account: str) -> Key:
    """The row of an account. A client that acts for itself has one token for all its mailboxes."""
    return client.name, "" if client.grant == "client_credentials" else account


def accepted(answer: Answer, posted: Mapping[str, str]) -> Mapping[str, Any]:
    """The object of a good answer; AccessRefused with what the provider says, TokenUnavailable
    where that may pass.
    """
    error = answer.document.get("error")
    if answer.status < 400 and error is None:
        return answer.document
    if not isinstance(error, str) or not error:
        raise TokenUnavailable(
            f"the provider refuses without a reason (HTTP {answer.status}); is this its token "
            "endpoint?"
        )
    said = ": ".join(
        filter(
            None,
            (cleaned(error, posted), cleaned(answer.document.get("error_description"), posted)),
        )
    )
    if error in _PASSING:
        raise TokenUnavailable(f"the provider asks for patience ({said})")
    raise AccessRefused(f"{_ADVICE.get(error, 'the provider refuses us')} (it says {said})")


def cleaned(value: object, posted: Mapping[str, str]) -> str:
    """What a provider says as one line that can be shown: nothing of what it was told in secret, no
    address, no control characters.
    """
    if not isinstance(value, str):
        return ""
    for name in posted.keys() - {"client_id", "grant_type", "scope", "redirect_uri"}:
        value = value.replace(posted[name], "***")
    return log.redact(
        "".join(each if each.isprintable() else " " for each in value[: 4 * _DESCRIPTION])
    )[:_DESCRIPTION].strip()


def _seconds(value: object, otherwise: int) -> int:
    try:
        # a number, a string of digits as some send, or anything else
        seconds = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return int(seconds) if 0 < seconds < 10**9 else otherwise
