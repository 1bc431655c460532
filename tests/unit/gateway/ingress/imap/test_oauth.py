"""Tests of mailboxes with access tokens: Dovecot checks each, a watcher renews them."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway import log
from gateway.ingress.imap.health import mailbox_health
from gateway.store.imap.oauth_tokens import Granted
from tests.servers.dovecot import dovecot, letter, letters
from tests.servers.tokens import ACCOUNT, Reply, token_server
from tests.unit.gateway.ingress.reading import QUICK, account_of


@pytest.fixture(scope="module")
def both():
    """Start a provider, and a Dovecot that checks tokens there."""
    with (
        token_server() as tokens,
        dovecot([ACCOUNT], introspection_url=tokens.introspection) as server,
    ):
        yield tokens, server


@pytest.fixture
def place(both):
    """Return both with an empty mailbox and nobody signed in."""
    tokens, server = both
    with server.client(ACCOUNT) as client:
        _, [count] = client.select("INBOX")
        if int(count):
            client.store("1:*", "+FLAGS", "\\Deleted")
            client.expunge()
    tokens.refresh.clear()
    tokens.used.clear()
    tokens.calls.clear()
    tokens.access_seconds, tokens.clients = 3600, {"ticketgate-client": "cl1ent-s3cret"}
    return tokens, server


async def signed_in(world, tokens, server, grant="authorization_code"):
    """Return the account, and a person who has signed in already."""
    client = tokens.client(grant)
    account = replace(account_of(server.port), client=client, password="", username=ACCOUNT)
    if grant != "client_credentials":
        now = world.clock.now()
        refresh = await asyncio.to_thread(tokens.sign_in)
        await world.tokens.rows.signed_in(
            (client.name, ACCOUNT), Granted("old", now - timedelta(hours=1), refresh, None), now
        )
    return account


async def state_of(world, state):
    """Wait until the mailbox is in a state."""

    async def there():
        box = await world.box()
        return box is not None and box.state == state

    await world.until(there)
    return await world.box()


@pytest.mark.parametrize("grant", ["client_credentials", "authorization_code", "device_code"])
async def test_mail_comes_in_with_a_token(world, place, grant):
    """With each grant the watcher gets a token, the server accepts it, and mail is stored."""
    tokens, server = place
    account = await signed_in(world, tokens, server, grant)
    server.deliver(ACCOUNT, letter("a"))
    async with world.watched(account):
        await world.holds([letter("a")])
    assert sum(tokens.calls[each] for each in ("client_credentials", "refresh_token")) == 1


async def test_a_token_that_ends_is_renewed_and_the_rotated_one_is_kept(world, place):
    """Expired tokens are renewed with the newest refresh token."""
    tokens, server = place
    account = await signed_in(world, tokens, server)
    sent = []
    for number in range(3):
        sent.append(letter(number))
        server.deliver(ACCOUNT, sent[-1])
        async with world.watched(account):
            await world.holds(sent)
        world.clock.advance(timedelta(hours=2))
    assert (tokens.calls["refresh_token"], len(tokens.refresh), len(tokens.used)) == (3, 1, 3)


async def test_a_token_that_the_mail_server_refuses_is_replaced_once(world, place):
    """A token revoked early is renewed on the same connection."""
    tokens, server = place
    account = await signed_in(world, tokens, server)
    await world.read(account)
    for token in list(tokens.issued):
        tokens.expire(token)
    server.deliver(ACCOUNT, letter("a"))
    async with world.watched(account):
        await world.holds([letter("a")])
    assert tokens.calls["refresh_token"] == 2


async def test_revoked_access_is_reported_and_tried_once(world, place):
    """Revoked access is reported, tried once, and resumes after a new sign-in."""
    tokens, server = place
    account = await signed_in(world, tokens, server)
    tokens.revoke()
    before = server.refused_logins
    async with world.watched(account):
        box = await state_of(world, "refused")
        assert "sign in again" in box.problem
        [condition] = await mailbox_health([account], world.boxes, world.tokens, world.clock.now())
        assert (condition.state, "sign in again" in condition.detail) == ("refused", True)
        server.deliver(ACCOUNT, letter("a"))
        assert (tokens.calls["refresh_token"], server.refused_logins - before) == (1, 0)
        world.clock.advance(timedelta(seconds=1))
        refresh = await asyncio.to_thread(tokens.sign_in)
        now = world.clock.now()
        granted = Granted(
            await asyncio.to_thread(tokens.grant), now + timedelta(hours=1), refresh, None
        )
        await world.tokens.rows.signed_in((account.client.name, ACCOUNT), granted, now)
        await world.holds([letter("a")])
        await state_of(world, "ok")


async def test_nobody_has_signed_in(world, place):
    """Before the first sign-in the mailbox says what to do, and no server is contacted."""
    tokens, server = place
    account = replace(
        account_of(server.port), client=tokens.client(), password="", username=ACCOUNT
    )
    before = server.login_count()
    async with world.watched(account):
        box = await state_of(world, "refused")
    assert "channel login" in box.problem
    assert (tokens.calls, server.login_count() - before) == (Counter(), 0)


async def test_a_token_for_somebody_else_is_refused_and_not_tried_again(world, place):
    """A token of another account is renewed once, then the long pause follows."""
    tokens, server = place
    account = await signed_in(world, tokens, server)
    tokens.refresh = dict.fromkeys(tokens.refresh, "stranger@example.org")
    before = server.refused_logins
    async with world.watched(account):
        await state_of(world, "refused")
        await world.until(lambda: asyncio.sleep(0, result=True))
    assert server.refused_logins - before <= 2
    assert tokens.calls["refresh_token"] <= 2


async def test_a_provider_that_is_away_is_waited_for(world, place):
    """A token endpoint that answers 503 makes the mailbox fail until it is back."""
    tokens, server = place
    account = await signed_in(world, tokens, server)
    tokens.replies = [Reply(503, b"later")] * 3
    server.deliver(ACCOUNT, *letters("ab"))
    async with world.watched(account, replace(QUICK, first_pause=0.01)):
        box = await state_of(world, "failing")
        assert "overloaded or failing" in box.problem or "HTTP 503" in box.problem
        await world.holds(letters("ab"))
        await state_of(world, "ok")
    assert tokens.calls["reply"] == 3


async def test_access_that_ends_soon_is_announced(world, place):
    """A week before access ends there is a daily warning; mail still comes in."""
    tokens, server = place
    told = io.StringIO()
    log.configure(level="info", form="json", addresses="hashed", stream=told)
    tokens.refresh_seconds = 3 * 24 * 3600
    try:
        account = await signed_in(world, tokens, server)
        server.deliver(ACCOUNT, letter("a"))
        async with world.watched(account, replace(QUICK, idle=0.2)):
            await world.holds([letter("a")])
            await state_of(world, "ok")
            await world.until(
                lambda: asyncio.sleep(0, result="mailbox access ends" in told.getvalue())
            )
            [condition] = await mailbox_health(
                [account], world.boxes, world.tokens, world.clock.now()
            )
            assert (condition.state, "access ends on 2026-11-25" in condition.detail) == (
                "warning",
                True,
            )
    finally:
        tokens.refresh_seconds = 0
    assert told.getvalue().count("mailbox access ends") == 1
