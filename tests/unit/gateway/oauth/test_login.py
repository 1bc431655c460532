"""Tests of signing in by a browser, a pasted address or a code, with all failures."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from gateway.errors import Unavailable
from gateway.oauth.http import TokenUnavailable
from gateway.oauth.login import AuthorizationRequest, browser_login, client_login, device_login
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.engine import Database, upgrade
from gateway.store.imap.oauth_tokens import Granted
from tests.servers.tokens import ACCOUNT, SECRET, Reply, refusal, token_server

BROWSER = build_opener(ProxyHandler({}))


@pytest.fixture
def provider():
    """Start a fake OAuth provider."""
    with token_server() as server:
        yield server


@pytest.fixture
async def tokens(tmp_path, templates, clock):
    """Return the tokens of one process; the store's tests use both databases."""
    database = await Database.open(
        templates.sqlite(upgrade, tmp_path / "ticketgate.db"), node="one"
    )
    yield Tokens(database, clock)
    await database.close()


def browse(url):
    """Return the page that a browser ends at, and its HTTP status."""
    try:
        with BROWSER.open(Request(url), timeout=20) as page:
            return page.status, page.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


async def shown_url(shown):
    """Return the address that the person is shown."""
    text = await shown.get()
    assert ACCOUNT in text
    return text.splitlines()[-1]


async def begun(tokens, client):
    """Return a sign-in that waits for the browser, and the address it shows."""
    shown = asyncio.Queue()
    running = asyncio.ensure_future(browser_login(tokens, client, ACCOUNT, shown.put_nowait))
    url = asyncio.ensure_future(shown_url(shown))
    await asyncio.wait({running, url}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        url.cancel()
        running.result()
    return running, await url


# ---- client credentials


async def test_a_client_is_tried(tokens, provider):
    """With client credentials the token serves every mailbox, and a new try replaces it."""
    client = provider.client("client_credentials")
    await client_login(tokens, client)
    assert await tokens.access_token(client, ACCOUNT) in provider.issued
    provider.clients = {}
    with pytest.raises(AccessRefused, match="client_secret"):
        await client_login(tokens, client)


# ---- a browser on this machine


async def test_a_browser_brings_access(tokens, provider):
    """After consent the user sees a plain page and access can be renewed."""
    client = provider.client()
    running, url = await begun(tokens, client)
    status, page = await asyncio.to_thread(browse, url)
    await running
    assert status == 200
    assert "You may close this window" in page
    row = await tokens.stored(client, ACCOUNT)
    assert row.refresh_token in provider.refresh
    assert await tokens.access_token(client, ACCOUNT) == row.access_token


async def test_the_address_asks_for_what_it_should(tokens, provider):
    """The address has PKCE with S256, a state and the account, but not the verifier."""
    running, url = await begun(tokens, provider.client())
    asked = {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}
    assert (asked["response_type"], asked["code_challenge_method"], asked["login_hint"]) == (
        "code",
        "S256",
        ACCOUNT,
    )
    assert urlsplit(asked["redirect_uri"]).hostname == "127.0.0.1"
    assert len(asked["state"]) >= 43
    await asyncio.to_thread(browse, url)
    await running
    verifier = provider.forms[-1]["code_verifier"]
    assert 43 <= len(verifier) <= 128
    assert verifier not in url


async def test_a_fixed_redirect_address_is_used_literally(tokens, provider, free_port):
    """A fixed redirect address is used literally."""
    client = provider.client(redirect_url=f"http://localhost:{free_port}/back")
    running, url = await begun(tokens, client)
    assert parse_qs(urlsplit(url).query)["redirect_uri"] == [client.redirect_url]
    await asyncio.to_thread(browse, url)
    await running
    assert await tokens.problem(client, ACCOUNT) is None


async def test_a_taken_redirect_port_is_reported(tokens, provider):
    """Another program at the fixed port: one sentence, and no request was made."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        client = provider.client(redirect_url=f"http://127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(Unavailable, match="cannot listen on port"):
            await begun(tokens, client)


async def test_a_visit_with_another_state_changes_nothing(tokens, provider):
    """Other visitors of the port are refused; the user's answer still counts."""
    client = provider.client()
    running, url = await begun(tokens, client)
    place = parse_qs(urlsplit(url).query)["redirect_uri"][0]
    for query in (
        "",
        "?code=stolen",
        "?code=stolen&state=guessed",
        "?error=access_denied&state=guessed",
        "favicon.ico",
    ):
        status, page = await asyncio.to_thread(browse, f"{place}/{query}")
        assert (status, "not the answer to the sign-in" in page) == (404, True)
    assert not running.done()
    await asyncio.to_thread(browse, url)
    await running
    assert await tokens.problem(client, ACCOUNT) is None


async def test_a_refusal_in_the_browser_is_reported(tokens, provider):
    """error=access_denied: refused in one clean line, and the page says so too."""
    provider.says_yes = False
    client = provider.client()
    running, url = await begun(tokens, client)
    _, page = await asyncio.to_thread(browse, url)
    assert "was refused access" in page
    with pytest.raises(
        AccessRefused, match=r"access was not given \(the provider says access_denied: no  thanks\)"
    ):
        await running
    assert await tokens.stored(client, ACCOUNT) is None


async def test_giving_up_leaves_nothing_behind(tokens, provider, free_port):
    """A sign-in that is cancelled stops listening and stores nothing."""
    client = provider.client(redirect_url=f"http://127.0.0.1:{free_port}")
    running, _ = await begun(tokens, client)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await tokens.stored(client, ACCOUNT) is None
    with closing(socket.create_server(("127.0.0.1", free_port))):
        pass


async def test_access_that_does_not_last_is_refused(tokens, provider):
    """Without a refresh token sign-in fails and earlier access stays."""
    client = provider.client()
    now = tokens.clock.now()
    await tokens.rows.signed_in(
        ("provider", ACCOUNT), Granted("old", now, provider.sign_in(), None), now
    )
    provider.gives_refresh = False
    running, url = await begun(tokens, client)
    await asyncio.to_thread(browse, url)
    with pytest.raises(AccessRefused, match="check that scope asks for offline access"):
        await running
    assert (await tokens.stored(client, ACCOUNT)).access_token == "old"


async def test_a_sign_in_ends_a_refusal(tokens, provider):
    """A refused mailbox is read again as soon as its person has signed in."""
    client = provider.client()
    now = tokens.clock.now()
    await tokens.rows.signed_in(("provider", ACCOUNT), Granted("old", now, "revoked", None), now)
    with pytest.raises(AccessRefused):
        await tokens.access_token(client, ACCOUNT)
    running, url = await begun(tokens, client)
    await asyncio.to_thread(browse, url)
    await running
    assert await tokens.access_token(client, ACCOUNT) in provider.issued
    assert await tokens.problem(client, ACCOUNT) is None


# ---- a browser on another machine


def ended_at(provider, question):
    """Return the address at which the browser of another machine ends."""
    return provider.authorize(
        {name: value for name, [value] in parse_qs(urlsplit(question.url).query).items()}
    )


async def test_a_pasted_address_brings_access(tokens, provider):
    """The pasted address, with spaces around it, gives access."""
    client = provider.client()
    question = AuthorizationRequest(client, ACCOUNT)
    address = ended_at(provider, question)
    assert address.startswith("http://localhost:8400?")
    await question.exchange_pasted(tokens, f"  {address}\n")
    assert await tokens.access_token(client, ACCOUNT) in provider.issued


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://localhost:8400/",
        "a-code",
        "http://[",
        "http://localhost:8400/?code=a&state=b",
        "\x00ä?state=ß",
    ],
)
async def test_what_is_pasted_must_be_the_answer(tokens, provider, address):
    """Another address, another state, or other text is refused without a request."""
    with pytest.raises(AccessRefused, match="no answer to this sign-in"):
        await AuthorizationRequest(provider.client(), ACCOUNT).exchange_pasted(tokens, address)
    assert not provider.forms


async def test_an_answer_to_another_question_is_refused(tokens, provider):
    """An address that was pasted from an earlier try has the state of that one."""
    first, second = (
        AuthorizationRequest(provider.client(), ACCOUNT),
        AuthorizationRequest(provider.client(), ACCOUNT),
    )
    with pytest.raises(AccessRefused, match="begin again"):
        await second.exchange_pasted(tokens, ended_at(provider, first))


async def test_a_pasted_refusal_is_reported(tokens, provider):
    """A refusal on the other machine is reported."""
    provider.says_yes = False
    question = AuthorizationRequest(provider.client(), ACCOUNT)
    with pytest.raises(AccessRefused, match="access_denied"):
        await question.exchange_pasted(tokens, ended_at(provider, question))


async def test_a_code_is_good_once(tokens, provider):
    """The same address pasted again is refused by the provider; the first access stays."""
    client = provider.client()
    question = AuthorizationRequest(client, ACCOUNT)
    address = ended_at(provider, question)
    await question.exchange_pasted(tokens, address)
    with pytest.raises(AccessRefused):
        await question.exchange_pasted(tokens, address)
    assert await tokens.access_token(client, ACCOUNT) in provider.issued


# ---- a code on another device


class Person:
    """A person with another device, who acts at the nth wait of the program."""

    def __init__(self, provider, **acts):
        self.provider = provider
        self.acts = {int(name.removeprefix("at_")): act for name, act in acts.items()}
        self.shown, self.waits = [], []

    async def pause(self, seconds):
        self.waits.append(seconds)
        if act := self.acts.get(len(self.waits)):
            act(self.shown[0].rpartition(" ")[2])

    async def login(self, tokens, client):
        await device_login(tokens, client, ACCOUNT, self.shown.append, self.pause)


async def test_a_code_typed_in_elsewhere_brings_access(tokens, provider):
    """Address and code are shown; the provider is polled every five seconds."""
    client = provider.client("device_code")
    person = Person(provider, at_3=provider.approve_device)
    await person.login(tokens, client)
    assert person.shown == [
        (
            f"Open {provider.url}/activate in a browser, sign in as {ACCOUNT}, and type in the "
            "code ABCD-0001"
        )
    ]
    assert person.waits == [5, 5, 5]
    assert await tokens.access_token(client, ACCOUNT) in provider.issued


async def test_a_public_client_needs_no_secret(tokens, provider):
    """Microsoft's device apps have no secret; then none is sent."""
    client = provider.client("device_code", client_id="public", client_secret="")
    provider.clients["public"] = ""
    await Person(provider, at_1=provider.approve_device).login(tokens, client)
    assert not [
        form for form in provider.forms if "client_secret" in form or SECRET in form.values()
    ]


async def test_slow_down_is_heeded(tokens, provider):
    """Each slow_down makes all later waits five seconds longer."""
    person = Person(
        provider,
        at_1=lambda _: provider.replies.append(refusal("slow_down")),
        at_3=lambda _: provider.replies.append(refusal("slow_down")),
        at_5=provider.approve_device,
    )
    await person.login(tokens, provider.client("device_code"))
    assert person.waits == [5, 10, 10, 15, 15]


async def test_a_failure_while_polling_is_retried(tokens, provider):
    """A failure while waiting does not end the sign-in; the waits double."""
    client = provider.client("device_code")
    person = Person(
        provider, at_1=lambda _: provider.replies.append(Reply(503)), at_3=provider.approve_device
    )
    await person.login(tokens, client)
    assert person.waits == [5, 10, 10]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [("access_denied", "access was denied"), ("expired_token", "the code was not entered")],
)
async def test_a_refused_device_is_reported(tokens, provider, error, sentence):
    """After a refusal or an expired code there is one sentence, and nothing stored."""
    client = provider.client("device_code")
    person = Person(provider, at_2=lambda code: provider.refuse_device(code, error))
    with pytest.raises(AccessRefused, match=sentence):
        await person.login(tokens, client)
    assert await tokens.stored(client, ACCOUNT) is None


async def test_an_unused_code_is_waited_for_until_it_expires(tokens, provider):
    """The sign-in ends when the code expires, whatever the provider answers later."""
    provider.code_seconds = 12
    person = Person(provider)
    with pytest.raises(AccessRefused, match="begin again"):
        await person.login(tokens, provider.client("device_code"))
    assert person.waits == [5, 5, 5]


async def test_a_provider_that_vanishes_while_polling_means_try_again(tokens, provider):
    """Nothing but failures until the end means "try again", not a refusal."""
    provider.code_seconds = 20
    person = Person(provider, at_1=lambda _: provider.replies.extend([Reply(502)] * 9))
    with pytest.raises(TokenUnavailable, match="HTTP 502"):
        await person.login(tokens, provider.client("device_code"))
    assert person.waits == [5, 10, 20]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"device_code": "a", "user_code": 7, "verification_uri": "https://x"}',
        b'{"access_token": "a"}',
    ],
)
async def test_an_answer_without_a_code_is_reported(tokens, provider, body):
    """An answer without a code, from another endpoint, is reported."""
    provider.replies = [Reply(200, body)]
    with pytest.raises(TokenUnavailable, match="check device_url"):
        await Person(provider).login(tokens, provider.client("device_code"))


async def test_a_client_without_device_access_is_reported(tokens, provider):
    """Google allows no mailbox access for devices: its error is shown."""
    provider.replies = [refusal("invalid_scope", "Invalid device flow scope")]
    with pytest.raises(AccessRefused, match="check scope"):
        await Person(provider).login(tokens, provider.client("device_code"))
