"""Tests of a real Postfix as smarthost: STARTTLS, envelope, and a valid signature."""

from __future__ import annotations

import base64

import dkim
import pytest

from config.keys import read_key
from gateway.outbox.results import Deferred, PermanentFailure, Sent
from gateway.outbox.signing import Signer
from gateway.outbox.submit import Smarthost, SmarthostServer
from tests.integration.test_postfix import postfix, seen
from tests.servers.sink import Sink
from tests.unit.gateway.outbox.conftest import MAIL, authority, openssl, pair

__all__ = ["authority", "pair", "postfix"]  # fixtures


@pytest.fixture
async def next_hop():
    """Run the server to which Postfix sends everything."""
    async with Sink() as sink:
        yield sink


@pytest.fixture
async def smarthost(postfix, next_hop, authority, pair):
    """Return the settings of a running Postfix that rejects gone.example and requires TLS."""
    postfix.configure(
        relay_transport=f"smtp:[127.0.0.1]:{next_hop.port}",
        relay_domains="example.net, gone.example",
        smtpd_tls_security_level="encrypt",
        smtpd_tls_cert_file=str(pair.certificate),
        smtpd_tls_key_file=str(pair.key),
        smtpd_recipient_restrictions=(
            "check_recipient_access inline:{gone.example=REJECT}, permit_mynetworks, reject"
        ),
    )
    postfix.run("start")
    made = Smarthost(
        SmarthostServer(
            "localhost", postfix.port, "starttls", str(authority.ca), hostname="desk.example"
        )
    )
    yield made
    await made.close()


async def test_mail_goes_through(smarthost, next_hop, postfix):
    """Two mails on one connection, with signed and null return path, arrive validly signed."""
    pem = openssl("genpkey", "-algorithm", "ed25519")
    public = openssl("pkey", "-pubout", "-outform", "DER", stdin=pem)[-32:]
    raw = await Signer("example.org", "desk", read_key(pem.decode())).sign(MAIL)
    for sender in ("support+b7.abcdefghijklmnop@example.org", ""):
        assert isinstance(await smarthost.submit(sender, "ann@example.net", raw), Sent)
    await seen(lambda: len(next_hop.mails) == 2 and postfix.queued() == 0)
    assert {mail.sender for mail in next_hop.mails} == {
        "support+b7.abcdefghijklmnop@example.org",
        "",
    }
    record = b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public)
    for mail in next_hop.mails:
        assert mail.raw.endswith(MAIL.partition(b"\r\n\r\n")[2])
        assert dkim.verify(mail.raw, dnsfunc=lambda name, timeout=5: record)
    assert postfix.log().count(": connect from localhost") == 1


async def test_refusals_of_postfix(smarthost, next_hop, postfix):
    """A rejected recipient fails with Postfix's text; without Postfix all are deferred."""
    refused = await smarthost.submit("", "ann@gone.example", MAIL)
    assert isinstance(refused, PermanentFailure)
    assert refused.reply.startswith("554 5.7.1 <ann@gone.example>")
    assert isinstance(await smarthost.submit("", "ann@example.net", MAIL), Sent)
    await seen(lambda: next_hop.mails)
    postfix.run("stop")
    gone = await smarthost.submit("", "ann@example.net", MAIL)
    assert isinstance(gone, Deferred)
    assert gone.everybody
