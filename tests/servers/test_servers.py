"""Tests of the IMAP tests' Dovecot, names and certificates."""

from __future__ import annotations

import imaplib
import json
import re
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.faults.witness import until
from tests.servers.certificates import Authority
from tests.servers.dovecot import PASSWORD, dovecot, letter, letters
from tests.servers.names import decode_folder, encode_folder

USER = "desk@example.org"
STRANGE = 'Ärchiv "x" & y/Grün'


class Tokens(BaseHTTPRequestHandler):
    """A handler that accepts one token."""

    def do_GET(self) -> None:
        """Answer whether the token in the URL is valid."""
        good = "?token=good&" in self.path  # an empty id and secret follow
        told = json.dumps(
            {"active": good, "username": USER} if good else {"active": False}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@contextmanager
def tokens():
    """Run a server that checks tokens; yield its address."""
    server = HTTPServer(("127.0.0.1", 0), Tokens)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/introspect?token="
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture(scope="module")
def shared():
    """Start one Dovecot for the tests of this file."""
    with tokens() as url, dovecot(introspection_url=url) as server:
        yield server


@pytest.fixture
def mailbox(shared):
    """Return that server and a fresh user."""
    return shared, shared.add_user(f"user{next(shared.numbers)}@example.org")


# ---- Dovecot


def test_delivered_mail_is_in_the_folder(mailbox):
    """Mails are in the folder in order, unchanged, with their time of arrival."""
    server, user = mailbox
    raws = [*letters(range(5)), b"", b"no header, no end", letter("8 bit") + b"\xff\xfe\r\n"]
    server.deliver(user, *raws, received=datetime(2020, 2, 3, 12, tzinfo=UTC))
    assert [raw for raw, _ in server.seen(user).values()] == raws
    with server.client(user) as client:
        client.select()
        assert client.uid("SEARCH", "BEFORE", "4-Feb-2020") == ("OK", [b"1 2 3 4 5 6 7 8"])
    server.deliver_many(user, letters(range(3000)), folder=STRANGE)
    assert (server.count(user, STRANGE), server.uids(user, STRANGE)[-1]) == (3000, 3000)


def test_folders_and_users_may_have_any_name(shared):
    """Spaces, quotes, backslashes and other scripts work in folders, users and passwords."""
    user = shared.add_user('O\'Neil "grün" \\ 東京@example.org', 'pass: "wört" {x}')
    with shared.client(user, 'pass: "wört" {x}') as client:
        assert client.noop()[0] == "OK"
    shared.add_user(user)
    shared.create_folder(user, STRANGE)
    shared.deliver(user, letter("a"), folder=STRANGE)
    assert shared.uids(user, STRANGE) == [1]
    assert shared.flags(user, STRANGE) == {1: set()}
    assert shared.count(user) == 0


@pytest.mark.parametrize(
    "name", ["", "INBOX", "&", "a & b", "Entwürfe/東京&-", '"\\', "~peter/mail/台北/日本語"]
)
def test_names_of_folders_survive_their_encoding(name):
    """A name encoded in modified UTF-7 is ASCII and decodes to itself."""
    assert decode_folder(encode_folder(name)) == name
    assert re.fullmatch(r"[ -~]*", encode_folder(name))


def test_modified_utf_7_is_what_the_standard_says():
    """The example of RFC 3501, 5.1.3."""
    assert encode_folder("~peter/mail/台北/日本語") == "~peter/mail/&U,BTFw-/&ZeVnLIqe-"


@pytest.mark.parametrize("folder", ["INBOX", STRANGE])
def test_new_numbers_and_lost_indexes(mailbox, folder):
    """Without indexes UIDs stay; a change of UIDVALIDITY gives other UIDs."""
    server, user = mailbox
    server.deliver(user, *letters("abc"), folder=folder)
    before = server.uidvalidity(user, folder), server.uids(user, folder)
    server.delete_indexes(user)
    assert (server.uidvalidity(user, folder), server.uids(user, folder)) == before
    assert (
        server.change_uidvalidity(user, folder=folder, first_uid=70)
        == server.uidvalidity(user, folder)
        > before[0]
    )
    assert server.uids(user, folder) == [70, 71, 72]


@pytest.mark.parametrize("storage", ["sdbox", "mdbox"])
def test_other_storages(storage):
    """A dbox takes mail, another UIDVALIDITY, lost indexes, and a kill."""
    with dovecot(storage=storage) as server:
        server.deliver(USER, *letters("ab"))
        before = server.uidvalidity(USER)
        assert (
            server.change_uidvalidity(USER, before + 100)
            == server.uidvalidity(USER)
            == before + 100
        )
        server.delete_indexes(USER)
        assert [raw for raw, _ in server.seen(USER).values()] == letters("ab")
        server.kill()
        server.start()
        assert server.uids(USER) == [1, 2]


def test_a_server_that_is_killed_comes_back():
    """A killed server comes back with mail, users and port; in the end nothing is left."""
    with dovecot() as server:
        server.deliver(USER, letter("a"))
        client = imaplib.IMAP4("127.0.0.1", server.port)
        client.login(USER, PASSWORD)
        server.kill()
        with pytest.raises(imaplib.IMAP4.abort):
            client.noop()
        client.shutdown()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        server.start()
        assert [raw for raw, _ in server.seen(USER).values()] == [letter("a")]
        server.restart()
        assert server.count(USER) == 1
        server.stop()
        server.stop()
    assert not server.folder.exists()


def test_a_configuration_that_does_not_start_leaves_nothing():
    """The error has the log, and the folder is removed."""
    with pytest.raises(AssertionError), dovecot(extra="no_such_setting = 1") as _:
        pytest.fail("it started")


def test_tls_is_trusted_by_its_own_authority_only(shared, tmp_path):
    """Both names of the certificate are accepted; another name or authority is not."""
    context = ssl.create_default_context(cafile=shared.ca)
    for name in ("localhost", "127.0.0.1"):
        with imaplib.IMAP4_SSL(name, shared.tls_port, ssl_context=context) as client:
            assert client.login(USER, PASSWORD)[0] == "OK"
    with (
        socket.create_connection(("127.0.0.1", shared.tls_port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="mismatch"),
    ):
        context.wrap_socket(plain, server_hostname="imap.example.org")
    stranger = ssl.create_default_context(cafile=Authority(tmp_path).ca)
    with pytest.raises(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL("localhost", shared.tls_port, ssl_context=stranger)


def test_logins_are_counted(mailbox):
    """Wrong passwords are counted, new ones work at once; the tests' own client is not counted."""
    server, user = mailbox
    before = server.login_count(), server.refused_logins
    with (
        imaplib.IMAP4("127.0.0.1", server.port) as client,
        pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
    ):
        client.login(user, "wrong")
    server.add_user(user, "wrong")
    with imaplib.IMAP4("127.0.0.1", server.port) as client:
        client.login(user, "wrong")
    with server.client(user, "wrong"):
        until(lambda: server.login_count() == before[0] + 2)
    until(lambda: server.refused_logins == before[1] + 1)
    assert server.log()


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_tokens_are_checked(shared, mechanism):
    """A valid token signs in; a bad one gets a challenge with the reason, then NO."""

    def sign_in(token: str) -> list[bytes]:
        start = (
            f"user={USER}\1"
            if mechanism == "XOAUTH2"
            else f"n,a={USER},\1host=localhost\1port=143\1"
        )
        heard: list[bytes] = []

        def answer(challenge: bytes) -> bytes:
            heard.append(challenge)
            return f"{start}auth=Bearer {token}\1\1".encode() if len(heard) == 1 else b"\1"

        with imaplib.IMAP4("127.0.0.1", shared.port) as client:
            try:
                client.authenticate(mechanism, answer)
            except imaplib.IMAP4.error as error:
                heard.append(str(error).encode())
        return heard

    assert sign_in("good") == [b""]
    _, challenge, said = sign_in("bad")
    assert json.loads(challenge)["status"] in {"401", "invalid_token"}
    assert b"AUTHENTICATIONFAILED" in said
