"""Tests of token rows, on both databases: leases, and the newest refresh token is kept."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from gateway.store.engine import Database
from gateway.store.imap.oauth_tokens import Granted, TokenRows
from gateway.store.schema import tables

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
KEY = ("provider", "desk@example.org")
HOUR = timedelta(hours=1)
LEASE = 30.0


def given(number, *, refresh=True, refresh_until=None):
    """Return the nth grant of a provider."""
    return Granted(
        f"access-{number}", NOW + HOUR, f"refresh-{number}" if refresh else None, refresh_until
    )


@pytest.fixture
async def rows(store):
    """Return the table after one sign-in."""
    made = TokenRows(store)
    await made.signed_in(KEY, given(1, refresh_until=NOW + 24 * HOUR), NOW)
    return made


@pytest.fixture
async def another(ready_url, rows):
    """Return the same table in another process."""
    database = await Database.open(ready_url, node="another")
    yield TokenRows(database)
    await database.close()


async def test_a_sign_in_is_stored(rows):
    """A sign-in stores both tokens, their ends and its time, without a lease."""
    row = await rows.get(KEY)
    assert (row.access_token, row.access_until, row.refresh_token) == (
        "access-1",
        NOW + HOUR,
        "refresh-1",
    )
    assert (row.refresh_until, row.changed_at) == (NOW + 24 * HOUR, NOW)
    assert (row.problem, row.refused_at, row.lease_owner, row.lease_until) == (
        None,
        None,
        None,
        None,
    )


async def test_an_account_without_sign_in_has_no_row(rows):
    """Another account of the same client has no row."""
    assert await rows.get(("provider", "sales@example.org")) is None


async def test_a_row_does_not_show_its_secrets(rows):
    """Neither rows nor grants print a token or an address."""
    shown = repr(await rows.get(KEY)) + repr(given(2))
    assert not [word for word in ("access-", "refresh-", "example.org") if word in shown]


async def test_a_lease_belongs_to_one_process(rows, another):
    """A leased row cannot be leased by another process until it is released."""
    assert await rows.lease(KEY, LEASE, NOW) is not None
    assert await another.lease(KEY, LEASE, NOW) is None
    await another.release(KEY)  # another process's lease
    assert await another.lease(KEY, LEASE, NOW) is None
    await rows.release(KEY)
    assert (await another.lease(KEY, LEASE, NOW)).refresh_token == "refresh-1"


async def test_a_lease_runs_out(rows, another):
    """A lease ends after thirty seconds."""
    assert await rows.lease(KEY, LEASE, NOW) is not None
    assert await another.lease(KEY, LEASE, NOW + timedelta(seconds=29)) is None
    assert await another.lease(KEY, LEASE, NOW + timedelta(seconds=30)) is not None


async def test_the_lease_of_a_dead_process_of_this_host_is_free(rows, ready_url):
    """A dead process of this host holds nothing; living or remote ones do."""
    host = socket.gethostname()[:40]
    mine = await Database.open(ready_url, node=f"{host}-{os.getpid()}")
    try:
        for owner, is_free in (
            (f"{host}-999999999", True),
            (f"{host}-{os.getppid()}", False),
            ("elsewhere-999999999", False),
        ):
            async with mine.write() as connection:
                taken = {"lease_owner": owner, "lease_until": NOW + HOUR}
                await connection.execute(sa.update(tables.oauth_token).values(**taken))
            assert (await TokenRows(mine).lease(KEY, LEASE, NOW) is not None) is is_free
    finally:
        await mine.close()


async def test_a_lease_makes_the_row_it_needs(rows, another):
    """Leasing inserts a missing row, once even from two processes."""
    own = ("provider", "")
    first = await rows.lease(own, LEASE, NOW)
    assert (first.access_token, first.refresh_token) == (None, None)
    assert await another.lease(own, LEASE, NOW) is None
    assert await rows.renewed(own, None, given(1, refresh=False))
    assert (await another.get(own)).access_token == "access-1"


async def test_a_renewal_stores_the_whole_grant(rows):
    """A renewal stores the whole grant, ends the lease and clears a refusal."""
    await rows.refused(KEY, "refresh-1", "no", NOW)
    await rows.lease(KEY, LEASE, NOW)
    assert await rows.renewed(KEY, "refresh-1", given(2))
    row = await rows.get(KEY)
    assert (row.access_token, row.refresh_token, row.refresh_until) == (
        "access-2",
        "refresh-2",
        None,
    )
    assert (row.problem, row.refused_at, row.lease_owner) == (None, None, None)
    assert row.changed_at == NOW


async def test_a_renewal_without_a_new_refresh_token_keeps_the_old_one(rows):
    """Without a new refresh token the old one and its end stay, unless a new end is given."""
    await rows.renewed(KEY, "refresh-1", given(2, refresh=False))
    row = await rows.get(KEY)
    assert (row.access_token, row.refresh_token, row.refresh_until) == (
        "access-2",
        "refresh-1",
        NOW + 24 * HOUR,
    )
    await rows.renewed(KEY, "refresh-1", given(3, refresh=False, refresh_until=NOW + 48 * HOUR))
    row = await rows.get(KEY)
    assert (row.refresh_token, row.refresh_until) == ("refresh-1", NOW + 48 * HOUR)


async def test_a_late_renewal_does_not_write_over_a_sign_in(rows, another):
    """A renewal with the refresh token from before a new sign-in is dropped."""
    await rows.lease(KEY, LEASE, NOW)
    await another.signed_in(KEY, given(2), NOW + HOUR)
    assert not await rows.renewed(KEY, "refresh-1", given(3))
    assert not await rows.refused(KEY, "refresh-1", "the old one was refused", NOW + HOUR)
    row = await rows.get(KEY)
    assert (row.access_token, row.refresh_token, row.problem, row.changed_at) == (
        "access-2",
        "refresh-2",
        None,
        NOW + HOUR,
    )


async def test_a_good_answer_counts_after_another_process_was_refused(rows, another):
    """A renewal is stored although another process was refused with the old token."""
    await rows.lease(KEY, LEASE, NOW)
    await another.lease(KEY, LEASE, NOW + timedelta(minutes=1))
    assert await another.refused(KEY, "refresh-1", "used already", NOW + timedelta(minutes=1))
    assert await rows.renewed(KEY, "refresh-1", given(2))
    row = await another.get(KEY)
    assert (row.refresh_token, row.problem) == ("refresh-2", None)


async def test_a_refusal_is_stored_for_all(rows, another):
    """A refusal is stored with reason and time; access token and lease are removed."""
    await rows.lease(KEY, LEASE, NOW)
    assert await rows.refused(KEY, "refresh-1", "revoked", NOW)
    row = await another.get(KEY)
    assert (row.problem, row.refused_at, row.access_token, row.lease_owner) == (
        "revoked",
        NOW,
        None,
        None,
    )
    assert row.refresh_token == "refresh-1"


async def test_a_sign_in_forgets_a_refusal(rows, another):
    """A new sign-in clears problem, refusal and lease, and stores its time."""
    await rows.lease(KEY, LEASE, NOW)
    await rows.refused(KEY, "refresh-1", "revoked", NOW)
    await another.signed_in(KEY, given(2), NOW + HOUR)
    row = await rows.get(KEY)
    assert (row.problem, row.refused_at, row.lease_owner, row.changed_at) == (
        None,
        None,
        None,
        NOW + HOUR,
    )
