"""A real Dovecot of the tests' own: a folder, two loopback ports, users, mail that is put into its Maildirs, and everything that can happen to it."""

from __future__ import annotations

import imaplib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.ingress.imap_grammar import mailbox_name
from tests.conftest import open_port, require_program
from tests.faults.witness import until

PASSWORD = "s3cret"
CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{folder}/tls/cert.pem
ssl_key = <{folder}/tls/key.pem
disable_plaintext_auth = no
default_internal_user = {internal}
default_login_user = {login}
default_internal_group = {internal_group}
first_valid_uid = 1
mail_uid = {uid}
mail_gid = {gid}
mail_location = {location}
mail_max_userip_connections = 0
mailbox_idle_check_interval = 1 secs
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0
auth_verbose = yes
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/users
}}
{token_check}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home/%u
}}
{extra}
"""
TOKEN_CHECK = """
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
"""
OAUTH2 = """
introspection_url = {url}
introspection_mode = get
username_attribute = username
active_attribute = active
active_value = true
"""


@dataclass(slots=True)
class Dovecot:
    """See the module. ``location`` is a mail_location; tokens are checked by asking ``introspection_url`` with the token behind it."""

    folder: Path
    port: int
    tls_port: int
    location: str = "maildir:~/Maildir"
    introspection_url: str = ""
    extra: str = ""
    master: subprocess.Popen[bytes] | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def prepare(self) -> None:
        """Writes configuration, certificates and an empty list of users."""
        (self.folder / "home").mkdir()
        (self.folder / "users").touch()
        self._certificates()
        uid, gid = self.owner
        os.chown(self.folder / "home", uid, gid)
        root = os.geteuid() == 0
        me = pwd.getpwuid(uid).pw_name
        check = TOKEN_CHECK.format(folder=self.folder) if self.introspection_url else ""
        (self.folder / "oauth2.conf").write_text(OAUTH2.format(url=self.introspection_url))
        (self.folder / "dovecot.conf").write_text(
            CONFIG.format(
                folder=self.folder,
                port=self.port,
                tls_port=self.tls_port,
                uid=uid,
                gid=gid,
                location=self.location,
                internal="dovecot" if root else me,
                login="dovenull" if root else me,
                internal_group="dovecot" if root else me,
                token_check=check,
                extra=self.extra,
            )
        )

    @property
    def owner(self) -> tuple[int, int]:
        """User and group that own the mail."""
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            return nobody.pw_uid, nobody.pw_gid
        return os.getuid(), os.getgid()

    def _certificates(self) -> None:
        tls = self.folder / "tls"
        tls.mkdir()
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command = [*made, *names, "-keyout", str(tls / "key.pem"), "-out", str(tls / "cert.pem")]
        subprocess.run(command, check=True, capture_output=True)

    @property
    def ca(self) -> Path:
        """The certificate to be trusted."""
        return self.folder / "tls/cert.pem"

    # ---- the server

    def start(self) -> None:
        """Starts it and waits for the first greeting."""
        command = [require_program("dovecot"), "-F", "-c", self.folder / "dovecot.conf"]
        self.master = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        until(self._greets, 20)

    def _greets(self) -> bool:
        assert self.master is not None
        assert self.master.poll() is None, self.log()[-2000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as probe:
            return probe.recv(100).startswith(b"* OK")
        return False

    def stop(self) -> None:
        """Stops it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it with all its children: nobody says goodbye."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.master is None:
            return
        children = _family(self.master.pid) if how is signal.SIGKILL else [self.master.pid]
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        self.master.wait(30)
        self.master = None
        (self.folder / "run/master.pid").unlink(missing_ok=True)

    def restart(self) -> None:
        """Stops and starts it."""
        self.stop()
        self.start()

    def log(self) -> str:
        """What it logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def refused_logins(self) -> int:
        """How many logins failed so far, as its log tells."""
        return sum("auth failed" in line for line in self.log().splitlines() if "imap-login" in line)

    # ---- users and mail

    def add_user(self, name: str, password: str = PASSWORD) -> str:
        """A user, or a new password for one; returns the name."""
        path = self.folder / "users"
        kept = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}:")]
        path.write_text("\n".join([*kept, f"{name}:{{PLAIN}}{password}"]) + "\n")
        return name

    def maildir(self, user: str, folder: str = "INBOX") -> Path:
        """Where the mails of a folder lie."""
        home = self.folder / "home" / user / "Maildir"
        name = mailbox_name(folder)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        return home if folder == "INBOX" else home / f".{name.replace('/', '.')}"

    def deliver(self, user: str, *raws: bytes, folder: str = "INBOX") -> None:
        """Puts mails into a Maildir the way a delivery agent does: written aside, then moved in."""
        place = self.maildir(user, folder)
        self._make(place)
        for raw in raws:
            name = f"{time.time_ns() // 1000}.{next(self.numbers)}.tests"
            (place / "tmp" / name).write_bytes(raw)
            os.chown(place / "tmp" / name, *self.owner)
            (place / "tmp" / name).rename(place / "new" / name)

    def _make(self, place: Path) -> None:
        if (place / "tmp").exists():
            return
        for part in ("new", "cur", "tmp"):
            (place / part).mkdir(parents=True)
        shutil.chown(place.parent, *self.owner)
        for path in (place, *place.iterdir()):
            shutil.chown(path, *self.owner)

    @contextmanager
    def client(self, user: str, password: str = PASSWORD) -> Iterator[imaplib.IMAP4]:
        """An independent client that is signed in."""
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=30)
        client.login(user, password)
        try:
            yield client
        finally:
            with suppress(OSError, imaplib.IMAP4.error):
                client.logout()

    def append(self, user: str, *raws: bytes, folder: str = "INBOX") -> None:
        """Puts mails in through the server; for mailboxes that are no Maildir."""
        with self.client(user) as client:
            for raw in raws:
                assert client.append(mailbox_name(folder), "", "", raw)[0] == "OK"

    def create(self, user: str, folder: str) -> None:
        """Makes a folder."""
        with self.client(user) as client:
            assert client.create(mailbox_name(folder))[0] == "OK"

    def seen(self, user: str, folder: str = "INBOX") -> dict[int, tuple[bytes, str]]:
        """UID -> raw mail and its flags, as another client sees the folder."""
        with self.client(user) as client:
            if client.select(mailbox_name(folder), readonly=True)[0] != "OK":
                return {}
            _, [listed] = client.uid("SEARCH", "ALL")
            found = {}
            for uid in listed.split():
                _, [(head, raw), *_] = client.uid("FETCH", uid, "(FLAGS BODY.PEEK[])")
                found[int(uid)] = (raw, head.decode().partition("FLAGS (")[2].partition(")")[0])
            return found

    def count(self, user: str, folder: str = "INBOX") -> int:
        """How many mails a folder holds."""
        with self.client(user) as client:
            status, [count] = client.select(mailbox_name(folder), readonly=True)
            return int(count) if status == "OK" else 0

    def uidvalidity(self, user: str, folder: str = "INBOX") -> int:
        """The number that says whether UIDs still hold."""
        with self.client(user) as client:
            _, [line] = client.status(mailbox_name(folder), "(UIDVALIDITY)")
            return int(line.split()[-1].strip(b")"))

    def delete_indexes(self, user: str) -> None:
        """Removes what Dovecot can make again; UIDs stay, for they are kept elsewhere."""
        for path in (self.folder / "home" / user).rglob("dovecot.*index*"):
            path.unlink()

    def change_uidvalidity(self, user: str, value: int = 0) -> None:
        """Lets the inbox have another UIDVALIDITY, and all its mails other UIDs. Nobody may be connected."""
        before = self.uidvalidity(user)
        for path in [*self.maildir(user).glob("dovecot.*index*"), self.maildir(user) / "dovecot-uidlist"]:
            path.unlink(missing_ok=True)
        (self.maildir(user) / "dovecot-uidvalidity").unlink(missing_ok=True)
        for path in self.maildir(user).glob("dovecot-uidvalidity.*"):
            path.unlink()
        uidlist = self.maildir(user) / "dovecot-uidlist"
        uidlist.write_text(f"3 V{value or before + 7} N1 G{os.urandom(16).hex()}\n")
        os.chown(uidlist, *self.owner)


def _family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with suppress(OSError):
            found += [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
    return found


@contextmanager
def dovecot(users: Sequence[str] = ("desk@example.org",), **settings: str) -> Iterator[Dovecot]:
    """A running server with these users; gone with its folder afterwards."""
    require_program("dovecot")
    folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
    folder.chmod(0o755)
    server = Dovecot(folder, open_port(), open_port(), **settings)
    server.prepare()
    for user in users:
        server.add_user(user)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def letters(words: Iterable[object], size: int = 0) -> list[bytes]:
    """Mails whose Message-ID and subject are made of these words, of about ``size`` bytes."""
    return [letter(word, size) for word in words]


def letter(word: object, size: int = 0, *, parent: object = "") -> bytes:
    """One mail, CR LF, with an answer's header fields when ``parent`` is the word of another."""
    reply = f"In-Reply-To: <{parent}@client.example>\r\n" if parent else ""
    head = (
        f"From: A client <client@client.example>\r\nTo: desk@example.org\r\nSubject: About {parent or word}\r\n"
        f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{word}@client.example>\r\n{reply}\r\n"
    )
    line = f"A line of {word}, and no more than that.\r\n"
    return (head + line * max(1, size // len(line))).encode()
