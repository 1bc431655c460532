"""Tests of providers' endpoints and bad answers: "try again", or "a person has to act".

No secret may be in a message or the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import ssl
import sys
from datetime import timedelta
from random import Random

import pytest

from gateway import log
from gateway.oauth import http
from gateway.oauth.http import MAX_ANSWER_BYTES, Answer, TokenUnavailable, post
from gateway.oauth.login import AuthorizationRequest
from gateway.oauth.providers import endpoints, scope
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.engine import Database, upgrade
from gateway.store.imap.oauth_tokens import Granted
from tests.servers.tokens import ACCOUNT, SECRET, Reply, refusal, token_server
from tests.unit.gateway.ingress.conftest import make_pair

__all__ = ["make_pair"]  # a fixture of the listeners' tests

DEEP = b"[" * 60_000
FULL = json.dumps({"access_token": "a" * MAX_ANSWER_BYTES}).encode()


@pytest.fixture
def provider():
    """Start a fake OAuth provider."""
    with token_server() as server:
        yield server


@pytest.fixture
async def tokens(tmp_path, templates, clock):
    """Return the tokens of one process; one database is enough here."""

    async def pause(_):
        """Return at once instead of waiting."""

    database = await Database.open(
        templates.sqlite(upgrade, tmp_path / "ticketgate.db"), node="one"
    )
    yield Tokens(database, clock, pause=pause)
    await database.close()


@pytest.fixture
def whole_log():
    """Capture everything that is logged at the lowest level, by libraries too."""
    written = io.StringIO()
    log.configure(level="debug", form="json", addresses="hashed", stream=written)
    yield written
    log.configure(level="info", form="json", addresses="hashed", stream=sys.__stderr__)


async def ready(tokens, provider):
    """Return a client with a sign-in whose access token has expired."""
    now = tokens.clock.now()
    await tokens.rows.signed_in(
        ("provider", ACCOUNT), Granted("access-0", now, provider.sign_in(), None), now
    )
    return provider.client()


# ---- requests


@pytest.mark.parametrize(
    ("provider_name", "more", "token", "wanted"),
    [
        (
            "microsoft",
            {"grant": "client_credentials", "tenant": "example.org"},
            "https://login.microsoftonline.com/example.org/oauth2/v2.0/token",
            "https://outlook.office365.com/.default",
        ),
        (
            "microsoft",
            {"grant": "device_code"},
            "https://login.microsoftonline.com/organizations/oauth2/v2.0/token",
            "https://outlook.office.com/IMAP.AccessAsUser.All offline_access",
        ),
        (
            "google",
            {"grant": "authorization_code"},
            "https://oauth2.googleapis.com/token",
            "https://mail.google.com/",
        ),
        (
            "microsoft",
            {"grant": "device_code", "token_url": "https://other/token", "scope": "mail"},
            "https://other/token",
            "mail",
        ),
        (
            "custom",
            {"grant": "device_code", "token_url": "https://other/token"},
            "https://other/token",
            "",
        ),
    ],
)
def test_each_provider_has_its_endpoints_and_scope(provider, provider_name, more, token, wanted):
    """Microsoft and Google are built in; the configuration takes precedence."""
    plain = {"token_url": "", "device_url": "", "authorize_url": "", "scope": ""}
    client = provider.client(**plain | {"provider": provider_name} | more)
    assert (endpoints(client).token, scope(client)) == (token, wanted)


def test_google_is_asked_for_lasting_access_each_time(provider):
    """Without these parameters Google gives a refresh token at the first sign-in only."""
    url = AuthorizationRequest(provider.client(provider="google"), ACCOUNT).url
    assert "access_type=offline" in url
    assert "prompt=consent" in url


def test_an_endpoint_may_have_a_query_of_its_own(provider):
    """A query in a provider's address is kept."""
    url = AuthorizationRequest(
        provider.client(authorize_url="https://login.example.org/?policy=mail"), ACCOUNT
    ).url
    assert url.startswith("https://login.example.org/?policy=mail&response_type=code&")


# ---- temporary failures


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(500, b'{"error": "invalid_grant"}'), id="500"),
        pytest.param(Reply(503, b"<html>"), id="503"),
        pytest.param(Reply(429, b"{}"), id="429"),
        pytest.param(Reply(200, b""), id="empty"),
        pytest.param(Reply(200, b"<html>sign in</html>"), id="html"),
        pytest.param(Reply(200, b'["access_token"]'), id="list"),
        pytest.param(Reply(200, b'{"access_token"'), id="cut"),
        pytest.param(Reply(200, b"\xff\xfe\x00"), id="no text"),
        pytest.param(Reply(200, DEEP), id="deep"),
        pytest.param(Reply(200, FULL), id="too large"),
        pytest.param(Reply(200, b"{}"), id="no token"),
        pytest.param(Reply(200, b'{"access_token": 7}'), id="a number"),
        pytest.param(Reply(200, b'{"access_token": ""}'), id="an empty token"),
        pytest.param(
            Reply(200, b'{"access_token": "a\\r\\nB 1 LOGOUT"}'), id="a token with a line end"
        ),
        pytest.param(Reply(404, b'{"detail": "not found"}'), id="404"),
        pytest.param(Reply(400, b'{"error": {"code": 400}}'), id="an error that is no word"),
        pytest.param(refusal("temporarily_unavailable"), id="temporarily unavailable"),
        pytest.param(refusal("server_error"), id="server error"),
    ],
)
async def test_nonsense_and_overload_are_tried_again(tokens, provider, reply):
    """An unclear answer changes nothing, leaves no lease, and the next call succeeds."""
    client = await ready(tokens, provider)
    provider.replies = [reply]
    with pytest.raises(TokenUnavailable) as told:
        await tokens.access_token(client, ACCOUNT)
    assert len(told.value.message) < 500
    row = await tokens.stored(client, ACCOUNT)
    assert (row.problem, row.lease_owner) == (None, None)
    assert await tokens.access_token(client, ACCOUNT) in provider.issued


async def test_a_provider_that_is_silent_is_given_up(tokens, provider, monkeypatch):
    """A request to a silent provider times out."""
    monkeypatch.setattr(http, "SECONDS", 0.1)
    client = await ready(tokens, provider)
    provider.hold()
    with pytest.raises(TokenUnavailable, match="did not answer within"):
        await tokens.access_token(client, ACCOUNT)


async def test_a_provider_that_is_away_is_tried_again(free_port):
    """A provider that does not listen is reported as such."""
    with pytest.raises(
        TokenUnavailable, match=f"127.0.0.1:{free_port} cannot be asked: connection refused"
    ):
        await post(f"http://127.0.0.1:{free_port}/token", {"refresh_token": "s3cret"})


async def test_another_protocol_on_the_port_is_tried_again(other_service):
    """Another service on that port gives our error, not a library's."""
    with pytest.raises(TokenUnavailable, match="does not speak HTTP"):
        await post(f"http://127.0.0.1:{other_service}/token", {"refresh_token": "s3cret"})


@pytest.fixture
async def other_service():
    """Return the port of a server that does not speak HTTP."""

    async def speak(_, writer):
        writer.write(b"* OK IMAP4rev1 ready\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_provider_has_to_prove_who_it_is(make_pair):
    """An untrusted certificate ends the connection before anything is sent."""
    pair = make_pair("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    said = []

    async def listen(reader, writer):
        said.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    with pytest.raises(TokenUnavailable, match="certificate is not trusted"):
        await post(
            f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/token",
            {"refresh_token": "s3cret"},
        )
    server.close()
    assert not any(said)


async def test_an_answer_without_end_is_cut_off():
    """Reading an endless answer stops after 64 KiB and the data in transit."""
    sent = []

    async def speak(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while len(sent) < 1000:
                writer.write(b"x" * MAX_ANSWER_BYTES)
                await writer.drain()
                sent.append(MAX_ANSWER_BYTES)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    with pytest.raises(TokenUnavailable, match="more than 64 KiB"):
        await post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token", {})
    server.close()
    assert len(sent) < 500


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_secrets_are_not_sent_elsewhere(tokens, provider, status):
    """A redirect of a token endpoint is not followed."""
    client = await ready(tokens, provider)
    with token_server() as other:
        provider.replies = [Reply(status, b"", {"Location": f"{other.url}/token"})]
        with pytest.raises(TokenUnavailable):
            await tokens.access_token(client, ACCOUNT)
        assert not other.forms


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        ({"Retry-After": "90"}, 90),
        ({"Retry-After": "999999"}, 3600),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({}, 0),
        (
            {
                "Retry-After": "Sun, 22 Nov 2026 10:02:00 GMT",
                "Date": "Sun, 22 Nov 2026 10:00:00 GMT",
            },
            120,
        ),
    ],
)
async def test_retry_after_is_respected(tokens, provider, clock, head, seconds):
    """Retry-After, in seconds or as a date, is kept by the whole process, up to an hour."""
    client = await ready(tokens, provider)
    provider.replies = [Reply(429, b"", head)]
    for _ in range(2 if seconds else 1):
        with pytest.raises(TokenUnavailable) as told:
            await tokens.access_token(client, ACCOUNT)
        assert told.value.after == seconds
    assert len(provider.forms) == 1
    clock.advance(timedelta(seconds=seconds))
    assert await tokens.access_token(client, ACCOUNT) in provider.issued


# ---- refusals


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("invalid_grant", "sign in again"),
        ("invalid_client", "client_secret"),
        ("unauthorized_client", "grant and tenant"),
        ("invalid_scope", "check scope"),
        ("access_denied", "access was denied"),
        ("interaction_required", "the provider refuses access (it says interaction_required"),
    ],
)
async def test_a_refusal_says_what_to_do(tokens, provider, error, advice):
    """Each refusal is one plain sentence with the provider's own word, stored for all."""
    client = await ready(tokens, provider)
    provider.replies = [refusal(error, "AADSTS70000: the grant is no good.")]
    with pytest.raises(AccessRefused) as told:
        await tokens.access_token(client, ACCOUNT)
    assert advice in told.value.message
    assert f"{error}: AADSTS70000" in told.value.message
    assert await tokens.problem(client, ACCOUNT) == told.value.message


async def test_the_text_of_a_provider_is_cleaned(tokens, provider):
    """No line ends, escapes, addresses or posted values, and at most 300 characters."""
    client = await ready(tokens, provider)
    token = (await tokens.stored(client, ACCOUNT)).refresh_token
    provider.replies = [
        refusal("invalid_grant", f"\x1b[2Jfor {ACCOUNT}:\r\n{token} and {SECRET} {'x' * 5000}")
    ]
    with pytest.raises(AccessRefused) as told:
        await tokens.access_token(client, ACCOUNT)
    message = told.value.message
    assert message.isprintable()
    assert not [secret for secret in (ACCOUNT, token, SECRET) if secret in message]
    assert "*** and ***" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    "ends",
    [3600, "3600", 3600.9, None, "soon", -1, 0, [], True, 10**30, float("inf"), float("nan")],
)
async def test_the_end_of_a_token_is_read_whatever_it_is(tokens, provider, ends):
    """A number or digits as text are read; nonsense counts as an hour."""
    client = await ready(tokens, provider)
    provider.replies = [Reply(200, json.dumps({"access_token": "a", "expires_in": ends}).encode())]
    await tokens.access_token(client, ACCOUNT)
    row = await tokens.stored(client, ACCOUNT)
    assert row.access_until - tokens.clock.now() in {timedelta(hours=1), timedelta(seconds=1)}


async def test_no_answer_of_any_form_raises_anything_else(tokens, provider):
    """Two hundred random answers give a token, "try again" or a refusal, never another error."""
    random = Random(7)
    values = [
        "a",
        "",
        None,
        1,
        -1.5,
        True,
        [],
        {},
        {"a": []},
        "x" * 2000,
        "\x00",
        "\ud800",
        "invalid_grant",
        "desk@example.org",
    ]
    keys = [
        "access_token",
        "refresh_token",
        "expires_in",
        "error",
        "error_description",
        "refresh_token_expires_in",
        "refresh_expires_in",
    ]
    client = provider.client("client_credentials")
    for _ in range(200):
        document = {
            key: random.choice(values) for key in random.sample(keys, random.randrange(len(keys)))
        }
        answer = Answer(random.choice([200, 200, 400, 401, 403]), document)
        try:
            granted = tokens._parse_grant(answer, {"client_secret": "s3cret"})
        except (TokenUnavailable, AccessRefused):
            continue
        await tokens.rows.signed_in((client.name, ""), granted, tokens.clock.now())


# ---- secrets stay hidden


async def test_nothing_secret_is_logged(tokens, provider, whole_log):
    """At debug level renewals and failures log no token, secret or address."""
    logging.getLogger("aiohttp.client").warning("this is heard")
    client = await ready(tokens, provider)
    token = await tokens.access_token(client, ACCOUNT)
    refresh = (await tokens.stored(client, ACCOUNT)).refresh_token
    provider.replies = [
        Reply(500),
        Reply(200, FULL),
        Reply(200, b"<html>"),
        refusal("invalid_grant", f"{ACCOUNT} {refresh} {SECRET}"),
    ]
    for _ in range(4):
        with pytest.raises((TokenUnavailable, AccessRefused)):
            await tokens.access_token(client, ACCOUNT, refused=token)
    shown = whole_log.getvalue()
    assert "access renewed" in shown
    assert "access refused" in shown
    assert "this is heard" in shown
    secrets = {SECRET, ACCOUNT, *provider.issued, *provider.refresh, *provider.used}
    assert not [secret for secret in secrets if secret in shown]


async def test_nothing_secret_is_shown_by_what_holds_it(tokens, provider):
    """The repr of a client, an answer or an error shows no secret."""
    client = await ready(tokens, provider)
    answer = Answer(200, {"access_token": "t0ken"})
    shown = repr(client) + repr(answer) + repr(TokenUnavailable("the provider is away"))
    assert not [secret for secret in (SECRET, "t0ken") if secret in shown]
