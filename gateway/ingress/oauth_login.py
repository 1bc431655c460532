"""A person lets us into a mailbox: by a code typed in at another device (RFC 8628), or in a browser that comes back to this machine (RFC 8252, 7636).

What can go wrong: the person says no, waits too long, or comes back with an answer to another question. Each is an :class:`AccessRefused` with a plain
sentence; nothing is stored then, and what was good before stays.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from config.settings import Oauth
from gateway.ingress.oauth import AccessRefused, Tokens, accepted, endpoints, identity, key_of, scope
from gateway.ingress.oauth_http import TokenUnavailable, post, visit

_INTERVAL: Final = 5  # seconds between two questions where the provider says nothing (RFC 8628 section 3.2)
_LONGEST: Final = 1800  # seconds for which a code is good, at most
Show = Callable[[str], None]
Ask = Callable[[str], Awaitable[str]]


async def client_login(tokens: Tokens, client: Oauth) -> None:
    """A client that acts for itself: whether the provider lets it."""
    form = {**identity(client), "grant_type": "client_credentials", "scope": scope(client)}
    await _keep(tokens, client, "", form)


async def device_login(tokens: Tokens, client: Oauth, account: str, show: Show, pause: Callable[[float], Awaitable[None]]) -> None:
    """Shows address and code, and waits until the person has typed it in."""
    asked = await post(endpoints(client).device, {**identity(client), "scope": scope(client)})
    told = accepted(asked)
    code, user_code = told.get("device_code"), told.get("user_code")
    address = told.get("verification_uri", told.get("verification_url"))  # Google's word is older than the standard
    if not all(isinstance(each, str) and each for each in (code, user_code, address)):
        raise TokenUnavailable("the provider sent no code; is device_url right?")
    show(f"Open {address} in a browser, sign in as {account}, and type in the code {user_code}")
    interval = _whole(told.get("interval"), _INTERVAL)
    left = min(_whole(told.get("expires_in"), _LONGEST), _LONGEST)
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    form = {**identity(client), "grant_type": grant, "device_code": str(code)}
    while left > 0:
        await pause(interval)
        left -= interval
        answer = await post(endpoints(client).token, form)
        match answer.document.get("error"):
            case "authorization_pending":
                continue
            case "slow_down":
                interval += _INTERVAL
            case "expired_token":
                break
            case _:
                await tokens.keep(client, key_of(client, account), answer, signed_in=True)
                return
    raise AccessRefused("nobody has typed in the code in time; begin again")


async def browser_login(tokens: Tokens, client: Oauth, account: str, show: Show) -> None:
    """Shows an address, and waits for the browser to come back from it."""
    redirect = urlsplit(client.redirect_url)
    host = redirect.hostname or (
        "localhost" if client.provider == "microsoft" else "127.0.0.1"
    )  # the one that Microsoft lets have any port
    async with visit(host, redirect.port or 0, redirect.path) as expected:
        question = _Question(client, account, client.redirect_url or expected.url)
        show(f"Open this address in a browser on this machine and sign in as {account}:\n{question.url}")
        await question.exchange(tokens, await expected.query())


async def pasted_login(tokens: Tokens, client: Oauth, account: str, show: Show, ask: Ask) -> None:
    """The same for a browser on another machine: the address that it cannot open at the end is pasted."""
    question = _Question(client, account, client.redirect_url or "http://localhost:8400")
    show(f"Open this address in a browser and sign in as {account}:\n{question.url}")
    given = await ask("The browser will end at a page it cannot open. Paste that page's address here")
    await question.exchange(tokens, dict(parse_qsl(urlsplit(given.strip()).query)))


class _Question:
    """One request for a code, with what proves that the answer belongs to it."""

    def __init__(self, client: Oauth, account: str, redirect: str) -> None:
        self._client, self._account, self._redirect = client, account, redirect
        self._state, self._verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        challenge = urlsafe_b64encode(sha256(self._verifier.encode()).digest()).decode().rstrip("=")
        wanted = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": redirect,
            "scope": scope(client),
            "state": self._state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "login_hint": account,
        }
        if client.provider == "google":
            wanted |= {"access_type": "offline", "prompt": "consent"}  # else no refresh token the second time
        address = endpoints(client).authorize
        self.url = f"{address}{'&' if '?' in address else '?'}{urlencode({name: value for name, value in wanted.items() if value})}"

    async def exchange(self, tokens: Tokens, query: Mapping[str, str]) -> None:
        """The code that came back becomes tokens."""
        if not secrets.compare_digest(query.get("state", "").encode(), self._state.encode()):
            raise AccessRefused("what came back is no answer to this sign-in; begin again")
        if "code" not in query:
            raise AccessRefused(f"access was not given: {''.join(filter(str.isprintable, query.get('error', 'no code came back')))[:100]}")
        form = {
            **identity(self._client),
            "grant_type": "authorization_code",
            "code": query["code"],
            "redirect_uri": self._redirect,
            "code_verifier": self._verifier,
        }
        await _keep(tokens, self._client, self._account, form)


async def _keep(tokens: Tokens, client: Oauth, account: str, form: Mapping[str, str]) -> None:
    answer = await post(endpoints(client).token, {name: value for name, value in form.items() if value})
    await tokens.keep(client, key_of(client, account), answer, signed_in=True)
    if client.grant != "client_credentials" and not isinstance(answer.document.get("refresh_token"), str):
        raise AccessRefused("the provider gave access for an hour only (no refresh token): check that the scope asks for offline access")


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and 0 < value <= _LONGEST else otherwise
