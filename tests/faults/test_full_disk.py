"""Tests of full and failing disks: mail is refused softly or stored (reliability.md 1, 27)."""

from __future__ import annotations

import os
import subprocess
from itertools import count, product
from typing import TYPE_CHECKING

import pytest

from tests.faults.witness import Dialog, Ledger, letter, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.conftest import Daemon, Strace

MIB = 1 << 20
CALLS = (
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename",
    "linkat",
    "link",
    "openat",
    "ftruncate",
    "pread64",
    "mkdir",
)
LARGE = 20_000  # lines; such a mail goes through a file and becomes a blob


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 560 MiB in memory, or skip the test if that is forbidden."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=560m", "none", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(
            f"this machine does not let the test mount a file system: {mount.stderr.strip()}"
        )
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def resize(place: Path, size: int) -> None:
    """Set the size of the file system in bytes, but never below the used size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def squeeze(place: Path, left: int) -> None:
    """Leave this many bytes free."""
    status = os.statvfs(place)
    resize(place, (status.f_blocks - status.f_bfree) * status.f_frsize + left)


def test_a_full_disk_refuses_softly_and_recovers(
    make_daemon: Callable[..., Daemon], small_disk: Path
) -> None:
    """Below 512 MiB free MAIL gets 452 4.3.1, ``deliver`` ends with 75; with space both work."""
    daemon = make_daemon(
        DATA__DIRECTORY=str(small_disk / "var"),
        DATABASE__URL=f"sqlite:///{small_disk}/ticketgate.db",
    )
    daemon.start()
    ledger = Ledger()
    assert ledger.send(daemon.port, "before", letter("before")).startswith("250")
    resize(small_disk, 500 * MIB)
    with Dialog(daemon.port) as dialog:
        assert dialog.say(b"EHLO client.example").startswith("250")
        assert dialog.say(b"MAIL FROM:<a@client.example>").startswith("452 4.3.1")
        assert daemon.run("deliver", stdin=letter("piped")).returncode == os.EX_TEMPFAIL
        resize(small_disk, 560 * MIB)
        assert dialog.say(b"MAIL FROM:<a@client.example>").startswith("250")  # the session went on
    assert ledger.send(daemon.port, "after", letter("after")).startswith("250")
    assert daemon.stop() == 0
    ledger.audit(stored(daemon.url, small_disk / "var/blobs"))


@pytest.mark.parametrize("left", [0, 100_000])
def test_a_disk_that_fills_up_in_the_middle_of_mails(
    make_daemon: Callable[..., Daemon], small_disk: Path, left: int
) -> None:
    """A disk that fills up during DATA gives 452 4.3.1 and no partial mail; retries succeed."""
    daemon = make_daemon(
        "ingress",
        DATA__DIRECTORY=str(small_disk / "var"),
        DATABASE__URL=f"sqlite:///{small_disk}/ticketgate.db",
    )
    daemon.start()
    mails = {"small": letter("small", 4000), "large": letter("large", LARGE)}
    ledger = Ledger()
    for word, data in mails.items():
        with Dialog(daemon.port) as dialog:
            assert dialog.begin().startswith("354")
            squeeze(small_disk, left)
            assert dialog.finish(data).startswith("452 4.3.1")
            resize(small_disk, 560 * MIB)
        assert ledger.send(daemon.port, word, data).startswith("250")
    assert daemon.stop() == 0
    assert sorted(path.name for path in (small_disk / "var/incoming").iterdir()) == []
    kept = stored(daemon.url, small_disk / "var/blobs")
    ledger.audit(kept)
    assert len(kept) == len(mails)


def injure(
    daemon: Daemon,
    disturb: Callable[..., Strace],
    ledger: Ledger,
    injections: list[tuple[str, int]],
) -> tuple[int, int]:
    """Send a mail in each injection and one after; return the failed calls and refused mails."""
    failed = refused = 0
    for number, (injection, lines) in enumerate(injections):
        word = f"hurt{number}"
        with disturb(daemon, injection) as strace:
            reply = ledger.send(daemon.port, word, letter(word, lines))
        failed += strace.injected()
        refused += not reply.startswith("250")
        assert reply[:9] in {"250 2.0.0", "451 4.3.0", "452 4.3.1"}, (injection, reply)
        assert "rror" not in reply.replace("Internal error", ""), reply
        again = ledger.send(daemon.port, word, letter(word, lines))
        assert again.startswith("250"), (injection, again)
    return failed, refused


def finished(daemon: Daemon, ledger: Ledger, *, again: int) -> None:
    """Assert that the daemon stops in order and the store holds what the clients know."""
    assert daemon.stop() == 0
    assert daemon.run("agenda", "run").returncode == 0
    mails = daemon.mails()
    ledger.audit(mails)
    assert {mail.state for mail in mails} <= {"done", "duplicate"}
    assert sum(mail.state == "duplicate" for mail in mails) <= again
    assert daemon.leftovers() == []
    assert daemon.rows("PRAGMA integrity_check") == [("ok",)]
    check = daemon.run("db", "check")
    assert check.returncode == 0, check.stdout + check.stderr


SAMPLE = [
    ("pwrite64:error=ENOSPC:when=1+", 3),
    ("pwrite64:error=EIO:when=2", 3),
    ("fdatasync:error=EIO:when=1+", 3),
    ("fdatasync:error=ENOSPC:when=1", 3),
    ("openat:error=EMFILE:when=1", LARGE),
    ("fsync:error=EIO:when=1+", LARGE),
    ("fsync:error=EIO:when=2", LARGE),
    ("rename:error=ENOSPC:when=1", LARGE),
    ("pwrite64:error=ENOSPC:when=1+", LARGE),
]


def test_an_error_of_the_disk_never_yields_250(
    make_daemon: Callable[..., Daemon], disturb: Callable[..., Strace]
) -> None:
    """ENOSPC, EIO and EMFILE during a commit give 451 or 452; the next mail is accepted."""
    daemon = make_daemon("ingress")
    daemon.start()
    ledger = Ledger()
    failed, refused = injure(daemon, disturb, ledger, SAMPLE)
    print(f"{failed} calls failed, {refused} of {len(SAMPLE)} mails refused")
    assert refused >= len(SAMPLE) // 2
    finished(daemon, ledger, again=len(SAMPLE))


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lines", [3, LARGE], ids=["small", "large"])
def test_no_error_of_the_disk_anywhere_yields_250(
    make_daemon: Callable[..., Daemon], disturb: Callable[..., Strace], lines: int
) -> None:
    """The same at each single call of each kind, with each error, from socket to ticket."""
    daemon = make_daemon()
    daemon.start()
    ledger = Ledger()
    failed = refused = sent = 0
    for call, error in product(CALLS, ("EIO", "ENOSPC", "EMFILE")):
        for number in count(1):
            word = f"{call}-{error}-{number}"
            with disturb(daemon, f"{call}:error={error}:when={number}") as strace:
                reply = ledger.send(daemon.port, word, letter(word, lines))
            assert reply[:9] in {"250 2.0.0", "451 4.3.0", "452 4.3.1"}, (word, reply)
            again = ledger.send(daemon.port, word, letter(word, lines))
            assert again.startswith("250"), (word, again)
            sent += 2
            refused += not reply.startswith("250")
            failed += strace.injected()
            if not strace.injected():
                break
    print(f"{failed} calls failed, {sent} mails sent, {refused} refused")
    assert refused
    finished(daemon, ledger, again=sent)
