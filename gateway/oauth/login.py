"""A person lets us into a mailbox: by a code typed in at another device (RFC 8628), or in a browser
that comes back to this machine (RFC 8252, 7636).

What can go wrong: the person says no, waits too long, or comes back with an answer to another
question. Each is an :class:`AccessRefused` with a plain sentence; nothing is stored then, and what
was good before stays.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from config.settings import OauthSettings
from gateway.oauth.http import Answer, TokenUnavailable, post, visit
from gateway.oauth.tokens import (
    AccessRefused,
    Tokens,
    accepted,
    cleaned,
    endpoints,
    form,
    own_form,
    scope,
)

ELSEWHERE: Final = (
    "http://localhost:8400"  # where a browser on another machine ends; nobody listens there
)
_INTERVAL: Final = (
    5.0  # seconds between two questions where the provider says nothing (RFC 8628, 3.2)
)
_LONGEST: Final = 1800.0  # seconds for which a code is good, at most
_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
Show = Callable[[str], None]


async def client_login(tokens: Tokens, client: OauthSettings) -> None:
    """A client that acts for itself: whether the provider lets it."""
    posted = own_form(client)
    await tokens.sign_in(client, "", posted, await post(endpoints(client).token, posted))


async def device_login(
    tokens: Tokens,
    client: OauthSettings,
    account: str,
    show: Show,
    pause: Callable[[float], Awaitable[None]],
) -> None:
    """Shows address and code, and waits until the person has typed it in."""
    posted = form(client, scope=scope(client))
    told = accepted(await post(endpoints(client).device, posted), posted)
    code, user_code = told.get("device_code"), told.get("user_code")
    address = told.get(
        "verification_uri", told.get("verification_url")
    )  # Google's word is older than the standard
    if not all(isinstance(each, str) and each for each in (code, user_code, address)):
        raise TokenUnavailable("the provider sent no code; is device_url right?")
    show(f"Open {address} in a browser, sign in as {account}, and type in the code {user_code}")
    posted = form(client, grant_type=_DEVICE_GRANT, device_code=str(code))
    await tokens.sign_in(client, account, posted, await _typed_in(client, posted, told, pause))


async def _typed_in(
    client: OauthSettings,
    posted: Mapping[str, str],
    told: Mapping[str, Any],
    pause: Callable[[float], Awaitable[None]],
) -> Answer:
    """Asks in the rhythm the provider wants until it has an answer that is no "not yet"."""
    interval = _positive(told.get("interval"), _INTERVAL)
    left = min(_positive(told.get("expires_in"), _LONGEST), _LONGEST)
    late: TokenUnavailable | None = None
    while left > 0:
        await pause(interval)
        left -= interval
        try:
            answer = await post(endpoints(client).token, posted)
        except TokenUnavailable as error:
            late = error
            interval = max(2 * interval, error.after)  # RFC 8628, 3.5
            continue
        late = None
        match answer.document.get("error"):
            case "authorization_pending":
                continue
            case "slow_down":
                interval += _INTERVAL
            case "expired_token":
                break
            case _:
                return answer
    raise late or AccessRefused("nobody has typed in the code in time: begin again")


async def browser_login(tokens: Tokens, client: OauthSettings, account: str, show: Show) -> None:
    """Shows an address, and waits for the browser to come back from it."""
    redirect = urlsplit(client.redirect_url)
    # Microsoft lets localhost have any port, Google 127.0.0.1
    host = redirect.hostname or ("localhost" if client.provider == "microsoft" else "127.0.0.1")
    state = _secret()
    async with visit(host, redirect.port or 0, redirect.path, state) as expected:
        question = Question(client, account, client.redirect_url or expected.url, state)
        show(
            "Open this address in a browser on this machine and sign in as "
            f"{account}:\n{question.url}"
        )
        await question.exchange(tokens, await expected.query())


class Question:
    """One request for a code, with what proves that the answer belongs to it. ``url`` is what the
    person opens.
    """

    def __init__(
        self, client: OauthSettings, account: str, redirect: str = "", state: str = ""
    ) -> None:
        """``redirect`` is where the browser ends; "" is for a browser on another machine."""
        self._client, self._account = client, account
        self._redirect = redirect or client.redirect_url or ELSEWHERE
        self._state, self._verifier = state or _secret(), _secret()
        challenge = urlsafe_b64encode(sha256(self._verifier.encode()).digest()).decode().rstrip("=")
        wanted = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": self._redirect,
            "scope": scope(client),
            "state": self._state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "login_hint": account,
        }
        if client.provider == "google":
            wanted |= {
                "access_type": "offline",
                "prompt": "consent",
            }  # else no refresh token the second time
        address = endpoints(client).authorize
        self.url = f"{address}{'&' if '?' in address else '?'}{urlencode({name: value for name, value in wanted.items() if value})}"

    async def pasted(self, tokens: Tokens, address: str) -> None:
        """The same as :meth:`exchange`, with the whole address at which the browser ended."""
        try:
            query = urlsplit(address.strip()).query
        except ValueError:
            query = ""
        await self.exchange(tokens, dict(parse_qsl(query)))

    async def exchange(self, tokens: Tokens, query: Mapping[str, str]) -> None:
        """The code that came back becomes tokens."""
        if not secrets.compare_digest(query.get("state", "").encode(), self._state.encode()):
            raise AccessRefused("what came back is no answer to this sign-in: begin again")
        if "code" not in query:
            said = ": ".join(
                filter(
                    None, (cleaned(query.get(name), {}) for name in ("error", "error_description"))
                )
            )
            raise AccessRefused(f"access was not given (the provider says {said or 'nothing'})")
        posted = form(
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
    """64 characters that nobody can guess: enough for a verifier (RFC 7636, 4.1)."""
    return secrets.token_urlsafe(48)


def _positive(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value <= _LONGEST else otherwise
