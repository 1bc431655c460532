"""One connection to the small IMAP server: bytes, signing in and folders, without faults."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.servers.imap_words import LITERAL, Word, decoded, listed, words
from tests.servers.names import decode_folder

if TYPE_CHECKING:
    from tests.servers.smallimap import SmallImap

RECEIVED = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
OPEN_ONLY = {
    "CHECK",
    "CLOSE",
    "EXPUNGE",
    "UID_SEARCH",
    "UID_FETCH",
    "UID_STORE",
    "UID_COPY",
    "UID_MOVE",
    "UID_EXPUNGE",
}
CHANGING = {"EXPUNGE", "UID_STORE", "UID_MOVE", "UID_EXPUNGE"}


@dataclass(slots=True, eq=False)
class Mail:
    """A mail of a folder."""

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

    def put(self, raw: bytes, received: datetime = RECEIVED, flags: Iterable[str] = ()) -> int:
        """Add a mail; return its UID."""
        self.mails.append(Mail(self.uidnext, raw, set(flags), received))
        self.uidnext += 1
        return self.uidnext - 1


class Session:
    """A connection; commands of an open folder are in ``smallimap_mails.Client``."""

    def __init__(
        self, server: SmallImap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.known = False  # it has signed in
        self.folder: Folder | None = None
        self.read_only = False
        self.view: list[
            Mail
        ] = []  # the mails of the folder in the order of the numbers that the client knows

    # ---- bytes

    async def send(self, data: bytes) -> None:
        """Send bytes, in pieces of the configured size."""
        size = self.server.piece or len(data) or 1
        for at in range(0, len(data), size):
            self.writer.write(data[at : at + size])
            if self.server.piece:
                await self.writer.drain()
                await asyncio.sleep(0)
        await self.writer.drain()

    async def hang_up(self) -> None:
        """Send what is pending, then close without a goodbye."""
        self.writer.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.writer.wait_closed(), 10)
        raise ConnectionError

    async def reset(self) -> None:
        """Close with a reset."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        self.writer.transport.abort()
        raise ConnectionError

    async def line(self) -> bytes:
        """Return the next line of the client."""
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError
        return line.rstrip(b"\r\n")

    async def command(self) -> bytes:
        """Return the next command with its literals, unchanged."""
        whole = await self.line()
        while announced := LITERAL.search(whole):
            if not announced[2]:
                await self.send(b"+ go ahead\r\n")
            whole += b"\r\n" + await self.reader.readexactly(int(announced[1])) + await self.line()
        return whole

    async def serve(self) -> None:
        """Conduct the dialog."""
        self.known = b"PREAUTH" in self.server.greeting
        await self.send(self.server.greeting)
        while True:
            line = await self.command()
            self.server.heard.append(line)
            tag, _, command = line.partition(b" ")
            if not await self.server.acted(self, tag, command):
                await self.answer(tag, command)

    async def answer(self, tag: bytes, command: bytes) -> None:
        """Answer a command as a correct server does."""
        try:
            said = await self.judge(words(command))
        except (ValueError, IndexError, LookupError, TypeError, AttributeError) as error:
            said = f"BAD cannot read this: {type(error).__name__}".encode()
        await self.send(b"".join(self.server.noise) + tag + b" " + said + b"\r\n")
        if command.upper() == b"LOGOUT":
            await self.hang_up()

    async def judge(self, given: list[Word]) -> bytes:
        """Execute a command; return the status after its tag."""
        name = given.pop(0).decode().upper()
        if name == "UID":
            name = "UID_" + given.pop(0).decode().upper()
        handler = getattr(self, f"do_{name.lower()}", None)
        if handler is None:
            return b"BAD no such command"
        if not self.known and name not in (
            "CAPABILITY",
            "NOOP",
            "LOGOUT",
            "LOGIN",
            "AUTHENTICATE",
            "ID",
        ):
            return b"BAD sign in first"
        if self.folder is None and name in OPEN_ONLY:
            return b"BAD open a folder first"
        if self.read_only and name in CHANGING:
            return b"NO [READ-ONLY] the folder is open for reading"
        said: bytes = await handler(given)
        return said

    # ---- commands without an open folder

    def capabilities(self) -> str:
        """Return the capabilities that are announced now."""
        return self.server.after if self.known else self.server.before

    async def do_capability(self, _given: list[Word]) -> bytes:
        await self.send(f"* CAPABILITY {self.capabilities()}\r\n".encode())
        return b"OK done"

    async def do_id(self, _given: list[Word]) -> bytes:
        await self.send(b'* ID ("name" "small")\r\n')
        return b"OK done"

    async def do_noop(self, _given: list[Word]) -> bytes:
        await self.tell()
        return b"OK done"

    async def tell(self) -> None:
        """Report added and removed mails."""
        if self.folder is None:
            return
        there = set(self.folder.mails)
        for mail in [mail for mail in self.view if mail not in there]:
            number = self.view.index(mail) + 1
            self.view.remove(mail)
            await self.send(f"* {number} EXPUNGE\r\n".encode())
        fresh = self.folder.mails[len(self.view) :]
        if fresh:
            self.view += fresh
            await self.send(f"* {len(self.view)} EXISTS\r\n".encode())

    async def do_logout(self, _given: list[Word]) -> bytes:
        await self.send(b"* BYE see you\r\n")
        return b"OK done"

    async def do_login(self, given: list[Word]) -> bytes:
        return self.judged(given == [self.server.user.encode(), self.server.password.encode()])

    async def do_authenticate(self, given: list[Word]) -> bytes:
        mechanism = given[0].decode().upper()
        if f"AUTH={mechanism}" not in self.server.before.upper():
            return b"NO no such mechanism"
        response = given[1] if len(given) > 1 else await self.challenged(b"")
        if response == b"*":
            return b"BAD given up"
        said = decoded(response)
        if mechanism == "PLAIN":
            return self.judged(
                said.split(b"\0")[1:] == [self.server.user.encode(), self.server.password.encode()]
            )
        bearer = re.search(rb"\x01auth=Bearer ([^\x01]*)\x01\x01$", said)
        user = re.match(rb"user=([^\x01]*)\x01|n,a=([^\x01,]*),\x01", said)
        good = bearer is not None and user is not None and bearer[1].decode() == self.server.token
        good = good and (user[1] or user[2]).decode() == self.server.user
        if not good:
            status = "401" if mechanism == "XOAUTH2" else "invalid_token"
            trouble = json.dumps({"status": status, "schemes": "bearer", "scope": "mail"})
            self.server.heard.append(b"-> " + await self.challenged(b64encode(trouble.encode())))
        return self.judged(good)

    async def challenged(self, challenge: bytes) -> bytes:
        """Return the client's answer to a challenge."""
        await self.send(b"+ " + challenge + b"\r\n")
        return await self.line()

    def judged(self, good: bool) -> bytes:
        """Count a login, and return its result."""
        self.server.logins += 1
        self.known = good
        if not good:
            return b"NO [AUTHENTICATIONFAILED] no"
        return (
            f"OK [CAPABILITY {self.server.after}] welcome".encode()
            if self.server.announces
            else b"OK welcome"
        )

    # ---- folders

    def named(self, word: Word) -> str:
        """Return the name of a folder as the server stores it."""
        name = decode_folder(word.decode())
        return "INBOX" if name.upper() == "INBOX" else name

    async def do_list(self, given: list[Word]) -> bytes:
        asked = decode_folder(given[1].decode())
        pattern = "".join(
            {"*": ".*", "%": "[^/]*"}.get(letter, re.escape(letter)) for letter in asked
        )
        for name in self.server.folders:
            if re.fullmatch(pattern, name):
                await self.send(b'* LIST () "/" ' + self.server.sent_name(name) + b"\r\n")
        if not asked:
            await self.send(b'* LIST (\\Noselect) "/" ""\r\n')
        return b"OK done"

    async def do_create(self, given: list[Word]) -> bytes:
        if self.named(given[0]) in self.server.folders:
            return b"NO [ALREADYEXISTS] there is one"
        self.server.folders[self.named(given[0])] = Folder()
        return b"OK done"

    async def do_subscribe(self, _given: list[Word]) -> bytes:
        return b"OK done"

    async def do_status(self, given: list[Word]) -> bytes:
        folder = self.server.folders.get(self.named(given[0]))
        if folder is None:
            return b"NO [NONEXISTENT] no such folder"
        unseen = sum("\\Seen" not in mail.flags for mail in folder.mails)
        facts = {
            "MESSAGES": len(folder.mails),
            "UIDNEXT": folder.uidnext,
            "UIDVALIDITY": folder.uidvalidity,
            "UNSEEN": unseen,
            "RECENT": 0,
        }
        told = " ".join(
            f"{item} {facts[item]}" for item in (word.decode().upper() for word in listed(given[1]))
        )
        await self.send(
            b"* STATUS " + self.server.sent_name(self.named(given[0])) + f" ({told})\r\n".encode()
        )
        return b"OK done"

    async def do_examine(self, given: list[Word]) -> bytes:
        return await self.do_select(given, read_only=True)

    async def do_select(self, given: list[Word], *, read_only: bool = False) -> bytes:
        self.folder = self.server.folders.get(self.named(given[0]))
        if self.folder is None:
            return b"NO [NONEXISTENT] no such folder"
        self.view, self.read_only = list(self.folder.mails), read_only
        kept = "" if read_only else "\\Seen \\Deleted \\*"
        lines = [
            "FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft)",
            f"{len(self.view)} EXISTS",
            "0 RECENT",
            f"OK [PERMANENTFLAGS ({kept})] flags",
            f"OK [UIDVALIDITY {self.folder.uidvalidity}] valid",
            f"OK [UIDNEXT {self.folder.uidnext}] next",
        ]
        await self.send("".join(f"* {line}\r\n" for line in lines).encode())
        return b"OK [" + (b"READ-ONLY" if read_only else self.server.rights) + b"] done"
