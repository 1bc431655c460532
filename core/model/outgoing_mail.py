"""A mail that is ready to go out: what stands on its ticket, its bytes, and to whom it goes.
Nothing here can fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from core.model.message import Address
from core.model.ticket import Thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """``thread`` is where it stands, None for a notice to users; with ``fresh`` that thread starts
    with it.

    ``recipients`` are addresses of the envelope, ``raw`` is what goes over the wire, for each of
    them the same. ``key`` is what it was made for: never two of one key. ``return_address``: the
    channel whose signed address gets reports; None = the null path.
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
    draft: int | None = None  # the outgoing row that waited to become this mail
