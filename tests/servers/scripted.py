"""An IMAP server made of dialogs: it says what it is told to say, whether that is IMAP or not.

A dialog is a list of steps; each connection gets the next dialog. What no dialog needs is in :mod:`tests.servers.smallimap`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.servers.imap_words import LITERAL
from tests.servers.loop import Gate, Loop

_NAME = re.compile(rb"\{([a-z_]+)\}")  # never the size of a literal


@dataclass(frozen=True, slots=True)
class Expect:
    """Waits for a command that matches; its named groups, and ``tag``, may stand in braces in what is sent afterwards.

    Commands that match a key of ``meanwhile`` get its reply while this one is waited for; any other is a failure and ends the connection.
    """

    pattern: bytes
    meanwhile: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Send:
    """Sends bytes, ``piece`` at a time where that is given."""

    data: bytes
    piece: int = 0


@dataclass(frozen=True, slots=True)
class Close:
    """Ends the connection in order."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Ends the connection with a reset."""


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Says that nothing more comes, and goes on listening."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Says nothing more until the client leaves."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits until the test opens the gate."""

    gate: Gate


Step = Expect | Send | Close | Reset | HalfClose | Stall | Wait
GREETING = Send(b"* OK scripted server\r\n")


class ScriptedImap:
    """The server; made by :func:`scripted_imap`. Once the dialogs are used up the last one is played again."""

    def __init__(self, loop: Loop, dialogs: Sequence[Sequence[Step]]) -> None:
        self.loop = loop
        self.dialogs = [list(dialog) for dialog in dialogs]
        self.port = 0
        self.connections = 0
        self.finished = 0  # dialogs that were played to their end
        self.heard: list[bytes] = []
        self.failures: list[str] = []  # commands that were not expected

    def gate(self) -> Gate:
        """A gate for :class:`Wait`."""
        return Gate(self.loop)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        dialog = self.dialogs[min(self.connections, len(self.dialogs) - 1)]
        self.connections += 1
        told: dict[bytes, bytes] = {}
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            for step in dialog:
                await self._play(step, reader, writer, told)
            self.finished += 1
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()

    async def _play(self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: dict[bytes, bytes]) -> None:
        match step:
            case Expect():
                await self._expect(step, reader, writer, told)
            case Send():
                await _send(writer, step.data, told, step.piece)
            case Wait():
                await step.gate.passed()
            case Stall():
                await reader.read(-1)
            case HalfClose():
                writer.write_eof()
            case Reset():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                writer.transport.abort()
            case Close():
                writer.close()

    async def _expect(self, step: Expect, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: dict[bytes, bytes]) -> None:
        while True:
            line = await _command(reader, writer)
            self.heard.append(line)
            told[b"tag"] = line.partition(b" ")[0]
            if match := re.match(step.pattern, line, re.IGNORECASE):
                told.update({name.encode(): text or b"" for name, text in match.groupdict().items()})
                return
            replies = [reply for pattern, reply in step.meanwhile.items() if re.match(pattern, line, re.IGNORECASE)]
            if not replies:
                self.failures.append(f"waited for {step.pattern!r}, heard {line[:200]!r}")
                raise ConnectionError
            await _send(writer, replies[0], told, 0)


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The next command with its literals."""
    whole = await _line(reader)
    while announced := LITERAL.search(whole):
        if not announced[2]:
            writer.write(b"+ go ahead\r\n")
        whole += b"\r\n" + await reader.readexactly(int(announced[1])) + await _line(reader)
    return whole


async def _line(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\n")).rstrip(b"\r\n")


async def _send(writer: asyncio.StreamWriter, data: bytes, told: Mapping[bytes, bytes], piece: int) -> None:
    data = _NAME.sub(lambda match: told.get(match[1], match[0]), data)
    for at in range(0, len(data), piece or len(data) or 1):
        writer.write(data[at : at + (piece or len(data))])
        await writer.drain()
        await asyncio.sleep(0)


def signed_in(capabilities: str = "IMAP4rev1") -> list[Step]:
    """The steps up to the client's login by LOGIN or AUTHENTICATE in one line."""
    known = {rb"\S+ CAPABILITY": f"* CAPABILITY {capabilities}\r\n{{tag}} OK done\r\n".encode()}
    return [GREETING, Expect(rb"\S+ (LOGIN|AUTHENTICATE)", known), Send(b"{tag} OK welcome\r\n")]


@contextmanager
def scripted_imap(*dialogs: Sequence[Step]) -> Iterator[ScriptedImap]:
    """A running server on a free port; an unexpected command fails the test in the end."""
    loop = Loop()
    made = ScriptedImap(loop, dialogs)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(made.connected, "127.0.0.1", 0, limit=1 << 20)

    server = loop.run(start())
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
        assert not made.failures, made.failures
    finally:
        loop.call(server.close)
        loop.close()
