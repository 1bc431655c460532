"""A strict OAuth token server over HTTP (RFC 6749, 7636, 8628, 7662), with faults on demand."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from config.settings import OauthSettings

CLIENT, SECRET, ACCOUNT = "ticketgate-client", "cl1ent-s3cret", "desk@example.org"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Denied(Exception):
    """An error answer of the provider."""

    def __init__(self, error: str, description: str = "", status: int = 400) -> None:
        super().__init__(error)
        self.status = status
        self.document = {"error": error} | (
            {"error_description": description} if description else {}
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as on the wire."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Code:
    """An authorization code or a device code, agreed to or still pending."""

    account: str
    client: str
    redirect: str = ""
    challenge: str = ""
    state: str = "pending"  # of a device code: pending, approved, access_denied, expired_token


@dataclass(slots=True)
class TokenServer:
    """The token server. ``replies`` are used up first, one a request to /token or /device."""

    port: int = 0
    clients: dict[str, str] = field(
        default_factory=lambda: {CLIENT: SECRET}
    )  # "" as the secret: a public client
    mailbox: str = ACCOUNT  # the account of client-credentials tokens
    rotates: bool = True  # each refresh token is valid once; a second use ends the access
    gives_refresh: bool = True
    says_yes: bool = True  # what the person at /authorize does
    access_seconds: int = 3600
    refresh_seconds: int = 0  # announced if not 0
    code_seconds: int = 900  # of a device code; announced, not enforced
    interval: float = 5  # announced seconds between two polls of a device
    types_at_once: str = ""  # the account that approves each device code at once
    description: str = ""  # error_description of invalid_grant
    replies: list[Reply] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)  # by grant; "device" and "introspect" too
    forms: list[dict[str, str]] = field(default_factory=list)
    issued: dict[str, str] = field(default_factory=dict)  # access token -> account, in order
    gone: set[str] = field(default_factory=set)  # access tokens that have become invalid
    refresh: dict[str, str] = field(default_factory=dict)  # valid refresh token -> account
    used: dict[str, str] = field(default_factory=dict)  # used refresh tokens
    codes: dict[str, Code] = field(default_factory=dict)
    devices: dict[str, Code] = field(default_factory=dict)
    gate: threading.Event = field(
        default_factory=threading.Event
    )  # requests to /token wait while it is not set
    arrived: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(0)
    )  # released once for each request to /token
    lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def url(self) -> str:
        """Return its address without a path."""
        return f"http://127.0.0.1:{self.port}"

    def client(
        self, grant: str = "authorization_code", *, name: str = "provider", **settings: Any
    ) -> OauthSettings:
        """Return the ``[[oauth]]`` table of a client of this server."""
        given = (
            {"client_id": CLIENT, "client_secret": SECRET, "scope": "mail offline_access"}
            | self.places
            | settings
        )
        return OauthSettings.model_validate(
            {"name": name, "provider": "custom", "grant": grant, **given}, strict=False
        )

    @property
    def places(self) -> dict[str, str]:
        """Return its endpoints, by the keys of ``[[oauth]]``."""
        return {
            "token_url": f"{self.url}/token",
            "device_url": f"{self.url}/device",
            "authorize_url": f"{self.url}/authorize",
        }

    @property
    def introspection(self) -> str:
        """Return the introspection address, to which a mail server appends the token."""
        return f"{self.url}/introspect?token="

    # ---- events at the provider

    def grant(self, account: str = ACCOUNT) -> str:
        """Return an access token, as if it had been requested."""
        with self.lock:
            token: str = self._give(account, refresh=False)["access_token"]
            return token

    def sign_in(self, account: str = ACCOUNT) -> str:
        """Return a refresh token of an earlier sign-in."""
        with self.lock:
            token = self._new("refresh")
            self.refresh[token] = account
            return token

    def revoke(self, account: str = ACCOUNT) -> None:
        """Withdraw access: every token of the account becomes invalid."""
        with self.lock:
            self.end_refresh(account)
            self.gone |= {token for token, owner in self.issued.items() if owner == account}

    def end_refresh(self, account: str = ACCOUNT) -> None:
        """Let the refresh tokens of the account expire."""
        with self.lock:
            self.refresh = {
                token: owner for token, owner in self.refresh.items() if owner != account
            }

    def expire(self, access_token: str) -> None:
        """Let an access token expire early."""
        with self.lock:
            self.gone.add(access_token)

    def approve_device(self, user_code: str, account: str = ACCOUNT) -> None:
        """Approve the device code, as the person does."""
        self._decide(user_code, "approved", account)

    def refuse_device(self, user_code: str, error: str = "access_denied") -> None:
        """Refuse the device code, or let it expire with ``expired_token``."""
        self._decide(user_code, error, "")

    def _decide(self, user_code: str, state: str, account: str) -> None:
        with self.lock:
            code = self.devices[f"device-{user_code}"]
            code.state, code.account = state, account

    def hold(self) -> None:
        """Keep requests to /token waiting until :meth:`release`."""
        self.gate.clear()

    def release(self) -> None:
        """Answer the waiting requests."""
        self.gate.set()

    # ---- the endpoints

    def authorize(self, query: Mapping[str, str]) -> str:
        """Return the redirect of the browser, with a code or an error."""
        back = {"state": query.get("state", "")}
        if not self.says_yes:
            back |= {"error": "access_denied", "error_description": "no\r\nthanks"}
        elif (
            query.get("code_challenge_method") != "S256"
            or query.get("response_type") != "code"
            or query["client_id"] not in self.clients
        ):
            back |= {"error": "invalid_request"}
        else:
            with self.lock:
                name = self._new("code")
                account = query.get("login_hint", self.mailbox)
                self.codes[name] = Code(
                    account, query["client_id"], query["redirect_uri"], query["code_challenge"]
                )
            back |= {"code": name}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def device(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return a pair of codes for a device without a browser."""
        with self.lock:
            self.calls["device"] += 1
            self._authenticate(form, public=True)
            number = f"{next(self._numbers):04}"
            user_code = f"ABCD-{number}"
            state = "approved" if self.types_at_once else "pending"
            self.devices[f"device-{user_code}"] = Code(
                self.types_at_once, form["client_id"], state=state
            )
        told = {
            "device_code": f"device-{user_code}",
            "user_code": user_code,
            "expires_in": self.code_seconds,
            "interval": self.interval,
        }
        return told | {"verification_uri": f"{self.url}/activate"}

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return the tokens for a grant; raise Denied."""
        grant = form.get("grant_type", "")
        with self.lock:
            self.calls[grant] += 1
            self._authenticate(form, public=grant != "client_credentials")
            match grant:
                case "client_credentials":
                    return self._give(self.mailbox, refresh=False)
                case "authorization_code":
                    return self._give(self._redeem(form))
                case "refresh_token":
                    return self._renew(form.get("refresh_token", ""))
                case grant if grant == DEVICE_GRANT:
                    return self._polled(form.get("device_code", ""))
                case _:
                    raise Denied("unsupported_grant_type")

    def introspect(self, token: str) -> dict[str, Any]:
        """Return whether an access token is valid, and for whom (RFC 7662)."""
        with self.lock:
            self.calls["introspect"] += 1
            if token not in self.issued or token in self.gone:
                return {"active": False}
            return {"active": True, "username": self.issued[token], "email": self.issued[token]}

    def _authenticate(self, form: Mapping[str, str], *, public: bool) -> None:
        secret = self.clients.get(form.get("client_id", ""))
        if secret is None or form.get("client_secret", "") != secret or not (secret or public):
            raise Denied("invalid_client", "no such client, or another secret", 401)

    def _redeem(self, form: Mapping[str, str]) -> str:
        code = self.codes.pop(form.get("code", ""), None)
        proof = (
            urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest())
            .decode()
            .rstrip("=")
        )
        if code is None or (code.client, code.redirect, code.challenge) != (
            form["client_id"],
            form.get("redirect_uri"),
            proof,
        ):
            raise Denied("invalid_grant", "the code does not fit")
        return code.account

    def _renew(self, token: str) -> dict[str, Any]:
        if token in self.used:
            self.revoke(self.used[token])  # as providers do that treat a second use as theft
        if token not in self.refresh:
            raise Denied("invalid_grant", self.description)
        account = self.refresh[token]
        if self.rotates:
            self.used[token] = self.refresh.pop(token)
        return self._give(account, refresh=self.rotates)

    def _polled(self, name: str) -> dict[str, Any]:
        code = self.devices.get(name)
        match code.state if code is not None else "invalid_grant":
            case "approved":
                assert code is not None
                return self._give(self.devices.pop(name).account)
            case "pending":
                raise Denied("authorization_pending")
            case error:
                raise Denied(error)

    def _give(self, account: str, *, refresh: bool = True) -> dict[str, Any]:
        access = self._new("access")
        self.issued[access] = account
        told: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": self.access_seconds,
        }
        if refresh and self.gives_refresh:
            told["refresh_token"] = self.sign_in(account)
            if self.refresh_seconds:
                told["refresh_token_expires_in"] = self.refresh_seconds
        return told

    def _new(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers)}-{time.time_ns():x}"


class _Handler(BaseHTTPRequestHandler):
    """A handler of one request."""

    server_version, sys_version = "provider", ""
    state: TokenServer

    # the name of the library
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""

    def do_GET(self) -> None:
        """Serve the browser, and a mail server that checks a token in the URL or a header."""
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        match parts.path:
            case "/authorize":
                self._send(Reply(302, b"", {"Location": self.state.authorize(query)}))
            case "/introspect":
                bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
                self._tell(200, self.state.introspect(query.get("token", bearer)))
            case _:
                self._send(Reply(404, b"not here"))

    def do_POST(self) -> None:
        """Serve a client that requests tokens."""
        form = dict(
            parse_qsl(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())
        )
        if (basic := self.headers.get("Authorization", "")).startswith("Basic "):
            form["client_id"], _, form["client_secret"] = (
                b64decode(basic[6:]).decode().partition(":")
            )
        path = urlsplit(self.path).path
        if path == "/introspect":
            self._tell(200, self.state.introspect(form.get("token", "")))
            return
        self.state.forms.append(form)
        if path == "/token":
            self.state.arrived.release()
            self.state.gate.wait(60)
        if self.state.replies:
            self.state.calls["reply"] += 1
            self._send(self.state.replies.pop(0))
            return
        try:
            self._tell(200, {"/token": self.state.token, "/device": self.state.device}[path](form))
        except Denied as error:
            self._tell(error.status, error.document)

    def _tell(self, status: int, document: Mapping[str, Any]) -> None:
        self._send(
            Reply(status, json.dumps(document).encode(), {"Content-Type": "application/json"})
        )

    def _send(self, reply: Reply) -> None:
        with suppress(OSError):  # the client may be gone
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)


@contextmanager
def token_server(**settings: Any) -> Iterator[TokenServer]:
    """Run a server."""
    state = TokenServer(**settings)
    state.gate.set()
    listener = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.port = listener.server_address[1]
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.gate.set()
        listener.shutdown()
        listener.server_close()
        thread.join(10)


def refusal(error: str, description: str = "", status: int = 400) -> Reply:
    """Return a refusal as the provider sends it."""
    return Reply(status, json.dumps(Denied(error, description).document).encode())
