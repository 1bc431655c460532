"""Tests of an SMTP dialog over a real socket: replies to each command, and stored mail."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.errors import DiskFull, StoreUnavailable
from gateway.ingress.connection_limits import Limits
from gateway.ingress.smtp.addresses import Addresses, Verdict

MAIL = b"From: a@client.example\r\nSubject: Drucker\r\n\r\nEs brennt.\r\n"


async def test_the_greeting_and_the_extensions(desk):
    """EHLO lists what works: never AUTH, STARTTLS only with a certificate."""
    client = await desk.connect()
    assert await client.reply() == "220 mx.desk.example ESMTP ticketgate"
    offered = (await client.say("EHLO client.example")).split("\r\n")
    assert offered == [
        "250-mx.desk.example",
        "250-PIPELINING",
        "250-SIZE 26214400",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250 ENHANCEDSTATUSCODES",
    ]


async def test_helo_works_without_extensions(desk):
    """A client that only speaks HELO can deliver, and the trace field says SMTP."""
    client = await desk.connect()
    await client.reply()
    assert await client.say("HELO old.example") == "250 mx.desk.example"
    assert (await client.mail(MAIL)).startswith("250 ")
    raw = next(desk.spool.folder.iterdir()).read_bytes()
    assert b"(ticketgate) with SMTP id " in raw


async def test_stored_bytes_are_the_received_ones_under_one_trace_field(desk, clock):
    """A mail is stored unchanged below one Received field."""
    client = await desk.hello()
    assert await client.mail(MAIL) == "250 2.0.0 Queued as 1"
    raw = (desk.spool.folder / "1.eml").read_bytes()
    trace, rest = raw[: -len(MAIL)], raw[-len(MAIL) :]
    assert rest == MAIL
    assert trace.startswith(
        b"Received: from client.example ([127.0.0.1])\r\n\tby mx.desk.example (ticketgate) "
        b"with ESMTP id "
    )
    assert trace.endswith(b";\r\n\tSun, 22 Nov 2026 10:00:00 +0000\r\n")
    envelope = desk.spool.mails[0].envelope
    assert (envelope.sender, envelope.recipients, envelope.source) == (
        "a@client.example",
        ("support@desk.example",),
        "smtp",
    )
    assert (envelope.peer, envelope.helo, envelope.tls, envelope.trusted_hop) == (
        "127.0.0.1",
        "client.example",
        "",
        True,
    )
    assert envelope.received_at == clock.now()
    assert desk.wakes == [None]


async def test_null_sender_is_the_empty_string(desk):
    """The null sender is "" in the envelope, not the string <>."""
    client = await desk.hello()
    await client.begin(sender="")
    assert (await client.say(MAIL + b".")).startswith("250 ")
    assert desk.spool.mails[0].envelope.sender == ""


async def test_recipients_are_kept_as_written_and_once(desk):
    """Recipients keep case, plus part and order; a repeated one counts once."""
    client = await desk.hello()
    await client.say("MAIL FROM:<a@client.example>")
    for recipient in ("Support+ref.mac@Desk.example", "sales@desk.example", "sales@desk.example"):
        assert (await client.say(f"RCPT TO:<{recipient}>")).startswith("250 2.1.5")
    await client.say("DATA")
    assert (await client.say(MAIL + b".")).startswith("250 ")
    assert desk.spool.mails[0].envelope.recipients == (
        "Support+ref.mac@Desk.example",
        "sales@desk.example",
    )


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"", b""),
        (b"..\r\n", b".\r\n"),
        (b"...\r\n\r\n..x\r\n", b"..\r\n\r\n.x\r\n"),
        (b".x\r\n", b"x\r\n"),
        (b"a\r\n..\r\nb\r\n", b"a\r\n.\r\nb\r\n"),
        (b"\r\n", b"\r\n"),
        (b"\xff\x00\xfe\r\n", b"\xff\x00\xfe\r\n"),
    ],
)
async def test_dot_stuffing_is_undone(desk, wire, content):
    """RFC 5321, 4.5.2: one leading dot per line is removed; an empty mail is valid."""
    client = await desk.hello()
    assert (await client.mail(wire)).startswith("250 ")
    assert desk.spool.stored() == [content]


async def test_lines_of_one_mebibyte_are_accepted(desk):
    """A line of 1 MiB is stored unchanged (machines often send a mail as one line)."""
    data = b"Subject: x\r\n\r\n" + b"x" * (1 << 20) + b"\r\n"
    client = await desk.hello()
    assert (await client.mail(data)).startswith("250 ")
    assert desk.spool.stored() == [data]


async def test_two_mails_in_one_session(desk):
    """After a mail the session accepts another one, and keeps nothing of the first."""
    client = await desk.hello()
    assert await client.mail(MAIL) == "250 2.0.0 Queued as 1"
    assert (await client.say("DATA")).startswith("503 5.5.1")
    assert await client.mail(b"x\r\n") == "250 2.0.0 Queued as 2"
    assert desk.spool.stored() == [MAIL, b"x\r\n"]


async def test_a_whole_session_in_one_piece(desk):
    """A client that pipelines everything gets all replies in order."""
    client = await desk.connect()
    dialog = (
        b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<support@desk.example>\r\nDATA\r\n"
        + MAIL
        + b".\r\nNOOP\r\nQUIT\r\n"
    )
    await client.send(dialog)
    client.writer.write_eof()
    codes = [(await client.reply())[:3] for _ in range(8)]
    assert codes == ["220", "250", "250", "250", "354", "250", "250", "221"]
    assert await client.reply() == ""
    assert desk.spool.stored() == [MAIL]


async def test_one_byte_at_a_time(desk):
    """A session sent in single bytes works."""
    client = await desk.connect()
    dialog = (
        b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT "
        b"TO:<support@desk.example>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n"
    )
    client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in dialog:
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    codes = [(await client.reply())[:3] for _ in range(7)]
    assert codes == ["220", "250", "250", "250", "354", "250", "221"]
    assert desk.spool.stored() == [b".x\r\n"]


async def test_cut_after_every_byte(desk):
    """However a connection is cut, a mail is stored exactly if its end had been sent."""
    dialog = (
        b"EHLO c\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<support@desk.example>\r\nDATA\r\nx\r\n.\r\n"
    )
    for cut in range(len(dialog)):
        client = await desk.connect()
        await client.send(dialog[:cut])
        client.writer.write_eof()
        assert await client.closed()
    assert desk.spool.stored() == []
    client = await desk.connect()
    await client.send(dialog)
    client.writer.write_eof()
    assert await client.closed()
    assert desk.spool.stored() == [b"x\r\n"]


@pytest.mark.parametrize(
    "recipient",
    [
        "postmaster",
        "Postmaster",
        "postmaster@desk.example",
        "ABUSE@desk.example",
        "support+x@DESK.example",
    ],
)
async def test_recipients_that_are_ours(desk, recipient):
    """RFC 5321, 4.5.1: channels with any plus part, postmaster and abuse are accepted."""
    client = await desk.hello()
    await client.say("MAIL FROM:<a@client.example>")
    assert await client.say(f"RCPT TO:<{recipient}>") == "250 2.1.5 OK"


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("<nobody@desk.example>", "550 5.1.1"),
        ("<support@desk.example.org>", "550 5.7.1"),
        ("<support@other.example>", "550 5.7.1"),
        ("<support%other.example@desk.example>", "550 5.1.1"),
        ("<abuse>", "553 5.1.3"),
        ("<support@[127.0.0.1]>", "550 5.7.1"),
        ("<>", "553 5.1.3"),
        ("<support>", "553 5.1.3"),
        ("<support@desk.example> NOTIFY=NEVER", "555 5.5.4"),
        ("<sup\u00f6rt@desk.example>", "553 5.6.7"),
    ],
)
async def test_recipients_that_are_refused(desk, recipient, reply):
    """Foreign, unknown and null recipients and unknown parameters are refused at RCPT."""
    client = await desk.hello()
    await client.say("MAIL FROM:<a@client.example>")
    assert (await client.say(f"RCPT TO:{recipient}")).startswith(reply)
    assert (await client.say("DATA")).startswith("503 5.5.1")


@pytest.mark.parametrize(
    "path",
    [
        b"<a\0b@c.example>",
        b"<a\rb@c.example>",
        b"<a\xff@c.example>",
        b"<a\xed\xa0\x80@c.example>",
        b"<a\x1b[1m@c.example>",
        b"<a b@c.example>",
    ],
)
@pytest.mark.parametrize("command", [b"MAIL FROM:", b"RCPT TO:"])
async def test_control_characters_and_broken_utf8_in_addresses(desk, command, path):
    """NUL, CR, surrogates, escapes and invalid UTF-8 never become an address."""
    client = await desk.hello()
    if command == b"RCPT TO:":
        await client.say("MAIL FROM:<a@client.example>")
    assert (await client.say(command + path))[:3] in ("500", "501", "553")
    assert (await client.say("NOOP")).startswith("250")


async def test_non_ascii_addresses_need_smtputf8(desk):
    """Non-ASCII addresses need SMTPUTF8 (RFC 6531), which the trace field names."""
    client = await desk.hello()
    assert (await client.say("MAIL FROM:<jörg@client.example>")).startswith("553 5.6.7")
    assert (
        await client.say("MAIL FROM:<jörg@client.example> SMTPUTF8 BODY=8BITMIME SIZE=5")
    ).startswith("250")
    await client.say("RCPT TO:<support+jörg@desk.example>")
    await client.say("DATA")
    assert (await client.say(MAIL + b".")).startswith("250")
    assert desk.spool.mails[0].envelope.sender == "jörg@client.example"
    assert b"with UTF8SMTP id" in (desk.spool.folder / "1.eml").read_bytes()


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["MAIL FROM:<a@b.example>"], "503 5.5.1"),
        (["EHLO"], "501 5.5.4"),
        (["EHLO x", "RCPT TO:<support@desk.example>"], "503 5.5.1"),
        (["EHLO x", "DATA"], "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<a@b.example>", "MAIL FROM:<a@b.example>"], "503 5.5.1"),
        (
            ["EHLO x", "MAIL FROM:<a@b.example>", "RSET", "RCPT TO:<support@desk.example>"],
            "503 5.5.1",
        ),
        (
            ["EHLO x", "MAIL FROM:<a@b.example>", "EHLO y", "RCPT TO:<support@desk.example>"],
            "503 5.5.1",
        ),
        (["EHLO x", "MAIL FROM:<a@b.example> SIZE=26214401"], "552 5.3.4"),
        (["EHLO x", "MAIL FROM:<a@b.example> BODY=BINARYMIME"], "501 5.5.4"),
        (["EHLO x", "MAIL a@b.example"], "501 5.5.4"),
        (["EHLO x", "VRFY support"], "252 2.0.0"),
        (["EHLO x", "EXPN support"], "502 5.5.1"),
        (["EHLO x", "HELP"], "502 5.5.1"),
        (["EHLO x", "BDAT 5 LAST"], "502 5.5.1"),
        (["EHLO x", "AUTH PLAIN AGEAYg=="], "502 5.5.1"),
        (["EHLO x", "STARTTLS"], "502 5.5.1"),
        (["EHLO x", "XYZZY"], "500 5.5.1"),
        (["EHLO x", ""], "500 5.5.1"),
        (["EHLO x", "NOOP anything"], "250 2.0.0"),
        (["EHLO x", "QUIT"], "221 2.0.0"),
    ],
)
async def test_replies_to_commands(desk, lines, code):
    """Each command has its reply and enhanced code; wrong order is refused."""
    client = await desk.connect()
    await client.reply()
    replies = [await client.say(line) for line in lines]
    assert replies[-1].startswith(code)


async def test_an_http_client_is_cut_off(desk):
    """A client that speaks HTTP is cut off at its first line."""
    client = await desk.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: mx\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n")
    assert (await client.reply()).startswith("220")
    assert (await client.reply()).startswith("554 5.5.1")
    assert await client.reply() == ""


async def test_long_and_odd_command_lines(desk):
    """Long lines and lines ending in LF alone are refused; the session goes on."""
    client = await desk.hello()
    assert (await client.say("NOOP " + "x" * 3_000)).startswith("500 5.5.2")
    await client.send(b"NOOP\n")
    assert (await client.reply()).startswith("500 5.5.2")
    assert (await client.say("NOOP")).startswith("250")


async def test_many_commands_do_not_delay_others(open_desk):
    """While one client has pipelined 20,000 commands, another one can deliver."""
    desk = await open_desk(limits=Limits(commands_without_mail=30_000))
    noisy, good = await desk.hello(), await desk.hello()
    noisy.writer.write(b"NOOP\r\n" * 20_000)
    assert (await good.mail(MAIL)).startswith("250")
    for _ in range(20_000):
        assert await noisy.reader.readline() == b"250 2.0.0 OK\r\n"


async def test_mail_that_is_too_large(open_desk):
    """A mail over the limit is refused with 552; one of exactly the limit is accepted."""
    desk = await open_desk(limits=Limits(message_bytes=600_000))
    client = await desk.hello()
    assert (await client.mail(b"x" * 599_999 + b"\r\n")).startswith("552 5.3.4")
    assert (await client.mail(b"x" * 599_998 + b"\r\n")).startswith("250")
    assert [len(raw) for raw in desk.spool.stored()] == [600_000]


async def test_mail_without_end_is_cut_off(open_desk):
    """A client that sends far more than the limit is cut off before the end of its mail."""
    desk = await open_desk(limits=Limits(message_bytes=1 << 16))
    client = await desk.hello()
    await client.begin()
    await client.send(b"x" * (2 << 20))
    assert (await client.reply()).startswith("552 5.3.4")
    assert await client.closed()


async def test_large_mail_goes_through_a_file(desk):
    """Over 256 KiB a mail reaches the store as a file, with its digest and size."""
    data = b"Subject: x\r\n\r\n" + b"0123456789abcdef..\r\n" * 50_000
    client = await desk.hello()
    assert (await client.mail(data)).startswith("250")
    assert desk.spool.stored() == [data]
    mail = desk.spool.mails[0]
    raw = (desk.spool.folder / "1.eml").read_bytes()
    assert (mail.size, mail.sha256) == (len(raw), __import__("hashlib").sha256(raw).hexdigest())


@pytest.mark.parametrize("filler", [b"", b"x" * 300_000 + b"\r\n"])
async def test_hops(desk, filler):
    """A mail that passed more than 100 servers is a loop, whether small or large."""
    client = await desk.hello()
    body = b"Subject: x\r\n\r\nReceived: not counted\r\n" + filler
    assert (await client.mail(b"Received: x\r\n" * 50 + b"RECEIVED: y\r\n" * 51 + body)).startswith(
        "554 5.4.6"
    )
    assert (await client.mail(b"received: x\r\n" * 100 + body)).startswith("250")


class Away(Addresses):
    """A directory whose store can be away."""

    is_away = True

    async def check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("secret")


async def test_without_a_store_mail_is_refused_before_it_is_sent(open_desk):
    """While the store is away MAIL gets 451; afterwards the same session delivers."""
    directory = Away(["support@desk.example"])
    desk = await open_desk(directory=directory)
    client = await desk.hello()
    reply = await client.say("MAIL FROM:<a@client.example>")
    assert reply.startswith("451 4.3.0")
    assert "secret" not in reply
    assert (await client.say("RCPT TO:<support@desk.example>")).startswith("503")
    directory.is_away = False
    assert (await client.mail(MAIL)).startswith("250")


class Broken(Addresses):
    """A recipient directory that raises an error."""

    async def lookup(self, address: str) -> Verdict:
        raise RuntimeError(f"SELECT secret FROM {address}")


async def test_internal_error_is_a_number_and_the_session_goes_on(open_desk):
    """An internal error gives 451 and a number without text; the session goes on."""
    desk = await open_desk(directory=Broken())
    client = await desk.hello()
    await client.say("MAIL FROM:<a@client.example>")
    reply = await client.say("RCPT TO:<support@desk.example>")
    assert reply.startswith("451 4.3.0")
    assert "secret" not in reply
    assert (await client.say("NOOP")).startswith("250")


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (StoreUnavailable("x"), "451 4.3.0"),
        (DiskFull("x"), "452 4.3.1"),
        (OSError(28, "full"), "452 4.3.1"),
        (OSError(5, "broken"), "451 4.3.0"),
        (ValueError("secret"), "451 4.3.0"),
    ],
)
@pytest.mark.parametrize("size", [10, 400_000])
async def test_a_store_that_fails_never_yields_250(desk, error, reply, size):
    """Any error while storing gets a temporary reply, so that the client retries."""
    desk.spool.errors.append(error)
    client = await desk.hello()
    answer = await client.mail(b"x" * size + b"\r\n")
    assert answer.startswith(reply)
    assert "secret" not in answer
    assert (await client.mail(b"x\r\n")).startswith("250")
    assert desk.spool.stored() == [b"x\r\n"]


async def test_a_large_mail_that_cannot_be_written(desk):
    """A large mail that cannot be written is read to its end and answered with 4xx."""
    client = await desk.hello()
    desk.accept.directory.chmod(0o500)
    missing = desk.accept.directory.rename(desk.accept.directory.with_name("gone"))
    assert (await client.mail(b"x" * 400_000 + b"\r\n")).startswith("451 4.3.0")
    missing.rename(desk.accept.directory)
    desk.accept.directory.chmod(0o700)
    assert (await client.mail(b"x" * 400_000 + b"\r\n")).startswith("250")


async def test_a_full_disk_is_refused_at_mail_and_recovers(desk):
    """With too little space MAIL gets 452; with enough, mail is accepted again."""
    client = await desk.hello()
    desk.free[0] = 512 * (1 << 20) - 1
    assert (await client.say("MAIL FROM:<a@client.example>")).startswith("452 4.3.1")
    desk.free[0] += 1
    assert (await client.mail(MAIL)).startswith("250")


async def test_the_reserve_grows_to_three_mails(open_desk):
    """The required free space grows with the size limit, to three mails."""
    desk = await open_desk(limits=Limits(message_bytes=1 << 30))
    client = await desk.hello()
    desk.free[0] = 3 * (1 << 30) - 1
    assert (await client.say("MAIL FROM:<a@client.example>")).startswith("452 4.3.1")


@pytest.mark.parametrize("how", ["reset", "half_close"])
async def test_a_client_that_leaves_does_not_stop_the_commit(desk, how):
    """After the end of data the mail is stored, even if the client is gone."""
    client = await desk.hello()
    await client.begin()
    desk.spool.gate.clear()
    desk.spool.entered.clear()
    await client.send(MAIL + b".\r\n")
    await desk.spool.entered.wait()
    if how == "reset":
        client.close()
    else:
        client.writer.write_eof()
    await (await desk.hello()).say("NOOP")
    desk.spool.gate.set()
    if how == "half_close":
        assert await client.reply() == "250 2.0.0 Queued as 1"
    await desk.accept.drain()
    assert desk.spool.stored() == [MAIL]


async def test_log_holds_no_address(desk, printed_log):
    """Refusals are logged with a reason, without the address (reliability.md 30)."""
    client = await desk.hello()
    await client.say("MAIL FROM:<a@client.example>")
    await client.say("RCPT TO:<very.private@desk.example>")
    assert "very.private" not in printed_log.getvalue()
    assert "unknown_recipient" in printed_log.getvalue()
