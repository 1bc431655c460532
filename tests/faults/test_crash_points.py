"""Tests of a crash at each system call on the way of one mail (reliability.md section 3)."""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING

import pytest

from tests.faults.witness import Ledger, letter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.faults.conftest import Daemon, Strace

SMALL, LARGE = 3, 20_000  # lines; the large one goes through a file and becomes a blob
CALLS = (
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename",
    "link",
    "linkat",
    "unlink",
    "sendto",
    "ftruncate",
)


class Sweep:
    """One installation that is killed again and again, and the log of its retrying client."""

    def __init__(self, daemon: Daemon, disturb: Callable[..., Strace]) -> None:
        """Prepare the installation without starting anything."""
        self.daemon = daemon
        self.disturb = disturb
        self.ledger = Ledger()
        self.points = self.deaths = self.lost = 0
        daemon.start()

    def point(self, call: str, number: int, lines: int) -> bool:
        """Send a mail, kill in a thread's ``number``-th call; return whether it was reached."""
        word = f"sent-while-{call}-{number}-of-{lines}"
        data = letter(word, lines)
        with self.disturb(self.daemon, f"{call}:signal=KILL:when={number}") as strace:
            reply = self.ledger.send(self.daemon.port, word, data)
            if reply.startswith("250"):
                self._until_processed()
            # Find a kill before detaching: strace would wait for dying threads for ever.
            died = not self._alive(reply)
        if strace.killed():  # in other work of the daemon, at the very end
            died = not self._alive("")
        self.points += 1
        print(f"{word}: {'died' if died else 'passed'}, {reply or 'no answer'}")
        if died:
            self.deaths += 1
            self.daemon.kill()  # its child processes
            self.ledger.audit(self.daemon.mails())
            self.daemon.start()
        if not reply.startswith("250"):
            self.lost += 1
            assert died, reply
            again = self.ledger.send(self.daemon.port, word, data)
            assert again.startswith("250"), again
        return died

    def _until_processed(self) -> None:
        assert self.daemon.log is not None
        try:
            self.daemon.log.wait_for(
                lambda line: b'"processed"' in line or b'"duplicate"' in line, since=self.seen
            )
        except RuntimeError:
            assert self.daemon.log.ended, "acknowledged, but not processed"
        self.seen = len(self.daemon.log.lines)

    def _alive(self, reply: str) -> bool:
        assert self.daemon.process is not None
        assert self.daemon.log is not None
        if not reply or self.daemon.log.ended:
            self.daemon.process.wait(30)
        self.seen = 0 if self.daemon.process.poll() is not None else self.seen
        return self.daemon.process.poll() is None

    seen = 0

    def run(self, points: Iterable[tuple[str, int, int]]) -> None:
        """Try every point; points without a kill do not count."""
        for call, number, lines in points:
            self.point(call, number, lines)

    def finish(self) -> None:
        """Assert that everything is processed once and nothing is left over."""
        assert self.daemon.stop() == 0
        done = self.daemon.run("agenda", "run", "--until", "2099-01-01T00:00:00Z")
        assert done.returncode == 0, done.stderr
        mails = self.daemon.mails()
        self.ledger.audit(mails)
        assert {mail.state for mail in mails} <= {"done", "duplicate"}
        assert (
            self.daemon.rows(
                "SELECT message_id FROM message GROUP BY message_id HAVING count(*) > 1"
            )
            == []
        )
        assert self.daemon.rows("SELECT count(*) FROM message") == [
            (len(self.ledger.acknowledged),)
        ]
        assert self.daemon.leftovers() == []
        doubled = sum(mail.state == "duplicate" for mail in mails)
        assert doubled <= self.lost
        print(
            f"{self.points} points, {self.deaths} deaths, {self.lost} mails without an answer, "
            f"{doubled} of them stored all the same, none lost"
        )


SAMPLE = [
    ("write", 2, SMALL),  # in the dialog
    ("pwrite64", 1, SMALL),  # in the commit of the spool
    ("fdatasync", 1, SMALL),
    ("fdatasync", 2, SMALL),  # in the commit of the ticket
    ("pwrite64", 40, SMALL),
    ("rename", 1, LARGE),
    ("fsync", 2, LARGE),
]


def test_a_crash_at_a_system_call_loses_nothing(
    make_daemon: Callable[..., Daemon], disturb: Callable[..., Strace]
) -> None:
    """After a kill at each of seven points every mail is there once, if need be by a retry."""
    sweep = Sweep(make_daemon(), disturb)
    sweep.run(SAMPLE)
    assert sweep.deaths >= len(SAMPLE) - 2
    sweep.finish()


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lines", [SMALL, LARGE], ids=["small", "large"])
def test_a_crash_at_every_system_call_loses_nothing(
    make_daemon: Callable[..., Daemon], disturb: Callable[..., Strace], lines: int
) -> None:
    """The same for every call of every kind, from the thirtieth on every tenth."""
    sweep = Sweep(make_daemon(), disturb)
    for call in CALLS:
        for number in chain(
            range(1, 30), count(30, 10)
        ):  # beyond that they are pages of one transaction
            if not sweep.point(call, number, lines):
                break
    sweep.finish()
