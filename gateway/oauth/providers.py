"""The OAuth providers of mailboxes: endpoints, scopes and special parameters.

To add a provider, name it in ``OauthSettings.provider`` (``config/settings.py``) and describe it in
:data:`PROVIDERS`. Required keys of its configuration are checked in ``config/checks.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from config.settings import OauthSettings


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The URLs of a provider; "" if unknown.

    ``{tenant}`` in a URL is replaced by the tenant of the client.
    """

    authorize: str = ""
    device: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider, with everything that signing in to it needs.

    ``own_scope`` is the scope with grant ``client_credentials``, if it differs from ``scope``.
    ``authorize_parameters`` are added to the address that the user opens.
    ``loopback`` is the host for which the provider accepts any port in ``redirect_uri``.
    """

    endpoints: Endpoints = Endpoints()
    scope: str = ""
    own_scope: str = ""
    authorize_parameters: Mapping[str, str] = field(default_factory=dict)
    loopback: str = "127.0.0.1"


_MICROSOFT: Final = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/"
PROVIDERS: Final[Mapping[str, Provider]] = {
    "microsoft": Provider(
        endpoints=Endpoints(
            authorize=f"{_MICROSOFT}authorize",
            device=f"{_MICROSOFT}devicecode",
            token=f"{_MICROSOFT}token",
        ),
        scope="https://outlook.office.com/IMAP.AccessAsUser.All offline_access",
        own_scope="https://outlook.office365.com/.default",
        loopback="localhost",
    ),
    "google": Provider(
        endpoints=Endpoints(
            authorize="https://accounts.google.com/o/oauth2/v2/auth",
            device="https://oauth2.googleapis.com/device/code",
            token="https://oauth2.googleapis.com/token",  # noqa: S106 - an address, no password
        ),
        scope="https://mail.google.com/",
        # Without these, a user who signs in again gets no refresh token.
        authorize_parameters={"access_type": "offline", "prompt": "consent"},
    ),
    "custom": Provider(),
}


def endpoints(client: OauthSettings) -> Endpoints:
    """Return the endpoints of a client: as configured, or else those of its provider."""
    known = PROVIDERS[client.provider].endpoints
    tenant = quote(client.tenant or "organizations", safe="")
    return Endpoints(
        authorize=client.authorize_url or known.authorize.format(tenant=tenant),
        device=client.device_url or known.device.format(tenant=tenant),
        token=client.token_url or known.token.format(tenant=tenant),
    )


def scope(client: OauthSettings) -> str:
    """Return the scope to ask for: the configured one, or else the provider's scope for mail."""
    provider = PROVIDERS[client.provider]
    if client.scope:
        return client.scope
    own = client.grant == "client_credentials"
    return provider.own_scope if own and provider.own_scope else provider.scope
