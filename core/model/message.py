"""The types that hold a parsed mail: the intake creates them, and the rules read them.

A :class:`Message` never holds raw bytes, NUL or a lone surrogate. Message-IDs have no angle
brackets. Addresses keep their case; compare them with :func:`address_key`. What was wrong with the
mail is listed in ``defects``: reading never fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from core.normal_form import nfkc

Kind = Literal[
    "human", "forward", "auto_reply", "auto_generated", "bulk", "bounce", "report", "loop"
]
# Mail of these kinds neither opens nor moves a ticket.
MACHINE_KINDS: Final = frozenset({"auto_reply", "bounce", "report"})
BounceAction = Literal["failed", "delayed", "delivered", "relayed", "expanded", "unknown"]


def address_key(address: str) -> str:
    """Return the form in which an address is compared and stored: trimmed and lower case.

    Needless quotes around the local part (RFC 5322 3.4.1) and a dot at the end of the domain are
    dropped: the mailbox is the same without them, and a denied sender must not get past a list by
    adding them. RFC 5321 2.4 allows case-sensitive local parts, but no mail system in use relies on
    that.
    """
    key = address.strip().lower()
    if key[-1:] != "." and key[:1] != '"':
        return key
    local, at, domain = key.rpartition("@")
    if not at:
        return key
    if (quoted := _NEEDLESS.fullmatch(local)) is not None:
        local = quoted[1]
    return f"{local}@{domain.rstrip('.')}"


_LONGEST_DOMAIN: Final = 100
_NEEDLESS: Final = re.compile(r'"([^\s"\\()<>,;:@\[\]]+)"')


@lru_cache(1024)
def ascii_domain(domain: str) -> str:
    """Return a domain key in ASCII, as in the DNS (RFC 5891 4.4, letters folded by NFKC).

    A domain that is too long for any real mailbox is returned unchanged. One call takes 0.1 ms: use
    it for the sender of a mail and for lists that people keep, not for a thousand recipients.
    """
    if domain.isascii() or len(domain) > _LONGEST_DOMAIN:
        return domain
    labels = nfkc(domain).lower().replace("\u3002", ".").split(".")
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
        for label in labels
    )


def related_domains(one: str, two: str) -> bool:
    """Tell whether two domains are the same, or one of them is below the other."""
    one, two = ascii_domain(one), ascii_domain(two)
    return one == two or one.endswith("." + two) or two.endswith("." + one)


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox as written: display name (may be empty) and addr-spec.

    ``address`` is None if only a name was given, as in the header block of a forward.
    """

    name: str
    address: str | None

    @property
    def key(self) -> str:
        """The comparison key of the address; empty if there is no address."""
        return address_key(self.address) if self.address else ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part of a mail that is not its body.

    ``size`` counts the decoded bytes; ``part`` is the path in the part tree, such as ``"2.1"``.
    """

    filename: str | None
    content_type: str
    size: int
    sha256: str
    inline: bool
    content_id: str | None
    part: str


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The mail inside a forward; ``comment`` is the forwarder's text, ``rule`` how it was found."""

    sender: Address | None
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str | None
    date: str | None
    text: str
    comment: str
    rule: str


@dataclass(frozen=True, slots=True)
class BounceRecipient:
    """One recipient group of a delivery report (RFC 3464 section 2.3)."""

    address: str | None
    original: str | None
    action: BounceAction
    status: str | None
    diagnostic: str | None


@dataclass(frozen=True, slots=True)
class Bounce:
    """A delivery report; ``action`` is the worst action of any recipient.

    ``original_message_id`` is the Message-ID of the returned mail.
    """

    action: BounceAction
    recipients: tuple[BounceRecipient, ...]
    original_message_id: str | None


@dataclass(frozen=True, slots=True)
class Invitee:
    """Somebody named in an invitation.

    ``status`` is their answer in lower case (RFC 5545 3.2.12), empty if none is known.
    """

    who: Address
    status: str


@dataclass(frozen=True, slots=True)
class Invitation:
    """One event of a calendar that came with a mail (RFC 5545).

    ``method`` is a method of RFC 5546 in capitals, or empty. ``start`` and ``end`` are
    ISO 8601: a date, a local time, or a time with its offset. ``zone`` is the time zone as the
    sender named it.
    """

    method: str
    summary: str
    start: str | None
    end: str | None
    zone: str
    organizer: Address | None
    attendees: tuple[Invitee, ...]
    location: str
    description: str
    uid: str


@dataclass(frozen=True, slots=True)
class AuthenticationResults:
    """One ``Authentication-Results`` header (RFC 8601); a message lists the topmost first.

    ``dmarc_policy_none``: the dmarc result says that the published policy is none. ``dmarc_from``
    is the domain that the dmarc result is about, if it says so.
    """

    authserv_id: str
    spf: str | None
    dkim: str | None
    dmarc: str | None
    dmarc_policy_none: bool
    dmarc_from: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One mail as read; facts that it does not state are None or empty."""

    message_id: str | None
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    date: datetime | None  # aware, UTC; None where missing or absurd
    sender: Address | None  # From, the first one
    sender_header: str | None  # Sender:
    reply_to: tuple[Address, ...]
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    text: str
    html: str | None  # sanitised; filled on request only
    reply_text: str
    quoted_text: str
    attachments: tuple[Attachment, ...]
    kind: Kind
    evidence: tuple[str, ...]
    auto_respond_ok: bool
    forward: Forwarded | None = None
    bounce: Bounce | None = None
    invitations: tuple[Invitation, ...] = ()
    defects: tuple[str, ...] = ()
    # facts for routing and trust
    return_path: str | None = None  # "" is the null path, None where the mail has no Return-Path
    delivered_to: tuple[str, ...] = ()  # Delivered-To, X-Original-To, in the order of the mail
    authentication: tuple[AuthenticationResults, ...] = ()
    spam_flag: bool = False  # X-Spam-Flag: YES
    loop_marks: tuple[str, ...] = ()  # values of our own loop header, X-Ticketgate-Loop
    over_limit: bool = False  # a limit of reliability.md 12 was hit; read up to there
    # the author whom a mailing list or group replaced in From: X-Original-From, X-Original-Sender
    original_from: tuple[Address, ...] = ()
    resent_from: tuple[Address, ...] = ()  # Resent-From, the last resender first
    # hex SHA-256, to recognise duplicates: of From, Date and decoded body; and of the mail without
    # its trace headers
    content_digest: str = ""
    plain_digest: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids that the mail answers: In-Reply-To, then References from the newest on."""
        return tuple(dict.fromkeys((*self.in_reply_to, *reversed(self.references))))


@dataclass(frozen=True, slots=True)
class Envelope:
    """The facts about a mail that its transport knows.

    ``sender`` is "" for the null path, None if the transport knows none. ``source`` is how the mail
    came in, ``peer`` a host or user for the log; ``received_at`` is aware UTC.
    """

    sender: str | None
    recipients: tuple[str, ...]
    source: Literal["smtp", "lmtp", "deliver", "replay", "imap", "http"]
    received_at: datetime
    peer: str = ""
    helo: str = ""
    tls: str = ""
    trusted_hop: bool = False  # our own infrastructure: its spam verdict counts
    listed_peer: bool = False  # an SMTP peer in [auth_results] peers
    origin: str = ""  # a file name, or mailbox/UIDVALIDITY/UID
    automation: bool = True  # False: threads and tickets only (import of an archive)
    channel: str = ""  # of the mailbox it was in, for mail that names none of our channels

    @property
    def results_count(self) -> bool:
        """Whether the mail's Authentication-Results count (behaviour.md 5, verdict).

        In mail by SMTP they count only if a listed server sent it, since anybody may connect to an
        SMTP port. Only the operators of the desk can deliver mail in another way.
        """
        return self.source != "smtp" or self.listed_peer
