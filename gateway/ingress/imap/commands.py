r"""The IMAP commands of a mailbox reader: sign in, open a folder, find, fetch and move mails.

Mails are named by UID; sequence numbers and \Seen are never relied on. Errors are those of
:mod:`gateway.ingress.imap.connection`. A mail missing from an answer is not necessarily gone:
callers ask again.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Self

from gateway.ingress.imap import grammar
from gateway.ingress.imap.connect import ImapServer
from gateway.ingress.imap.connection import (
    CommandRefused,
    ConnectionLost,
    ImapConnection,
    LoginRefused,
    ProtocolError,
    Timeouts,
    in_turns,
)
from gateway.ingress.imap.grammar import FetchResponse, Parts

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TEMPORARY_CODES: Final = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"})  # RFC 5530
MAX_UIDS: Final = 200  # in one FETCH command
MAX_UNORDERED: Final = 50_000  # UIDs that we are ready to sort


@dataclass(frozen=True, slots=True)
class Selected:
    """An open folder.

    ``uidnext`` is None if the server does not give it; ``flags`` are those that the server stores
    permanently.
    """

    uidvalidity: int
    uidnext: int | None
    exists: int
    read_only: bool
    flags: frozenset[str]


class LoginConnectionLost(ConnectionLost):
    """The connection ended during login: it broke, or the server closed it to refuse us."""


class ImapSession:
    """The commands of a mailbox reader on one connection; failed commands raise ImapError."""

    def __init__(self, connection: ImapConnection) -> None:
        self.connection = connection

    @classmethod
    async def open(cls, server: ImapServer, timeouts: Timeouts | None = None) -> Self:
        """Connect to a server; see :meth:`ImapConnection.open`."""
        return cls(await ImapConnection.open(server, timeouts))

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities that the server announced, in upper case."""
        return self.connection.capabilities

    @property
    def authenticated(self) -> bool:
        """Whether we are signed in, by a login or by the server's greeting (PREAUTH)."""
        return self.connection.authenticated

    @property
    def new_mail(self) -> asyncio.Event:
        """Set when new mail is announced; clear this event before looking for mail."""
        return self.connection.new_mail

    async def idle(self, seconds: float, stop: asyncio.Event) -> None:
        """Wait for new mail; see :meth:`ImapConnection.idle`."""
        await self.connection.idle(seconds, stop)

    def abort(self) -> None:
        """Close the connection at once."""
        self.connection.abort()

    async def close(self) -> None:
        """Log out if the connection still works, and close it."""
        await self.connection.close()

    async def login(self, username: str, password: str) -> None:
        """Sign in with a password: AUTHENTICATE PLAIN, which takes any character, or LOGIN.

        Raises LoginRefused if the server does not accept the password.
        """
        if "AUTH=PLAIN" in self.capabilities:
            await self._authenticate("PLAIN", f"\0{username}\0{password}")
            return
        if "LOGINDISABLED" in self.capabilities:
            raise LoginRefused("the server does not accept passwords on this connection")
        try:
            arguments = grammar.quoted(username), grammar.quoted(password)
        except ValueError:
            raise LoginRefused(
                "this server accepts user names and passwords in ASCII only"
            ) from None
        await self._sign_in("LOGIN", *arguments)

    async def bearer(self, username: str, token: str) -> None:
        """Sign in with an access token: OAUTHBEARER (RFC 7628) if available, else XOAUTH2."""
        if "AUTH=OAUTHBEARER" in self.capabilities:
            name = username.replace("=", "=3D").replace(",", "=2C")
            await self._authenticate("OAUTHBEARER", f"n,a={name},\1auth=Bearer {token}\1\1")
        elif "AUTH=XOAUTH2" in self.capabilities:
            await self._authenticate("XOAUTH2", f"user={username}\1auth=Bearer {token}\1\1")
        else:
            raise LoginRefused(
                "the server does not take access tokens (neither XOAUTH2 nor OAUTHBEARER)"
            )

    async def _authenticate(self, mechanism: str, secret: str) -> None:
        encoded = b64encode(secret.encode()).decode()
        if "SASL-IR" in self.capabilities:
            await self._sign_in("AUTHENTICATE", mechanism, encoded)
        else:
            await self._sign_in("AUTHENTICATE", mechanism, challenge=encoded)

    async def _sign_in(self, name: str, *arguments: str, challenge: str = "") -> None:
        try:
            await self.connection.run(name, *arguments, challenges=[challenge] if challenge else [])
        except CommandRefused as error:
            if error.code in TEMPORARY_CODES:
                raise
            raise LoginRefused(error.message) from None
        except ConnectionLost as error:
            raise LoginConnectionLost(
                f"the server closed the connection during login ({error.message})"
            ) from None
        self.connection.mark_authenticated()
        await self.connection.refresh_capabilities()

    async def select(self, folder: str, *, read_only: bool) -> Selected:
        """Open a folder by its readable name.

        Raises CommandRefused if there is no such folder, ProtocolError if the server does not keep
        the UIDs of the folder.
        """
        answer = await self.connection.run("EXAMINE" if read_only else "SELECT", _folder(folder))
        self.connection.mark_selected()
        codes: dict[str, str] = {}
        exists = 0
        async for parts in in_turns(answer):
            code, argument = grammar.response_code(parts[0])
            codes[code] = argument
            match parts[0][:100].split(None, 3):
                case [b"*", number, b"EXISTS", *_] if number.isdigit():
                    exists = max(exists, int(number))
                case _:
                    pass
        validity = codes.get("UIDVALIDITY", "")
        if not validity.isdigit() or not int(validity) or "UIDNOTSTICKY" in codes:
            raise ProtocolError(
                "the server does not keep the UIDs of this folder, so mail would be lost or stored "
                "twice"
            )
        following = codes.get("UIDNEXT", "")
        flags = frozenset(codes.get("PERMANENTFLAGS", r"\Seen \Deleted").strip("()").split())
        return Selected(
            uidvalidity=int(validity),
            uidnext=int(following) if following.isdigit() else None,
            exists=exists,
            read_only="READ-ONLY" in codes,
            flags=flags,
        )

    async def folders(self) -> list[str]:
        """Return the readable names of all folders."""
        names = []
        async for parts in in_turns(await self.connection.run("LIST", '""', '"*"')):
            match grammar.parse_items(parts):
                case [b"*", bytes() as verb, _, _, bytes() as name, *_] if verb.upper() == b"LIST":
                    names.append(grammar.decode_folder(name))
        return sorted(names)

    async def create(self, folder: str) -> None:
        """Create a folder and subscribe to it, so that mail programs show it."""
        await self.connection.run("CREATE", _folder(folder))
        with suppress(CommandRefused):
            await self.connection.run("SUBSCRIBE", _folder(folder))

    async def uids(
        self,
        first: int,
        last: int | None = None,
        *,
        since: date | None = None,
        undeleted: bool = False,
    ) -> list[int]:
        r"""Return the existing UIDs from ``first`` to ``last`` (None: to the newest), ascending.

        ``since`` leaves out mails that reached the server before that day; ``undeleted`` leaves
        out mails flagged \Deleted.
        """
        criteria = ["UID", f"{first}:{last if last is not None else '*'}"]
        criteria += (
            ["SINCE", f"{since.day}-{MONTHS[since.month - 1]}-{since.year}"]
            if since is not None
            else []
        )
        criteria += ["UNDELETED"] if undeleted else []
        # n:* always includes the newest mail, even if its UID is below n
        return await self._search(*criteria, first=first, last=last)

    async def _search(self, *criteria: str, first: int = 1, last: int | None = None) -> list[int]:
        """Return the distinct UIDs from ``first`` to ``last`` that the server finds, ascending."""
        answer = await self.connection.run("SEARCH", *criteria, prefix="UID")
        ascending = [0]
        others: set[int] = set()  # of the rare server that keeps no order
        async for uid in in_turns(_found(answer)):
            if uid < first or (last is not None and uid > last):
                continue
            if uid > ascending[-1]:
                ascending.append(uid)
            else:
                others.add(uid)
            if others and len(ascending) + len(others) > MAX_UNORDERED:
                raise ProtocolError("the server lists too many mails in no order")
        del ascending[0]
        return sorted({*ascending, *others}) if others else ascending

    async def fetch(self, uids: Collection[int], *what: str) -> dict[int, FetchResponse]:
        """Return the data of up to :data:`MAX_UIDS` mails by UID; the server may leave some out."""
        answer = await self.connection.run(
            "FETCH", grammar.uid_set(uids), f"(UID {' '.join(what)})", prefix="UID"
        )
        mails: dict[int, FetchResponse] = {}
        async for parts in in_turns(answer):
            each = grammar.parse_fetch(parts)
            complete = each is not None and (each.body is not None or not _asks_for_body(what))
            if each is not None and each.uid in uids and complete:
                mails[each.uid] = each
        return mails

    async def part(self, uid: int, offset: int, length: int) -> bytes | None:
        """Return ``length`` bytes of a mail from ``offset`` on; None if there is no such mail.

        The result is shorter if the mail ends before.
        """
        found = (await self.fetch((uid,), f"BODY.PEEK[]<{offset}.{length}>")).get(uid)
        return found.body if found is not None else None

    async def flag(self, uids: Collection[int], flag: str) -> None:
        """Add a flag to mails of the open folder."""
        await self.connection.run(
            "STORE", grammar.uid_set(uids), "+FLAGS.SILENT", f"({flag})", prefix="UID"
        )

    async def has_message_id(self, message_id: str) -> bool:
        """Return whether the open folder has a mail with this Message-ID, with or without brackets.

        Raises CommandRefused for an id that cannot be searched for.
        """
        try:
            wanted = grammar.quoted(message_id.strip("<>"))
        except ValueError:
            raise CommandRefused(
                "the Message-ID contains characters that cannot be searched for"
            ) from None
        return bool(await self._search("HEADER", "Message-ID", wanted))

    async def append(self, folder: str, raw: bytes, at: datetime) -> None:
        """Add a mail to a folder, marked as read, with the date ``at``.

        Raises CommandRefused with code TRYCREATE if there is no such folder. If the connection is
        lost, the mail may or may not have been added.
        """
        when = at.astimezone(UTC)
        stamp = f'"{when.day:2}-{MONTHS[when.month - 1]}-{when:%Y %H:%M:%S} +0000"'
        await self.connection.run("APPEND", _folder(folder), r"(\Seen)", stamp, literal=raw)

    async def move(self, uids: Collection[int], folder: str) -> None:
        """Move mails to another folder; the server needs MOVE (RFC 6851).

        Raises CommandRefused with code TRYCREATE if there is no such folder.
        """
        await self.connection.run("MOVE", grammar.uid_set(uids), _folder(folder), prefix="UID")

    async def copy(self, uids: Collection[int], folder: str) -> None:
        """Copy mails from the open folder to another."""
        await self.connection.run("COPY", grammar.uid_set(uids), _folder(folder), prefix="UID")

    async def expunge(self, uids: Collection[int]) -> None:
        r"""Remove these mails if they are flagged \Deleted; the server needs UIDPLUS (RFC 4315).

        A plain EXPUNGE would remove all other mails flagged \Deleted too.
        """
        await self.connection.run("EXPUNGE", grammar.uid_set(uids), prefix="UID")

    async def noop(self) -> None:
        """Send NOOP, so that the server can announce changes."""
        await self.connection.run("NOOP")


def _found(answer: Collection[Parts]) -> Iterator[int]:
    """Yield the numbers that SEARCH responses list, and a 0 before those of each response.

    The 0 lets :func:`in_turns` count even an empty response as work.
    """
    for parts in answer:
        yield 0
        yield from grammar.search_results(parts)


def _asks_for_body(what: Collection[str]) -> bool:
    return any(each.startswith("BODY") for each in what)


def _folder(name: str) -> str:
    try:
        return grammar.encode_folder(name)
    except ValueError as error:
        raise CommandRefused(f"{error}") from None
