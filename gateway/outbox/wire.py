"""Mail in the form that SMTP needs: envelope in bytes, CRLF line ends, parameters of MAIL.

Also makes replies of servers printable. Raises :class:`CannotSend`, with a message for the user, if
an address cannot be used in a command, or needs an extension that the server does not offer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, Self

LONGEST_REPLY: Final = 500
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_UNSENDABLE: Final = re.compile(r"[\x00-\x20\x7f<>]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class CannotSend(Exception):
    """This mail can never be sent, for the given reason."""


@dataclass(frozen=True, slots=True)
class SmtpEnvelope:
    """A sender and a recipient for SMTP commands, and the SMTP extensions that the mail needs."""

    sender: bytes
    recipient: bytes
    utf8: bool
    eight_bit: bool

    @classmethod
    def of(cls, sender: str, recipient: str, raw: bytes) -> Self:
        """Return the envelope of a mail, its domains in ASCII; raises :class:`CannotSend`."""
        path, to = _path(sender), _path(recipient)
        if not to:
            raise CannotSend("no recipient")
        head = raw.partition(b"\r\n\r\n")[0]
        return cls(path, to, not (path + to + head).isascii(), not raw.isascii())


def _path(address: str) -> bytes:
    if not address:
        return b""
    local, _, domain = address.rpartition("@")
    if not local or not domain or _UNSENDABLE.search(address):
        raise CannotSend("invalid mail address")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise CannotSend("invalid domain in the mail address") from None
    try:
        return f"{local}@{domain}".encode()
    except UnicodeEncodeError:
        raise CannotSend("invalid mail address") from None


def parameters(envelope: SmtpEnvelope, offered: Mapping[str, str], size: int) -> list[bytes]:
    """Return the parameters of MAIL (RFC 1870, 6152, 6531) that the server supports.

    Raises :class:`CannotSend` where the server lacks an extension that the mail needs.
    """
    if envelope.utf8 and "smtputf8" not in offered:
        raise CannotSend(
            "the address or a header is not in ASCII, and the smarthost does not offer SMTPUTF8"
        )
    wanted = (
        (b"SIZE=%d" % size, "size" in offered),
        (b"BODY=8BITMIME", envelope.eight_bit and "8bitmime" in offered),
        (b"SMTPUTF8", envelope.utf8),
    )
    return [parameter for parameter, applies in wanted if applies]


def lines(raw: bytes) -> bytes:
    """Return the mail with CRLF at the end of every line, and without any other CR or LF."""
    ends = raw.count(b"\r\n")
    if raw.count(b"\r") != ends or raw.count(b"\n") != ends:
        raw = _LINE_END.sub(b"\r\n", raw)
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


def cleaned(reply: str) -> str:
    """Return a server's reply as one printable line."""
    return " ".join(_CONTROL.sub(" ", reply).split())[:LONGEST_REPLY]


def is_this_machine(peer: str) -> bool:
    """Return whether a socket address is on the loopback."""
    address = ip_address(peer.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
