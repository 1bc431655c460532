"""Tests of mail from a real Postfix by SMTP and LMTP: content, refusals, deferral, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
import re
import shutil
import smtplib
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.errors import StoreUnavailable
from gateway.ingress.smtp.lmtp import LmtpServer
from gateway.ingress.smtp.tls import Certificate
from tests.unit.gateway.ingress.conftest import make_pair, open_desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.gateway.ingress.conftest import Desk, Spool

__all__ = ["make_pair", "open_desk"]  # fixtures of the listeners' own tests

MASTER = """
{port}     inet  n - n - - smtpd
pickup     unix  n - n 60 1 pickup
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 300 1 qmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
verify     unix  - - n - 1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n - - proxymap
smtp       unix  - - n - - smtp
lmtp       unix  - - n - - lmtp
relay      unix  - - n - - smtp
error      unix  - - n - - error
retry      unix  - - n - - error
discard    unix  - - n - - discard
tlsmgr     unix  - - n 1000? 1 tlsmgr
anvil      unix  - - n - 1 anvil
scache     unix  - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
"""
HOSTILE = [
    b"Subject: plain\r\n\r\nhello\r\n",
    b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n...y\r\n",
    "Subject: 8 bit\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße, 東京\r\n".encode(),
    b"Subject: latin\r\nContent-Type: text/plain; charset=latin-1\r\n\r\nGr\xfc\xdfe \xff\xfe\r\n",
    b"Subject: empty\r\n\r\n",
    b"Subject: blank lines\r\n\r\n\r\n\r\n \r\n\t\r\n",
    b"Subject: nul\r\n\r\na\0b\r\n",
    b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 60_000,
]


@dataclass
class Postfix:
    """A Postfix of the test, which forwards everything to one next hop."""

    folder: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)

    def configure(self, **settings: str) -> None:
        """Write main.cf and master.cf; ``settings`` are added to the defaults."""
        self.settings |= settings
        (self.folder / "main.cf").write_text(
            "".join(f"{name} = {value}\n" for name, value in self.settings.items())
        )
        (self.folder / "master.cf").write_text(MASTER.format(port=f"127.0.0.1:{self.port}"))

    def run(self, *arguments: str) -> None:
        """Run the postfix command."""
        command: list[str | Path] = [
            shutil.which("postfix", path="/usr/sbin:/usr/bin") or "postfix",
            "-c",
            self.folder,
            *arguments,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    def log(self) -> str:
        """Return its log so far."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def queued(self, *queues: str) -> int:
        """Return the number of mails in some or all of its queues."""
        names = queues or ("incoming", "active", "deferred", "maildrop")
        return sum(
            len(files) for name in names for _, _, files in os.walk(self.folder / "queue" / name)
        )

    async def submit(
        self, mails: list[bytes], recipients: list[str], sender: str = "a@client.example"
    ) -> None:
        """Submit a mail as a client would."""

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as client:
                client.ehlo()
                for mail in mails:
                    client.sendmail(sender, recipients, mail)

        await asyncio.to_thread(send)


@pytest.fixture
def postfix(require: Callable[[str], Path], free_port: int) -> Iterator[Postfix]:
    """Return a Postfix in a folder of its own; ``run("start")`` starts it."""
    require("postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix can only be started by root")
    folder = Path(tempfile.mkdtemp(prefix="ticketgate-postfix-"))
    folder.chmod(0o755)
    user, group = pwd.getpwnam("postfix"), grp.getgrnam("postdrop")
    (folder / "queue").mkdir()
    (folder / "data").mkdir()
    os.chown(folder / "data", user.pw_uid, user.pw_gid)
    instance = Postfix(folder, free_port)
    instance.configure(
        compatibility_level="3.6",
        queue_directory=f"{folder}/queue",
        data_directory=f"{folder}/data",
        mail_owner=user.pw_name,
        setgid_group=group.gr_name,
        command_directory="/usr/sbin",
        daemon_directory="/usr/lib/postfix/sbin",
        maillog_file=f"{folder}/log",
        maillog_file_prefixes=str(folder),
        inet_interfaces="127.0.0.1",
        inet_protocols="ipv4",
        myhostname="mta.client.example",
        mydestination="",
        local_recipient_maps="",
        relay_domains="desk.example",
        mynetworks="127.0.0.0/8",
        alias_maps="",
        alias_database="",
        smtp_tls_security_level="none",
        smtpd_tls_security_level="none",
        notify_classes="",
        minimal_backoff_time="300s",
    )
    yield instance
    subprocess.run(
        ["/usr/sbin/postfix", "-c", folder, "abort"], check=False, capture_output=True, timeout=30
    )
    shutil.rmtree(folder, ignore_errors=True)


async def seen(condition: Callable[[], object]) -> None:
    """Poll until the condition holds; the time limit is the test's."""
    never = asyncio.Event()
    while not condition():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(never.wait(), 0.005)


def body(raw: bytes) -> bytes:
    """Return a mail without its header."""
    return raw.partition(b"\r\n\r\n")[2]


async def delivered(postfix: Postfix, spool: Spool, number: int) -> list[bytes]:
    """Wait until so many mails are stored and the queues empty; return them by subject."""
    await seen(lambda: len(spool.mails) >= number)
    await seen(lambda: postfix.queued() == 0)
    return spool.stored()


def start(postfix: Postfix, desk: Desk, transport: str = "smtp", **settings: str) -> None:
    """Start Postfix with our listener as its next hop."""
    listen = desk.server.addresses[0]
    hop = (
        listen
        if listen.startswith("unix:")
        else "inet:[{}]:{}".format(*listen.rsplit(":", 1))
        if transport == "lmtp"
        else "[{}]:{}".format(*listen.rsplit(":", 1))
    )
    postfix.configure(relay_transport=f"{transport}:{hop}", **settings)
    postfix.run("start")


async def test_mail_by_smtp(postfix, open_desk):
    """Mail of every shape arrives with its body, sender and recipients unchanged."""
    desk = await open_desk()
    start(postfix, desk)
    await postfix.submit(HOSTILE, ["support@desk.example", "sales@desk.example"])
    stored = await delivered(postfix, desk.spool, len(HOSTILE))
    assert sorted(map(body, stored)) == sorted(map(body, HOSTILE))
    assert {frozenset(mail.envelope.recipients) for mail in desk.spool.mails} == {
        frozenset(("support@desk.example", "sales@desk.example"))
    }
    assert {(mail.envelope.sender, mail.envelope.helo) for mail in desk.spool.mails} == {
        ("a@client.example", "mta.client.example")
    }


@pytest.mark.parametrize("kind", ["inet", "unix"])
async def test_mail_by_lmtp(postfix, open_desk, kind):
    """LMTP over TCP and Unix socket: one copy of each mail, a reply for each recipient."""
    listen = "127.0.0.1:0" if kind == "inet" else f"unix:{postfix.folder}/lmtp.sock"
    desk = await open_desk(server=LmtpServer, listen=[listen])
    start(postfix, desk, "lmtp")
    await postfix.submit(
        HOSTILE, ["support@desk.example", "sales@desk.example", "abuse@desk.example"]
    )
    stored = await delivered(postfix, desk.spool, len(HOSTILE))
    assert sorted(map(body, stored)) == sorted(map(body, HOSTILE))
    assert {len(mail.envelope.recipients) for mail in desk.spool.mails} == {3}
    assert {(mail.envelope.source, mail.envelope.trusted_hop) for mail in desk.spool.mails} == {
        ("lmtp", True)
    }
    await seen(lambda: postfix.log().count("status=sent (250 2.0.0") == 3 * len(HOSTILE))


async def test_mail_over_tls(postfix, open_desk, make_pair):
    """A Postfix that requires TLS gets it."""
    pair = make_pair("mx.desk.example")
    desk = await open_desk(certificate=Certificate(pair.certificate, pair.key))
    start(postfix, desk, smtp_tls_security_level="encrypt")
    await postfix.submit(HOSTILE, ["support@desk.example"])
    stored = await delivered(postfix, desk.spool, len(HOSTILE))
    assert sorted(map(body, stored)) == sorted(map(body, HOSTILE))
    assert all(mail.envelope.tls.startswith("TLSv1.") for mail in desk.spool.mails)


async def test_refusals_reach_the_sender(postfix, open_desk):
    """Postfix bounces an unknown recipient with our reply; the known one gets the mail."""
    desk = await open_desk()
    start(postfix, desk)
    await postfix.submit([HOSTILE[0]], ["nobody@desk.example", "support@desk.example"], sender="")
    await delivered(postfix, desk.spool, 1)
    await seen(lambda: "status=bounced" in postfix.log())
    assert "550 5.1.1 No such address here" in postfix.log()
    assert desk.spool.mails[0].envelope.recipients == ("support@desk.example",)
    assert desk.spool.mails[0].envelope.sender == ""


@pytest.mark.parametrize("server", ["smtp", "lmtp"])
async def test_mail_that_cannot_be_stored_stays_with_the_mta(postfix, open_desk, server):
    """While the store is away Postfix keeps the mail; it arrives once at the next attempt."""
    desk = await open_desk() if server == "smtp" else await open_desk(server=LmtpServer)
    desk.spool.errors.append(StoreUnavailable("away"))
    start(postfix, desk, server)
    await postfix.submit([HOSTILE[0]], ["support@desk.example"])
    await seen(lambda: postfix.queued("deferred") and not postfix.queued("active"))
    await seen(lambda: "451 4.3.0" in postfix.log())  # its log is written by another process
    assert desk.spool.mails == []
    postfix.run("flush")
    assert [body(raw) for raw in await delivered(postfix, desk.spool, 1)] == [body(HOSTILE[0])]


async def test_many_mails_over_kept_connections(postfix, open_desk):
    """A kept connection is ended after 100 mails without deferring any."""
    desk = await open_desk()
    start(
        postfix,
        desk,
        smtp_connection_cache_on_demand="yes",
        default_destination_concurrency_limit="1",
        initial_destination_concurrency="1",
    )
    mails = [b"Subject: %d\r\n\r\nmail %d\r\n" % (number, number) for number in range(150)]
    await postfix.submit(mails, ["support@desk.example"])
    stored = await delivered(postfix, desk.spool, 150)
    assert sorted(map(body, stored)) == sorted(map(body, mails))
    assert "status=deferred" not in postfix.log()
    assert max(int(uses) for uses in re.findall(r"conn_use=(\d+)", postfix.log())) == 100
