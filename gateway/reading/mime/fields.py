"""The header fields of a mail as values: mailboxes, ids, the date, and the marks that other servers
left.

Each is read when it is asked for; one that is missing or makes no sense is None or empty.
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
    box_count: int = 0

    @property
    def message_id(self) -> str | None:
        """The Message-ID, without angle brackets."""
        ids = message_ids(self.headers.characters(self.headers.raw("message-id")), 1)
        return ids[0] if ids else None

    def ids(self, name: str) -> tuple[str, ...]:
        """The Message-IDs of all fields of that name."""
        values = self.headers.fields.get(name)
        if not values:
            return ()
        return tuple(message_ids(" ".join(self.headers.characters(value) for value in values)))

    def boxes(self, name: str) -> tuple[Address, ...]:
        """The mailboxes of all fields of that name, at most as many as the cap leaves."""
        found: list[Address] = []
        for value in self.headers.fields.get(name, ()):
            found += addresses(
                self.headers.characters(value), limits.ADDRESSES + 1 - self.box_count - len(found)
            )
        self.box_count += len(found)
        return tuple(found)

    @property
    def sender(self) -> Address | None:
        """The first mailbox of From that has an address, else the first."""
        found = self.boxes("from")
        return next((each for each in found if each.address), found[0] if found else None)

    @property
    def sender_header(self) -> str | None:
        """The address in Sender."""
        found = self.boxes("sender")
        return found[0].address if found else None

    @property
    def subject(self) -> str:
        """The subject as a person reads it."""
        return self.headers.text("subject", limits.SUBJECT) or ""

    @property
    def date(self) -> datetime | None:
        """The Date as aware UTC."""
        raw = self.headers.raw("date")
        return date(self.headers.characters(raw)) if raw else None

    @property
    def spam_flag(self) -> bool:
        """Whether a server in front marked the mail as spam."""
        return self.headers.raw("x-spam-flag").strip().upper().startswith(b"YES")

    @property
    def loop_marks(self) -> tuple[str, ...]:
        """The values of our own loop header."""
        return tuple(self.headers.texts(LOOP_HEADER, 200)[:20])

    @property
    def return_path(self) -> str | None:
        """The path of Return-Path, empty for the null path; None where the mail has none."""
        if "return-path" not in self.headers.fields:
            return None
        value = self.headers.characters(self.headers.raw("return-path")).strip()
        found = addresses(value, 1)
        return (found[0].address if found else None) or ""

    @property
    def delivered_to(self) -> tuple[str, ...]:
        """Delivered-To and X-Original-To, each address once."""
        found = (*self.boxes("delivered-to"), *self.boxes("x-original-to"))
        return tuple(dict.fromkeys(each.address for each in found if each.address))
