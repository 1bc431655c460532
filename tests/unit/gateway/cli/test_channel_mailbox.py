"""Tests of `channel test`, `channel import`, and mailboxes in `channel list`."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from gateway.cli import channel_import
from tests.servers.dovecot import PASSWORD, letter, letters
from tests.servers.smallimap import RECEIVED, Folder, small_imap

USER = "desk@example.org"


@pytest.fixture
def server():
    """Start a small IMAP server with one mail."""
    with small_imap() as made:
        made.put(letter("first"))
        yield made


@pytest.fixture
def configure(cli, server):
    """Return a function that configures the mailbox ``desk``."""

    def write(**more):
        plain = {
            "name": "desk",
            "host": "127.0.0.1",
            "port": server.port,
            "tls": False,
            "username": USER,
            "password": PASSWORD,
        }
        cli.setting("imap", json.dumps([plain | {"channel": "support@localhost"} | more]))

    write()
    return write


def failing(cli, *, code):
    """Return the steps of a `channel test` that ends with this code, and the failed ones."""
    done = cli("channel", "test", "desk", "--json")
    assert done.code == code, done.err
    told = json.loads(done.text)
    assert told["ok"] == (code == 0)
    return [step for step in told["steps"] if not step["ok"]]


def test_a_mailbox_that_works_says_so_step_by_step(cli, server, configure):
    """Each step reports its findings, the mailbox is not changed, and the exit code is 0."""
    configure(after="move", move_to="Done")
    done = cli("channel", "test", "desk")
    assert done.code == 0, done.text
    assert [line.split()[:2] for line in done.text.splitlines()] == [
        ["ok", step]
        for step in (
            "channel",
            "name",
            "connection",
            "login",
            "server",
            "folder",
            "reading",
            "after",
            "reader",
        )
    ]
    assert "moved to Done, which is created when the first mail is moved" in done.text
    assert (
        len(server.folders["INBOX"].mails),
        "Done" in server.folders,
        server.folders["INBOX"].mails[0].flags,
    ) == (1, False, set())
    assert cli("channel", "test", "support@localhost").code == 0


@pytest.mark.parametrize(
    ("settings", "step", "words", "advice", "code"),
    [
        (
            {"channel": "sales@localhost"},
            "channel",
            "no channel",
            "channel add sales@localhost",
            78,
        ),
        (
            {"host": "no.such.host.invalid", "tls": True},
            "name",
            "cannot be resolved",
            "check host",
            75,
        ),
        ({"port": 1}, "connection", "cannot be reached", "check host and port", 75),
        ({"tls": True}, "connection", "cannot be reached", "a plain-text port", 75),
        ({"password": "wrong"}, "login", "no", "app password", 78),
        ({"folder": "Support"}, "folder", "'Support' cannot be opened", "'INBOX'", 78),
    ],
)
def test_each_step_that_fails_says_what_to_do(cli, configure, settings, step, words, advice, code):
    """The failed step is named, with reason and remedy; the code says whether to try again."""
    configure(**settings)
    [found] = failing(cli, code=code)
    assert (found["step"], words in found["detail"], advice in found["advice"]) == (
        step,
        True,
        True,
    ), found


def test_a_read_only_folder_is_reported(cli, server, configure):
    """A read-only folder is reported by trying the configured ``after`` as far as possible."""
    configure(after="seen")
    server.rights = b"READ-ONLY"
    [found] = failing(cli, code=78)
    assert (found["step"], "is read-only" in found["detail"], "keep" in found["advice"]) == (
        "after",
        True,
        True,
    )


def test_an_unfetchable_mail_is_reported(cli, server, configure):
    """A mail that could not be fetched is shown by the test and in the list of channels."""
    server.put(letter("second"))
    server.omit = {1}
    told = cli.json("channel", "import", "desk")
    assert (told["imported"], told["left"], told["owed"]) == (1, 0, 1)
    [found] = [step for step in failing(cli, code=75) if step["step"] == "owed"]
    assert ("UID 1" in found["detail"], "tried 1 time, next at" in found["detail"]) == (True, True)
    [channel] = cli.json("channel", "list")["channels"]
    assert (
        channel["health"] == "mailbox desk: 1 mail in it cannot be fetched; to list them, "
        "run ticketgate channel test desk"
    )


def test_an_unknown_mailbox_is_a_usage_error(cli, configure):
    """An unknown mailbox is a usage error that lists all names."""
    for command in ("test", "import", "login"):
        done = cli("channel", command, "nobody")
        assert (done.code, "desk" in done.err) == (64, True)


def test_the_list_of_channels_shows_the_state_of_mailboxes(cli, server, configure):
    """Never opened, healthy, stale and failing are shown as text, and in JSON with the time."""
    [channel] = cli.json("channel", "list")["channels"]
    assert (
        channel["health"].startswith("mailbox desk: was never opened"),
        channel["mailboxes"][0]["state"],
    ) == (True, "new")
    assert cli("channel", "import", "desk").code == 0
    [channel] = cli.json("channel", "list")["channels"]
    assert (
        channel["health"],
        channel["mailboxes"][0]["state"],
        channel["mailboxes"][0]["owed"],
    ) == ("ok", "ok", 0)
    assert channel["mailboxes"][0]["last_pass_at"] == "2026-11-22T10:00:00+00:00"
    cli.at("2026-11-22T11:00:00Z")
    assert "was last read at 2026-11-22 10:00" in cli("channel", "list").text


def test_a_mailbox_without_channel_is_listed(cli, configure):
    """A mailbox whose channel does not exist is shown below the list."""
    configure(channel="sales@localhost")
    done = cli("channel", "list", "--json")
    assert (done.code, json.loads(done.text)["channels"][0]["mailboxes"]) == (0, [])
    assert "mailbox desk: there is no channel sales@localhost" in done.err


# ---- import


def test_an_import_makes_tickets_oldest_first(cli, server, configure):
    """Mails become tickets in the order of the mailbox; a second import finds nothing."""
    server.put(*letters("abc"))
    assert cli.json("channel", "import", "desk") == {
        "mailbox": "desk",
        "imported": 4,
        "left": 0,
        "owed": 0,
    }
    subjects = [
        each["subject"]
        for each in sorted(cli.json("ticket", "list")["tickets"], key=lambda each: each["number"])
    ]
    assert subjects == ["About first", "About a", "About b", "About c"]
    assert cli("channel", "import", "desk").text == "0 mails imported\n"


def test_an_import_since_a_day_without_automation(cli, server, configure):
    """Older mail stays, no status rule acts; an import from an earlier day takes the rest."""
    folder = server.folders["INBOX"]
    folder.mails[0].received = RECEIVED - timedelta(days=30)
    server.put(letter("new"), letter("answer", parent="new"))
    told = cli.json("channel", "import", "desk", "--since", "2026-11-01", "--no-automation")
    assert told["imported"] == 2
    [ticket] = cli.json("ticket", "list")["tickets"]
    assert (ticket["subject"], ticket["status"]) == ("About new", "New")
    assert cli.json("channel", "import", "desk", "--since", "2020-01-01")["imported"] == 1
    assert len(cli.json("ticket", "list")["tickets"]) == 2


def test_a_lost_connection_does_not_end_an_import(cli, server, configure, monkeypatch):
    """The command reconnects; without a server it ends with 75, and the next import goes on."""
    monkeypatch.setattr(channel_import, "PAUSE_SECONDS", 0.01)
    server.put(*letters(range(5)))
    server.on(rb"UID FETCH [^ ]+ \(UID BODY", "close", times=2)
    assert cli.json("channel", "import", "desk")["imported"] == 6
    server.put(*letters("xyz"))
    server.on(rb"UID SEARCH", "close", times=99)
    done = cli("channel", "import", "desk")
    assert (done.code, "connection was lost" in done.err) == (75, True)
    server.actions.clear()
    assert cli.json("channel", "import", "desk")["imported"] == 3


def test_a_mailbox_that_is_being_read_is_not_imported(cli, server, configure, clean_url):
    """While a daemon reads the mailbox the command ends with 75 and names the daemon."""
    import asyncio

    from gateway.store.engine import Database
    from gateway.store.imap.mailboxes import Mailboxes
    from tests.conftest import START

    async def hold():
        database = await Database.open(clean_url, node="elsewhere-7")
        boxes = Mailboxes(database)
        await boxes.register([("desk", f"{USER}@127.0.0.1/INBOX")])
        await boxes.claim(["desk"], 3600, START)
        await database.close()

    asyncio.run(hold())
    done = cli("channel", "import", "desk")
    assert (done.code, "elsewhere-7" in done.err) == (75, True)


def test_an_invalid_date_is_a_usage_error(cli, configure):
    """An invalid --since is a usage error."""
    assert cli("channel", "import", "desk", "--since", "yesterday").code == 64


def test_a_moved_import_leaves_nothing_behind(cli, server, configure):
    """With after = move the imported mails are in the other folder."""
    configure(after="move", move_to="Taken in")
    server.put(*letters("ab"))
    assert cli.json("channel", "import", "desk")["imported"] == 3
    assert (server.folders["INBOX"].mails, len(server.folders["Taken in"].mails)) == ([], 3)
    assert isinstance(server.folders["Taken in"], Folder)
