"""Tests of kills between steps of outgoing mail: nothing is lost, doubled mails are counted.

A customer writes and gets a receipt, an agent answers by a command, the customer answers, waits out
a delay, and is written to. The server refuses some addresses for good, some bounce the agent's
mail. Meanwhile the daemon is killed at random moments (reliability.md 26, section 3).
"""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests.conftest import open_port
from tests.faults.conftest import Daemon
from tests.faults.witness import send, until
from tests.replay.office import Received, Sink, answer, letter

BEGIN = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
STEP = timedelta(
    minutes=3
    # clock step between two runs: longer than the delay and any lease
)
WORKFLOWS = """
[[workflow]]
pipeline = "Support"
status = "New"
enabled = true
actions = [{ id = "receipt", kind = "send_email", template = "Ticket received" }]

[[workflow]]
pipeline = "Support"
status = "Waiting on us"
enabled = true
actions = [
    { id = "wait", kind = "delay", for = "1m" },
    { id = "remind", kind = "send_email", template = "Ticket closed" },
]
"""
DSN = """\
From: MAILER-DAEMON@{domain}\r
To: {to}\r
Subject: Undelivered Mail Returned to Sender\r
Date: Wed, 25 Nov 2026 10:00:00 +0000\r
Message-ID: <bounce-{number}@{domain}>\r
Auto-Submitted: auto-replied\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary="cut"\r
\r
--cut\r
Content-Type: text/plain\r
\r
It could not be delivered.\r
--cut\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; {domain}\r
\r
Final-Recipient: rfc822; {address}\r
Action: failed\r
Status: 5.1.1\r
\r
--cut\r
Content-Type: text/rfc822-headers\r
\r
Message-ID: {original}\r
\r
--cut--\r
"""


@dataclass
class Watched(Sink):
    """The SMTP server, for threads that wait until it has accepted a mail."""

    changed: threading.Condition = field(default_factory=threading.Condition)

    # the library's name
    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        said = await super().handle_DATA(server, session, envelope)
        with self.changed:
            self.changed.notify_all()
        return said

    def wait_for(
        self, wanted: Callable[[Received], bool], over: threading.Event
    ) -> Received | None:
        """Return the first wanted mail; None if the test is ended."""
        with self.changed:
            while not over.is_set():
                found = next((each for each in self.taken if wanted(each)), None)
                if found is not None:
                    return found
                self.changed.wait(0.5)
        return None


@contextmanager
def watched() -> Iterator[Watched]:
    """Run a server on a free port, in a thread."""
    sink = Watched()
    controller = Controller(sink, hostname="127.0.0.1", port=open_port())
    controller.start()
    try:
        sink.port = controller.server.sockets[0].getsockname()[1]
        yield sink
    finally:
        controller.stop()


@dataclass
class Traffic:
    """Customers and their agent, a thread for each conversation, with a log of done steps."""

    daemon: Daemon
    sink: Watched
    total: int
    mails: set[str] = field(default_factory=set)  # Message-IDs with a 250
    again: int = 0  # attempts without a 250
    answered: set[int] = field(
        default_factory=set
    )  # conversations whose reply command ended with 0
    errors: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, clients: int) -> None:
        """Start all conversations."""
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def join(self, timeout: float) -> None:
        """Return when every conversation has had all its steps."""
        for thread in self._threads:
            thread.join(timeout)
            assert not thread.is_alive(), f"{len(self.answered)} of {self.total} were answered"
        assert not self.errors, self.errors

    def end(self) -> None:
        """Stop all conversations."""
        self.over.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def busy(self) -> bool:
        """Return whether a conversation has steps left."""
        return any(thread.is_alive() for thread in self._threads)

    def _client(self) -> None:
        while not self.over.is_set():
            with self._lock:
                if self._next >= self.total:
                    return
                number = self._next
                self._next += 1
            try:
                self._conversation(number)
            except Exception as error:  # noqa: BLE001  # told by the test, not by a thread
                self.errors.append(f"{number}: {error!r}")
                return

    def _conversation(self, number: int) -> None:
        address = customer(number)
        first = letter(
            f"A customer <{address}>",
            BEGIN,
            f"Case {number}",
            f"This is case {number}.",
            Message_ID=f"<case-{number}@client.example>",
        )
        self._deliver(first, f"case-{number}@client.example")
        ticket = self._ticket(number)
        self._reply(number, ticket)
        if refused(number):
            return
        arrived = self.sink.wait_for(
            lambda each: address in each.to and words(number) in each.text, self.over
        )
        if arrived is None:
            return
        if sends_back(number):
            domain = address.partition("@")[2]
            back = DSN.format(
                domain=domain,
                to=arrived.sender,
                number=number,
                address=address,
                original=arrived.mail["Message-ID"],
            )
            self._deliver(back.encode(), f"bounce-{number}@{domain}")
        else:
            again = answer(
                arrived,
                "Thank you, and one more thing.",
                BEGIN,
                address,
                Message_ID=f"<again-{number}@client.example>",
            )
            self._deliver(again, f"again-{number}@client.example")

    def _deliver(self, data: bytes, name: str) -> None:
        while not self.over.is_set():
            if send(self.daemon.port, data.replace(b"\r\n.", b"\r\n..")).startswith("250"):
                self.mails.add(name)
                return
            self.again += 1
            self.over.wait(0.02)

    def _ticket(self, number: int) -> int:
        """Return the ticket, polling the database as an agent would."""
        query = (
            "SELECT t.ticket FROM message m JOIN thread t ON t.id = m.thread_id WHERE "
            f"m.message_id = 'case-{number}@client.example'"
        )
        found: list[int] = []

        def there() -> bool:
            found.extend(row[0] for row in self.daemon.rows(query))
            return bool(found) or self.over.is_set()

        until(there, 150)  # the daemon may be killed several times meanwhile
        return found[0]

    def _reply(self, number: int, ticket: int) -> None:
        while not self.over.is_set():
            done = self.daemon.run("ticket", "reply", str(ticket), "--text", words(number))
            if done.returncode == 0:
                self.answered.add(number)
                return
            assert done.returncode == 75, done.stderr  # the database was busy


def customer(number: int) -> str:
    """Return an address with a domain of its own, since receipts are capped for each domain."""
    return f"ann@c{number}.example"


def words(number: int) -> str:
    """Return the text of the agent's answer."""
    return f"We have looked at number {number}."


def refused(number: int) -> bool:
    """Return whether the server refuses this customer for good."""
    return number % 6 == 5


def sends_back(number: int) -> bool:
    """Return whether this customer's mail bounces."""
    return number % 6 == 2


def prepared(daemon: Daemon, folder: Path) -> None:
    """Return the workflows, enabled before the first start."""
    file = folder / "workflows.toml"
    file.write_text(WORKFLOWS)
    for command in (("db", "upgrade"), ("workflow", "import", str(file), "--yes")):
        done = daemon.run(*command)
        assert done.returncode == 0, done.stderr


def killed_while_answering(
    make_daemon: Callable[..., Daemon], folder: Path, total: int, kills: int, seed: int
) -> None:
    """Kill at random moments, half just after the server took a mail; drain and compare logs."""
    chance = random.Random(seed)
    with watched() as sink:
        sink.refuse.update(
            {
                customer(number): "550 5.1.1 no such user"
                for number in range(total)
                if refused(number)
            }
        )
        daemon = make_daemon(
            OUTBOUND__HOST="127.0.0.1",
            OUTBOUND__PORT=str(sink.port),
            OUTBOUND__TLS="none",
            NOW=BEGIN.isoformat(),
        )
        prepared(daemon, folder)
        daemon.start()
        traffic = Traffic(daemon, sink, total)
        traffic.start(3)
        done = 0
        try:
            while traffic.busy or done < kills:
                moment(sink, chance)
                if done < kills:
                    daemon.kill()
                    done += 1
                    daemon.environ["TICKETGATE_NOW"] = (BEGIN + done * STEP).isoformat()
                    daemon.start()
            traffic.join(60)
        finally:
            traffic.end()
        daemon.kill()
        for days in (1, 2):  # a run that enters the delay in the first pass leaves it in the second
            drained = daemon.run(
                "agenda", "run", "--until", (BEGIN + timedelta(days=days)).isoformat()
            )
            assert drained.returncode == 0, drained.stderr
        audit(daemon, traffic, kills + 1)


def moment(sink: Watched, chance: random.Random) -> None:
    """Wait a while, or until a few ms after the next accepted mail was recorded."""
    aimed = chance.random() < 0.5
    with sink.changed:
        seen = len(sink.taken)
        sink.changed.wait_for(lambda: aimed and len(sink.taken) > seen, chance.uniform(0.1, 0.8))
    threading.Event().wait(chance.uniform(0.0, 0.01))


def audit(daemon: Daemon, traffic: Traffic, kills: int) -> None:
    """Assert that nothing is lost, and mails are doubled by kills only."""
    mails = sorted(
        f"{name}"
        for (name,) in daemon.rows(
            "SELECT message_id FROM message WHERE direction = 'inbound' AND thread_id IS NOT NULL"
        )
    )
    missing = [
        row
        for row in daemon.rows("SELECT message_id, state, tries, outcome FROM mail ORDER BY id")
        if row[0] not in mails
    ]
    assert mails == sorted(traffic.mails), f"an accepted mail is not one message: {missing}"
    assert daemon.rows(
        "SELECT count(*) FROM message m JOIN thread t ON t.id = m.thread_id WHERE t.ticket IS NULL"
    ) == [(0,)]
    assert daemon.rows("SELECT count(*) FROM ticket") == [(traffic.total,)]
    assert len(traffic.answered) == traffic.total
    good = [number for number in range(traffic.total) if not refused(number)]
    doubled = at_the_server(traffic.sink, kills)
    for number in good:
        texts = {
            each.mail["Message-ID"]: each.text
            for each in traffic.sink.taken
            if customer(number) in each.to
        }
        expected = {
            "answer": 1,
            "else": 1 if sends_back(number) else 2,
        }  # besides the answer: a receipt, and the mail after the delay
        assert (
            Counter("answer" if words(number) in text else "else" for text in texts.values())
            == expected
        ), (number, list(texts.values()))
    in_the_store(daemon, traffic)
    print(
        f"{len(traffic.mails)} mails in, {len(traffic.sink.taken)} out, {kills} kills, "
        f"{traffic.again} tries failed; none lost, {doubled} doubled"
    )


def at_the_server(sink: Watched, kills: int) -> int:
    """Assert that each mail is there once, or twice after a kill; return the doubled ones."""
    arrived: dict[tuple[str, tuple[str, ...]], list[Received]] = defaultdict(list)
    for each in sink.taken:
        arrived[each.mail["Message-ID"], each.to].append(each)
    for name, copies in arrived.items():
        assert len({(each.sender, each.raw) for each in copies}) == 1, (
            f"{name} changed on its second way"
        )
    doubled = sum(len(copies) - 1 for copies in arrived.values())
    assert doubled <= kills, f"{doubled} doubles after {kills} kills"
    return doubled


def in_the_store(daemon: Daemon, traffic: Traffic) -> None:
    """Assert that no cause made two mails, nothing waits for ever, and tickets show failures."""
    assert (
        daemon.rows(
            "SELECT key FROM outgoing WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1"
        )
        == []
    )
    assert (
        daemon.rows("SELECT message_id FROM message GROUP BY message_id HAVING count(*) > 1") == []
    )
    assert daemon.rows("SELECT count(*) FROM enrolment WHERE state = 'ACTIVE'") == [(0,)]
    again = (
        "SELECT enrolment_id, action FROM action_run WHERE outcome = 'OK' AND action <> "
        "'wait' GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert daemon.rows(again) == []
    lost = {customer(number) for number in range(traffic.total) if refused(number)}
    returned = {customer(number) for number in range(traffic.total) if sends_back(number)}
    ends = (
        "SELECT recipient, state, settled FROM delivery d JOIN outgoing o ON o.id = d.outgoing_id"
    )
    assert {(state, settled) for _, state, settled in daemon.rows(ends)} <= {
        ("sent", 1),
        ("failed", 1),
    }
    failed = {recipient for recipient, state, _ in daemon.rows(ends) if state == "failed"}
    assert lost <= failed <= lost | returned
    flagged = (
        "SELECT c.address FROM ticket t JOIN contact c ON c.id = t.requester_id WHERE "
        "t.flags LIKE '%delivery_failed%'"
    )
    assert {address for (address,) in daemon.rows(flagged)} == lost | returned


@pytest.mark.timeout(300)
def test_no_outgoing_mail_is_lost(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """After eight kills every accepted mail, answer and receipt is there; doubles are fewer."""
    killed_while_answering(make_daemon, tmp_path, total=12, kills=8, seed=20261125)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_no_outgoing_mail_is_lost_in_the_long_run(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """The same with two hundred and forty conversations and a hundred kills."""
    killed_while_answering(make_daemon, tmp_path, total=240, kills=100, seed=26)
