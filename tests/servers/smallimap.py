"""A small IMAP server that misbehaves on demand, as Dovecot cannot.

It has the parts of RFC 3501, IDLE, MOVE, UIDPLUS, SASL-IR, LITERAL+, XOAUTH2 and OAUTHBEARER that a
reader of mailboxes needs. ``heard`` keeps every command; ``on`` adds to or replaces the answer to
matching commands; other fields change the form of answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from tests.servers.loop import Gate, Loop
from tests.servers.names import folder_argument
from tests.servers.smallimap_mails import Client
from tests.servers.smallimap_session import RECEIVED, Folder, Mail

__all__ = [
    "AFTER",
    "BEFORE",
    "RECEIVED",
    "Client",
    "Endless",
    "Folder",
    "Gate",
    "Mail",
    "SmallImap",
    "small_imap",
]

BEFORE = "IMAP4rev1 SASL-IR IDLE AUTH=PLAIN AUTH=XOAUTH2"
AFTER = "IMAP4rev1 IDLE MOVE UIDPLUS"

Action = Callable[
    [Client, bytes, bytes], Awaitable[bool]
]  # takes tag and command; True: the command is answered


@dataclass(frozen=True, slots=True)
class Endless:
    """A step of :meth:`SmallImap.on`: a line that is sent until the client hangs up."""

    line: bytes


class SmallImap:
    """The server; made by :func:`small_imap`."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.port = 0
        self.user, self.password, self.token = "desk@example.org", "s3cret", "token-1"
        self.greeting = b"* OK small server\r\n"
        self.before, self.after = (BEFORE, AFTER)  # capabilities before and after the login
        self.rights = b"READ-WRITE"  # applies to selected folders
        self.announces = False  # the answer to a login has the capabilities
        self.folders: dict[str, Folder] = {"INBOX": Folder()}
        self.heard: list[bytes] = []
        self.actions: list[tuple[bytes, Action]] = []
        self.noise: list[bytes] = []  # lines before each answer
        self.between: list[bytes] = []  # lines before each FETCH response
        self.omit: set[int] = set()  # UIDs left out of every FETCH
        self.sizes: dict[int, int] = {}  # false values of RFC822.SIZE
        self.bodies: dict[int, bytes] = {}  # bytes sent for a UID instead of its mail
        self.announced: dict[int, int] = {}  # false sizes in front of a literal
        self.extra: list[
            tuple[bytes, bytes]
        ] = []  # more items of each FETCH response: name and value
        self.backwards = False  # items of a FETCH come in another order
        self.lower = False  # their names are lower case
        self.quotes = False  # bodies of one line come as quoted strings
        self.piece = 0  # bytes sent at a time, 0: all
        self.logins = 0  # login attempts
        self.connections = 0
        self.idlers = 0
        self.changed = asyncio.Event()  # a new event after each change
        self.writers: set[asyncio.StreamWriter] = set()

    def put(self, *raws: bytes, into: Folder | None = None, received: datetime = RECEIVED) -> None:
        """Add mails and notify idling clients."""
        folder = into or self.folders["INBOX"]
        for raw in raws:
            folder.put(raw, received)
        self.loop.call(self.news)

    def news(self) -> None:
        """Wake idling clients; call it in the loop of the server."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def sent_name(self, name: str) -> bytes:
        """Return a folder's name as on the wire."""
        return folder_argument(name).encode()

    def gate(self) -> Gate:
        """Return a step of :meth:`on` that waits for ``open()``; ``reached`` is set on arrival."""
        return Gate(self.loop)

    def on(self, pattern: bytes, *steps: bytes | str | Gate | Endless, times: int = 1) -> None:
        """Do these steps for the next ``times`` commands that match (pattern without the tag).

        A step is bytes to send (``%t`` is the tag), a gate, a flood, or a word: ``close`` and
        ``reset`` end the connection, ``silence`` never answers, ``answer`` answers as usual and
        continues with the next step, ``go on`` answers as usual at the end.
        """
        left = [times]

        async def act(client: Client, tag: bytes, command: bytes) -> bool:
            if left[0] <= 0:
                return False
            left[0] -= 1
            for step in steps:
                if step == "go on":
                    await client.answer(tag, command)
                    return True
                await self._step(client, tag, command, step)
            return True

        self.actions.insert(0, (pattern, act))

    async def _step(
        self, client: Client, tag: bytes, command: bytes, step: bytes | str | Gate | Endless
    ) -> None:
        match step:
            case Gate():
                await step.passed()
            case Endless(line):
                piece = line * (1 + (1 << 16) // len(line))
                while True:
                    await client.send(piece)
            case bytes():
                await client.send(step.replace(b"%t", tag))
            case "answer":
                await client.answer(tag, command)
            case "close":
                await client.hang_up()
            case "reset":
                await client.reset()
            case "silence":
                await client.reader.read(-1)  # until the client hangs up
                await client.hang_up()
            case _:
                raise ValueError(step)

    async def acted(self, client: Client, tag: bytes, command: bytes) -> bool:
        """Do the steps for a command; return whether one of them answered it."""
        for pattern, act in list(self.actions):
            if re.match(pattern, command, re.IGNORECASE) and await act(client, tag, command):
                return True
        return False

    def drop_all(self, last: bytes = b"") -> None:
        """End every connection, with some last bytes."""

        def drop() -> None:
            for writer in self.writers:
                writer.write(last)
                writer.close()

        self.loop.call(drop)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        self.writers.add(writer)
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError
        ):
            await Client(self, reader, writer).serve()
        self.writers.discard(writer)
        writer.transport.abort()


@contextmanager
def small_imap() -> Iterator[SmallImap]:
    """Run a server on a free port."""
    loop = Loop()
    made = SmallImap(loop)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(made.connected, "127.0.0.1", 0, limit=1 << 20)

    server = loop.run(start())
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        loop.call(server.close)
        loop.close()
