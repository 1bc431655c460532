"""The header fields of a mail as values: mailboxes, ids, the date, fields added by servers.

Each field is read on request; the value of a missing or unreadable field is None or empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.mail.classify import LOOP_HEADER
from core.model.message import Address
from gateway.reading.mime import limits
from gateway.reading.mime.address_lists import addresses
from gateway.reading.mime.headers import Headers, date, message_ids


@dataclass(slots=True)
class Fields:
    """The header fields of a mail as values."""

    headers: Headers
    mailbox_count: int = 0

    @property
    def message_id(self) -> str | None:
        """Return the Message-ID without angle brackets."""
        ids = message_ids(self.headers.characters(self.headers.raw("message-id")), 1)
        return ids[0] if ids else None

    def ids(self, name: str) -> tuple[str, ...]:
        """Return the Message-IDs in all fields named ``name``."""
        values = self.headers.fields.get(name)
        if not values:
            return ()
        return tuple(message_ids(" ".join(self.headers.characters(value) for value in values)))

    def mailboxes(self, name: str) -> tuple[Address, ...]:
        """Return the mailboxes in all fields named ``name``, up to the limit for one mail."""
        found: list[Address] = []
        for value in self.headers.fields.get(name, ()):
            left = limits.ADDRESSES + 1 - self.mailbox_count - len(found)
            found += addresses(self.headers.characters(value), left)
        self.mailbox_count += len(found)
        return tuple(found)

    @property
    def sender(self) -> Address | None:
        """Return the first mailbox in From with an address, else the first mailbox, else None."""
        found = self.mailboxes("from")
        return next((each for each in found if each.address), found[0] if found else None)

    @property
    def original_from(self) -> tuple[Address, ...]:
        """Return the mailboxes of the author whom a group replaced in From, each address once.

        Google Groups writes X-Original-From with the name and X-Original-Sender without it.
        """
        found: dict[str, Address] = {}
        for each in (*self.mailboxes("x-original-from"), *self.mailboxes("x-original-sender")):
            if each.address:
                found.setdefault(each.key, each)
        return tuple(found.values())

    @property
    def sender_header(self) -> str | None:
        """Return the address in Sender."""
        found = self.mailboxes("sender")
        return found[0].address if found else None

    @property
    def subject(self) -> str:
        """Return the decoded subject."""
        return self.headers.text("subject", limits.SUBJECT) or ""

    @property
    def date(self) -> datetime | None:
        """Return the Date in UTC."""
        raw = self.headers.raw("date")
        return date(self.headers.characters(raw)) if raw else None

    @property
    def authentication_results(self) -> list[str]:
        """Return the Authentication-Results fields, topmost first, as they are written.

        Encoded words are not decoded and mistakes are not mended. Otherwise we could read the name
        of a trusted server in a field where other programs read none.
        """
        found = self.headers.fields.get("authentication-results", ())
        return [value[:8000].decode("utf-8", "replace") for value in found]

    @property
    def spam_flag(self) -> bool:
        """Tell whether an X-Spam-Flag field marks the mail as spam."""
        return self.headers.raw("x-spam-flag").strip().upper().startswith(b"YES")

    @property
    def loop_marks(self) -> tuple[str, ...]:
        """Return the values of our own loop header."""
        return tuple(self.headers.texts(LOOP_HEADER, 200)[:20])

    @property
    def return_path(self) -> str | None:
        """Return the address in Return-Path: empty for the null path, None without the field."""
        if "return-path" not in self.headers.fields:
            return None
        value = self.headers.characters(self.headers.raw("return-path")).strip()
        found = addresses(value, 1)
        return (found[0].address if found else None) or ""

    @property
    def delivered_to(self) -> tuple[str, ...]:
        """Return the addresses in Delivered-To and X-Original-To, each once."""
        found = (*self.mailboxes("delivered-to"), *self.mailboxes("x-original-to"))
        return tuple(dict.fromkeys(each.address for each in found if each.address))
