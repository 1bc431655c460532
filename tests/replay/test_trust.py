"""Tests of what a mail proves about its sender (behaviour.md 5, verdict, acknowledgements; E28)."""

from __future__ import annotations

import pytest

from tests.replay.world import TRUSTED, World

pytestmark = pytest.mark.asyncio(loop_scope="session")


def mail(sender: str, name: str, *fields: str) -> bytes:
    lines = [
        *fields,
        f"From: {sender}",
        "To: support@localhost",
        f"Subject: {name}",
        f"Message-ID: <{name}@example.org>",
    ]
    return ("\r\n".join(lines) + "\r\n\r\nSome words.\r\n").encode()


async def test_a_sender_is_proven_once_and_for_all_by_a_pass(world: World) -> None:
    """A contact is proven from the first mail with verdict pass; none and fail change nothing."""
    results = f"Authentication-Results: {TRUSTED}; dmarc="
    await world.mail(mail("ann@example.org", "a1"))
    assert await world.rows("contact", "address", "proven") == [("ann@example.org", False)]
    await world.mail(mail("ann@example.org", "a2", results + "pass"))
    await world.mail(mail("ann@example.org", "a3", results + "fail"))
    await world.mail(mail("ann@example.org", "a4"))
    await world.mail(
        mail(
            "eve@example.org",
            "e1",
            f"Authentication-Results: mx.elsewhere.example; dmarc=pass, {results}fail",
        )
    )
    await world.mail(mail("bob@example.org", "b1", results + "fail"))
    assert await world.rows("contact", "address", "proven") == [
        ("ann@example.org", True),
        ("bob@example.org", False),
        ("eve@example.org", False),
    ]


async def test_only_a_machine_that_was_unknown_is_marked(world: World) -> None:
    """E28, E42: a notice marks a contact it creates as automated, not one who wrote before."""
    await world.mail(mail("ann@example.org", "a1"))
    await world.mail(mail("ann@example.org", "a2", "List-Id: <all.example.org>"))
    await world.mail(mail("monitor@example.org", "m1", "Auto-Submitted: auto-generated"))
    assert await world.rows("contact", "address", "automated") == [
        ("ann@example.org", False),
        ("monitor@example.org", True),
    ]


async def test_a_strangers_cc_makes_nobody(world: World) -> None:
    """E24: an address that a stranger puts into Cc becomes no contact and no participant."""
    await world.mail(mail("ann@example.org", "a1"))
    await world.mail(
        mail("eve@example.org", "e1", "In-Reply-To: <a1@example.org>", "Cc: mallory@example.org")
    )
    assert [row[0] for row in await world.rows("contact", "address")] == [
        "ann@example.org",
        "eve@example.org",
    ]
    assert len(await world.rows("participant")) == 2


async def test_a_pass_for_one_of_several_authors_proves_nothing(world: World) -> None:
    """With two authors in From, or two From fields, a pass proves neither of them."""
    passed = f"Authentication-Results: {TRUSTED}; dmarc=pass"
    await world.mail(mail("Ann <ann@example.org>, Mal <mal@other.example>", "a1", passed))
    await world.mail(mail("ann@example.org", "a2", passed, "From: mal@other.example"))
    known = await world.rows("contact", "address", "proven")
    assert known
    assert [address for address, proven in known if proven] == []


async def test_a_good_copy_in_the_same_batch_is_processed_once(world: World) -> None:
    """INV14, E33: a quarantined copy does not block the good one; later copies are duplicates."""
    results = f"Authentication-Results: {TRUSTED}; dmarc="
    await world.mail(mail("ann@example.org", "a1", results + "pass"))
    same = [
        mail("ann@example.org", "a2", results + verdict)
        for verdict in ("fail", "pass", "pass", "fail")
    ]
    assert [line["outcome"] for line in await world.batch(same)] == [
        "quarantined",
        "done",
        "duplicate",
        "duplicate",
    ]
