"""A provider of access tokens on the loopback: its endpoints, a person who agrees or not, and what can go wrong with it.

Dovecot asks ``/introspect?token=...`` whether a token is good; the same tokens are given out by ``/token``.
"""

from __future__ import annotations

import itertools
import json
import threading
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

SECRET = "client-s3cret"


@dataclass(slots=True)
class TokenServer:
    """The provider. ``account`` is who signs in; ``rotates`` gives a new refresh token each time and takes the old one no more."""

    port: int = 0
    account: str = "desk@example.org"
    rotates: bool = True
    lifetime: int = 3600
    refresh_lifetime: int = 0
    agrees: bool = True  # the person at the browser or the device
    pending: int = 0  # questions of a device that are answered with "not yet"
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)  # given instead of the next real ones
    held: threading.Event | None = None  # answers wait for it
    calls: Counter[str] = field(default_factory=Counter)  # by grant
    good: dict[str, str] = field(default_factory=dict)  # access token -> account
    refresh: dict[str, str] = field(default_factory=dict)  # refresh token -> account
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str) -> str:
        """The address of an endpoint."""
        return f"http://127.0.0.1:{self.port}/{path}"

    @property
    def introspection(self) -> str:
        """What Dovecot asks."""
        return self.url("introspect?token=")

    def revoke(self) -> None:
        """Nothing that was given out is good any more."""
        with self.lock:
            self.good.clear()
            self.refresh.clear()

    def expire(self) -> None:
        """Access tokens have ended; refresh tokens are good."""
        with self.lock:
            self.good.clear()

    def give(self, account: str, *, refresh: bool) -> dict[str, object]:
        """New tokens."""
        access = f"access-{next(self.numbers)}"
        self.good[access] = account
        told: dict[str, object] = {"access_token": access, "token_type": "Bearer", "expires_in": self.lifetime}
        if refresh:
            again = f"refresh-{next(self.numbers)}"
            self.refresh[again] = account
            told["refresh_token"] = again
            if self.refresh_lifetime:
                told["refresh_token_expires_in"] = self.refresh_lifetime
        return told

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, object]]:
        """The token endpoint."""
        grant = form.get("grant_type", "").rpartition(":")[2]
        with self.lock:
            self.forms.append(form)
            self.calls[grant] += 1
            if form.get("client_secret", SECRET) != SECRET:
                return _error("invalid_client")
            match grant:
                case "client_credentials":
                    return 200, self.give(self.account, refresh=False)
                case "refresh_token":
                    return self._refreshed(form.get("refresh_token", ""))
                case "authorization_code":
                    return self._exchanged(form)
                case "device_code":
                    return self._typed_in()
                case _:
                    return _error("unsupported_grant_type")

    def _refreshed(self, token: str) -> tuple[int, dict[str, object]]:
        account = self.refresh.get(token)
        if account is None:
            return _error("invalid_grant", f"AADSTS70008: the refresh token of {self.account} has ended.\r\nTrace: 1")
        if self.rotates:
            del self.refresh[token]
        return 200, self.give(account, refresh=self.rotates)

    def _exchanged(self, form: dict[str, str]) -> tuple[int, dict[str, object]]:
        asked = self.codes.pop(form.get("code", ""), None)
        proof = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
        if asked is None or proof != asked["code_challenge"] or form.get("redirect_uri") != asked["redirect_uri"]:
            return _error("invalid_grant")
        return 200, self.give(self.account, refresh=True)

    def _typed_in(self) -> tuple[int, dict[str, object]]:
        if self.pending > 0:
            self.pending -= 1
            return _error("authorization_pending")
        return (200, self.give(self.account, refresh=True)) if self.agrees else _error("access_denied")

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser is sent after the person has decided."""
        back = {"state": query["state"]}
        if self.agrees:
            code = f"code-{next(self.numbers)}"
            self.codes[code] = query
            back["code"] = code
        else:
            back["error"] = "access_denied"
        return f"{query['redirect_uri']}?{urlencode(back)}"


def _error(word: str, description: str = "") -> tuple[int, dict[str, object]]:
    return 400, {"error": word} | ({"error_description": description} if description else {})


class _Handler(BaseHTTPRequestHandler):
    """One request to ``provider``."""

    provider: TokenServer

    def log_message(self, *_arguments: object) -> None:
        """Tests need no log of requests."""

    def do_GET(self) -> None:
        """The browser, and Dovecot."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/authorize":
            self.send_response(302)
            self.send_header("Location", self.provider.authorize(query))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        account = self.provider.good.get(query.get("token", ""))
        self.say(200, {"active": "true", "username": account} if account else {"active": "false"})

    def do_POST(self) -> None:
        """Our own questions."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if self.provider.held is not None:
            self.provider.held.wait(30)
        if self.path == "/device":
            told: dict[str, object] = {"device_code": "device-1", "user_code": "ABCD-EFGH", "interval": 5, "expires_in": 60}
            self.say(200, told | {"verification_uri": self.provider.url("verify")})
            return
        if self.provider.answers:
            status, headers, raw = self.provider.answers.pop(0)
            self.provider.calls["answers"] += 1
            self.raw(status, raw, headers)
            return
        self.say(*self.provider.token(form))

    def say(self, status: int, document: dict[str, object]) -> None:
        """A JSON answer."""
        self.raw(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def raw(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Any answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """A running provider on a free port."""
    made = TokenServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": made}))
    made.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        http.shutdown()
        http.server_close()
        thread.join(10)
