"""Tests of Authentication-Results from peers that may not give any (behaviour.md 5, verdict)."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from core.model.message import Envelope
from gateway import log
from gateway.intake.sandbox.jobs import ReadFailure
from gateway.store.queues.mail_register import pack, unpack
from tests.replay.world import TRUSTED, World

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLAIMS = [
    "{id}; dmarc={result}",
    " {id} 1 ;dmarc={result}",
    "(x){id}(y (z))1(v); (a) dmarc (b) = (c) {result} (p=reject)",
    '"{id}"; dmarc={result}',
    "{upper}; DMARC={result}",
    "\r\n\t{id}\r\n ;\r\n dmarc={result}",
    "other.example; dmarc=none\r\nAuthentication-Results: {id}; dmarc={result}",
    "mx.(x)example.net; dmarc={result}\r\nAUTHENTICATION-results : {id}; dmarc={result}",
]


def mail(name: str, *fields: str, body: str = "Some words.") -> bytes:
    lines = [*fields, "From: ann@example.org", "To: support@localhost", f"Subject: {name}"]
    return ("\r\n".join([*lines, f"Message-ID: <{name}@example.org>", "", body]) + "\r\n").encode()


def results(result: str, claim: str = CLAIMS[0]) -> str:
    """Return a field that claims to be from the trusted server."""
    claim = claim.format(id=TRUSTED, upper=TRUSTED.upper(), result=result)
    return f"Authentication-Results: {claim}"


def by_smtp(world: World, *, listed: bool) -> Envelope:
    """Return an envelope of a mail by SMTP from a peer that is no trusted hop."""
    return replace(world.envelope(source="smtp", trusted_hop=False), listed_peer=listed, peer="x.7")


async def proven(world: World) -> list[bool]:
    """Return for each contact whether a mail was ever proven to be theirs."""
    return [row[0] for row in await world.rows("contact", "proven")]


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("result", ["pass", "fail"])
async def test_a_claim_of_an_unlisted_peer_is_void(world: World, claim: str, result: str) -> None:
    """However an unlisted SMTP peer spells our server's id, it neither proves nor condemns."""
    await world.mail(mail("a1"))
    line = await world.mail(mail("a2", results(result, claim)), by_smtp(world, listed=False))
    assert line["outcome"] == "done"
    assert await proven(world) == [False]


@pytest.mark.parametrize("claim", CLAIMS)
async def test_the_same_from_a_listed_peer_counts(world: World, claim: str) -> None:
    """The same fields from a listed peer prove who wrote the mail, and condemn a forged one."""
    listed = by_smtp(world, listed=True)
    await world.mail(mail("a1", results("pass", claim)), listed)
    assert await proven(world) == [True]
    assert (await world.mail(mail("a2", results("fail", claim)), listed))["outcome"] == (
        "quarantined"
    )


@pytest.mark.parametrize("source", ["imap", "lmtp", "deliver", "replay", "http"])
async def test_results_count_wherever_the_operator_opened_the_way(
    world: World, source: str
) -> None:
    """By IMAP, LMTP, deliver, replay and HTTP no peer has to be listed."""
    await world.mail(mail("a1", results("pass")), world.envelope(source=source))
    assert await proven(world) == [True]


@pytest.mark.parametrize("claim", CLAIMS)
async def test_the_spam_flag_beside_a_void_claim_says_nothing(world: World, claim: str) -> None:
    """A spam flag counts beside results of our server; void results lend it nothing."""
    flagged = (results("none", claim), "X-Spam-Flag: YES")
    line = await world.mail(mail("a1", *flagged), by_smtp(world, listed=False))
    assert line["outcome"] == "done"
    line = await world.mail(mail("a2", *flagged), by_smtp(world, listed=True))
    assert line["outcome"] == "quarantined"


async def test_an_unreadable_mail_is_no_way_around(world: World, monkeypatch: Any) -> None:
    """A mail that is read by its headers alone loses void results as well."""

    async def unread(jobs: Any) -> list[Any]:
        return [ReadFailure("too hard") for _ in jobs]

    monkeypatch.setattr(world.intake.sandbox, "read_many", unread)
    await world.mail(mail("a1", results("pass")), by_smtp(world, listed=False))
    assert await proven(world) == [False]
    await world.mail(mail("a2", results("pass")), by_smtp(world, listed=True))
    assert await proven(world) == [True]


async def test_void_results_are_logged_and_kept_in_the_raw_mail(
    world: World, printed: io.StringIO
) -> None:
    """The log names the peer to list; results of nobody we know are not worth a line."""
    elsewhere = "Authentication-Results: elsewhere.example; dmarc=pass"
    raw = mail("a1", results("pass"))
    for each in (raw, mail("a2", elsewhere), mail("a3")):
        await world.mail(each, by_smtp(world, listed=False))
    await world.mail(mail("a4", results("pass")), by_smtp(world, listed=True))
    lines = [line for line in printed.getvalue().splitlines() if '"void results"' in line]
    assert len(lines) == 1
    assert '"peer":"x.7"' in lines[0].replace(" ", "")
    assert await world.register.raw(1) == raw


async def test_mail_stored_by_an_older_version_counts_as_unlisted(world: World) -> None:
    """Mail that waited in the spool during an upgrade has no word about its peer: none counts."""
    stored = pack(by_smtp(world, listed=True))
    assert unpack(stored, "smtp", world.clock.now()).results_count
    del stored["listed_peer"]
    assert not unpack(stored, "smtp", world.clock.now()).results_count
    assert unpack(stored, "imap", world.clock.now()).results_count


@pytest.fixture
def printed() -> Iterator[io.StringIO]:
    """Capture the log."""
    written = io.StringIO()
    log.configure(level="info", form="json", addresses="hashed", stream=written)
    yield written
    log.configure(level="info", form="json", addresses="hashed", stream=sys.__stderr__)
