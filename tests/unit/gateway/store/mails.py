"""Mails for the store tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from core.model.message import Envelope
from gateway.store.imap.taken_mail import MailboxPosition
from gateway.store.queues.spool import Claimed, Finished

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ENVELOPE = Envelope(
    "ann@example.org",
    ("support@localhost",),
    "smtp",
    NOW,
    peer="127.0.0.1",
    helo="mx",
    tls="TLSv1.3",
    trusted_hop=True,
    origin="a/b",
)


@dataclass(frozen=True, slots=True)
class Held:
    """A raw mail in a file."""

    path: Path


@dataclass(frozen=True, slots=True)
class Incoming:
    """A mail as the ingress stores it."""

    raw: bytes | Held
    size: int
    sha256: str
    envelope: Envelope
    mark: MailboxPosition | None = None


def mail(
    raw: bytes, path: Path | None = None, mark: MailboxPosition | None = None, **envelope: object
) -> Incoming:
    """Return a mail of these bytes, in a file where a path is given."""
    if path is not None:
        path.write_bytes(raw)
    return Incoming(
        Held(path) if path is not None else raw,
        len(raw),
        hashlib.sha256(raw).hexdigest(),
        replace(ENVELOPE, **envelope),
        mark,
    )


def became(claimed: Claimed | int, state: str = "done", **values: object) -> Finished:
    """Return the result of a mail, empty but for the given values."""
    number = claimed if isinstance(claimed, int) else claimed.id
    plain: dict[str, object] = dict.fromkeys(Finished.__slots__) | {
        "mail_id": number,
        "state": state,
        "processed_at": NOW,
    }
    return Finished(**(plain | values))
