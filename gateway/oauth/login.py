"""Sign in to a mailbox: by a code entered on any device, or in a browser on this machine.

The standards are RFC 8628 (code), RFC 8252 and RFC 7636 (browser). Raises :class:`AccessRefused` if
the user declines or waits too long, or if the answer belongs to another request. Then the stored
tokens stay as they were.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from config.settings import OauthSettings
from gateway.oauth.http import Answer, TokenUnavailable, listen_for_redirect, post
from gateway.oauth.providers import PROVIDERS, endpoints, scope
from gateway.oauth.tokens import (
    AccessRefused,
    Tokens,
    checked_document,
    client_credentials_form,
    request_form,
    shown_error,
)

# A browser on another machine is sent here; nothing listens, and the user copies the address.
UNREACHABLE_REDIRECT: Final = "http://localhost:8400"
_POLL_SECONDS: Final = 5.0  # unless the provider asks for another interval (RFC 8628, 3.2)
_MAX_CODE_SECONDS: Final = 1800.0
_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
Show = Callable[[str], None]


async def client_login(tokens: Tokens, client: OauthSettings) -> None:
    """Sign in with grant ``client_credentials``, which needs no user."""
    posted = client_credentials_form(client)
    await tokens.sign_in(client, "", posted, await post(endpoints(client).token, posted))


async def device_login(
    tokens: Tokens,
    client: OauthSettings,
    account: str,
    show: Show,
    pause: Callable[[float], Awaitable[None]],
) -> None:
    """Show an address and a code, and wait until the user has entered the code at that address."""
    posted = request_form(client, scope=scope(client))
    device = checked_document(await post(endpoints(client).device, posted), posted)
    code, user_code = device.get("device_code"), device.get("user_code")
    # Google still uses the name from before the standard.
    address = device.get("verification_uri", device.get("verification_url"))
    if not all(isinstance(each, str) and each for each in (code, user_code, address)):
        raise TokenUnavailable("the provider sent no code; check device_url")
    show(f"Open {address} in a browser, sign in as {account}, and type in the code {user_code}")
    posted = request_form(client, grant_type=_DEVICE_GRANT, device_code=str(code))
    await tokens.sign_in(
        client, account, posted, await _poll_for_token(client, posted, device, pause)
    )


async def _poll_for_token(
    client: OauthSettings,
    posted: Mapping[str, str],
    device: Mapping[str, Any],
    pause: Callable[[float], Awaitable[None]],
) -> Answer:
    """Ask for the token at the interval the provider wants; return its final answer."""
    interval = _positive(device.get("interval"), _POLL_SECONDS)
    left = min(_positive(device.get("expires_in"), _MAX_CODE_SECONDS), _MAX_CODE_SECONDS)
    last_error: TokenUnavailable | None = None
    while left > 0:
        await pause(interval)
        left -= interval
        try:
            answer = await post(endpoints(client).token, posted)
        except TokenUnavailable as error:
            last_error = error
            interval = max(2 * interval, error.after)  # RFC 8628, 3.5
            continue
        last_error = None
        match answer.document.get("error"):
            case "authorization_pending":
                continue
            case "slow_down":
                interval += _POLL_SECONDS
            case "expired_token":
                break
            case _:
                return answer
    raise last_error or AccessRefused("the code was not entered in time: begin again")


async def browser_login(tokens: Tokens, client: OauthSettings, account: str, show: Show) -> None:
    """Show the address to sign in at; wait until the provider redirects the browser to us."""
    redirect = urlsplit(client.redirect_url)
    host = redirect.hostname or PROVIDERS[client.provider].loopback
    state = _secret()
    async with listen_for_redirect(host, redirect.port or 0, redirect.path, state) as listener:
        request = AuthorizationRequest(client, account, client.redirect_url or listener.url, state)
        show(
            "Open this address in a browser on this machine and sign in as "
            f"{account}:\n{request.url}"
        )
        await request.exchange(tokens, await listener.query())


class AuthorizationRequest:
    """A request for an authorization code, with the secrets that tie the answer to it.

    ``url`` is the address that the user opens.
    """

    def __init__(
        self, client: OauthSettings, account: str, redirect: str = "", state: str = ""
    ) -> None:
        """Take the ``redirect`` address of our listener; "" for a browser on another machine."""
        self._client, self._account = client, account
        self._redirect = redirect or client.redirect_url or UNREACHABLE_REDIRECT
        self._state, self._verifier = state or _secret(), _secret()
        challenge = urlsafe_b64encode(sha256(self._verifier.encode()).digest()).decode().rstrip("=")
        parameters = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": self._redirect,
            "scope": scope(client),
            "state": self._state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "login_hint": account,
        }
        parameters |= PROVIDERS[client.provider].authorize_parameters
        address = endpoints(client).authorize
        query = urlencode({name: value for name, value in parameters.items() if value})
        self.url = f"{address}{'&' if '?' in address else '?'}{query}"

    async def exchange_pasted(self, tokens: Tokens, address: str) -> None:
        """Get tokens for the code in the address that the user pasted; store the tokens."""
        try:
            query = urlsplit(address.strip()).query
        except ValueError:
            query = ""
        await self.exchange(tokens, dict(parse_qsl(query)))

    async def exchange(self, tokens: Tokens, query: Mapping[str, str]) -> None:
        """Exchange the code in the query for tokens, and store the tokens."""
        if not secrets.compare_digest(query.get("state", "").encode(), self._state.encode()):
            raise AccessRefused("the browser returned no answer to this sign-in: begin again")
        if "code" not in query:
            shown = shown_error(query, {}) or "nothing"
            raise AccessRefused(f"access was not given (the provider says {shown})")
        posted = request_form(
            self._client,
            grant_type="authorization_code",
            code=query["code"],
            redirect_uri=self._redirect,
            code_verifier=self._verifier,
        )
        await tokens.sign_in(
            self._client, self._account, posted, await post(endpoints(self._client).token, posted)
        )


def _secret() -> str:
    """Return 64 characters that nobody can guess, enough for a verifier (RFC 7636, 4.1)."""
    return secrets.token_urlsafe(48)


def _positive(value: object, otherwise: float) -> float:
    return (
        float(value)
        if isinstance(value, int | float) and 0 < value <= _MAX_CODE_SECONDS
        else otherwise
    )
