"""The commands in an open folder of the small IMAP server: SEARCH, FETCH, STORE, MOVE, IDLE."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime

from tests.servers.imap_words import Word, listed
from tests.servers.smallimap_session import Folder, Mail, Session

FIELDS = re.compile(r"BODY(?:\.PEEK)?\[HEADER\.FIELDS \((.*)\)\]", re.IGNORECASE)
WHOLE = re.compile(r"BODY(?:\.PEEK)?\[\](?:<(\d+)\.(\d+)>)?", re.IGNORECASE)


class Client(Session):
    """A session with the commands of an open folder."""

    @property
    def opened(self) -> Folder:
        """Return the open folder."""
        assert self.folder is not None
        return self.folder

    def chosen(self, spans: bytes) -> list[Mail]:
        """Return the mails of a set of UIDs; ``n:*`` always has the newest (RFC 3501, 6.4.8)."""
        return _within(spans, [(mail.uid, mail) for mail in self.opened.mails])

    async def numbers(self, mails: Iterable[Mail]) -> dict[Mail, int]:
        """Return all mails' numbers as the client knows them; report unknown mails first."""
        if not set(mails) <= set(self.view):
            await self.tell()
        return {mail: number for number, mail in enumerate(self.view, 1)}

    # ---- reading

    async def do_uid_search(self, given: list[Word]) -> bytes:
        keys, wanted = listed(given), _Keys(self.view, self.opened.mails)
        if keys[0].upper() == b"CHARSET":
            keys = keys[2:]
        found = wanted.matching(keys)
        await self.send(b"* SEARCH" + b"".join(f" {mail.uid}".encode() for mail in found) + b"\r\n")
        return b"OK done"

    async def do_uid_fetch(self, given: list[Word]) -> bytes:
        wanted = [word.decode() for word in listed(given[1])]
        told = [mail for mail in self.chosen(given[0]) if mail.uid not in self.server.omit]
        numbers = await self.numbers(told)
        for mail in told:
            response = b"* %d FETCH " % numbers[mail] + self.fetched(mail, wanted) + b"\r\n"
            await self.send(b"".join(self.server.between) + response)
        return b"OK done"

    def fetched(self, mail: Mail, wanted: Iterable[str]) -> bytes:
        """Return the items of one FETCH response, in the configured form."""
        told = [
            (b"UID", b"%d" % mail.uid),
            *(self.item(mail, word) for word in wanted if word.upper() != "UID"),
            *self.server.extra,
        ]
        if self.server.backwards:
            told.reverse()
        return (
            b"("
            + b" ".join(
                (name.lower() if self.server.lower else name) + b" " + value for name, value in told
            )
            + b")"
        )

    def item(self, mail: Mail, word: str) -> tuple[bytes, bytes]:
        """Return name and value of one item of a FETCH response."""
        match word.upper():
            case "FLAGS":
                return b"FLAGS", b"(" + " ".join(sorted(mail.flags)).encode() + b")"
            case "RFC822.SIZE":
                return b"RFC822.SIZE", b"%d" % self.server.sizes.get(mail.uid, len(mail.raw))
            case "INTERNALDATE":
                return b"INTERNALDATE", f'"{mail.received:%d-%b-%Y %H:%M:%S %z}"'.encode()
        if not word.upper().startswith("BODY.PEEK") and not self.read_only:
            mail.flags.add("\\Seen")
        if asked := FIELDS.fullmatch(word):
            return f"BODY[HEADER.FIELDS ({asked[1]})]".encode(), self.string(
                mail.uid, _header(mail.raw, asked[1].split())
            )
        asked = WHOLE.fullmatch(word)
        if asked is None:
            raise ValueError(word)
        raw = self.server.bodies.get(mail.uid, mail.raw)
        if asked[1] is None:
            return b"BODY[]", self.string(mail.uid, raw)
        start, size = int(asked[1]), int(asked[2])
        return b"BODY[]<%d>" % start, self.string(mail.uid, raw[start : start + size])

    def string(self, uid: int, text: bytes) -> bytes:
        """Return a string in the configured form."""
        if self.server.quotes and not re.search(rb"[\r\n\0\x80-\xff]", text):
            return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        return b"{%d}\r\n" % self.server.announced.get(uid, len(text)) + text

    # ---- changing

    async def do_uid_store(self, given: list[Word]) -> bytes:
        how, _, silent = given[1].decode().upper().partition(".")
        flags = {word.decode() for word in listed(given[2])}
        marked = self.chosen(given[0])
        numbers = await self.numbers(marked)
        for mail in marked:
            mail.flags = (
                mail.flags | flags
                if how[0] == "+"
                else mail.flags - flags
                if how[0] == "-"
                else flags
            )
            if not silent:
                await self.send(
                    (
                        f"* {numbers[mail]} FETCH (UID {mail.uid} FLAGS "
                        f"({' '.join(sorted(mail.flags))}))\r\n"
                    ).encode()
                )
        return b"OK done"

    async def do_uid_copy(self, given: list[Word]) -> bytes:
        copied = self.copied(self.chosen(given[0]), given[1])
        return b"NO [TRYCREATE] no such folder" if copied is None else b"OK " + copied + b"done"

    async def do_uid_move(self, given: list[Word]) -> bytes:
        if "MOVE" not in self.capabilities().split():
            return b"BAD no such command"
        moved = self.chosen(given[0])
        copied = self.copied(moved, given[1])
        if copied is None:
            return b"NO [TRYCREATE] no such folder"
        if copied:
            await self.send(b"* OK " + copied + b"moved\r\n")
        await self.remove(moved)
        return b"OK done"

    def copied(self, mails: list[Mail], target: Word) -> bytes | None:
        """Copy mails; return COPYUID (RFC 4315), empty if switched off, None without the folder."""
        folder = self.server.folders.get(self.named(target))
        if folder is None:
            return None
        fresh = [folder.put(mail.raw, mail.received, mail.flags) for mail in mails]
        self.server.news()
        if not fresh or "UIDPLUS" not in self.capabilities().split():
            return b""
        old = ",".join(str(mail.uid) for mail in mails)
        return f"[COPYUID {folder.uidvalidity} {old} {','.join(map(str, fresh))}] ".encode()

    async def do_uid_expunge(self, given: list[Word]) -> bytes:
        if "UIDPLUS" not in self.capabilities().split():
            return b"BAD no such command"
        await self.remove([mail for mail in self.chosen(given[0]) if "\\Deleted" in mail.flags])
        return b"OK done"

    async def do_expunge(self, _given: list[Word]) -> bytes:
        await self.remove([mail for mail in self.opened.mails if "\\Deleted" in mail.flags])
        return b"OK done"

    async def do_close(self, _given: list[Word]) -> bytes:
        if not self.read_only:
            self.opened.mails[:] = [
                mail for mail in self.opened.mails if "\\Deleted" not in mail.flags
            ]
        self.folder = None
        return b"OK done"

    async def remove(self, gone: Iterable[Mail]) -> None:
        """Remove mails from the folder, with a response for each."""
        for mail in gone:
            self.opened.mails.remove(mail)
        self.server.news()
        await self.tell()

    # ---- IDLE

    async def do_check(self, given: list[Word]) -> bytes:
        return await self.do_noop(given)

    async def do_idle(self, _given: list[Word]) -> bytes:
        if "IDLE" not in self.capabilities().split():
            return b"BAD no such command"
        await self.send(b"+ idling\r\n")
        done = asyncio.create_task(self.line())
        self.server.idlers += 1
        try:
            while not done.done():
                changed = self.server.changed
                await self.tell()
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait({done, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        finally:
            self.server.idlers -= 1
            done.cancel()
        return b"OK done" if done.result().upper() == b"DONE" else b"BAD expected DONE"


class _Keys:
    """The keys of a SEARCH."""

    def __init__(self, view: list[Mail], mails: list[Mail]) -> None:
        self.view, self.mails = view, mails

    def matching(self, keys: list[bytes]) -> list[Mail]:
        """Return the mails that all the keys match."""
        found, keys = list(self.mails), list(keys)
        while keys:
            kept = self.one(keys)
            found = [mail for mail in found if kept(mail)]
        return found

    def one(self, keys: list[bytes]) -> Callable[[Mail], bool]:
        """Remove the first key; return its test."""
        key = keys.pop(0).decode().upper()
        match key:
            case "ALL":
                return lambda _mail: True
            case "NOT":
                inner = self.one(keys)
                return lambda mail: not inner(mail)
            case "SEEN" | "DELETED" | "FLAGGED" | "ANSWERED":
                return lambda mail: f"\\{key.capitalize()}" in mail.flags
            case "UNSEEN" | "UNDELETED" | "UNFLAGGED" | "UNANSWERED":
                return lambda mail: f"\\{key[2:].capitalize()}" not in mail.flags
            case "SINCE" | "BEFORE" | "ON":
                return _day(key, keys.pop(0))
            case "UID":
                return set(
                    _within(keys.pop(0), [(mail.uid, mail) for mail in self.mails])
                ).__contains__
            case _:
                return set(_within(key.encode(), list(enumerate(self.view, 1)))).__contains__


def _day(key: str, text: bytes) -> Callable[[Mail], bool]:
    # a day has no zone
    day: date = datetime.strptime(text.decode(), "%d-%b-%Y").date()  # noqa: DTZ007
    match key:
        case "SINCE":
            return lambda mail: mail.received.date() >= day
        case "BEFORE":
            return lambda mail: mail.received.date() < day
        case _:
            return lambda mail: mail.received.date() == day


def _within(spans: bytes, numbered: list[tuple[int, Mail]]) -> list[Mail]:
    """Return the mails whose number is in a set."""
    last = max((number for number, _ in numbered), default=0)
    ranges = [
        sorted(last if end == "*" else int(end) for end in span.split(":"))
        for span in spans.decode().split(",")
    ]
    return [
        mail for number, mail in numbered if any(ends[0] <= number <= ends[-1] for ends in ranges)
    ]


def _header(raw: bytes, names: Iterable[str]) -> bytes:
    """Return some fields of a header, unchanged, with the empty line."""
    fields = re.findall(
        rb"(?m)^[^\s:]+:.*\r?\n(?:[ \t].*\r?\n)*", raw.partition(b"\r\n\r\n")[0] + b"\r\n"
    )
    asked = {name.upper().encode() for name in names}
    return b"".join(each for each in fields if each.partition(b":")[0].upper() in asked) + b"\r\n"
