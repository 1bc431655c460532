"""Tests of the small IMAP server: correct for any client, faulty only as configured."""

from __future__ import annotations

import imaplib
import socket
from base64 import b64decode, b64encode
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests.faults.witness import until
from tests.servers.dovecot import letter, letters
from tests.servers.imap_words import words
from tests.servers.smallimap import Folder, small_imap

STRANGE = 'Ärchiv "x" & y'
STRANGE_ARGUMENT = '"&AMQ-rchiv \\"x\\" &- y"'


@pytest.fixture
def server():
    """Run a small server with three mails."""
    with small_imap() as made:
        made.put(*letters("abc"))
        yield made


@pytest.fixture
def client(server):
    """Return a client of the standard library with its inbox open."""
    with imaplib.IMAP4("127.0.0.1", server.port, timeout=10) as made:
        made.login(server.user, server.password)
        made.select()
        yield made


class Talk:
    """A client that sends bytes and reads lines."""

    def __init__(self, port: int, *lines: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.lines = self.socket.makefile("rb")
        self.greeting = self.lines.readline()
        for number, line in enumerate(lines):
            self.say(b"l%d %s\r\n" % (number, line))

    def say(self, data: bytes) -> bytes:
        """Send a command; return everything up to the line with its tag, or to the end."""
        self.socket.sendall(data)
        return self.until(data.partition(b" ")[0] + b" ")

    def until(self, start: bytes) -> bytes:
        """Return everything up to the line that starts with this text, or to the end."""
        heard = b""
        while not heard.endswith(b"\n") or not heard.rpartition(b"\n")[0].rpartition(b"\n")[
            2
        ].startswith(start):
            line = self.lines.readline()
            if not line:
                break
            heard += line
        return heard


@contextmanager
def talking(server, *lines: bytes):
    """Return a client that is signed in and has its inbox open."""
    talk = Talk(server.port, b"LOGIN desk@example.org s3cret", b"SELECT INBOX", *lines)
    with talk.socket, talk.lines:
        yield talk


# ---- correct behaviour


def test_a_client_reads_and_moves(server, client):
    """Login, SEARCH, FETCH in pieces, STORE, COPY, MOVE and EXPUNGE work."""
    assert client.uid("SEARCH", "UID", "2:*", "UNDELETED") == ("OK", [b"2 3"])
    assert client.uid("SEARCH", "SINCE", "22-Nov-2026") == ("OK", [b"1 2 3"])
    assert client.uid("SEARCH", "UID", "99:*") == ("OK", [b"3"])
    _, told = client.uid("FETCH", "2", "(UID FLAGS RFC822.SIZE INTERNALDATE BODY.PEEK[])")
    size = len(letter("b"))
    assert told == [
        (
            (
                b'2 (UID 2 FLAGS () RFC822.SIZE %d INTERNALDATE "22-Nov-2026 10:00:00 +0000" '
                b"BODY[] {%d}"
            )
            % (size, size),
            letter("b"),
        ),
        b")",
    ]
    assert client.uid("FETCH", "2", "BODY.PEEK[]<3.9>")[1] == [
        (b"2 (UID 2 BODY[]<3> {9}", letter("b")[3:12]),
        b")",
    ]
    header = client.uid("FETCH", "1", "BODY.PEEK[HEADER.FIELDS (SUBJECT DATE)]")[1][0][1]
    assert header == b"Subject: About a\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n"
    assert client.create(STRANGE_ARGUMENT)[0] == "OK"
    assert client.uid("STORE", "1", "+FLAGS.SILENT", "(\\Seen)") == ("OK", [None])
    assert client.uid("STORE", "1:2", "+FLAGS", "(\\Deleted)")[1] == [
        b"1 (UID 1 FLAGS (\\Deleted \\Seen))",
        b"2 (UID 2 FLAGS (\\Deleted))",
    ]
    assert client.uid("COPY", "1", STRANGE_ARGUMENT)[0] == "OK"
    assert client.response("COPYUID")[1] == [b"1 1 1"]
    assert client.uid("EXPUNGE", "1:9")[0] == "OK"
    assert client.uid("MOVE", "3", STRANGE_ARGUMENT)[0] == "OK"
    assert client.uid("COPY", "1:*", "Nowhere") == ("NO", [b"[TRYCREATE] no such folder"])
    assert [mail.raw for mail in server.folders[STRANGE].mails] == [letter("a"), letter("c")]
    assert server.folders["INBOX"].mails == []
    assert client.list()[1] == [b'() "/" "INBOX"', b'() "/" ' + STRANGE_ARGUMENT.encode()]
    assert client.status("INBOX", "(MESSAGES UIDNEXT)")[1] == [b'"INBOX" (MESSAGES 0 UIDNEXT 4)']


def test_a_folder_that_is_examined_cannot_be_changed(server, client):
    """A folder opened by EXAMINE cannot be changed."""
    client.select(readonly=True)
    assert client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")[0] == "NO"
    assert client.expunge()[0] == "NO"
    assert len(server.folders["INBOX"].mails) == 3


def test_expunge_without_uids_takes_all_that_is_marked(server, client):
    """EXPUNGE also removes what another client has marked, and notifies each client."""
    with talking(server) as other:
        client.uid("STORE", "1,3", "+FLAGS", "(\\Deleted)")
        assert client.expunge() == ("OK", [b"1", b"2"])
        assert other.say(b"n NOOP\r\n") == b"* 1 EXPUNGE\r\n* 2 EXPUNGE\r\nn OK done\r\n"


def test_literals_and_quoted_strings_of_a_client(server):
    """User and password may be literals of both kinds, or quoted strings."""
    server.user, server.password = 'a "b" \\', "ünd\r\n"
    talk = Talk(server.port)
    with talk.socket, talk.lines:
        talk.socket.sendall(b'a LOGIN "a \\"b\\" \\\\" {6}\r\n')
        assert talk.lines.readline() == b"+ go ahead\r\n"
        talk.socket.sendall("ünd\r\n\r\n".encode())
        assert talk.lines.readline() == b"a OK welcome\r\n"
    talk = Talk(server.port)
    with talk.socket, talk.lines:
        assert talk.say(
            b"a LOGIN {7+}\r\n" + b'a "b" \\' + b" {6+}\r\n" + "ünd\r\n\r\n".encode()
        ).startswith(b"a OK")


@pytest.mark.parametrize(
    "command",
    [
        b"x FETCH",
        b"x UID",
        b"x UID FETCH",
        b"x UID FETCH 1 (",
        b'x SELECT "',
        b"x ",
        b"x",
        b"x UID STORE 1",
    ],
)
def test_a_broken_command_is_refused(server, command):
    """A broken command gets BAD, and the connection goes on."""
    with talking(server) as talk:
        assert talk.say(command + b" \r\n").split(b" ")[1] == b"BAD"
        assert talk.say(b"n NOOP\r\n") == b"n OK done\r\n"


def test_words_of_a_command():
    """Lists, sections with lists inside, literals and empty strings are words."""
    told = words(
        b'UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (TO CC)] BODY[]<0.9>) "" {3}\r\n) " NIL'
    )
    assert told == [
        b"UID",
        b"FETCH",
        b"1:*",
        [b"UID", b"BODY.PEEK[HEADER.FIELDS (TO CC)]", b"BODY[]<0.9>"],
        b"",
        b') "',
        b"NIL",
    ]


@pytest.mark.parametrize("mechanism", ["PLAIN", "XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("at_once", [True, False])
def test_signing_in_by_sasl(server, mechanism, at_once):
    """One step or two work; a bad token gets a reason, then NO; capabilities change."""
    server.before = f"IMAP4rev1 SASL-IR AUTH={mechanism}"
    start = {
        "PLAIN": "",
        "XOAUTH2": "user=desk@example.org\1",
        "OAUTHBEARER": "n,a=desk@example.org,\1host=x\1",
    }[mechanism]
    talk = Talk(server.port)
    with talk.socket, talk.lines:
        assert (
            talk.say(b"c CAPABILITY\r\n")
            == f"* CAPABILITY {server.before}\r\nc OK done\r\n".encode()
        )
        for secret in ("bad", "s3cret" if mechanism == "PLAIN" else "token-1"):
            said = (
                f"\0desk@example.org\0{secret}"
                if mechanism == "PLAIN"
                else f"{start}auth=Bearer {secret}\1\1"
            )
            given = b64encode(said.encode()) + b"\r\n"
            talk.socket.sendall(
                f"a AUTHENTICATE {mechanism}".encode() + (b" " + given if at_once else b"\r\n")
            )
            if not at_once:
                assert talk.lines.readline() == b"+ \r\n"
                talk.socket.sendall(given)
            if secret == "bad" and mechanism != "PLAIN":
                assert b'"status"' in b64decode(talk.lines.readline().removeprefix(b"+ "))
                talk.socket.sendall(b"\r\n")
            assert talk.lines.readline().split()[1] == (b"NO" if secret == "bad" else b"OK")
        assert (
            talk.say(b"c CAPABILITY\r\n")
            == f"* CAPABILITY {server.after}\r\nc OK done\r\n".encode()
        )
    assert server.logins == 2


def test_idle_reports_at_once(server):
    """Every idling client is told of new and removed mail, until DONE."""
    with talking(server) as one, talking(server) as other:
        for talk in (one, other):
            talk.socket.sendall(b"i IDLE\r\n")
            assert talk.lines.readline() == b"+ idling\r\n"
        until(lambda: server.idlers == 2)
        server.put(letter("d"))
        assert [talk.lines.readline() for talk in (one, other)] == [b"* 4 EXISTS\r\n"] * 2
        one.socket.sendall(b"DONE\r\n")
        assert one.lines.readline() == b"i OK done\r\n"
        one.say(b"m UID STORE 2 +FLAGS.SILENT \\Deleted\r\n")
        one.say(b"x UID EXPUNGE 2\r\n")
        assert other.lines.readline() == b"* 2 EXPUNGE\r\n"


# ---- faults


def test_unannounced_commands_are_refused(server):
    """Commands that are not announced are refused."""
    server.after = "IMAP4rev1"
    server.folders["Done"] = Folder()
    with talking(server) as talk:
        for command in (b"UID MOVE 1 Done", b"UID EXPUNGE 1", b"IDLE"):
            assert talk.say(b"x " + command + b"\r\n") == b"x BAD no such command\r\n"
        assert talk.say(b"x UID COPY 1 Done\r\n") == b"x OK done\r\n"


@pytest.mark.parametrize(
    ("steps", "heard"),
    [
        ((b"* BYE maintenance\r\n", "close"), b"* BYE maintenance\r\n"),
        (("close",), b""),
        (
            (b"* 1 EXISTS\r\n" * 5000, b"%t OK fine\r\n"),
            b"* 1 EXISTS\r\n" * 5000 + b"n OK fine\r\n",
        ),
        ((b"%t NO [INUSE] later\r\n",), b"n NO [INUSE] later\r\n"),
        ((b"%t BAD what\r\n",), b"n BAD what\r\n"),
        ((b"* X-STRANGE (1)\r\n", "go on"), b"* X-STRANGE (1)\r\nn OK done\r\n"),
        (("answer", b"* BYE enough\r\n", "close"), b"n OK done\r\n"),
        ((b"* 1 FETCH (BODY[] {4294967296}\r\n", "close"), b"* 1 FETCH (BODY[] {4294967296}\r\n"),
        ((b"* OK " + b"x" * (40 << 20), "close"), b"* OK " + b"x" * (40 << 20)),
    ],
    ids=["bye", "close", "burst", "no", "bad", "before", "after", "4 GiB", "endless"],
)
def test_commands_get_other_answers(server, steps, heard):
    """The next matching command gets the given answer, and the one after it the usual one."""
    with talking(server) as talk:
        server.on(rb"noop", *steps)
        said = talk.say(b"n NOOP\r\n")
        assert len(said) == len(heard)
        assert said == heard
        if "answer" in steps:
            assert talk.lines.readline() == b"* BYE enough\r\n"
        if "close" in steps:
            assert talk.lines.readline() == b""
        else:
            assert talk.say(b"n NOOP\r\n") == b"n OK done\r\n"
    assert server.heard[-1] == b"n NOOP"


def test_silence_reset_and_gates(server):
    """Silence, resets, gates and dropped connections work as configured."""
    gate = server.gate()
    server.on(rb"NOOP", gate, "go on")
    server.on(rb"CHECK", "silence")
    server.on(rb"EXPUNGE", "reset")
    with talking(server) as talk, talking(server) as other, talking(server) as third:
        talk.socket.sendall(b"n NOOP\r\n")
        assert gate.reached.wait(10)
        other.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.say(b"c CHECK\r\n")
        with pytest.raises(ConnectionResetError):
            third.say(b"e EXPUNGE\r\n")
        gate.open()
        assert talk.lines.readline() == b"n OK done\r\n"
        server.drop_all(b"* BYE all\r\n")
        assert talk.lines.readlines() == [b"* BYE all\r\n"]


def test_forms_of_a_fetch(server):
    """Order, case, extra items, wrong sizes, quoted strings and single bytes are configurable."""
    server.folders["INBOX"].mails[0].raw = b'a "b"'
    server.backwards, server.lower, server.quotes, server.piece = True, True, True, 1
    server.extra, server.between, server.omit, server.bodies = (
        [(b"MODSEQ", b"(7)")],
        [b"* 9 FETCH (FLAGS ())\r\n"],
        {2},
        {3: b""},
    )
    server.sizes = {1: 10**9}
    with talking(server) as talk:
        assert talk.say(b"f UID FETCH 1:3 (UID RFC822.SIZE BODY.PEEK[])\r\n").splitlines() == [
            b"* 9 FETCH (FLAGS ())",
            b'* 1 FETCH (modseq (7) body[] "a \\"b\\"" rfc822.size 1000000000 uid 1)',
            b"* 9 FETCH (FLAGS ())",
            b'* 3 FETCH (modseq (7) body[] "" rfc822.size %d uid 3)' % len(letter("c")),
            b"f OK done",
        ]
        server.backwards, server.lower, server.quotes, server.announced = (
            False,
            False,
            False,
            {1: 99},
        )
        assert b"UID 3 BODY[] {0}\r\n MODSEQ (7))\r\n" in talk.say(
            b"f UID FETCH 3 (BODY.PEEK[])\r\n"
        )
        server.on(rb"UID FETCH", "answer", "close")
        assert b'BODY[] {99}\r\na "b" MODSEQ (7))\r\n' in talk.say(
            b"f UID FETCH 1 (BODY.PEEK[])\r\n"
        )


def test_mail_of_other_days(server):
    """Mails have the given day and flags."""
    server.folders["INBOX"].put(letter("old"), datetime(2020, 2, 3, tzinfo=UTC), ["\\Seen"])
    with talking(server) as talk:
        for keys, found in (
            (b"BEFORE 4-Feb-2020", b" 4"),
            (b"NOT SEEN UID 2:4", b" 2 3"),
            (b"1,3:* UNSEEN", b" 1 3"),
            (b"DELETED", b""),
        ):
            assert (
                talk.say(b"s UID SEARCH " + keys + b"\r\n").splitlines()[0] == b"* SEARCH" + found
            )


# ---- dialogs
