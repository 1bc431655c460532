"""Tests of what a session needs of an IMAP server, with Dovecot and the small server.

The parts of aioimaplib that we use are tested here too; faulty servers in test_connection.py.
"""

from __future__ import annotations

import asyncio
import inspect
from datetime import date

import pytest
from aioimaplib import aioimaplib

from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connect import ImapServer
from gateway.ingress.imap.connection import CommandRefused, LoginRefused
from tests.servers.dovecot import PASSWORD, dovecot, letter, letters
from tests.servers.smallimap import Folder, small_imap
from tests.servers.tokens import token_server

USER = "desk@example.org"
STRANGE = 'Ärchiv "x" & y'


class OnDovecot:
    """Dovecot, as the contract tests use it."""

    def __init__(self, server, tokens):
        self.server, self.tokens, self.port = server, tokens, server.port

    def put(self, *raws):
        self.server.append(USER, *raws)

    def token(self):
        return self.tokens.grant(USER)

    def raws(self, folder="INBOX"):
        return [raw for raw, _ in self.server.seen(USER, folder).values()]

    def flags(self):
        return {
            uid: set(flags.split()) - {"\\Recent"}
            for uid, (_, flags) in self.server.seen(USER).items()
        }

    def empty(self):
        with self.server.client(USER) as client:
            for name in (b'&AMQ-rchiv \\"x\\" &- y',):
                client.delete(b'"' + name + b'"')
            _, [count] = client.select("INBOX")
            if int(count):
                client.store("1:*", "+FLAGS", "\\Deleted")
                client.expunge()


class OnSmall:
    """The small server, as the contract tests use it."""

    def __init__(self, server):
        self.server, self.port = server, server.port

    def put(self, *raws):
        self.server.put(*raws)

    def token(self):
        return self.server.token

    def raws(self, folder="INBOX"):
        return [mail.raw for mail in self.server.folders[folder].mails]

    def flags(self):
        return {mail.uid: mail.flags for mail in self.server.folders["INBOX"].mails}

    def empty(self):
        self.server.folders = {"INBOX": Folder(uidnext=1)}


@pytest.fixture(scope="module")
def real():
    """Start one Dovecot with a token check for all of these tests."""
    with token_server() as tokens, dovecot(introspection_url=tokens.introspection) as server:
        yield OnDovecot(server, tokens)


@pytest.fixture(params=["dovecot", "small"])
def side(request):
    """Return each server in turn, with an empty inbox."""
    if request.param == "small":
        with small_imap() as server:
            yield OnSmall(server)
        return
    found = request.getfixturevalue("real")
    found.empty()
    yield found


@pytest.fixture
async def session(side):
    """Return a session that is signed in."""
    made = await ImapSession.open(ImapServer("127.0.0.1", side.port))
    await made.login(USER, PASSWORD)
    yield made
    await made.close()


async def uids_of(session, side, *raws):
    """Put these mails into the inbox, open it, and return their UIDs."""
    await asyncio.to_thread(side.put, *raws)
    await session.select("INBOX", read_only=False)
    return await session.uids(1)


async def test_capabilities_are_asked_for_again_after_signing_in(side):
    """Capabilities are requested again after the login, which may change them."""
    session = await ImapSession.open(ImapServer("127.0.0.1", side.port))
    assert "MOVE" not in session.capabilities
    await session.login(USER, PASSWORD)
    assert {"MOVE", "UIDPLUS", "IDLE"} <= session.capabilities
    await session.close()


@pytest.mark.parametrize("password", ["wrong", "", 'qu"ote\\', "ключ"])
async def test_a_wrong_password_is_refused_for_good(side, password):
    """A wrong password, whatever its characters, is refused at once."""
    session = await ImapSession.open(ImapServer("127.0.0.1", side.port))
    with pytest.raises(LoginRefused):
        await session.login(USER, password)
    await session.close()


async def test_a_good_token_is_accepted(side):
    """A token that the server's check accepts signs in."""
    session = await ImapSession.open(ImapServer("127.0.0.1", side.port))
    await session.bearer(USER, await asyncio.to_thread(side.token))
    assert (await session.select("INBOX", read_only=True)).read_only
    await session.close()


async def test_a_bad_token_is_refused_at_once(side):
    """A bad token is refused at once, and another may be tried on the connection."""
    session = await ImapSession.open(ImapServer("127.0.0.1", side.port))
    async with asyncio.timeout(5):
        with pytest.raises(LoginRefused):
            await session.bearer(USER, "no-token")
    await session.bearer(USER, await asyncio.to_thread(side.token))
    await session.close()


async def test_a_folder_reports_its_numbers(side, session):
    """After opening, UIDVALIDITY, UIDNEXT, mail count and permanent flags are known."""
    await asyncio.to_thread(side.put, *letters("ab"))
    selected = await session.select("INBOX", read_only=False)
    assert (selected.exists, selected.read_only, selected.uidvalidity > 0) == (2, False, True)
    assert {"\\Seen", "\\Deleted"} <= selected.flags
    assert await session.uids(selected.uidnext - 1) == [selected.uidnext - 1]


async def test_an_unknown_folder_is_refused(session):
    """Opening an unknown folder is refused, and the connection stays usable."""
    with pytest.raises(CommandRefused):
        await session.select("Nowhere", read_only=True)
    await session.select("INBOX", read_only=True)


async def test_only_newer_mail_is_listed(side, session):
    """Mail older than n is left out, though the server's n:* always gives the newest mail."""
    uids = await uids_of(session, side, *letters("abc"))
    assert await session.uids(uids[1]) == uids[1:]
    assert await session.uids(uids[0], uids[1]) == uids[:2]
    assert await session.uids(uids[-1] + 1) == []


async def test_mail_is_found_by_its_day_and_without_deleted_ones(side, session):
    """SINCE and UNDELETED leave out older and deleted mail."""
    uids = await uids_of(session, side, *letters("abc"))
    await session.flag(uids[:1], "\\Deleted")
    assert await session.uids(1, undeleted=True) == uids[1:]
    assert await session.uids(1, since=date(2037, 1, 1)) == []
    assert await session.uids(1, since=date(2001, 1, 1)) == uids


async def test_bytes_are_those_of_the_mail(side, session):
    """Bodies arrive unchanged, whole and in pieces."""
    raws = [
        letter("a"),
        letter("b") + b'ends like a literal {5}\r\n)* OK "\\\r\n',
        b"Subject: x\r\n\r\n" + "äöü ☺\r\n".encode() * 99,
    ]
    uids = await uids_of(session, side, *raws)
    told = await session.fetch(uids, "BODY.PEEK[]")
    assert [told[uid].body for uid in uids] == raws
    sizes = await session.fetch(uids, "RFC822.SIZE", "INTERNALDATE")
    assert [sizes[uid].size for uid in uids] == [len(raw) for raw in raws]
    assert all(each.received is not None for each in sizes.values())
    pieces = [await session.part(uids[1], at, 50) for at in range(0, len(raws[1]) + 50, 50)]
    assert b"".join(pieces) == raws[1]
    assert await session.part(uids[-1] + 99, 0, 10) is None


async def test_reading_leaves_no_mark(side, session):
    """A fetched mail is not marked as seen."""
    uids = await uids_of(session, side, letter("a"))
    await session.fetch(uids, "BODY.PEEK[]")
    await session.part(uids[0], 0, 10)
    assert await asyncio.to_thread(side.flags) == {uids[0]: set()}


async def test_a_flag_is_set(side, session):
    """The named mails get the flag, others do not."""
    uids = await uids_of(session, side, *letters("ab"))
    await session.flag(uids[:1], "\\Seen")
    assert await asyncio.to_thread(side.flags) == {uids[0]: {"\\Seen"}, uids[1]: set()}


async def test_mails_are_moved_to_a_folder_of_any_name(side, session):
    """A folder name with quotes, spaces and non-ASCII letters works."""
    raws = letters("abc")
    uids = await uids_of(session, side, *raws)
    with pytest.raises(CommandRefused) as refused:
        await session.move(uids[:1], STRANGE)
    assert refused.value.code == "TRYCREATE"
    await session.create(STRANGE)
    assert await session.folders() == ["INBOX", STRANGE]
    await session.move(uids[:2], STRANGE)
    assert await session.uids(1) == uids[2:]
    assert await asyncio.to_thread(side.raws, STRANGE) == raws[:2]


async def test_only_what_is_named_is_removed(side, session):
    """A mail that somebody else marked as deleted stays."""
    uids = await uids_of(session, side, *letters("abc"))
    await session.flag(uids[:2], "\\Deleted")
    await session.expunge(uids[:1])
    assert await session.uids(1) == uids[1:]


async def test_new_mail_ends_the_wait(side, session):
    """A new mail, stop, and the end of the time each end the wait."""
    await session.select("INBOX", read_only=True)
    assert await session.uids(1) == []
    stop = asyncio.Event()
    waiting = asyncio.create_task(session.idle(60, stop))
    await asyncio.to_thread(side.put, letter("a"))
    async with asyncio.timeout(10):
        await waiting
    assert session.new_mail.is_set()
    assert len(await session.uids(1)) == 1
    await session.idle(0.05, stop)
    stop.set()
    async with asyncio.timeout(10):
        await session.idle(60, stop)
    await session.noop()


def test_the_library_is_the_one_this_was_written_for():
    """An update that changes the parts of aioimaplib that we use fails here."""
    protocol = aioimaplib.IMAP4ClientProtocol
    assert str(inspect.signature(protocol.execute)) == (
        "(self, command: aioimaplib.aioimaplib.Command, scrub: str = None) -> "
        "aioimaplib.aioimaplib.Response"
    )
    assert list(inspect.signature(protocol._response_done).parameters) == ["self", "line"]
    assert list(inspect.signature(aioimaplib.Command.__init__).parameters)[:4] == [
        "self",
        "name",
        "tag",
        "args",
    ]
    made = protocol(None)
    assert (made.pending_sync_command, made.pending_async_commands, made.transport, made.state) == (
        None,
        {},
        None,
        aioimaplib.STARTED,
    )
    assert made.new_tag() != made.new_tag()
    assert aioimaplib.Response._fields == ("result", "lines")
    assert (aioimaplib.NONAUTH, aioimaplib.AUTH, aioimaplib.SELECTED) == (
        "NONAUTH",
        "AUTH",
        "SELECTED",
    )


async def test_the_library_refuses_control_characters():
    """The library itself refuses an argument with a line end."""
    with pytest.raises(ValueError, match="CR and LF"):
        aioimaplib.Command("LOGIN", "A1", "a\r\nA2 DELETE x", loop=asyncio.get_running_loop())
