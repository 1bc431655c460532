"""How a mail stands on the wire: its envelope as bytes, its lines ended by CRLF, what it needs of
the server, and replies that can be shown.

What can go wrong: an address that cannot stand in a command, or needs what the server does not
offer (:class:`CannotSend`, with a sentence for the user).
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
    """This mail can never be sent this way; the text says why."""


@dataclass(frozen=True, slots=True)
class SmtpEnvelope:
    """Sender (empty: the null path) and recipient as they stand in commands, and what the mail
    needs beyond plain SMTP.
    """

    sender: bytes
    recipient: bytes
    utf8: bool
    eight_bit: bool

    @classmethod
    def of(cls, sender: str, recipient: str, raw: bytes) -> Self:
        """The envelope of a mail; domains in their ASCII form. Raises :class:`CannotSend`."""
        path, to = _path(sender), _path(recipient)
        if not to:
            raise CannotSend("there is no recipient")
        head = raw.partition(b"\r\n\r\n")[0]
        return cls(path, to, not (path + to + head).isascii(), not raw.isascii())


def _path(address: str) -> bytes:
    if not address:
        return b""
    local, _, domain = address.rpartition("@")
    if not local or not domain or _UNSENDABLE.search(address):
        raise CannotSend("the address is no mail address")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise CannotSend("the domain of the address is no domain name") from None
    try:
        return f"{local}@{domain}".encode()
    except UnicodeEncodeError:
        raise CannotSend("the address is no mail address") from None


def parameters(envelope: SmtpEnvelope, offered: Mapping[str, str], size: int) -> list[bytes]:
    """The parameters of MAIL (RFC 1870, 6152, 6531), each only where the server knows it. Raises
    :class:`CannotSend`.
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
    """The mail with CRLF after each line, the last one too, and no other CR or LF."""
    ends = raw.count(b"\r\n")
    if raw.count(b"\r") != ends or raw.count(b"\n") != ends:
        raw = _LINE_END.sub(b"\r\n", raw)
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


def cleaned(reply: str) -> str:
    """A reply of a server as one line that can be stored and shown."""
    return " ".join(_CONTROL.sub(" ", reply).split())[:LONGEST_REPLY]


def is_this_machine(peer: str) -> bool:
    """Whether an address of a socket is on the loopback."""
    address = ip_address(peer.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
