"""Tests of hostile mails and hijacked reading processes (reliability.md 12 to 16)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from core.mail import reply_tokens
from gateway.intake.sandbox.pool import ReadFailure, ReadJob, Sandbox
from gateway.reading import parse
from gateway.reading.authentication import verdict

HEAD = b"From: a@b.example\r\nSubject: Fwd: x\r\n"
FORWARD = HEAD + (
    b"\r\n---------- Forwarded message ---------\r\nFrom: a <a@b.example>\r\nDate: "
    b"x\r\nSubject: y\r\n"
)
REPORT = (
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    b"--b\r\n\r\nx\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
)

SLOW = {
    "blanks before a fold that is none": lambda n: HEAD + b"To: x\r\n y" + b" " * n + b"z\r\n\r\nx",
    "blanks inside a name": lambda n: b"From: a" + b" " * n + b"b\r\n\r\nx",
    "names without address": lambda n: b"From: a" + b"," * n + b"\r\n\r\nx",
    "open quotes": lambda n: b"From: " + b'"\\' * (n // 2) + b"\r\n\r\nx",
    "blanks behind a separator sign": lambda n: b"From: \x1c" + b" " * n + b"b\r\n\r\nx",
    "many recipients of a forwarded mail": lambda n: (
        FORWARD
        + b"To: Foo <q@b.example>\r\n"
        + b"Foo Bar <a@b.example>; " * (n // 23)
        + b"Foo\r\nBar <x@y.example>\r\n\r\nhi"
    ),
    "signs in a forwarded mailbox": lambda n: (
        FORWARD + b"To: q\r\n<" + b"a@" * (n // 2) + b"\r\n\r\nhi"
    ),
    "signs in a forwarded sender": lambda n: (
        FORWARD.replace(b"a <a@b.example>", b"a@" * (n // 2)) + b"\r\nhi"
    ),
    "blanks in a forwarded sender": lambda n: (
        FORWARD.replace(b"a <a@b.example>", b"a" + b" " * n + b"b") + b"\r\nhi"
    ),
    "a style that hides": lambda n: (
        b'Content-Type: text/html\r\n\r\n<p style="' + b"max-height:0;" * (n // 13) + b'">x'
    ),
    "a recipient of a report without sign": lambda n: (
        REPORT + b"Final-Recipient: rfc822; " + b"a" * n + b"\r\nAction: failed\r\n\r\n--b--\r\n"
    ),
    "beginnings of a pasted file": lambda n: (
        HEAD
        + b"\r\nx\r\n"
        + (b"begin 644 a" + b" " * 4000 + b"x\r\n") * (n // 4000)
        + b"\r\nend\r\n"
    ),
    "exceed": lambda n: (
        b"From: MAILER-DAEMON@b.example\r\nReturn-Path: <>\r\n\r\n" + b"exceed" * (n // 6)
    ),
    "blanks behind an address of a bounce": lambda n: (
        (
            b"From: MAILER-DAEMON@b.example\r\nReturn-Path: <>\r\nSubject: "
            b"Undelivered\r\n\r\na@b.example"
        )
        + b" " * n
        + b"x"
    ),
}


@pytest.mark.parametrize("make", SLOW.values(), ids=SLOW.keys())
def test_reading_stays_linear(make):
    """A field or text of 60,000 characters, made against one pattern, takes 1.5 seconds at most."""
    raw = make(60_000)
    began = time.process_time()
    parse.read(raw)
    assert time.process_time() - began < 1.5


@pytest.mark.parametrize(
    "name",
    [
        "blanks before a fold that is none",
        "blanks inside a name",
        "names without address",
        "open quotes",
        "blanks behind a separator sign",
    ],
)
def test_the_daemon_reads_headers_quickly(name):
    """The daemon reads the headers of a mail that killed its reading processes quickly."""
    raw = SLOW[name](60_000)
    began = time.process_time()
    parse.fallback(raw)
    assert time.process_time() - began < 0.2


def test_many_recipients_are_all_read():
    """A forwarded mail to forty people, wrapped inside a mailbox, keeps its text and sender."""
    found = parse.read(SLOW["many recipients of a forwarded mail"](920))
    assert found.forward is not None
    assert (found.forward.sender.address, found.over_limit) == ("a@b.example", False)


def test_the_verdict_of_an_unreadable_mail_counts():
    """Verdict, spam flag and loop mark of an unreadable mail still count."""
    raw = (
        b"Received: from x\r\nAuthentication-Results: mx.example.net; dmarc=fail "
        b"header.from=b.example\r\nX-Spam-Flag: YES\r\n"
        b"X-Ticketgate-Loop: support@localhost\r\nFrom: a@b.example\r\n\r\nx"
    )
    found = parse.fallback(raw)
    assert verdict(found.authentication, {"mx.example.net"}) == "fail"
    assert (found.spam_flag, found.loop_marks) == (True, ("support@localhost",))


@pytest.mark.parametrize("letter", ["\u017f", "\u212a", "\u0130", "\u0131"])
def test_letters_that_count_as_latin_are_no_mark(letter):
    """Letters that Unicode folds to s, k and i make no token and no error."""
    word = letter * reply_tokens.MAC_CHARACTERS
    assert reply_tokens.read_tag([b"key"], f"[#1.{word}]") is None
    assert reply_tokens.read_reply([b"key"], f"1.{word}") is None
    assert reply_tokens.read_own_id([b"key"], f"tg.a.1.{word}@x") is None
    assert reply_tokens.read_tag([b"key"], f"[#\u0661.{'a' * 16}]") is None


@pytest.fixture
async def taken(monkeypatch, tmp_path):
    """Return a sandbox with hijacked workers, and the file that proves their code ran here."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("TICKETGATE_TEST_PROOF", str(tmp_path / "proof"))
    box = Sandbox(1, reader="hostile", wall=5.0)
    await box.start()
    yield box, tmp_path / "proof"
    await box.stop()


@pytest.mark.parametrize(
    "order", ["run", "globals", "endless", "few", "words", "number", "memo", "nothing"]
)
async def test_a_hijacked_worker_runs_nothing_in_the_daemon(taken, order):
    """Nothing of a hijacked worker's answer runs in the daemon, and the pool goes on."""
    box, proof = taken
    for _ in range(2):
        found = await box.read_many([ReadJob(b"order: " + order.encode())])
        assert isinstance(found[0], ReadFailure)
    assert not proof.exists()
    assert box.killed == 4
