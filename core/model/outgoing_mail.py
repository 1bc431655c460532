"""A mail that is ready to go out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from core.model.message import Address
from core.model.ticket import Thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A mail that is ready to go out: its message on the ticket, its bytes, its recipients.

    ``thread`` is None for a notice to users; ``fresh``: this mail is the first on its thread.
    ``recipients`` are envelope addresses, ``raw`` is what each of them gets. No two mails have the
    same ``key``. Reports about the mail go to a signed address of the channel ``return_address``;
    None means the null path.
    """

    message_id: str
    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    text: str
    date: datetime
    raw: bytes
    recipients: tuple[str, ...]
    kind: Literal["human", "forward", "auto_generated"]
    thread: Thread | None = None
    fresh: bool = False
    reply_text: str = ""  # without the quoted last exchange
    parents: tuple[str, ...] = ()
    attachments: tuple[dict[str, Any], ...] = ()
    automatic: bool = False
    template: str | None = None
    author_id: int | None = None
    return_address: str | None = None
    key: str | None = None
    answers: int | None = None  # the contact whose mail it answers, wherever Reply-To sends it
    draft: int | None = None  # the outgoing row that waited to become this mail
