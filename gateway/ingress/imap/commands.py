r"""What we ask of an IMAP server, in the terms of mail: sign in, open a folder, which mails are
there, their bytes, and what happens to them after.

Mails are named by their UIDs; sequence numbers are never used, and \Seen tells nothing. What can go
wrong: see :mod:`gateway.ingress.imap.connection`. A server that leaves a mail out of its answer has
not said that it is gone: callers ask again.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from gateway.ingress.imap import grammar
from gateway.ingress.imap.connection import (
    Broken,
    CommandRefused,
    ConnectionLost,
    ImapConnection,
    LoginRefused,
)
from gateway.ingress.imap.grammar import Fetched

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TEMPORARY: Final = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"})  # RFC 5530
FETCH_MOST: Final = 200  # UIDs of one command


@dataclass(frozen=True, slots=True)
class Selected:
    """An open folder. ``uidnext`` None where the server does not tell; ``flags`` are those that can
    be set for good.
    """

    uidvalidity: int
    uidnext: int | None
    exists: int
    read_only: bool
    flags: frozenset[str]


class LostInLogin(ConnectionLost):
    """The connection ended while we signed in: an accident, or how this server refuses."""


class ImapSession(ImapConnection):
    """A connection as a reader of mailboxes uses it; every method raises
    :class:`gateway.ingress.imap.connection.ImapError`.
    """

    async def login(self, username: str, password: str) -> None:
        """Signs in with a password: AUTHENTICATE PLAIN, which takes any character, or LOGIN;
        :class:`LoginRefused` when it is not accepted.
        """
        if "AUTH=PLAIN" in self.capabilities:
            await self._authenticate("PLAIN", f"\0{username}\0{password}")
            return
        if "LOGINDISABLED" in self.capabilities:
            raise LoginRefused("the server takes no password on this connection")
        try:
            arguments = grammar.quoted(username), grammar.quoted(password)
        except ValueError:
            raise LoginRefused("this server takes user names and passwords in ASCII only") from None
        await self._sign_in("LOGIN", *arguments)

    async def bearer(self, username: str, token: str) -> None:
        """Signs in with an access token: OAUTHBEARER (RFC 7628) where the server has it, else
        XOAUTH2.
        """
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
            await self.run(name, *arguments, answers=[challenge] if challenge else [])
        except CommandRefused as error:
            if error.code in TEMPORARY:
                raise
            raise LoginRefused(error.message) from None
        except ConnectionLost as error:
            raise LostInLogin(f"the server hung up on the login ({error.message})") from None
        self.enter(folder=False)
        await self.ask()

    async def select(self, folder: str, *, read_only: bool) -> Selected:
        """Opens a folder by its name as people see it; :class:`CommandRefused` where there is none,
        :class:`Broken` where its UIDs do not last.
        """
        answer = await self.run("EXAMINE" if read_only else "SELECT", _folder(folder))
        self.enter(folder=True)
        codes = dict(grammar.code(parts[0]) for parts in answer)
        validity = codes.get("UIDVALIDITY", "")
        if not validity.isdigit() or not int(validity) or "UIDNOTSTICKY" in codes:
            raise Broken(
                "the server gives this folder no lasting numbers (UIDs), so it cannot be read "
                "without losing or doubling mail"
            )
        following = codes.get("UIDNEXT", "")
        exists = max(
            (
                int(words[1])
                for parts in answer
                if (words := parts[0].split())[2:3] == [b"EXISTS"] and words[1].isdigit()
            ),
            default=0,
        )
        flags = frozenset(codes.get("PERMANENTFLAGS", r"\Seen \Deleted").strip("()").split())
        return Selected(
            int(validity),
            int(following) if following.isdigit() else None,
            exists,
            "READ-ONLY" in codes,
            flags,
        )

    async def folders(self) -> list[str]:
        """The names of all folders, as people see them."""
        names = []
        for parts in await self.run("LIST", '""', '"*"'):
            match grammar.items(parts):
                case [b"*", bytes() as verb, _, _, bytes() as name, *_] if verb.upper() == b"LIST":
                    names.append(grammar.folder_name(name))
        return sorted(names)

    async def create(self, folder: str) -> None:
        """Makes a folder and subscribes to it, so that mail programs show it."""
        await self.run("CREATE", _folder(folder))
        with suppress(CommandRefused):
            await self.run("SUBSCRIBE", _folder(folder))

    async def uids(
        self, first: int, last: int | None = None, *, since: date | None = None, kept: bool = False
    ) -> list[int]:
        r"""The UIDs from ``first`` to ``last`` (None: the newest), ascending; ``since`` by the
        server's date, ``kept`` without \Deleted ones.
        """
        criteria = ["UID", f"{first}:{last if last is not None else '*'}"]
        criteria += (
            ["SINCE", f"{since.day}-{MONTHS[since.month - 1]}-{since.year}"]
            if since is not None
            else []
        )
        criteria += ["UNDELETED"] if kept else []
        uids = grammar.found(await self.run("SEARCH", *criteria, prefix="UID"))
        return [
            uid for uid in uids if uid >= first and (last is None or uid <= last)
        ]  # n:* always gives the newest

    async def fetch(self, uids: Collection[int], *what: str) -> dict[int, Fetched]:
        """What the server tells of these mails (at most :data:`FETCH_MOST`); those it does not tell
        of are missing.
        """
        answer = await self.run(
            "FETCH", grammar.uid_set(uids), f"(UID {' '.join(what)})", prefix="UID"
        )
        told: dict[int, Fetched] = {}
        for parts in answer:
            each = grammar.fetched(parts)
            if (
                each is not None
                and each.uid in uids
                and (each.body is not None or not _bodies(what))
            ):
                told[each.uid] = each
        return told

    async def part(self, uid: int, offset: int, length: int) -> bytes | None:
        """A piece of a mail's raw bytes, shorter at its end; None where the server has no such
        mail.
        """
        found = (await self.fetch((uid,), f"BODY.PEEK[]<{offset}.{length}>")).get(uid)
        return found.body if found is not None else None

    async def flag(self, uids: Collection[int], flag: str) -> None:
        """Sets a flag."""
        await self.run("STORE", grammar.uid_set(uids), "+FLAGS.SILENT", f"({flag})", prefix="UID")

    async def holds(self, message_id: str) -> bool:
        """Whether the open folder has a mail with this Message-ID; the brackets around it make no
        difference. :class:`CommandRefused` for a strange one.
        """
        try:
            wanted = grammar.quoted(message_id.strip("<>"))
        except ValueError:
            raise CommandRefused(
                "the Message-ID holds characters that cannot be searched for"
            ) from None
        return bool(
            grammar.found(await self.run("SEARCH", "HEADER", "Message-ID", wanted, prefix="UID"))
        )

    async def append(self, folder: str, raw: bytes, at: datetime) -> None:
        """Puts a mail into a folder as one that was read; ``at`` is its date there. :class:`CommandRefused`
        with TRYCREATE where there is no such folder.

        What comes of it is not known when the connection is lost meanwhile.
        """
        when = at.astimezone(UTC)
        stamp = f'"{when.day:2}-{MONTHS[when.month - 1]}-{when:%Y %H:%M:%S} +0000"'
        await self.run("APPEND", _folder(folder), r"(\Seen)", stamp, literal=raw)

    async def move(self, uids: Collection[int], folder: str) -> None:
        """Moves mails; for servers with MOVE (RFC 6851). :class:`CommandRefused` with the code TRYCREATE
        where there is no such folder.
        """
        await self.run("MOVE", grammar.uid_set(uids), _folder(folder), prefix="UID")

    async def copy(self, uids: Collection[int], folder: str) -> None:
        """Copies mails."""
        await self.run("COPY", grammar.uid_set(uids), _folder(folder), prefix="UID")

    async def expunge(self, uids: Collection[int]) -> None:
        r"""Removes those of the mails that are marked \Deleted; for servers with UIDPLUS (RFC
        4315), since a bare EXPUNGE would take others too.
        """
        await self.run("EXPUNGE", grammar.uid_set(uids), prefix="UID")

    async def noop(self) -> None:
        """Lets the server tell what is new."""
        await self.run("NOOP")


def _bodies(what: Collection[str]) -> bool:
    return any(each.startswith("BODY") for each in what)


def _folder(name: str) -> str:
    try:
        return grammar.mailbox_name(name)
    except ValueError as error:
        raise CommandRefused(f"{error}") from None
