"""A real Dovecot for tests: ports, users, and ways to deliver, change and break mail."""

from __future__ import annotations

import imaplib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.conftest import open_port, require_program
from tests.faults.witness import until
from tests.servers import dovecot_config
from tests.servers.certificates import Authority
from tests.servers.names import encode_folder, folder_argument

PASSWORD = "s3cret"


@dataclass(slots=True)
class Dovecot:
    """A Dovecot in a folder. ``location`` is a mail_location, see also ``dovecot_config.write``."""

    folder: Path
    port: int
    tls_port: int
    location: str = "maildir:~/Maildir"
    introspection_url: str = ""
    extra: str = ""
    user: str = ""  # of the current test
    master: subprocess.Popen[bytes] | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)
    witnesses: int = 0  # logins by :meth:`client`

    def prepare(self) -> None:
        """Write configuration, certificates and an empty list of users."""
        (self.folder / "home").mkdir()
        (self.folder / "users").mkdir()
        os.chown(self.folder / "home", *self.owner)
        Authority(self.folder / "tls").issue("DNS:localhost", "IP:127.0.0.1")
        dovecot_config.write(
            self.folder,
            port=self.port,
            tls_port=self.tls_port,
            location=self.location,
            introspection_url=self.introspection_url,
            extra=self.extra,
        )

    @property
    def owner(self) -> tuple[int, int]:
        """Return user and group that own the mail."""
        keeper = dovecot_config.owner()
        return keeper.uid, keeper.gid

    @property
    def ca(self) -> Path:
        """Return the certificate of the authority, which clients should trust."""
        return self.folder / "tls/ca.pem"

    # ---- the server

    def start(self) -> None:
        """Start it and wait for the first greeting."""
        command: list[str | Path] = [
            require_program("dovecot"),
            "-F",
            "-c",
            self.folder / "dovecot.conf",
        ]
        self.master = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until(self._greets, 20)

    def _greets(self) -> bool:
        assert self.master is not None
        assert self.master.poll() is None, self.log()[-2000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as probe:
            return probe.recv(100).startswith(b"* OK")
        return False

    def stop(self) -> None:
        """Stop it regularly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with all its children; connections get no goodbye."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.master is None:
            return
        group, self.master = self.master, None
        if how is signal.SIGTERM:
            group.terminate()
            with suppress(subprocess.TimeoutExpired):
                group.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(group.pid, signal.SIGKILL)  # its children never leave its group
        group.wait(10)
        until(lambda: not _alive(group.pid), 10)
        (self.folder / "run/master.pid").unlink(missing_ok=True)
        # The lock of a killed session would delay the next one for minutes.
        for left in (self.folder / "home").rglob("*.lock"):
            left.unlink()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def log(self) -> str:
        """Return what it logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def refused_logins(self) -> int:
        """Return how many logins failed so far, according to its log."""
        self._await_log()
        return self.log().count("client passdb out: FAIL\t")

    def login_count(self) -> int:
        """Return the number of login attempts in its log, without those of :meth:`client`."""
        self._await_log()
        return max(0, self.log().count("auth: Debug: client in: AUTH\t") - self.witnesses)

    def _await_log(self) -> None:
        """Return once a login of ours is in the log, which lags behind, so that it is complete."""
        if self.master is None:
            return
        name = self.add_user(f"witness{next(self.numbers)}@example.org")
        with self.client(name):
            until(lambda: f"\tuser={name}" in self.log())

    # ---- users and mail

    def add_user(self, name: str, password: str = PASSWORD) -> str:
        """Add a user or change a password; names may hold anything but slashes and line breaks."""
        path = self.folder / "users" / name
        before = path.stat().st_mtime if path.exists() else 0
        fresh = self.folder / "fresh"
        fresh.write_text(f"user:{{PLAIN.b64}}{b64encode(password.encode()).decode()}\n")
        fresh.chmod(0o644)
        if before:  # it reloads the file when its mtime differs, and checks once a second
            os.utime(fresh, (before + 1, before + 1))
        fresh.replace(path)
        written = int(time.time())
        if before and self.master is not None:
            until(lambda: int(time.time()) > written, 2)
        return name

    def maildir(self, user: str, folder: str = "INBOX") -> Path:
        """Return the path of a folder's mails."""
        home = self.folder / "home" / user / "Maildir"
        name = encode_folder(folder)
        return home if folder == "INBOX" else home / f".{name.replace('/', '.')}"

    def deliver(
        self, user: str, *raws: bytes, folder: str = "INBOX", received: datetime | None = None
    ) -> None:
        """Deliver mails to a Maildir (write, then move); ``received`` is their INTERNALDATE."""
        if not self.location.startswith("maildir:"):
            self.append(user, *raws, folder=folder, received=received)
            return
        place = self.maildir(user, folder)
        self._make(self.maildir(user))
        self._make(place)
        for raw in raws:
            seconds, rest = divmod(time.time_ns() // 1000, 1_000_000)
            # sorts in the order of delivery
            name = f"{seconds}.M{rest:06}P{next(self.numbers):09}.tests"
            fresh = place / "tmp" / name
            fresh.write_bytes(raw)
            os.chown(fresh, *self.owner)
            if received is not None:
                os.utime(fresh, (received.timestamp(), received.timestamp()))
            fresh.rename(place / "new" / name)

    def deliver_many(self, user: str, raws: Iterable[bytes], folder: str = "INBOX") -> None:
        """Deliver any number of mails."""
        self.deliver(user, *raws, folder=folder)

    def _make(self, place: Path) -> None:
        missing = [
            path
            for path in (place.parent, place, place / "cur", place / "new", place / "tmp")
            if not path.exists()
        ]
        for path in missing:
            path.mkdir()
            os.chown(path, *self.owner)

    @contextmanager
    def client(self, user: str, password: str = PASSWORD) -> Iterator[imaplib.IMAP4]:
        """Return an independent client that is signed in."""
        self.witnesses += 1
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=30)
        client.authenticate(
            "PLAIN", lambda _: f"\0{user}\0{password}".encode()
        )  # login() does not quote names
        try:
            yield client
        finally:
            with suppress(OSError, imaplib.IMAP4.error):
                client.logout()

    def append(
        self, user: str, *raws: bytes, folder: str = "INBOX", received: datetime | None = None
    ) -> None:
        """Add mails through the server, for mailboxes that are no Maildir."""
        with self.client(user) as client:
            for raw in raws:
                when = imaplib.Time2Internaldate(received) if received is not None else ""
                assert client.append(folder_argument(folder), "", when, raw)[0] == "OK"

    def create(self, user: str, folder: str) -> None:
        """Create a folder."""
        with self.client(user) as client:
            assert client.create(folder_argument(folder))[0] == "OK"

    create_folder = create

    def seen(self, user: str, folder: str = "INBOX") -> dict[int, tuple[bytes, str]]:
        """Return UID -> raw mail and its flags, as another client sees the folder."""
        with self.client(user) as client:
            if client.select(folder_argument(folder), readonly=True)[0] != "OK":
                return {}
            _, [listed] = client.uid("SEARCH", "ALL")
            found = {}
            for uid in listed.split():
                _, [(head, raw), *_] = client.uid("FETCH", uid, "(FLAGS BODY.PEEK[])")
                found[int(uid)] = (raw, head.decode().partition("FLAGS (")[2].partition(")")[0])
            return found

    def uids(self, user: str, folder: str = "INBOX") -> list[int]:
        """Return the UIDs of a folder."""
        return sorted(self.flags(user, folder))

    def flags(self, user: str, folder: str = "INBOX") -> dict[int, set[str]]:
        r"""Return UID -> flags of a folder, without \Recent."""
        with self.client(user) as client:
            if client.select(folder_argument(folder), readonly=True)[0] != "OK":
                return {}
            _, lines = client.uid("FETCH", "1:*", "(UID FLAGS)")
            told = {
                int(re.search(rb"UID (\d+)", line)[1]): imaplib.ParseFlags(line)
                for line in lines
                if line
            }
            return {
                uid: {flag.decode() for flag in flags} - {"\\Recent"} for uid, flags in told.items()
            }

    def count(self, user: str, folder: str = "INBOX") -> int:
        """Return the number of mails in a folder."""
        with self.client(user) as client:
            status, [count] = client.select(folder_argument(folder), readonly=True)
            return int(count or 0) if status == "OK" else 0

    def uidvalidity(self, user: str, folder: str = "INBOX") -> int:
        """Return the UIDVALIDITY of a folder."""
        with self.client(user) as client:
            _, [line] = client.status(folder_argument(folder), "(UIDVALIDITY)")
            return int(line.split()[-1].strip(b")"))

    def delete_indexes(self, user: str) -> None:
        """Remove rebuildable indexes; UIDs stay, but a dbox loses flags and UIDVALIDITY."""
        for path in (self.folder / "home" / user).rglob("dovecot*index*"):
            path.unlink()
        if not self.location.startswith("maildir:"):
            self.doveadm("force-resync", "-u", user, "*")

    def change_uidvalidity(
        self, user: str, value: int = 0, *, folder: str = "INBOX", first_uid: int = 1
    ) -> int:
        """Change a folder's UIDVALIDITY, with no client connected, and return it.

        The mails of a Maildir get new UIDs from ``first_uid`` on; those of a dbox keep theirs.
        """
        value = value or self.uidvalidity(user, folder) + 7
        if not self.location.startswith("maildir:"):
            self.doveadm("mailbox", "update", "-u", user, "--uid-validity", str(value), folder)
            return value
        place = self.maildir(user, folder)
        old = [
            *place.glob("dovecot.index*"),
            *self.maildir(user).glob("dovecot.list.index*"),
            *self.maildir(user).glob("dovecot-uidvalidity*"),
        ]
        for path in old:
            path.unlink()
        (place / "dovecot-uidlist").write_text(f"3 V{value} N{first_uid} G{os.urandom(16).hex()}\n")
        os.chown(place / "dovecot-uidlist", *self.owner)
        return value

    def doveadm(self, *arguments: str) -> None:
        """Run a doveadm command."""
        command: list[str | Path] = [
            require_program("doveadm"),
            "-c",
            self.folder / "dovecot.conf",
            *arguments,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=30)


def _alive(group: int) -> bool:
    """Return whether a process of a group still runs."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                return True
    return False


@contextmanager
def dovecot(
    users: Sequence[str] = ("desk@example.org",), *, storage: str = "maildir", **settings: str
) -> Iterator[Dovecot]:
    """Run a server with these users; ``storage`` may be sdbox or mdbox, see :class:`Dovecot`."""
    dovecot_config.require_dovecot()
    folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
    try:
        folder.chmod(0o755)
        place = "~/Maildir" if storage == "maildir" else "~/mail"
        more: dict[str, Any] = dict(settings)
        server = Dovecot(
            folder, open_port(), open_port(), **({"location": f"{storage}:{place}"} | more)
        )
        server.prepare()
        for user in users:
            server.add_user(user)
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


dovecot_server = dovecot


def letters(words: Iterable[object], size: int = 0) -> list[bytes]:
    """Return mails of about ``size`` bytes; Message-ID and subject are made of these words."""
    return [letter(word, size) for word in words]


def letter(word: object, size: int = 0, *, parent: object = "") -> bytes:
    """Return one mail with CR LF, a reply if ``parent`` is the word of another."""
    reply = f"In-Reply-To: <{parent}@client.example>\r\n" if parent else ""
    head = (
        "From: A client <client@client.example>\r\nTo: desk@example.org\r\nSubject: About "
        f"{parent or word}\r\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: "
        f"<{word}@client.example>\r\n{reply}\r\n"
    )
    line = f"A line of {word}, and no more than that.\r\n"
    return (head + line * max(1, size // len(line))).encode()
