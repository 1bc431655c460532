"""Tests of submitting mail to a real SMTP server: replies, TLS, logins, connections."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.errors import Unavailable
from gateway.outbox import submit
from gateway.outbox.results import Deferred, PermanentFailure, Sent
from gateway.outbox.submit import Deadlines
from tests.conftest import open_port
from tests.servers.certificates import Authority
from tests.servers.sink import DROP, STALL, Sink
from tests.unit.gateway.outbox.conftest import MAIL


@asynccontextmanager
async def speaking(serve):
    """Run a server that runs a coroutine on each connection."""
    writers = []

    async def run(reader, writer):
        writers.append(writer)
        with suppress(OSError):
            await serve(reader, writer)

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    yield Sink(port=server.sockets[0].getsockname()[1])
    server.close()
    for writer in writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_mail_arrives_byte_for_byte(sink, smarthost):
    """Envelope and content arrive unchanged, also lines that begin with a dot."""
    assert await smarthost(sink).submit("support@example.org", "ann@example.net", MAIL) == Sent(
        "250 2.0.0 taken as 1"
    )
    [mail] = sink.mails
    assert (mail.sender, mail.recipient, mail.raw) == (
        "support@example.org",
        "ann@example.net",
        MAIL,
    )
    assert mail.options == (f"SIZE={len(MAIL)}",)


async def test_the_null_path(sink, smarthost):
    """An empty sender is MAIL FROM:<>."""
    await smarthost(sink).submit("", "ann@example.net", MAIL)
    assert sink.mails[0].sender == ""


async def test_a_large_mail(sink, smarthost):
    """Twelve megabytes arrive unchanged."""
    raw = b"Subject: large\r\n\r\n" + b".0123456789abcdef\r\n" * 650_000
    assert isinstance(await smarthost(sink).submit("", "ann@example.net", raw), Sent)
    assert sink.mails[0].raw == raw


@pytest.mark.parametrize(
    ("place", "answer", "expected"),
    [
        (
            "at_recipient",
            "550 5.1.1 <ann@example.net> is unknown",
            PermanentFailure("550 5.1.1 <ann@example.net> is unknown"),
        ),
        ("at_recipient", "450 4.2.1 Mailbox busy", Deferred("450 4.2.1 Mailbox busy")),
        (
            "at_recipient",
            "530 5.7.0 Authentication required",
            Deferred("530 5.7.0 Authentication required", everybody=True),
        ),
        ("at_mail", "553 5.1.8 Sender unknown", PermanentFailure("553 5.1.8 Sender unknown")),
        ("at_mail", "452 4.3.1 Disk full", Deferred("452 4.3.1 Disk full")),
        (
            "at_mail",
            "530 5.7.0 Authentication required",
            Deferred("530 5.7.0 Authentication required", everybody=True),
        ),
        ("at_mail", "535 5.7.8 Who are you", Deferred("535 5.7.8 Who are you", everybody=True)),
        ("at_mail", "421 4.3.2 Going down", Deferred("421 4.3.2 Going down", everybody=True)),
        (
            "at_data",
            "554 5.6.0 No such content\t\x01here",
            PermanentFailure("554 5.6.0 No such content here"),
        ),
        ("at_data", "451 4.7.1 Greylisted", Deferred("451 4.7.1 Greylisted")),
        (
            "at_data",
            "550 " + "long " * 200,
            PermanentFailure(("550 " + "long " * 200)[:500].rstrip()),
        ),
    ],
)
async def test_what_answers_mean(sink, smarthost, place, answer, expected):
    """A 5xx fails and a 4xx defers one recipient; replies about our account defer all."""
    setattr(sink, place, {"ann@example.net": answer} if place == "at_recipient" else [answer])
    host = smarthost(sink)
    result = await host.submit("a@example.org", "ann@example.net", MAIL)
    assert type(result) is type(expected)
    assert result.reply.rstrip() == expected.reply
    assert result == expected or isinstance(expected, PermanentFailure)
    assert isinstance(await host.submit("a@example.org", "bob@example.net", MAIL), Sent)


async def test_nobody_listens(smarthost):
    """A closed port and an unknown host name defer everybody."""
    port = open_port()
    refused = await smarthost(Sink(port=port)).submit("", "ann@example.net", MAIL)
    assert refused == Deferred(
        "cannot connect to the smarthost: connection refused", everybody=True
    )
    for name in ("no-such-host.invalid", "a..b", "x" * 70):
        nowhere = await smarthost(Sink(port=port), host=name).submit("", "ann@example.net", MAIL)
        assert isinstance(nowhere, Deferred)
        assert nowhere.everybody


async def test_a_refusing_greeting_defers_everybody(sink, smarthost):
    """A greeting of 554 or 421 defers everybody, with its text."""
    for greeting in ("554 5.3.2 No mail service here", "421 4.3.2 Too busy"):
        sink.greeting = greeting
        result = await smarthost(sink).submit("", "ann@example.net", MAIL)
        assert result == Deferred(f"cannot connect to the smarthost: {greeting}", everybody=True)


async def test_a_connection_that_ends_after_the_end_of_data(sink, smarthost):
    """The mail may have been accepted, so it is deferred, for this recipient only."""
    sink.at_data = [DROP]
    result = await smarthost(sink).submit("", "ann@example.net", MAIL)
    assert isinstance(result, Deferred)
    assert not result.everybody
    assert "the mail may have been accepted" in result.reply
    assert len(sink.mails) == 1


async def test_a_server_that_does_not_answer(sink, smarthost):
    """Each step has a deadline: after the end of data, and before the greeting."""
    sink.at_data = [STALL]
    host = smarthost(sink, deadlines=Deadlines(connect=10, command=10, data=0.3, idle=10))
    result = await host.submit("", "ann@example.net", b"Subject: x\r\n\r\n")
    assert result == Deferred(
        "no answer in time after the end of data; the mail may have been accepted"
    )

    async def silent(reader, _writer):
        await reader.read()

    async with speaking(silent) as place:
        result = await smarthost(
            place, deadlines=Deadlines(connect=0.3, command=10, data=10, idle=10)
        ).submit("", "ann@example.net", MAIL)
    assert result == Deferred("cannot connect to the smarthost: no answer in time", everybody=True)


async def test_an_answer_before_the_mail_was_sent_whole(smarthost):
    """A refusal during DATA counts, and the connection is closed."""
    heard = []

    async def serve(reader, writer):
        writer.write(b"220 early\r\n")
        for answer in (b"250 early\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go on\r\n"):
            heard.append(await reader.readline())
            writer.write(answer)
        await reader.read(1)
        writer.write(b"552 5.3.4 Too much\r\n")
        while await reader.read(1 << 16):
            pass

    async with speaking(serve) as place:
        result = await smarthost(place).submit(
            "", "ann@example.net", b"Subject: large\r\n\r\n" + b"x" * 76 * 1000 * 100 + b"\r\n"
        )
    assert result == PermanentFailure("552 5.3.4 Too much")
    assert heard[-1] == b"DATA\r\n"


async def test_answers_that_are_no_smtp(smarthost):
    """Another protocol on the port is a problem of the smarthost, not an exception."""

    async def serve(_reader, writer):
        writer.write(b"* OK IMAP4rev1 ready\r\n")
        await writer.drain()

    async with speaking(serve) as place:
        result = await smarthost(place).submit("", "ann@example.net", MAIL)
    assert isinstance(result, Deferred)
    assert result.everybody


# ---- connections


async def test_a_connection_is_kept(sink, smarthost):
    """Several mails share a connection, also after a refusal, which ends with QUIT."""
    host = smarthost(sink)
    sink.at_recipient["no@example.net"] = "550 5.1.1 Unknown"
    for recipient in ("ann@example.net", "no@example.net", "bob@example.net"):
        await host.submit("", recipient, MAIL)
    assert (sink.connections, len(sink.mails), sink.commands.count("RSET")) == (1, 2, 1)
    await host.close()
    assert sink.commands[-1] == "QUIT"


async def test_a_hundred_mails_a_connection(sink, smarthost):
    """The 101st mail is sent on a new connection."""
    host = smarthost(sink)
    for _ in range(101):
        await host.submit("", "ann@example.net", b"Subject: x\r\n\r\n")
    assert (sink.connections, len(sink.mails)) == (2, 101)


async def test_a_connection_that_the_server_has_ended(sink, smarthost):
    """A mail is sent on a new connection when the kept one was closed, or gets 421."""
    host = smarthost(sink)
    await host.submit("", "ann@example.net", MAIL)
    sink.left.clear()
    sink.hang_up()
    await sink.left.wait()
    assert isinstance(await host.submit("", "ann@example.net", MAIL), Sent)
    sink.at_mail = ["421 4.4.2 Idle for too long"]
    assert isinstance(await host.submit("", "ann@example.net", MAIL), Sent)
    assert (sink.connections, len(sink.mails)) == (3, 3)


async def test_an_idle_connection_is_closed(sink, smarthost):
    """An unused connection is closed with QUIT."""
    host = smarthost(sink, deadlines=Deadlines(10, 10, 10, idle=0.05))
    await host.submit("", "ann@example.net", MAIL)
    await sink.left.wait()
    assert sink.commands[-1] == "QUIT"
    assert isinstance(await host.submit("", "ann@example.net", MAIL), Sent)
    assert sink.connections == 2


async def test_a_submission_that_is_given_up_leaves_no_connection(sink, smarthost):
    """A connection of a cancelled submission is never reused."""
    sink.at_data = [STALL]
    host = smarthost(sink)
    running = asyncio.create_task(host.submit("", "ann@example.net", MAIL))
    await sink.arrived.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert isinstance(await host.submit("", "bob@example.net", MAIL), Sent)
    assert sink.connections == 2


# ---- TLS


@pytest.mark.parametrize(
    ("tls", "options"),
    [("starttls", {}), ("starttls", {"needs_tls": True}), ("tls", {"implicit": True})],
)
async def test_tls(smarthost, authority, pair, tls, options):
    """STARTTLS and implicit TLS work with an own authority."""
    async with Sink(tls=pair, **options) as sink:
        host = smarthost(sink, tls=tls, tls_ca=str(authority.ca), host="localhost")
        assert isinstance(await host.submit("", "ann@example.net", MAIL), Sent)
        assert sink.mails[0].tls


@pytest.mark.parametrize(("tls", "options"), [("starttls", {}), ("tls", {"implicit": True})])
async def test_a_certificate_that_is_not_trusted(
    smarthost, authority, pair, tmp_path, tls, options
):
    """An untrusted certificate, or one of another name, prevents any mail and password."""
    other = authority.issue("DNS:elsewhere.example", file=f"elsewhere-{tls}")
    for used, ca in ((pair, Authority(tmp_path / "other").ca), (other, authority.ca)):
        async with Sink(tls=used, users={"desk": "s3cret"}, **options) as sink:
            host = smarthost(
                sink, tls=tls, tls_ca=str(ca), host="localhost", username="desk", password="s3cret"
            )
            result = await host.submit("", "ann@example.net", MAIL)
            assert isinstance(result, Deferred)
            assert result.everybody
            assert "certificate" in result.reply
            assert (sink.mails, sink.logins) == ([], [])


async def test_authorities_that_cannot_be_read(sink, smarthost):
    """A CA file that disappeared since the start defers the mail."""
    result = await smarthost(sink, tls="tls", tls_ca="no-such-file.pem").submit(
        "", "ann@example.net", MAIL
    )
    assert result == Deferred(
        "cannot read the CA certificates: no such file or directory", everybody=True
    )


async def test_starttls_that_is_not_offered(sink, smarthost):
    """Without STARTTLS there is no fallback to plain text."""
    result = await smarthost(sink, tls="starttls").submit("", "ann@example.net", MAIL)
    assert result == Deferred("the smarthost does not offer STARTTLS", everybody=True)
    assert sink.commands == []


# ---- authentication


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_password(smarthost, authority, pair, mechanism):
    """AUTH PLAIN is used, or LOGIN without PLAIN, once per connection."""
    async with Sink(
        tls=pair, needs_login=True, users={"desk": "s3cret"}, mechanisms=frozenset({mechanism})
    ) as sink:
        host = smarthost(
            sink,
            tls="starttls",
            tls_ca=str(authority.ca),
            host="localhost",
            username="desk",
            password="s3cret",
        )
        for _ in range(2):
            assert isinstance(await host.submit("", "ann@example.net", MAIL), Sent)
        assert sink.logins == [(mechanism, "desk", "s3cret")]
        assert sink.mails[0].user == "desk"


async def test_a_password_that_is_refused(sink, smarthost):
    """A refused login defers everybody, whatever the code, and is not repeated."""
    sink.users["desk"] = "another"
    result = await smarthost(sink, username="desk", password="s3cret").submit(
        "", "ann@example.net", MAIL
    )
    assert result == Deferred("535 5.7.8 Authentication credentials invalid", everybody=True)
    sink.mechanisms = frozenset({"XOAUTH2"})
    result = await smarthost(sink, username="desk", password="s3cret").submit(
        "", "ann@example.net", MAIL
    )
    assert result == Deferred(
        "the smarthost offers neither AUTH PLAIN nor AUTH LOGIN", everybody=True
    )
    assert sink.commands == []


async def test_a_missing_login_defers_everybody(smarthost):
    """A 530 reply to MAIL is a problem of our account, so it defers everybody."""
    async with Sink(needs_login=True) as sink:
        result = await smarthost(sink).submit("", "ann@example.net", MAIL)
        assert isinstance(result, Deferred)
        assert result.everybody
        assert result.reply.startswith("530 ")


async def test_no_password_without_tls_beyond_this_machine(sink, smarthost, monkeypatch):
    """Without TLS a secret is only sent to a loopback address, whatever the host name."""
    asked = []
    monkeypatch.setattr(submit, "is_this_machine", asked.append)
    sink.users["desk"] = "s3cret"
    result = await smarthost(sink, host="localhost", username="desk", password="s3cret").submit(
        "", "ann@example.net", MAIL
    )
    assert result == Deferred("no password is sent to the smarthost without TLS", everybody=True)
    assert (asked, sink.logins) == (["127.0.0.1"], [])


async def test_a_token(sink, smarthost):
    """XOAUTH2 uses the token of the source; an expired one is requested again once."""
    sink.tokens["desk@example.org"] = "fresh"
    asked = []

    async def source(refused):
        asked.append(refused)
        return "stale" if refused is None else "fresh"

    host = smarthost(sink, username="desk@example.org", token=source)
    assert isinstance(await host.submit("", "ann@example.net", MAIL), Sent)
    assert asked == [None, "stale"]
    assert [token for _, _, token in sink.logins] == ["stale", "fresh"]


async def test_a_token_that_stays_refused(sink, smarthost):
    """After the second refusal everybody is deferred, without more logins."""

    async def source(refused):
        return "one" if refused is None else "two"

    result = await smarthost(sink, username="desk@example.org", token=source).submit(
        "", "ann@example.net", MAIL
    )
    assert isinstance(result, Deferred)
    assert result.everybody
    assert result.reply.startswith("535 ")
    assert len(sink.logins) == 2


async def test_an_unavailable_token_defers_everybody(sink, smarthost):
    """The message of the token source is the reason."""

    async def source(_refused):
        raise Unavailable("the provider is away")

    result = await smarthost(sink, username="desk@example.org", token=source).submit(
        "", "ann@example.net", MAIL
    )
    assert result == Deferred(
        "cannot connect to the smarthost: the provider is away", everybody=True
    )


# ---- SMTPUTF8 and 8BITMIME


async def test_addresses_beyond_ascii(sink, smarthost):
    """Non-ASCII addresses need SMTPUTF8; a domain always has an ASCII form."""
    result = await smarthost(sink).submit("", "änn@example.net", MAIL)
    assert isinstance(result, PermanentFailure)
    assert "SMTPUTF8" in result.reply
    assert isinstance(await smarthost(sink).submit("", "ann@bücher.example", MAIL), Sent)
    assert sink.mails[-1].recipient == "ann@xn--bcher-kva.example"
    async with Sink(utf8=True) as modern:
        assert isinstance(await smarthost(modern).submit("", "änn@example.net", MAIL), Sent)
        assert modern.mails[-1].recipient == "änn@example.net"
        assert "SMTPUTF8" in modern.mails[-1].options


async def test_content_beyond_ascii(sink, smarthost):
    """An 8-bit body is announced; a non-ASCII header needs SMTPUTF8."""
    host = smarthost(sink)
    assert isinstance(
        await host.submit("", "ann@example.net", "Subject: x\r\n\r\nGrüße\r\n".encode()), Sent
    )
    assert "BODY=8BITMIME" in sink.mails[0].options
    assert isinstance(
        await host.submit("", "ann@example.net", "Subject: Grüße\r\n\r\nx\r\n".encode()),
        PermanentFailure,
    )
    assert isinstance(await host.submit("", "ann@example.net", MAIL), Sent)
    assert sink.connections == 1


@pytest.mark.parametrize(
    "address",
    [
        "ann",
        "@example.net",
        "ann@",
        "a b@example.net",
        "a@b>c",
        "a\r\nRCPT TO:<x@y>@example.net",
        "\ud800@example.net",
        "",
    ],
)
async def test_an_unusable_address_fails_without_a_command(sink, smarthost, address):
    """An unusable address fails with a message, without any command."""
    assert isinstance(await smarthost(sink).submit("", address, MAIL), PermanentFailure)
    assert sink.connections == 0


async def test_no_answer_is_logged_with_an_address_or_a_secret(sink, smarthost, told):
    """The log of an account problem contains host and code only."""
    sink.users["desk"] = "another"
    await smarthost(sink, username="desk", password="s3cret").submit(
        "a@example.org", "ann@example.net", MAIL
    )
    assert "the smarthost refuses our account" in told.getvalue()
    assert not re.search(r"[\w.]+@[\w.]+|s3cret", told.getvalue())
