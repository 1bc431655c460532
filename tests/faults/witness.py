"""An outside client of a daemon: its dialog, its log, and its view of the store."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ENVELOPE = (
    b"EHLO client.example",
    b"MAIL FROM:<a@client.example>",
    b"RCPT TO:<support@localhost>",
    b"DATA",
)
END = b".\r\n"
LOST = ""  # the reply of a connection that is gone


def letter(
    word: str, lines: int = 3, *, parent: str = "", sender: str = "a@client.example"
) -> bytes:
    """Return a mail made of ``word``, a reply to that of ``parent``; no line begins with a dot."""
    reply = (
        f"In-Reply-To: <{parent}@client.example>\r\nReferences: <{parent}@client.example>\r\n"
        if parent
        else ""
    )
    return (
        f"From: A client <{sender}>\r\nTo: support@localhost\r\nSubject: About {parent or word}\r\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: "
        f"<{word}@client.example>\r\n{reply}\r\n" + f"Line of {word}.\r\n" * lines
    ).encode()


class Dialog:
    """An SMTP connection; a reply is its last line, or :data:`LOST` without a connection."""

    def __init__(self, port: int, *, patience: float = 60.0) -> None:
        """Connect and read the greeting; OSError if nobody listens."""
        self.socket = socket.create_connection(("127.0.0.1", port), patience)
        self._replies = self.socket.makefile("rb")
        self.greeting = self.reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._replies.close()
        self.socket.close()

    def reset(self) -> None:
        """Close the connection with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def reply(self) -> str:
        """Return the next reply."""
        try:
            line = self._replies.readline()
            while line[3:4] == b"-":
                line = self._replies.readline()
        except OSError:
            return LOST
        return line.decode().rstrip("\r\n")

    def say(self, line: bytes) -> str:
        """Send a line and read the reply."""
        try:
            self.socket.sendall(line + b"\r\n")
        except OSError:
            return LOST
        return self.reply()

    def begin(self, envelope: Iterable[bytes] = ENVELOPE) -> str:
        """Go on until DATA is answered; return the first unexpected reply, else the 354."""
        reply = self.greeting
        for line in envelope:
            reply = self.say(line)
            if reply[:1] not in {"2", "3"}:
                break
        return reply

    def finish(self, data: bytes) -> str:
        """Send a mail after the 354 and read the reply."""
        return self.say(data + END[:-2])


def send(port: int, data: bytes, about_to_end: Callable[[], None] = lambda: None) -> str:
    """Deliver a mail by its own connection; return the deciding reply, LOST without connection.

    ``about_to_end`` is called before the mail and its end of data are sent.
    """
    try:
        with Dialog(port) as dialog:
            reply = dialog.begin()
            if not reply.startswith("354"):
                return reply
            about_to_end()
            return dialog.finish(data)
    except OSError:
        return LOST


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll until a condition holds; AssertionError when time is up."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        pause.wait(0.02)


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query, on either database, without our code."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            return database.execute(statement).fetchall()

    async def ask() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(ask())


@dataclass(frozen=True, slots=True)
class Stored:
    """One mail of the spool."""

    mail_id: int
    state: str
    message_id: str | None
    raw: bytes


def stored(url: str, blobs: Path) -> list[Stored]:
    """Return every mail of the spool with its raw bytes."""
    found = rows(
        url,
        (
            "SELECT m.id, m.state, m.message_id, m.blob, r.data FROM mail m LEFT JOIN raw_mail r "
            "ON r.mail_id = m.id ORDER BY m.id"
        ),
    )
    return [
        Stored(at, state, name, bytes(data) if blob is None else (blobs / blob).read_bytes())
        for at, state, name, blob, data in found
    ]


@dataclass(slots=True)
class Ledger:
    """The log of outside clients, which judges the store (reliability.md section 3)."""

    ended: dict[str, bytes] = field(
        default_factory=dict
    )  # word -> bytes whose end-of-data was sent, acknowledged or not
    acknowledged: dict[str, int] = field(default_factory=dict)  # word -> number of 250s

    def send(self, port: int, word: str, data: bytes) -> str:
        """Deliver a mail and record the result."""
        reply = send(port, data, lambda: self.ended.update({word: data}))
        if reply.startswith("250 2.0.0 Queued"):
            self.acknowledged[word] = self.acknowledged.get(word, 0) + 1
        return reply

    def audit(self, mails: Sequence[Stored]) -> None:
        """Assert each 250 is one stored mail, unchanged, and nothing else but mail sent whole."""
        words = {
            word: [mail for mail in mails if mail.raw.endswith(data)]
            for word, data in self.ended.items()
        }
        for word in self.acknowledged:
            states = [mail.state for mail in words[word]]
            originals = len(states) - states.count("duplicate") - states.count("pending")
            assert originals == 1 or (originals == 0 and "pending" in states), (
                f"{word}: acknowledged, stored {states}"
            )
        known = {mail.mail_id for found in words.values() for mail in found}
        strangers = [mail for mail in mails if mail.mail_id not in known]
        assert not strangers, f"stored, but its end was never sent: {strangers[0].raw[-200:]!r}"
