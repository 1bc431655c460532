"""Tests of access tokens, on both databases: renewed in time, once for all, rotation kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from gateway.errors import StoreUnavailable
from gateway.oauth.http import TokenUnavailable, post
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.engine import Database
from gateway.store.imap.oauth_tokens import Granted, TokenRows
from tests.servers.tokens import ACCOUNT, CLIENT, SECRET, Reply, refusal, token_server

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def provider():
    """Start a fake OAuth provider."""
    with token_server() as server:
        yield server


@pytest.fixture
async def open_tokens(clean_url, clock):
    """Return a function that opens the tokens of another process on the same database."""
    databases = []

    async def opened(node, pause=None):
        async def never(_):
            pytest.fail("nobody has to wait here")

        databases.append(await Database.open(clean_url, node=node))
        return Tokens(databases[-1], clock, pause=pause or never)

    yield opened
    for database in databases:
        await database.close()


@pytest.fixture
async def tokens(open_tokens):
    """Return the tokens of one process."""
    return await open_tokens("one")


async def signed_in(tokens, provider, **more):
    """Return a client signed in an hour ago, whose access token has just expired."""
    refresh = provider.sign_in()
    now = tokens.clock.now()
    await tokens.rows.signed_in(
        ("provider", ACCOUNT), Granted("access-0", now, refresh, None), now - HOUR
    )
    return provider.client(**more)


def asked(provider):
    """Return how often the provider was asked for a renewal."""
    return provider.calls["refresh_token"]


async def test_a_client_that_acts_for_itself_has_one_token_for_all_its_mailboxes(tokens, provider):
    """The token is fetched once, stored and shared."""
    client = provider.client("client_credentials")
    token = await tokens.access_token(client, ACCOUNT)
    assert provider.introspect(token)["active"]
    assert await tokens.access_token(client, "sales@example.org") == token
    assert provider.calls["client_credentials"] == 1


async def test_a_good_token_is_not_renewed(tokens, provider, clock):
    """The stored token is used until two minutes before its end, then renewed."""
    client = provider.client("client_credentials")
    token = await tokens.access_token(client, ACCOUNT)
    clock.advance(58 * MINUTE)
    assert await tokens.access_token(client, ACCOUNT) == token
    clock.advance(timedelta(seconds=1))
    assert await tokens.access_token(client, ACCOUNT) != token
    assert provider.calls["client_credentials"] == 2


@pytest.mark.parametrize("rotates", [True, False])
async def test_a_refresh_token_lasts_whether_the_provider_replaces_it_or_not(
    tokens, provider, clock, rotates
):
    """Ten renewals succeed with rotating and with fixed refresh tokens."""
    provider.rotates = rotates
    client = await signed_in(tokens, provider)
    seen = set()
    for _ in range(10):
        seen.add(await tokens.access_token(client, ACCOUNT))
        clock.advance(HOUR)
    assert (len(seen), asked(provider)) == (10, 10)
    assert (await tokens.stored(client, ACCOUNT)).refresh_token in provider.refresh


async def test_the_replaced_refresh_token_is_gone(tokens, provider):
    """After a renewal the new refresh token is stored, and the old one refused."""
    client = await signed_in(tokens, provider)
    before = (await tokens.stored(client, ACCOUNT)).refresh_token
    await tokens.access_token(client, ACCOUNT)
    row = await tokens.stored(client, ACCOUNT)
    assert row.refresh_token != before
    assert (row.lease_owner, row.changed_at) == (None, tokens.clock.now() - HOUR)
    old = {
        "grant_type": "refresh_token",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "refresh_token": before,
    }
    assert (await post(client.token_url, old)).document["error"] == "invalid_grant"


# ---- one request for all callers


async def test_twenty_callers_make_one_request(tokens, provider):
    """All callers during a renewal get its token."""
    client = await signed_in(tokens, provider)
    given = await asyncio.gather(*(tokens.access_token(client, ACCOUNT) for _ in range(20)))
    assert (len(set(given)), asked(provider)) == (1, 1)


async def test_two_processes_make_one_request(open_tokens, provider):
    """While one daemon renews, another waits and takes the result."""

    async def pause(_):
        provider.release()
        await first

    one, two = await open_tokens("one"), await open_tokens("two", pause)
    client = await signed_in(one, provider)
    provider.hold()
    first = asyncio.ensure_future(one.access_token(client, ACCOUNT))
    await asyncio.to_thread(provider.arrived.acquire)
    assert await two.access_token(client, ACCOUNT) == await first
    assert asked(provider) == 1


async def test_many_processes_that_begin_at_once_make_one_request(open_tokens, provider):
    """Four daemons with five tasks each make one request."""
    done = asyncio.Event()

    async def pause(_):
        await done.wait()

    everybody = [await open_tokens(f"node{number}", pause) for number in range(4)]
    client = await signed_in(everybody[0], provider)
    waiting = [
        asyncio.ensure_future(each.access_token(client, ACCOUNT))
        for each in everybody
        for _ in range(5)
    ]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    done.set()
    assert (len(set(await asyncio.gather(*waiting))), asked(provider)) == (1, 1)


async def test_a_token_renewed_before_our_lease_is_used(open_tokens, provider):
    """A token renewed before our lease is taken, and the lease released."""
    one, two = await open_tokens("one"), await open_tokens("two")
    client = await signed_in(one, provider)

    class Late(TokenRows):
        async def lease(self, *given):
            await one.access_token(client, ACCOUNT)
            return await super().lease(*given)

    two.rows = Late(two.rows.database)
    assert await two.access_token(client, ACCOUNT) == await one.access_token(client, ACCOUNT)
    assert (asked(provider), (await one.stored(client, ACCOUNT)).lease_owner) == (1, None)


async def test_a_dead_process_delays_the_renewal_by_its_lease_only(open_tokens, provider, clock):
    """A dead process's lease expires after 30 seconds; another renews."""
    waited = []

    async def pause(seconds):
        waited.append(seconds)
        clock.advance(timedelta(seconds=10))

    two = await open_tokens("two", pause)
    client = await signed_in(two, provider)
    gone = await open_tokens("gone")
    await gone.rows.lease(("provider", ACCOUNT), 30, clock.now())
    assert await two.access_token(client, ACCOUNT) in provider.issued
    assert len(waited) == 3


async def test_waiting_for_another_process_has_an_end(open_tokens, provider, clock):
    """A lease that is taken again and again does not keep a mailbox waiting for ever."""

    async def pause(_):
        await two.rows.lease(("provider", ACCOUNT), 30, clock.now())

    two, one = await open_tokens("two"), await open_tokens("one", pause)
    client = await signed_in(one, provider)
    await pause(0)
    with pytest.raises(TokenUnavailable, match="another process"):
        await one.access_token(client, ACCOUNT)
    assert asked(provider) == 0


async def test_a_cancelled_caller_does_not_stop_the_renewal(tokens, provider):
    """A cancelled caller ends only after the new refresh token is stored."""
    client = await signed_in(tokens, provider)
    provider.hold()
    waiting = asyncio.ensure_future(tokens.access_token(client, ACCOUNT))
    await asyncio.to_thread(provider.arrived.acquire)
    waiting.cancel()
    provider.release()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await tokens.stored(client, ACCOUNT)).refresh_token in provider.refresh
    assert await tokens.access_token(client, ACCOUNT) == list(provider.issued)[-1]
    assert asked(provider) == 1


async def test_a_database_that_is_away_for_a_moment_loses_no_refresh_token(tokens, provider):
    """A granted refresh token is stored by retries that fit into the lease."""
    waited = []

    class Away(TokenRows):
        async def renewed(self, *given):
            if len(waited) < 3:
                raise StoreUnavailable("away")
            return await super().renewed(*given)

    async def pause(seconds):
        waited.append(seconds)

    client = await signed_in(tokens, provider)
    tokens.rows, tokens._pause = Away(tokens.rows.database), pause
    await tokens.access_token(client, ACCOUNT)
    assert waited == [0.5, 1.0, 2.0]
    assert (await tokens.stored(client, ACCOUNT)).refresh_token in provider.refresh


async def test_a_crash_between_answer_and_commit_needs_a_person(tokens, provider):
    """A refresh token lost in a crash is reported as a refusal."""
    client = await signed_in(tokens, provider)
    row = await tokens.stored(client, ACCOUNT)
    form = {
        "grant_type": "refresh_token",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "refresh_token": row.refresh_token,
    }
    await post(client.token_url, form)  # its answer is lost
    with pytest.raises(AccessRefused, match="sign in again"):
        await tokens.access_token(client, ACCOUNT)


async def test_a_sign_in_during_a_renewal_wins(tokens, provider, clock):
    """A sign-in while the old refresh token is refused gives the new access."""

    async def pause(_):
        """Return at once instead of waiting."""

    tokens._pause = pause
    client = await signed_in(tokens, provider)
    provider.end_refresh()
    provider.hold()
    waiting = asyncio.ensure_future(tokens.access_token(client, ACCOUNT))
    await asyncio.to_thread(provider.arrived.acquire)
    await tokens.rows.signed_in(
        ("provider", ACCOUNT),
        Granted("fresh", clock.now() + HOUR, provider.sign_in(), None),
        clock.now(),
    )
    provider.release()
    assert await waiting == "fresh"
    assert await tokens.problem(client, ACCOUNT) is None


# ---- a token that the mail server refused


async def test_a_token_that_the_mail_server_refused_is_replaced(tokens, provider):
    """A valid but revoked token is replaced at once."""
    client = await signed_in(tokens, provider)
    token = await tokens.access_token(client, ACCOUNT)
    provider.expire(token)
    fresh = await tokens.access_token(client, ACCOUNT, refused=token)
    assert provider.introspect(fresh)["active"]


async def test_a_token_that_somebody_renewed_since_is_taken(tokens, provider):
    """When two mailboxes are refused with a token, the second takes the first's new one."""
    client = provider.client("client_credentials")
    token = await tokens.access_token(client, ACCOUNT)
    given = [
        await tokens.access_token(client, account, refused=token)
        for account in (ACCOUNT, "sales@example.org")
    ]
    assert given[0] == given[1] != token
    assert provider.calls["client_credentials"] == 2


async def test_a_provider_that_gives_the_same_token_again_is_not_hammered(tokens, provider):
    """The provider is asked twice; then the mail server is tried with the same token."""

    async def pause(_):
        """Return at once instead of waiting."""

    tokens._pause = pause
    client = provider.client("client_credentials")
    provider.replies = [Reply(200, b'{"access_token": "same", "expires_in": 3600}')] * 9
    assert await tokens.access_token(client, ACCOUNT) == "same"
    assert await tokens.access_token(client, ACCOUNT, refused="same") == "same"
    assert len(provider.replies) == 6


# ---- refusals


async def test_a_missing_sign_in_is_reported_without_a_request(tokens, provider):
    """A mailbox without a sign-in says which command to run, and makes no request."""
    client = provider.client("device_code")
    with pytest.raises(AccessRefused, match="run ticketgate channel login"):
        await tokens.access_token(client, ACCOUNT)
    assert "channel login" in await tokens.problem(client, ACCOUNT)
    assert not provider.forms


async def test_revoked_access_is_stored_for_all_processes(open_tokens, provider, clock):
    """After invalid_grant no process asks again for 15 minutes; then one does."""
    one, two = await open_tokens("one"), await open_tokens("two")
    client = await signed_in(one, provider)
    provider.revoke()
    for tokens in (one, two, one):
        with pytest.raises(AccessRefused, match="sign in again with ticketgate channel login"):
            await tokens.access_token(client, ACCOUNT)
        assert "sign in again" in await tokens.problem(client, ACCOUNT)
    assert asked(provider) == 1
    clock.advance(15 * MINUTE)
    for tokens in (two, one):
        with pytest.raises(AccessRefused):
            await tokens.access_token(client, ACCOUNT)
    assert asked(provider) == 2


async def test_a_refusal_that_passes_is_forgotten(tokens, provider, clock):
    """A provider that refused by mistake is asked again after 15 minutes."""
    client = await signed_in(tokens, provider)
    provider.replies = [refusal("invalid_client", status=401)]
    with pytest.raises(AccessRefused, match="client_secret"):
        await tokens.access_token(client, ACCOUNT)
    clock.advance(15 * MINUTE)
    assert await tokens.access_token(client, ACCOUNT) in provider.issued
    assert await tokens.problem(client, ACCOUNT) is None


async def test_the_end_of_a_refresh_token_is_announced_a_week_before(tokens, provider, clock):
    """If the provider says how long access lasts, people are warned a week before."""
    provider.refresh_seconds = 90 * 86400
    client = await signed_in(tokens, provider)
    await tokens.access_token(client, ACCOUNT)
    assert await tokens.problem(client, ACCOUNT) is None
    clock.advance(timedelta(days=83, seconds=1))
    assert (
        await tokens.problem(client, ACCOUNT)
        == "access ends on 2027-02-20 10:00 UTC: sign in again with ticketgate channel login"
    )


async def test_a_client_that_acts_for_itself_has_no_problem_before_its_first_token(
    tokens, provider
):
    """A client with client credentials needs no sign-in and reports no problem."""
    assert await tokens.problem(provider.client("client_credentials"), ACCOUNT) is None
