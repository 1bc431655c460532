"""A cheap load generator for SMTP: a forked process a session, a new connection for each mail.

``load.py HOST PORT FOLDER`` sends all .eml files of a folder and prints one line of JSON. Each 250
after the end of a mail is written to the audit log (``number TAB seconds TAB file TAB reply``)
before the next mail is sent, so that the acknowledged mails are known even after the server was
killed. A mail that fails is not retried unless ``retry`` is set.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Job:
    """The work of a session. ``pipelining`` sends MAIL, RCPT and DATA as one piece."""

    host: str
    port: int
    sender: str = "load@bench.example"
    recipient: str = "support@localhost"
    pipelining: bool = False
    retry: bool = False
    timeout: float = 60.0


def prepared(raw: bytes) -> bytes:
    """Return a mail as on the wire: CR LF, stuffed dots, and the end of data."""
    text = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if not text.endswith(b"\r\n"):
        text += b"\r\n"
    stuffed = text.replace(b"\r\n.", b"\r\n..")
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"


class Refused(Exception):
    """The server gave another reply than the expected one."""


def _expect(connection: socket.socket, code: bytes) -> bytes:
    reply = connection.recv(4096)
    while not (reply.endswith(b"\r\n") and reply[reply.rfind(b"\n", 0, -1) + 4 :][:1] != b"-"):
        more = connection.recv(4096)
        if not more:
            break
        reply += more
    if not reply.startswith(code):
        raise Refused(reply[:200].decode("ascii", "replace").strip())
    return reply


def deliver(job: Job, mail: bytes) -> bytes:
    """Send a prepared mail by its own connection; return its reply, raise Refused or OSError."""
    with socket.socket() as connection:
        connection.settimeout(job.timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect((job.host, job.port))
        _expect(connection, b"220")
        connection.sendall(b"EHLO load.example\r\n")
        _expect(connection, b"250")
        commands = [
            f"MAIL FROM:<{job.sender}>\r\n".encode(),
            f"RCPT TO:<{job.recipient}>\r\n".encode(),
            b"DATA\r\n",
        ]
        if job.pipelining:
            connection.sendall(b"".join(commands))
            replies = b""
            while replies.count(b"\r\n") < 3:
                replies += _expect(connection, b"")
            if b"\r\n354" not in replies:
                raise Refused(replies[:200].decode("ascii", "replace"))
        else:
            for command, code in zip(commands, (b"250", b"250", b"354"), strict=True):
                connection.sendall(command)
                _expect(connection, code)
        connection.sendall(mail)
        reply = _expect(connection, b"250")
        with contextlib.suppress(OSError):
            connection.sendall(b"QUIT\r\n")
            connection.recv(512)
        return reply


def _line(number: int, name: str, text: str) -> bytes:
    """Return one line of the audit log: number of the mail, time, file name, reply."""
    return f"{number}\t{time.time():.3f}\t{name}\t{text}\n".encode()


def _session(
    job: Job, mails: Sequence[tuple[str, bytes]], numbers: int, audit: int, trouble: int
) -> None:
    """Take numbers of mails from a pipe and send them, in one process, until it is empty."""
    while packed := os.read(numbers, 4):
        number = struct.unpack("I", packed)[0]
        name, mail = mails[number % len(mails)]
        while True:
            try:
                reply = deliver(job, mail)
            except (OSError, Refused) as error:
                os.write(trouble, _line(number, name, f"{type(error).__name__} {error}"))
                if not job.retry:
                    break
                time.sleep(0.05)
                continue
            os.write(audit, _line(number, name, reply.decode("ascii", "replace").strip()))
            break


def run(
    job: Job, mails: Sequence[tuple[str, bytes]], *, sessions: int, total: int, audit: Path
) -> dict[str, float]:
    """Send ``total`` mails, in turn from ``mails`` (name, bytes), in ``sessions``; return figures.

    ``audit`` gets a line for each acknowledged mail, the file beside it with ``.trouble`` one for
    each other mail.
    """
    numbers, feed = os.pipe()
    log = os.open(audit, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    trouble = os.open(
        audit.with_name(audit.name + ".trouble"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    before = os.times()
    began = time.monotonic()
    children = []
    for _ in range(sessions):
        child = os.fork()
        if not child:
            os.close(feed)
            try:
                _session(job, mails, numbers, log, trouble)
            finally:
                os._exit(0)
        children.append(child)
    os.close(numbers)
    for number in range(total):
        os.write(feed, struct.pack("I", number))
    os.close(feed)
    for child in children:
        os.waitpid(child, 0)
    seconds = time.monotonic() - began
    after = os.times()
    os.close(log)
    os.close(trouble)
    acknowledged = sum(1 for _ in audit.open("rb"))
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return {
        "mails": total,
        "acknowledged": acknowledged,
        "seconds": round(seconds, 3),
        "mails_a_second": round(acknowledged / seconds, 1),
        "client_cpu": cpu,
    }


def load_folder(paths: Iterable[Path]) -> list[tuple[str, bytes]]:
    """Return all .eml files of folders, prepared, by name."""
    return [
        (path.name, prepared(path.read_bytes()))
        for folder in paths
        for path in sorted(folder.glob("*.eml"))
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument(
        "--total",
        type=int,
        default=0,
        help="mails to send; the folder is gone through again where it has fewer",
    )
    parser.add_argument("--recipient", default="support@localhost")
    parser.add_argument("--audit", type=Path, default=Path("load.audit"))
    parser.add_argument("--pipelining", action="store_true")
    parser.add_argument("--retry", action="store_true")
    given = parser.parse_args()
    mails = load_folder([given.folder])
    if not mails:
        sys.exit(f"no .eml files in {given.folder}")
    job = Job(
        given.host,
        given.port,
        recipient=given.recipient,
        pipelining=given.pipelining,
        retry=given.retry,
    )
    print(
        json.dumps(
            run(
                job,
                mails,
                sessions=given.sessions,
                total=given.total or len(mails),
                audit=given.audit,
            )
        )
    )


if __name__ == "__main__":
    main()
