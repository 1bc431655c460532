"""Tests of STARTTLS: earlier input is dropped, later input kept, certificates renewed."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from gateway.ingress.connection_limits import Limits
from gateway.ingress.smtp.tls import Certificate
from tests.unit.gateway.ingress.conftest import until

MAIL = b"Subject: x\r\n\r\nsecret\r\n"


@pytest.fixture(scope="session")
def pairs(make_pair):
    """Return two certificates."""
    return make_pair("one.example"), make_pair("two.example")


@pytest.fixture
def pair(pairs, tmp_path, make_pair):
    """Return a certificate that a test may replace."""
    copy = type(pairs[0])(tmp_path / "cert.pem", tmp_path / "key.pem")
    copy.replace_by(pairs[0])
    return copy


@pytest.fixture
async def desk(open_desk, pair):
    """Return a listener with that certificate."""
    return await open_desk(certificate=Certificate(pair.certificate, pair.key))


def client_context(newest=None):
    """Return a TLS context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if newest is not None:
        context.minimum_version = context.maximum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


async def secure(client, context=None):
    """Send STARTTLS and do the handshake."""
    assert (await client.say("STARTTLS")).startswith("220 ")
    await client.writer.start_tls(context or client_context())


def certificate_of(client):
    """Return the certificate that the server showed."""
    return client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)


async def test_mail_over_tls(desk):
    """After STARTTLS the session starts anew; envelope and trace field name TLS."""
    client = await desk.connect()
    await client.reply()
    assert "250-STARTTLS" in await client.say("EHLO client.example")
    await secure(client)
    assert (await client.say("MAIL FROM:<a@client.example>")).startswith("503")
    assert "STARTTLS" not in await client.say("EHLO client.example")
    assert (await client.say("STARTTLS")).startswith("503")
    assert (await client.mail(MAIL)).startswith("250")
    assert desk.spool.mails[0].envelope.tls.startswith("TLSv1.3 with cipher ")
    raw = (desk.spool.folder / "1.eml").read_bytes()
    assert b"(ticketgate) with ESMTPS id " in raw.split(b"\r\n")[1]
    assert b"\t(TLSv1.3 with cipher " in raw
    assert raw.endswith(MAIL)
    assert (await client.say("QUIT")).startswith("221")
    assert await client.closed()


async def test_large_mail_over_tls(desk):
    """Flow control works with the new transport after STARTTLS."""
    client = await (await desk.connect()).hello()
    await secure(client)
    await client.say("EHLO client.example")
    data = b"0123456789 abcdef\r\n" * 200_000
    assert (await client.mail(data)).startswith("250")
    assert (desk.spool.folder / "1.eml").read_bytes().endswith(data)


async def test_commands_sent_before_the_handshake_are_dropped(desk):
    """Plain text commands sent before the handshake are dropped."""
    client = await desk.hello()
    await client.send(b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@client.example>\r\n")
    assert (await client.reply()).startswith("220")
    await client.writer.start_tls(client_context())
    assert (await client.say("NOOP")).startswith("250 2.0.0")
    assert (await client.say("RCPT TO:<support@desk.example>")).startswith("503")
    assert (await client.say("EHLO client.example")).startswith("250-")
    assert (await client.say("RCPT TO:<support@desk.example>")).startswith("503")


async def test_data_sent_with_the_handshake_is_executed(desk):
    """Encrypted data sent with the end of the handshake is executed."""
    client = await desk.hello()
    assert (await client.say("STARTTLS")).startswith("220 ")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    await client.send(outgoing.read())
    while True:
        incoming.write(await client.reader.read(65536))
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            continue
    tls.write(b"EHLO client.example\r\nNOOP\r\n")
    await client.send(outgoing.read())
    said = b""
    while b"250 2.0.0 OK" not in said:
        incoming.write(await asyncio.wait_for(client.reader.read(65536), 20))
        with contextlib.suppress(ssl.SSLWantReadError):
            said += tls.read()
    assert said.startswith(b"250-mx.desk.example")


async def test_old_versions_of_tls_are_refused(desk):
    """Versions before TLS 1.2 are refused."""
    client = await desk.hello()
    with (
        pytest.warns(DeprecationWarning, match="TLSv1_1"),
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        await secure(client, client_context(ssl.TLSVersion.TLSv1_1))
    other = await desk.hello()
    await secure(other, client_context(ssl.TLSVersion.TLSv1_2))
    assert (await other.say("NOOP")).startswith("250")


async def test_plain_text_instead_of_a_handshake_ends_the_session(desk):
    """A client that sends plain text instead is cut off, and the next one is served."""
    client = await desk.hello()
    assert (await client.say("STARTTLS")).startswith("220 ")
    await client.send(b"MAIL FROM:<a@client.example>\r\n" * 10)
    assert await client.closed()
    assert (await (await desk.hello()).mail(MAIL)).startswith("250")


async def test_a_silent_handshake_keeps_no_place(open_desk, pair):
    """A client that says nothing after STARTTLS makes room for another."""
    limits = Limits(connections=1, evict_seconds=0.0)
    desk = await open_desk(limits=limits, certificate=Certificate(pair.certificate, pair.key))
    client = await desk.hello()
    assert (await client.say("STARTTLS")).startswith("220 ")
    assert (await (await desk.hello()).mail(MAIL)).startswith("250")
    assert await client.closed()


async def test_a_renewed_certificate_is_used_without_a_restart(desk, pair, pairs):
    """The next handshake shows the new certificate; old sessions go on."""
    old = await desk.hello()
    await secure(old)
    pair.replace_by(pairs[1])
    new = await desk.hello()
    await secure(new)
    assert certificate_of(old) != certificate_of(new)
    assert (await old.say("NOOP")).startswith("250")


async def test_a_broken_renewal_keeps_the_old_certificate(desk, pair, pairs, printed_log):
    """While the files are missing or do not match, the old certificate is used."""
    first = await desk.hello()
    await secure(first)
    pair.certificate.write_bytes(pairs[1].certificate.read_bytes())
    second = await desk.hello()
    await secure(second)
    assert certificate_of(first) == certificate_of(second)
    pair.certificate.unlink()
    third = await desk.hello()
    await secure(third)
    assert certificate_of(first) == certificate_of(third)
    assert "certificate" in printed_log.getvalue()
    pair.replace_by(pairs[1])
    fourth = await desk.hello()
    await secure(fourth)
    assert certificate_of(first) != certificate_of(fourth)


async def test_cut_in_the_middle_of_tls(desk):
    """A client that vanishes inside DATA under TLS leaves nothing behind."""
    client = await desk.hello()
    await secure(client)
    await client.say("EHLO client.example")
    await client.begin()
    await client.send(b"x" * 400_000)
    client.close()
    await until(lambda: not desk.server.sessions)
    assert desk.spool.stored() == []


def test_a_wrong_certificate_is_an_error_at_the_start(tmp_path, pairs):
    """A missing file or a key that does not match is an error at the start."""
    with pytest.raises(OSError, match="No such file"):
        Certificate(tmp_path / "none", pairs[0].key)
    with pytest.raises(ssl.SSLError):
        Certificate(pairs[0].certificate, pairs[1].key)
