"""Tests of the acceptor: shared commits, errors of single mails, cancelled callers."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.model.message import Envelope
from gateway.errors import BlobsUnavailable, DiskFull, StoreUnavailable
from gateway.ingress.accept import GROUP_BYTES, GROUP_MAILS, IN_MEMORY, TROUBLE_SECONDS, SpoolFile
from tests.unit.gateway.ingress.conftest import until


@pytest.fixture
def envelope(clock):
    """Return an ordinary envelope."""
    return Envelope(
        sender="a@client.example",
        recipients=("support@desk.example",),
        source="smtp",
        received_at=clock.now(),
    )


def mail(number, size=0):
    """Return a mail with a distinct text."""
    return (
        b"Received: from x\r\n\ty\r\n\tz\r\n"
        + f"Subject: number-{number}-\r\n\r\n".encode()
        + b"x" * size
    )


async def hold(desk, envelope):
    """Keep the spool busy with a first mail, so that all later ones wait."""
    desk.spool.gate.clear()
    desk.spool.entered.clear()
    first = asyncio.create_task(desk.accept.accept(mail("first"), envelope))
    await desk.spool.entered.wait()
    return first


async def test_mail_that_waits_is_committed_together(desk, envelope):
    """Mails that arrive during a commit share the next one, in order."""
    first = await hold(desk, envelope)
    others = [
        asyncio.create_task(desk.accept.accept(mail(number), envelope)) for number in range(10)
    ]
    await asyncio.sleep(0)
    desk.spool.gate.set()
    receipts = await asyncio.gather(first, *others)
    assert [receipt.mail_id for receipt in receipts] == list(range(1, 12))
    assert desk.spool.groups == [1, 10]
    assert len(desk.wakes) == 2


async def test_groups_have_a_limit(desk, envelope):
    """A group has at most 200 mails and 16 MiB, or one larger mail."""
    first = await hold(desk, envelope)
    others = [
        asyncio.create_task(desk.accept.accept(mail(number), envelope))
        for number in range(GROUP_MAILS + 5)
    ]
    large = [
        asyncio.create_task(desk.accept.accept(mail("large", 7 << 20), envelope)) for _ in range(3)
    ]
    huge = asyncio.create_task(desk.accept.accept(mail("huge", 17 << 20), envelope))
    await until(lambda: len(desk.accept._pending) == len(others) + 4)
    desk.spool.gate.set()
    await asyncio.gather(first, *others, *large, huge)
    assert (GROUP_MAILS, desk.spool.groups) == (200, [1, 200, 5 + 2, 1, 1])


async def test_one_bad_mail_does_not_refuse_the_others(desk, envelope):
    """After a failed group each mail is tried alone and gets its own result."""
    desk.spool.bad = {b"number-3-": ValueError("bad")}
    first = await hold(desk, envelope)
    others = [
        asyncio.create_task(desk.accept.accept(mail(number), envelope)) for number in range(6)
    ]
    await asyncio.sleep(0)
    desk.spool.gate.set()
    await first
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [
        False,
        False,
        False,
        True,
        False,
        False,
    ]
    assert len(desk.spool.stored()) == 6


async def test_an_absent_store_fails_the_whole_group_at_once(desk, envelope):
    """If the database is away the whole group fails at once."""
    first = await hold(desk, envelope)
    others = [
        asyncio.create_task(desk.accept.accept(mail(number), envelope)) for number in range(6)
    ]
    await asyncio.sleep(0)
    desk.spool.errors = [StoreUnavailable("away")]
    desk.spool.gate.set()
    outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert desk.spool.calls == 1
    assert (await desk.accept.accept(mail("later"), envelope)).mail_id == 1


@pytest.mark.parametrize("when", ["in the commit", "before it"])
async def test_a_cancelled_caller_does_not_cancel_the_commit(desk, envelope, when):
    """A mail handed in is stored even if its caller is cancelled."""
    first = await hold(desk, envelope)
    second = asyncio.create_task(desk.accept.accept(mail(2), envelope))
    await asyncio.sleep(0)
    cancelled = first if when == "in the commit" else second
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    desk.spool.gate.set()
    await desk.accept.drain()
    assert len(desk.spool.stored()) == 2


async def test_drain_waits_for_everything(desk, envelope):
    """After drain nothing is in flight; with nothing in flight it returns at once."""
    await desk.accept.drain()
    first = await hold(desk, envelope)
    drained = asyncio.create_task(desk.accept.drain())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not drained.done()
    desk.spool.gate.set()
    await drained
    assert first.done()


@pytest.mark.parametrize("outcome", ["stored", "failed", "no room", "cancelled"])
async def test_the_temporary_file_of_a_mail_is_removed(desk, envelope, outcome):
    """However a large mail ends, its temporary file is removed."""
    path = desk.accept.directory / "large"
    path.write_bytes(b"Received: from x\r\n\ty\r\n\tz\r\nbody")
    raw = SpoolFile(path, 30, "0" * 64)
    if outcome == "failed":
        desk.spool.errors = [ValueError("bad")]
    if outcome == "no room":
        desk.free[0] = 0
    if outcome == "cancelled":
        desk.spool.gate.clear()
    task = asyncio.create_task(desk.accept.accept(raw, envelope))
    await asyncio.sleep(0)
    if outcome == "cancelled":
        task.cancel()
        await asyncio.sleep(0)
        desk.spool.gate.set()
    result = (await asyncio.gather(task, return_exceptions=True))[0]
    await desk.accept.drain()
    assert isinstance(
        result,
        {"failed": ValueError, "no room": DiskFull, "cancelled": asyncio.CancelledError}.get(
            outcome, object
        ),
    )
    assert not path.exists()
    assert len(desk.spool.stored()) == (outcome in ("stored", "cancelled"))


@pytest.mark.parametrize("size", [0, 3 << 20])
async def test_size_and_digest_are_those_of_the_bytes(desk, envelope, size):
    """The spool gets size and SHA-256 digest of exactly the bytes that it stores."""
    raw = mail(1, size)
    await desk.accept.accept(raw, envelope)
    (stored,) = desk.spool.mails
    assert (stored.size, stored.sha256, stored.envelope) == (
        len(raw),
        sha256(raw).hexdigest(),
        envelope,
    )


async def test_mails_handed_in_together_keep_their_order(desk, envelope):
    """Mails handed in together get ascending ids; the first error is raised."""
    assert await desk.accept.accept_all([]) == []
    receipts = await desk.accept.accept_all(
        [(mail(number), envelope) for number in range(GROUP_MAILS + 6)]
    )
    assert [receipt.mail_id for receipt in receipts] == list(range(1, GROUP_MAILS + 7))
    assert desk.spool.groups == [GROUP_MAILS, 6]
    desk.spool.bad = {b"number-1-": ValueError("first"), b"number-2-": ValueError("second")}
    with pytest.raises(ValueError, match="first"):
        await desk.accept.accept_all([(mail(number), envelope) for number in range(4)])
    assert len(desk.spool.stored()) == GROUP_MAILS + 8


async def test_mail_behind_a_refused_group_is_refused_with_it(desk, envelope):
    """If the database is away, whatever waits behind the group does not ask it again."""
    first = await hold(desk, envelope)
    others = [
        asyncio.create_task(desk.accept.accept(mail(number), envelope))
        for number in range(2 * GROUP_MAILS)
    ]
    await until(lambda: len(desk.accept._pending) == len(others))
    desk.spool.errors = [StoreUnavailable("away")]
    desk.spool.gate.set()
    outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert desk.spool.calls == 1


async def test_a_broken_blob_store_refuses_large_mail_only(desk, envelope):
    """Small mail of the same group is stored; what was refused is told until such mail is."""
    desk.spool.bad = {b"number-large-": BlobsUnavailable("permission denied")}
    first = await hold(desk, envelope)
    raws = [mail("small"), mail("large", IN_MEMORY), mail("other")]
    others = [asyncio.create_task(desk.accept.accept(raw, envelope)) for raw in raws]
    await until(lambda: len(desk.accept._pending) == len(others))
    desk.spool.gate.set()
    outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    assert [isinstance(outcome, BlobsUnavailable) for outcome in outcomes] == [
        False,
        False,
        True,
        False,
    ]
    assert desk.accept.trouble == "permission denied"
    await desk.accept.accept(mail("more"), envelope)
    assert desk.accept.trouble == "permission denied"
    desk.spool.bad = {}
    await desk.accept.accept(mail("large", IN_MEMORY), envelope)
    assert desk.accept.trouble is None


@pytest.mark.parametrize("away", [StoreUnavailable("locked"), DiskFull("full")])
async def test_each_reason_of_refusals_is_logged_once(desk, envelope, away):
    """One line when mail is refused, one when it is stored again, whatever the number of mails."""
    with capture_logs() as lines:
        for _ in range(3):
            desk.spool.errors = [away]
            with pytest.raises(type(away)):
                await desk.accept.accept(mail(1), envelope)
        await desk.accept.accept(mail(1), envelope)
        await desk.accept.accept(mail(2), envelope)
    told = [
        (line["log_level"], line["event"], line["reason"]) for line in lines if "reason" in line
    ]
    assert told == [
        ("error", "mail refused until the store works", away.message),
        ("warning", "mail is stored again", away.message),
    ]


async def test_a_refusal_is_forgotten_after_a_while(desk, envelope, monkeypatch):
    """A refusal is told for a minute, so that a desk without mail is not unready for ever."""
    now = [0.0]
    monkeypatch.setattr("gateway.ingress.accept.time.monotonic", lambda: now[0])
    desk.free[0] = 0
    with pytest.raises(DiskFull):
        desk.accept.check_room()
    assert str(desk.accept.trouble).startswith("not enough disk space")
    now[0] = TROUBLE_SECONDS + 1
    assert desk.accept.trouble is None


async def test_a_file_that_cannot_be_removed_stops_nothing(desk, envelope, monkeypatch):
    """A large mail is stored, and so is what comes after it, if its file cannot be removed."""
    path = desk.accept.directory / "large"
    path.write_bytes(b"Received: from x\r\n\ty\r\n\tz\r\nbody")
    first = await hold(desk, envelope)

    def forbidden(_self: Path, **_how: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", forbidden)
        raws = [mail(1), SpoolFile(path, GROUP_BYTES, "0" * 64), mail(2)]
        others = [asyncio.create_task(desk.accept.accept(raw, envelope)) for raw in raws]
        await until(lambda: len(desk.accept._pending) == len(others))
        desk.spool.gate.set()
        receipts = await asyncio.gather(first, *others)
        await desk.accept.drain()
        receipts.append(await desk.accept.accept(mail(3), envelope))
    assert [receipt.mail_id for receipt in receipts] == [1, 2, 3, 4, 5]
    assert not path.exists()
