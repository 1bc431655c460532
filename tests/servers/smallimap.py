"""A small IMAP server that can be made to misbehave: what Dovecot cannot be made to do.

It speaks what a reader of mailboxes needs of RFC 3501, IDLE, MOVE, UIDPLUS, SASL-IR, XOAUTH2 and OAUTHBEARER. ``heard`` keeps every command; ``on`` puts
something in the place of the answer to commands that match.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.ingress.imap_grammar import folder_name, items
from tests.servers.loop import Loop

BEFORE = "IMAP4rev1 SASL-IR IDLE AUTH=PLAIN AUTH=XOAUTH2"
AFTER = "IMAP4rev1 IDLE MOVE UIDPLUS"
RECEIVED = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@dataclass(slots=True)
class Mail:
    """One mail of a folder."""

    uid: int
    raw: bytes
    flags: set[str] = field(default_factory=set)
    received: datetime = RECEIVED


@dataclass(slots=True)
class Folder:
    """A folder with its mails."""

    uidvalidity: int = 1
    uidnext: int = 1
    mails: list[Mail] = field(default_factory=list)


class Client:
    """One connection."""

    def __init__(self, server: SmallImap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.folder: Folder | None = None
        self.known = False
        self.shown = 0  # EXISTS as the client knows it

    async def send(self, data: bytes) -> None:
        """Sends bytes, in the pieces the server is set to."""
        size = self.server.piece or len(data) or 1
        for at in range(0, len(data), size):
            self.writer.write(data[at : at + size])
            if self.server.piece:
                await self.writer.drain()
        await self.writer.drain()

    async def hang_up(self) -> None:
        """Closes without a word."""
        self.writer.transport.abort()
        raise ConnectionError

    async def line(self) -> bytes:
        """The next line of the client."""
        line = await self.reader.readline()
        if not line:
            raise ConnectionError
        return line.rstrip(b"\r\n")

    async def serve(self) -> None:
        """The dialog."""
        await self.send(self.server.greeting)
        while True:
            line = await self.line()
            self.server.heard.append(line)
            tag, _, command = line.partition(b" ")
            action = next((act for pattern, act in self.server.actions if re.match(pattern, command, re.IGNORECASE)), None)
            if action is None or not await action(self, tag):
                await self.answer(tag, command)

    async def answer(self, tag: bytes, command: bytes) -> None:
        """What a sane server does."""
        words = items([command])
        name = str(words[0], "ascii").upper() if isinstance(words[0], bytes) else ""
        if name == "UID":
            name = "UID_" + str(words.pop(1), "ascii").upper()
        handler = getattr(self, f"do_{name.lower()}", None)
        said = b"BAD no such command" if handler is None else await handler(words[1:])
        if said:
            await self.send(b"".join(self.server.noise) + tag + b" " + said + b"\r\n")
        if name == "LOGOUT":
            await self.hang_up()

    # ---- before a folder is open

    async def do_capability(self, _words: list) -> bytes:
        known = self.server.after if self.known else self.server.before
        await self.send(f"* CAPABILITY {known}\r\n".encode())
        return b"OK done"

    async def do_noop(self, _words: list) -> bytes:
        await self.tell()
        return b"OK done"

    async def do_logout(self, _words: list) -> bytes:
        await self.send(b"* BYE see you\r\n")
        return b"OK done"

    async def do_login(self, words: list) -> bytes:
        return self.judged(words == [self.server.user.encode(), self.server.password.encode()])

    async def do_authenticate(self, words: list) -> bytes:
        given = words[1] if len(words) > 1 else None
        if given is None:
            await self.send(b"+ \r\n")
            given = await self.line()
        said = b64decode(given)
        if words[0].upper() == b"PLAIN":
            return self.judged(said == f"\0{self.server.user}\0{self.server.password}".encode())
        good = f"auth=Bearer {self.server.token}\1".encode() in said and self.server.user.encode() in said
        if not good:
            await self.send(b"+ " + b64encode(json.dumps({"status": "401"}).encode()) + b"\r\n")
            self.server.heard.append(b"-> " + await self.line())
        return self.judged(good)

    def judged(self, good: bool) -> bytes:
        """Counts a login."""
        self.server.logins += 1
        self.known = good
        return b"OK welcome" if good else b"NO [AUTHENTICATIONFAILED] no"

    async def do_list(self, _words: list) -> bytes:
        for name in self.server.folders:
            await self.send(b'* LIST () "/" ' + self.server.sent_name(name) + b"\r\n")
        return b"OK done"

    async def do_create(self, words: list) -> bytes:
        self.server.folders.setdefault(folder_name(words[0]), Folder())
        return b"OK done"

    async def do_subscribe(self, _words: list) -> bytes:
        return b"OK done"

    async def do_examine(self, words: list) -> bytes:
        return await self.do_select(words, b"READ-ONLY")

    async def do_select(self, words: list, how: bytes = b"") -> bytes:
        folder = self.server.folders.get(folder_name(words[0]))
        if folder is None:
            return b"NO [NONEXISTENT] no such folder"
        self.folder, self.shown = folder, len(folder.mails)
        lines = [
            f"{self.shown} EXISTS",
            "OK [PERMANENTFLAGS (\\Seen \\Deleted \\*)] flags",
            f"OK [UIDVALIDITY {folder.uidvalidity}] valid",
            f"OK [UIDNEXT {folder.uidnext}] next",
        ]
        await self.send("".join(f"* {line}\r\n" for line in lines).encode())
        return b"OK [" + (how or self.server.rights) + b"] done"

    # ---- in a folder

    def chosen(self, spans: bytes) -> list[Mail]:
        """The mails of a sequence set; ``n:*`` always has the newest."""
        assert self.folder is not None
        newest = max((mail.uid for mail in self.folder.mails), default=0)
        uids: set[int] = set()
        for span in spans.decode().split(","):
            ends = sorted(newest if end == "*" else int(end) for end in span.split(":"))
            uids |= {mail.uid for mail in self.folder.mails if ends[0] <= mail.uid <= ends[-1]}
        return [mail for mail in self.folder.mails if mail.uid in uids]

    async def do_uid_search(self, words: list) -> bytes:
        found = self.chosen(words[1])
        if b"UNDELETED" in words:
            found = [mail for mail in found if "\\Deleted" not in mail.flags]
        if b"SINCE" in words:
            day = datetime.strptime(f"{words[words.index(b'SINCE') + 1].decode()} +0000", "%d-%b-%Y %z")
            found = [mail for mail in found if mail.received >= day]
        await self.send(b"* SEARCH" + b"".join(f" {mail.uid}".encode() for mail in found) + b"\r\n")
        return b"OK done"

    async def do_uid_fetch(self, words: list) -> bytes:
        wanted = [word.decode() for word in words[1]]
        for mail in self.chosen(words[0]):
            if mail.uid not in self.server.omit:
                await self.send(self.fetched(mail, wanted))
        return b"OK done"

    def fetched(self, mail: Mail, wanted: list[str]) -> bytes:
        """One FETCH response."""
        told = [f"UID {mail.uid}".encode()]
        for word in wanted:
            if word == "FLAGS":
                told.append(b"FLAGS (" + " ".join(sorted(mail.flags)).encode() + b")")
            elif word == "RFC822.SIZE":
                told.append(f"RFC822.SIZE {self.server.sizes.get(mail.uid, len(mail.raw))}".encode())
            elif word == "INTERNALDATE":
                told.append(f'INTERNALDATE "{mail.received:%d-%b-%Y %H:%M:%S +0000}"'.encode())
            elif word.startswith("BODY.PEEK[]"):
                told.append(self.body(mail, word.removeprefix("BODY.PEEK[]")))
        folder = self.folder
        assert folder is not None
        return f"* {folder.mails.index(mail) + 1} FETCH (".encode() + b" ".join(told) + b")\r\n"

    def body(self, mail: Mail, piece: str) -> bytes:
        """A whole mail or a piece of it, as the server is set to send it."""
        raw, name = mail.raw, b"BODY[] "
        if piece:
            start, _, length = piece[1:-1].partition(".")
            raw, name = raw[int(start) : int(start) + int(length)], f"BODY[]<{start}> ".encode()
        if self.server.quotes and b"\n" not in raw:
            return name + b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        return name + f"{{{len(raw)}}}\r\n".encode() + raw

    async def do_uid_store(self, words: list) -> bytes:
        for mail in self.chosen(words[0]):
            mail.flags |= {word.decode() for word in words[2]}
        return b"OK done"

    async def do_uid_copy(self, words: list) -> bytes:
        target = self.server.folders.get(folder_name(words[1]))
        if target is None:
            return b"NO [TRYCREATE] no such folder"
        for mail in self.chosen(words[0]):
            self.server.put(mail.raw, into=target)
        return b"OK done"

    async def do_uid_move(self, words: list) -> bytes:
        said = await self.do_uid_copy(words)
        if said.startswith(b"OK"):
            await self.remove(self.chosen(words[0]))
        return said

    async def do_uid_expunge(self, words: list) -> bytes:
        await self.remove([mail for mail in self.chosen(words[0]) if "\\Deleted" in mail.flags])
        return b"OK done"

    async def remove(self, gone: Iterable[Mail]) -> None:
        """Takes mails out of the folder, and says so."""
        assert self.folder is not None
        for mail in gone:
            number = self.folder.mails.index(mail) + 1
            self.folder.mails.remove(mail)
            self.shown -= 1
            await self.send(f"* {number} EXPUNGE\r\n".encode())

    async def tell(self) -> None:
        """Says how many mails there are, where that changed."""
        if self.folder is not None and len(self.folder.mails) != self.shown:
            self.shown = len(self.folder.mails)
            await self.send(f"* {self.shown} EXISTS\r\n".encode())

    async def do_idle(self, _words: list) -> bytes:
        await self.send(b"+ idling\r\n")
        done = asyncio.create_task(self.line())
        self.server.idlers += 1
        try:
            while not done.done():
                await self.tell()
                changed = asyncio.create_task(self.server.changed.wait())
                await asyncio.wait({done, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self.server.changed.clear()
        finally:
            self.server.idlers -= 1
        return b"OK done" if done.result().upper() == b"DONE" else b"BAD expected DONE"


Action = Callable[[Client, bytes], Awaitable[bool]]


class SmallImap:
    """The server; made by :func:`small_imap`."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.port = 0
        self.user, self.password, self.token = "desk@example.org", "s3cret", "token-1"
        self.greeting = b"* OK small server\r\n"
        self.before, self.after = BEFORE, AFTER
        self.folders: dict[str, Folder] = {"INBOX": Folder()}
        self.heard: list[bytes] = []
        self.actions: list[tuple[bytes, Action]] = []
        self.noise: list[bytes] = []  # lines before each answer
        self.omit: set[int] = set()  # UIDs that no FETCH tells of
        self.sizes: dict[int, int] = {}  # what RFC822.SIZE says instead of the truth
        self.rights = b"READ-WRITE"  # to folders that are selected
        self.quotes = False  # bodies of one line come as quoted strings
        self.piece = 0  # bytes sent at a time, 0: all
        self.logins = 0
        self.idlers = 0
        self.changed = asyncio.Event()

    def put(self, *raws: bytes, into: Folder | None = None, received: datetime = RECEIVED) -> None:
        """Adds mails and tells those who idle."""
        folder = into or self.folders["INBOX"]
        for raw in raws:
            folder.mails.append(Mail(folder.uidnext, raw, received=received))
            folder.uidnext += 1
        self.loop.call(self.changed.set)

    def sent_name(self, name: str) -> bytes:
        """A folder's name on the wire."""
        from gateway.ingress.imap_grammar import mailbox_name

        return mailbox_name(name).encode()

    def on(self, pattern: bytes, *steps: bytes | str, times: int = 1) -> None:
        """The next ``times`` commands that match get these bytes (``%t`` is their tag) and what the words ``close``, ``silence`` and ``go on`` mean."""
        left = [times]

        async def act(client: Client, tag: bytes) -> bool:
            if left[0] <= 0:
                return False
            left[0] -= 1
            for step in steps:
                if step == "close":
                    await client.hang_up()
                elif step == "silence":
                    await client.reader.read(-1)  # until the client has had enough
                    await client.hang_up()
                elif step == "go on":
                    return False
                else:
                    await client.send(bytes(step).replace(b"%t", tag))
            return True

        self.actions.insert(0, (pattern, act))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
            await Client(self, reader, writer).serve()
        writer.transport.abort()


@contextmanager
def small_imap() -> Iterator[SmallImap]:
    """A running server on a free port."""
    loop = Loop()
    made = SmallImap(loop)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(made._connected, "127.0.0.1", 0, limit=1 << 20)

    server = loop.run(start())
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        loop.call(server.close)
        loop.close()
