"""Tests of the whole daemon on real mailboxes: kills, two daemons, mail by two ways at once."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from tests.conftest import Postgres
from tests.faults.conftest import Daemon, Strace
from tests.faults.witness import LOST, send, until
from tests.servers.dovecot import PASSWORD, Dovecot, dovecot, letter

USER = "desk@example.org"
DONE = "SELECT count(*) FROM mail WHERE state = 'done'"
SETTLED = "SELECT count(*) FROM mailbox_mail WHERE settled"
PENDING = "SELECT count(*) FROM mail WHERE state = 'pending'"
STEPS = (
    "SELECT count(*) FROM mail",
    None,
    SETTLED,
)  # kill once all is stored, at any time, or once all is moved


def mailboxes(server: Dovecot, users: list[str], **more: str) -> str:
    """Return the setting for the mailboxes of these users."""
    common = {
        "host": "127.0.0.1",
        "port": server.port,
        "tls": False,
        "password": PASSWORD,
        "channel": "support@localhost",
    }
    moved = {"after": "move", "move_to": "Done"}
    return json.dumps([{"name": user, "username": user} | common | moved | more for user in users])


@pytest.fixture
def server() -> Iterator[Dovecot]:
    """Run a Dovecot with one user."""
    with dovecot() as made:
        yield made


class Feeder:
    """A thread that puts mails into mailboxes in turn, up to an allowed number."""

    def __init__(self, server: Dovecot, users: list[str], total: int) -> None:
        self.server, self.users, self.total = server, users, total
        self.sent: list[bytes] = []
        self._upto = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go_on(self, upto: int) -> None:
        """Raise the allowed number of mails."""
        with self._changed:
            self._upto = upto
            self._changed.notify_all()

    def _run(self) -> None:
        for number in range(self.total):
            with self._changed:
                self._changed.wait_for(lambda number=number: self._upto > number)
            raw = letter(
                number, 200 + number % 17 * 300, parent=number % 97 if number >= 97 else ""
            )
            self.server.deliver(self.users[number % len(self.users)], raw)
            self.sent.append(raw)

    def join(self) -> None:
        """Wait until all mails are delivered."""
        self._thread.join(120)
        assert len(self.sent) == self.total


def settled(
    daemon: Daemon, server: Dovecot, users: list[str], total: int, seconds: float = 60
) -> None:
    """Wait until all mail is stored and moved, stop the daemon, and process leftover claims."""
    until(lambda: daemon.rows(SETTLED) == [(total,)], seconds)
    assert [server.count(user) for user in users] == [0] * len(users)
    assert daemon.stop() == 0
    done = daemon.run("agenda", "run", "--until", "2099-01-01T00:00:00Z")
    assert done.returncode == 0, done.stderr


def audit(daemon: Daemon, server: Dovecot, users: list[str], sent: list[bytes]) -> None:
    """Assert that every mail is one message of a ticket and once in the target folder."""
    mails = daemon.mails()
    assert Counter(mail.state for mail in mails) == Counter({"done": len(sent)})
    assert Counter(mail.raw for mail in mails) == Counter(sent)
    assert (
        daemon.rows("SELECT message_id FROM message GROUP BY message_id HAVING count(*) > 1") == []
    )
    assert daemon.rows(
        "SELECT count(*) FROM message m JOIN thread t ON t.id = m.thread_id WHERE t.ticket IS "
        "NOT NULL"
    ) == [(len(sent),)]
    assert Counter(
        raw for user in users for raw, _ in server.seen(user, "Done").values()
    ) == Counter(sent)


def at_once(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Poll without a pause, so that the moment is not missed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"


# ---- kill -9


def killed_while_mail_arrives(
    make_daemon: Callable[..., Daemon], server: Dovecot, total: int, kills: int, seed: int
) -> None:
    """Kill and restart at random moments while mails arrive and are moved; then check all."""
    chance = random.Random(seed)
    daemon = make_daemon(IMAP=mailboxes(server, [USER]))
    daemon.start()
    feeder = Feeder(server, [USER], total)
    busy = 0
    for number, moment in enumerate(sorted(chance.sample(range(1, total), kills))):
        feeder.go_on(moment)  # no more, so that every process finds something to do
        step = STEPS[number % len(STEPS)]
        if step is None:
            threading.Event().wait(chance.random() * 0.06)  # anywhere
        else:
            at_once(lambda step=step, moment=moment: daemon.rows(step)[0][0] >= moment)
        daemon.kill()
        busy += daemon.rows(SETTLED)[0][0] < moment or daemon.rows(PENDING)[0][0] > 0
        daemon.start()
    feeder.go_on(total)
    feeder.join()
    print(
        f"{total} mails, {kills} kills, {busy} of them before everything was done; none lost, "
        "none doubled"
    )
    assert busy >= kills // 2
    settled(daemon, server, [USER], total)
    audit(daemon, server, [USER], feeder.sent)


@pytest.mark.timeout(300)
def test_kill_while_mail_arrives_and_is_moved(
    make_daemon: Callable[..., Daemon], server: Dovecot
) -> None:
    """After ten kills each of 600 mails is one message and is in the other folder once."""
    killed_while_mail_arrives(make_daemon, server, total=600, kills=10, seed=20261125)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
def test_kill_while_mail_arrives_and_is_moved_in_the_long_run(
    make_daemon: Callable[..., Daemon], server: Dovecot
) -> None:
    """The same with 5,000 mails and two hundred kills."""
    killed_while_mail_arrives(make_daemon, server, total=5000, kills=200, seed=1)


# ---- configuration


def test_a_mailbox_without_channel_is_reported_at_the_start(
    make_daemon: Callable[..., Daemon], server: Dovecot
) -> None:
    """A mailbox whose channel does not exist is reported at the start; the daemon runs."""
    box = json.loads(mailboxes(server, [USER]))[0]
    daemon = make_daemon(
        IMAP=json.dumps(
            [box | {"channel": "nobody@localhost"}, box | {"name": "right", "folder": "Other"}]
        )
    )
    daemon.start()
    told = daemon.wait_for("mailbox belongs to no channel")
    assert (told["level"], told["channel"].startswith("~")) == ("warning", True)
    assert daemon.stop() == 0
    assert daemon.said().count(b"mailbox belongs to no channel") == 1


# ---- kill in one system call


CALLS = ("write", "pwrite64", "fdatasync", "sendto")


def died_in(
    daemon: Daemon,
    server: Dovecot,
    disturb: Callable[..., Strace],
    call: str,
    number: int,
    sent: list[bytes],
) -> bool:
    """Kill the daemon in a thread's ``number``-th call; return whether the call was reached."""
    sent.append(letter(f"{call}-{number}", 400))
    before = len(server.uids(USER, "Done")) if len(sent) > 1 else 0
    assert daemon.process is not None
    with disturb(daemon, f"{call}:signal=KILL:when={number}") as strace:
        server.deliver(USER, sent[-1])
        until(lambda: daemon.process.poll() is not None or server.count(USER, "Done") > before)
        until(lambda: daemon.process.poll() is not None or processed(daemon, sent[-1]))
    if daemon.process.poll() is None and not strace.killed():
        return False
    daemon.kill()
    daemon.start()
    until(lambda: daemon.rows(SETTLED) == [(len(sent),)])
    return True


def processed(daemon: Daemon, raw: bytes) -> bool:
    """Return whether this mail has been processed."""
    return any(mail.raw == raw and mail.state != "pending" for mail in daemon.mails())


def swept(
    make_daemon: Callable[..., Daemon], server: Dovecot, disturb: Callable[..., Strace], step: int
) -> None:
    """Kill in every ``step``-th call of each kind on the way of one mail."""
    daemon = make_daemon(IMAP=mailboxes(server, [USER]))
    server.create(USER, "Done")
    daemon.start()
    sent: list[bytes] = []
    deaths: Counter[str] = Counter()
    for call in CALLS:
        for number in count(1, step):
            if not died_in(daemon, server, disturb, call, number, sent):
                break
            deaths[call] += 1
    settled(daemon, server, [USER], len(sent))
    audit(daemon, server, [USER], sent)
    print(
        f"{deaths.total()} deaths on the way of one mail of a mailbox ({dict(deaths)}); none "
        "lost, none doubled"
    )
    assert set(deaths) == set(CALLS)


@pytest.mark.needs("strace")
def test_death_in_a_system_call_loses_nothing(
    make_daemon: Callable[..., Daemon], server: Dovecot, disturb: Callable[..., Strace]
) -> None:
    """After kills in a sample of the calls the next start completes the work."""
    swept(make_daemon, server, disturb, step=9)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.needs("strace")
def test_death_in_every_system_call_loses_nothing(
    make_daemon: Callable[..., Daemon], server: Dovecot, disturb: Callable[..., Strace]
) -> None:
    """The same for every call."""
    swept(make_daemon, server, disturb, step=1)


# ---- two daemons


@pytest.mark.alone  # the takeover within 30 s is measured
@pytest.mark.timeout(300)
def test_the_other_daemon_has_the_mailboxes_of_a_dead_one(
    make_daemon: Callable[..., Daemon], postgres: Postgres
) -> None:
    """Of two daemons on ten mailboxes one is killed: the other reads them within 30 s."""
    users = [f"box{number}@example.org" for number in range(10)]
    with dovecot(users) as server:
        url = postgres.url(postgres.create())
        settings = {"DATABASE__URL": url, "IMAP": mailboxes(server, users)}
        first, second = make_daemon(**settings), make_daemon(**settings)
        first.wrapper = elsewhere()
        assert first.run("db", "upgrade").returncode == 0
        first.start()
        owners = "SELECT DISTINCT lease_owner FROM mailbox WHERE lease_owner IS NOT NULL"
        until(
            lambda: (
                len(first.rows(f"{owners} AND state = 'ok'")) == 1
                and first.rows("SELECT count(*) FROM mailbox") == [(10,)]
            )
        )
        second.start()
        feeder = Feeder(server, users, 400)
        feeder.go_on(400)
        until(lambda: first.rows(DONE)[0][0] >= 100)
        assert server.login_count() <= 10 + 2 * len(users), (
            "a mailbox was left and taken up again without need"
        )
        first.kill()
        died = time.monotonic()
        feeder.join()
        for user in users:
            server.deliver(user, letter(f"after {user}"))
            feeder.sent.append(letter(f"after {user}"))
        until(
            lambda: (
                second.rows("SELECT count(*) FROM mailbox_mail WHERE mail_id IS NOT NULL")
                == [(410,)]
            ),
            30 - (time.monotonic() - died),
        )
        print(
            f"all mail of ten mailboxes was taken in {time.monotonic() - died:.1f} s after the "
            "death of their reader"
        )
        settled(second, server, users, 410)
        audit(second, server, users, feeder.sent)


def elsewhere() -> list[str]:
    """Return the prefix that runs a program under another host name (root only)."""
    wrapper = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
    tried = subprocess.run([*wrapper, "true"], capture_output=True, check=False)
    return wrapper if tried.returncode == 0 else []


# ---- mail by two ways


def test_mail_by_smtp_and_by_mailbox_is_one_ticket(
    make_daemon: Callable[..., Daemon], server: Dovecot
) -> None:
    """E32, E33: mail by SMTP and by mailbox is one message; the second is a duplicate."""
    daemon = make_daemon(IMAP=mailboxes(server, [USER]))
    daemon.start()
    raw = letter("both ways")
    assert send(daemon.port, raw) not in (LOST, "")
    server.deliver(USER, raw)
    until(lambda: daemon.rows("SELECT count(*) FROM mail WHERE state <> 'pending'") == [(2,)])
    assert sorted(state for (state,) in daemon.rows("SELECT state FROM mail")) == [
        "done",
        "duplicate",
    ]
    assert daemon.rows("SELECT count(*) FROM ticket") == [(1,)]
    assert daemon.rows("SELECT count(*) FROM message") == [(1,)]


def test_mail_to_two_mailboxes_is_one_ticket(make_daemon: Callable[..., Daemon]) -> None:
    """C17: a mail to two channels' mailboxes is one ticket of the first in To, with a note."""
    users = [USER, "sales@example.org"]
    with dovecot(users) as server:
        boxes = json.loads(mailboxes(server, users))
        for box in boxes:
            box["channel"] = box["username"]
        daemon = make_daemon(IMAP=json.dumps(boxes))
        assert daemon.run("db", "upgrade").returncode == 0
        for user in users:
            assert daemon.run("channel", "add", user).returncode == 0
        raw = letter("cross").replace(
            b"To: desk@example.org", b"To: sales@example.org, desk@example.org"
        )
        for user in users:
            server.deliver(user, raw)
        daemon.start()
        until(lambda: daemon.rows("SELECT count(*) FROM mail WHERE state <> 'pending'") == [(2,)])
        told = json.loads(daemon.run("ticket", "show", "1", "--json").stdout)
        assert daemon.rows("SELECT count(*) FROM ticket") == [(1,)]
        assert any(
            "also sent to desk@example.org" in (event["detail"] or "") for event in told["events"]
        )
        channels = json.loads(daemon.run("channel", "list", "--json").stdout)["channels"]
        assert {
            each["address"]: each["health"] for each in channels if each["mailboxes"]
        } == dict.fromkeys(users, "ok")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took."""
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.2f} s")


def test_delivered_mail_is_a_ticket_within_two_seconds(
    make_daemon: Callable[..., Daemon], server: Dovecot
) -> None:
    """With IDLE, mail delivered to Dovecot is a ticket within two seconds."""
    daemon = make_daemon(IMAP=mailboxes(server, [USER], after="keep", move_to=""))
    daemon.start()
    until(lambda: daemon.rows("SELECT state FROM mailbox") == [("ok",)])
    for number in range(1, 4):
        with timed("from delivery to ticket"):
            server.deliver(USER, letter(f"quick {number}"))
            until(
                lambda number=number: daemon.rows("SELECT count(*) FROM ticket") == [(number,)], 2
            )


def asked(port: int, path: str) -> str:
    """Return the answer of the daemon's health listener."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"http://127.0.0.1:{port}/{path}", timeout=10
    ) as answer:
        return str(answer.read().decode())


def test_a_refused_mailbox_is_reported_everywhere(
    make_daemon: Callable[..., Daemon], server: Dovecot, free_port: int
) -> None:
    """A wrong password shows in health, metrics, channel list and log; SMTP goes on."""
    wrong = "wr0ng-s3cret"
    daemon = make_daemon(
        IMAP=mailboxes(server, [USER], password=wrong),
        HEALTH__LISTEN=f"127.0.0.1:{free_port}",
        LOG__LEVEL="debug",
        LOG__FORMAT="json",
    )
    daemon.start()
    found = daemon.wait_for("mailbox refused", level="error")
    assert "AUTHENTICATE" in found["reason"]
    until(lambda: daemon.rows("SELECT state FROM mailbox") == [("refused",)], 10)
    ready = json.loads(asked(free_port, "readyz"))
    assert (ready["status"], ready["parts"], list(ready["mailboxes"])) == (
        "degraded",
        dict.fromkeys(("database", "blobs", "incoming", "mail"), "ok"),
        [USER],
    )
    assert f'ticketgate_mailbox_refused{{mailbox="{USER}"}} 1.0' in asked(free_port, "metrics")
    assert f'ticketgate_mailbox_up{{mailbox="{USER}"}} 0.0' in asked(free_port, "metrics")
    assert send(daemon.port, letter("by smtp")) not in (LOST, "")
    until(lambda: daemon.rows("SELECT count(*) FROM ticket") == [(1,)])
    health = {
        each["address"]: each["health"]
        for each in json.loads(daemon.run("channel", "list", "--json").stdout)["channels"]
    }
    assert health["support@localhost"].startswith(
        f"mailbox {USER}: the server refused AUTHENTICATE"
    )
    assert server.refused_logins == 1
    daemon.stop()
    for secret in (wrong, USER, "About by smtp", "client@client.example", "A line of"):
        assert secret.encode() not in daemon.said(), secret


def test_the_log_holds_nothing_of_mail_or_secrets(
    make_daemon: Callable[..., Daemon], server: Dovecot
) -> None:
    """At debug level the lines about a mailbox have no password, address, subject or text."""
    daemon = make_daemon(IMAP=mailboxes(server, [USER]), LOG__LEVEL="debug", LOG__FORMAT="json")
    server.deliver(USER, letter("quiet"))
    daemon.start()
    until(lambda: daemon.rows("SELECT count(*) FROM ticket") == [(1,)])
    daemon.stop()
    assert b"mailbox has new UIDs" in daemon.said()
    for secret in (PASSWORD, USER, "About quiet", "client@client.example", "A line of"):
        assert secret.encode() not in daemon.said(), secret
