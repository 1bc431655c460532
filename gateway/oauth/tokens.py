"""Access tokens for mailboxes (RFC 6749): kept in the database, renewed by one process at a time.

Raises :class:`TokenUnavailable` if a provider is away (try again), and :class:`AccessRefused` if it
refuses. After a refusal, the provider is not asked for 15 minutes or until somebody signs in, so
that it is not flooded. No error or log line holds a token, a secret or an address.

A provider may replace the refresh token, and the new one must not get lost. So a request in
progress is never cancelled, and its result is stored with retries while the database is away. Only
a crash between the provider's answer and the commit can lose it
(:mod:`gateway.store.imap.oauth_tokens`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from config.settings import OauthSettings
from gateway import log
from gateway.clock import Clock
from gateway.errors import Rejected, Unavailable
from gateway.oauth.http import Answer, TokenUnavailable, post
from gateway.oauth.providers import endpoints, scope
from gateway.store.engine import Database
from gateway.store.imap.oauth_tokens import Granted, Key, StoredToken, TokenRows

MIN_VALIDITY: Final = timedelta(minutes=2)  # a token that ends sooner is renewed first
REFUSAL_HOLDS: Final = timedelta(minutes=15)  # before the provider is asked again
EXPIRY_WARNING: Final = timedelta(days=7)  # before a refresh token ends
LEASE_SECONDS: Final = 30.0  # longer than one request and storing its result
POLL_SECONDS: Final = 0.5  # between checks of a renewal by another process
MAX_POLLS: Final = 120
STORE_RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 4.0)
_DESCRIPTION_LENGTH: Final = 300
_TEMPORARY_ERRORS: Final = frozenset(
    {
        "temporarily_unavailable",
        "server_error",
        "slow_down",
        "rate_limit_exceeded",
        "internal_failure",
    }
)
_NOT_SIGNED_IN: Final = (
    "nobody has signed in to this mailbox yet: run ticketgate channel login with its name"
)

_ADVICE: Final = {
    "invalid_grant": (
        "access was revoked or has expired: sign in again with ticketgate channel login"
    ),
    "invalid_client": (
        "the provider does not accept this client or its secret, which may have expired: check "
        "client_id and client_secret in [[oauth]]"
    ),
    "unauthorized_client": (
        "this client is not allowed to do this: check grant and tenant in [[oauth]], and the "
        "client's permissions at the provider"
    ),
    "invalid_scope": "this client is not allowed this scope: check scope in [[oauth]]",
    "access_denied": "access was denied",
}
_log = log.logger("oauth")


class AccessRefused(Rejected):
    """The provider refuses access until a person acts, for example signs in again."""


def request_form(client: OauthSettings, **fields: str) -> dict[str, str]:
    """Return the form to post: the client's credentials and the fields that are not empty."""
    fields = {
        "client_id": client.client_id,
        "client_secret": client.client_secret.get_secret_value(),
        **fields,
    }
    return {name: value for name, value in fields.items() if value}


def client_credentials_form(client: OauthSettings) -> dict[str, str]:
    """Return the form to post with grant ``client_credentials``."""
    return request_form(client, grant_type="client_credentials", scope=scope(client))


class Tokens:
    """The access tokens that one process uses; the database holds them for all processes."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make the object; a process may have only one, since leases belong to the process.

        ``pause`` sleeps for a number of seconds.
        """
        self.rows = TokenRows(database)
        self.clock = clock
        self._pause = pause
        self._running: dict[Key, asyncio.Task[str | None]] = {}
        self._not_before: dict[str, datetime] = {}  # by client, as its provider asked

    async def access_token(
        self, client: OauthSettings, account: str, *, refused: str | None = None
    ) -> str:
        """Return a token that stays valid for some minutes at least.

        ``refused`` is a token that the mail server did not accept; a different token is returned.
        Raises AccessRefused, TokenUnavailable or StoreUnavailable. If the caller is cancelled, this
        waits until a request in progress has ended.
        """
        key, renewed_before = key_of(client, account), False
        for _ in range(MAX_POLLS):
            row = await self.rows.get(key)
            if (token := self._valid_token(row, refused)) is not None:
                return token
            self._raise_refusal(client, row)
            renewed = await _result(self._renewal(client, key, refused))
            # A provider may give the refused token again: ask twice then, not for ever.
            if renewed is not None and (renewed != refused or renewed_before):
                return renewed
            renewed_before = renewed is not None
            await self._pause(POLL_SECONDS)
        raise TokenUnavailable("another process is taking too long to renew the access")

    def _renewal(
        self, client: OauthSettings, key: Key, refused: str | None
    ) -> asyncio.Task[str | None]:
        """Return the renewal in progress for this account; start one if there is none."""
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(
                self._renew(client, key, refused), name=f"token {client.name}"
            )
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return running

    async def _renew(self, client: OauthSettings, key: Key, refused: str | None) -> str | None:
        """Return a new token, even one that another process has renewed.

        Returns None if the caller should read the row again.
        """
        now = self.clock.now()
        if (until := self._not_before.get(client.name, now)) > now:
            raise TokenUnavailable(
                f"the provider accepts no requests before {until:%H:%M:%S} UTC",
                (until - now).total_seconds(),
            )
        row = await self.rows.lease(key, LEASE_SECONDS, now)
        if row is None:
            return None
        try:
            token = self._valid_token(row, refused)
            if token is None:
                self._raise_refusal(client, row)
                return await self._request_token(client, key, row)
        except (Rejected, Unavailable) as error:
            if isinstance(error, TokenUnavailable):
                self._not_before[client.name] = self.clock.now() + timedelta(seconds=error.after)
            await self._release(key)
            raise
        await self._release(key)
        return token

    async def _request_token(self, client: OauthSettings, key: Key, row: StoredToken) -> str | None:
        """Ask the provider for a token, outside any transaction, and store its answer.

        Returns None if somebody signed in meanwhile.
        """
        own = client.grant == "client_credentials"
        posted = (
            client_credentials_form(client)
            if own
            else request_form(
                client, grant_type="refresh_token", refresh_token=row.refresh_token or ""
            )
        )
        try:
            granted = self._parse_grant(await post(endpoints(client).token, posted), posted)
        except AccessRefused as error:
            if not await self.rows.refused(key, row.refresh_token, error.message, self.clock.now()):
                return None
            _log.error(
                "access refused", client=log.redact(client.name), reason=log.redact(error.message)
            )
            raise
        if not await self._store_with_retries(
            lambda: self.rows.renewed(key, row.refresh_token, granted)
        ):
            return None
        _log.info(
            "access renewed", client=log.redact(client.name), until=granted.access_until.isoformat()
        )
        return granted.access_token

    async def _store_with_retries(self, store: Callable[[], Awaitable[bool]]) -> bool:
        """Call ``store`` with several retries, since a provider gives a refresh token only once."""
        for seconds in STORE_RETRY_SECONDS:
            try:
                return await store()
            except Unavailable as error:
                _log.warning("new tokens cannot be stored", **log.error_fields(error))
            await self._pause(seconds)
        return await store()

    async def _release(self, key: Key) -> None:
        with contextlib.suppress(Unavailable):  # the lease expires by itself
            await self.rows.release(key)

    def _valid_token(self, row: StoredToken | None, refused: str | None) -> str | None:
        """Return the stored token; None if it expires soon or the mail server ``refused`` it."""
        if row is None or row.access_until is None or row.access_token in {None, refused}:
            return None
        return row.access_token if row.access_until - self.clock.now() >= MIN_VALIDITY else None

    def _raise_refusal(self, client: OauthSettings, row: StoredToken | None) -> None:
        """Raise AccessRefused if the provider refused a short time ago, or nobody has signed in."""
        now = self.clock.now()
        if row is not None and row.refused_at is not None and now - row.refused_at < REFUSAL_HOLDS:
            raise AccessRefused(row.problem or "the provider refuses access")
        if client.grant != "client_credentials" and (row is None or row.refresh_token is None):
            raise AccessRefused(_NOT_SIGNED_IN)

    def _parse_grant(self, answer: Answer, posted: Mapping[str, str]) -> Granted:
        """Return the tokens of a good answer; else raise AccessRefused or TokenUnavailable."""
        document = checked_document(answer, posted)
        token, refresh = document.get("access_token"), document.get("refresh_token")
        if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
            raise TokenUnavailable("the provider sent no access token")
        now = self.clock.now()
        ends = _positive_seconds(
            document.get("refresh_token_expires_in", document.get("refresh_expires_in")), 0
        )
        return Granted(
            token,
            now + timedelta(seconds=_positive_seconds(document.get("expires_in"), 3600)),
            refresh if isinstance(refresh, str) and refresh else None,
            now + timedelta(seconds=ends) if ends else None,
        )

    async def sign_in(
        self, client: OauthSettings, account: str, posted: Mapping[str, str], answer: Answer
    ) -> None:
        """Store the tokens of a sign-in, and clear earlier refusals.

        Raises AccessRefused, and stores nothing, if the provider gave no refresh token and so no
        lasting access.
        """
        granted = self._parse_grant(answer, posted)
        if client.grant != "client_credentials" and granted.refresh_token is None:
            raise AccessRefused(
                "the provider gave access for a short time only (no refresh token): check that "
                "scope asks for offline access"
            )

        async def store() -> bool:
            await self.rows.signed_in(key_of(client, account), granted, self.clock.now())
            return True

        await self._store_with_retries(store)
        _log.info(
            "signed in",
            client=log.redact(client.name),
            account=log.address(account),
            until=granted.access_until.isoformat(),
        )

    async def problem(self, client: OauthSettings, account: str) -> str | None:
        """Return a message if access is refused or will end soon; None if all is well."""
        row = await self.rows.get(key_of(client, account))
        if row is not None and row.problem is not None:
            return row.problem
        if client.grant == "client_credentials":
            return None
        if row is None or row.refresh_token is None:
            return _NOT_SIGNED_IN
        if row.refresh_until is not None and row.refresh_until - self.clock.now() < EXPIRY_WARNING:
            return (
                f"access ends on {row.refresh_until:%Y-%m-%d %H:%M} UTC: sign in again with "
                "ticketgate channel login"
            )
        return None

    async def stored(self, client: OauthSettings, account: str) -> StoredToken | None:
        """Return what is stored for this account; None if nobody has signed in."""
        return await self.rows.get(key_of(client, account))


async def _result(running: asyncio.Task[str | None]) -> str | None:
    """Return the result of a shared task; if cancelled, first wait until the task has ended."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if not running.done():
            await asyncio.wait({running})
        raise


def key_of(client: OauthSettings, account: str) -> Key:
    """Return the key of an account's row.

    With ``client_credentials`` all accounts of a client share one row.
    """
    return client.name, "" if client.grant == "client_credentials" else account


def checked_document(answer: Answer, posted: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the JSON object of an answer that is no error.

    For an error, raises AccessRefused with the provider's words, or TokenUnavailable if the error
    is temporary.
    """
    error = answer.document.get("error")
    if answer.status < 400 and error is None:
        return answer.document
    if not isinstance(error, str) or not error:
        raise TokenUnavailable(
            f"the provider refuses without a reason (HTTP {answer.status}); check token_url"
        )
    shown = shown_error(answer.document, posted)
    if error in _TEMPORARY_ERRORS:
        raise TokenUnavailable(f"the provider asks to try again later ({shown})")
    raise AccessRefused(f"{_ADVICE.get(error, 'the provider refuses access')} (it says {shown})")


def shown_error(document: Mapping[str, Any], posted: Mapping[str, str]) -> str:
    """Return a provider's error and its description as one line, with secrets removed."""
    words = (printable(document.get(name), posted) for name in ("error", "error_description"))
    return ": ".join(filter(None, words))


def printable(value: object, posted: Mapping[str, str]) -> str:
    """Return a provider's text as one line without secrets, addresses or control characters."""
    if not isinstance(value, str):
        return ""
    for name in posted.keys() - {"client_id", "grant_type", "scope", "redirect_uri"}:
        value = value.replace(posted[name], "***")
    shown = "".join(c if c.isprintable() else " " for c in value[: 4 * _DESCRIPTION_LENGTH])
    return log.redact(shown)[:_DESCRIPTION_LENGTH].strip()


def _positive_seconds(value: object, otherwise: int) -> int:
    try:
        # Some providers send a number as text.
        seconds = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return int(seconds) if 0 < seconds < 10**9 else otherwise
