"""Turn a mail into the octets that are sent (RFC 5322, 2045 to 2047, 2183, 2231).

Headers and parts are not written by ``email.message``, which folds long tokens wrongly, mistakes
parts of a subject for encoded words, and takes several times as long for large files. All output is
7-bit with CRLF line ends and lines far below 998 octets, so that no server has a reason to change
it and break its signature. A value that would start a new header line is refused, never repaired.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from itertools import count
from typing import Final, Literal
from urllib.parse import quote

from core.mail.classify import LOOP_HEADER
from core.mail.reply_text import usable_id
from core.model.message import Address, ascii_domain
from gateway.errors import Invalid
from gateway.validation import refuse_breaks

_HEADER_WIDTH: Final = 76  # of a folded line (RFC 2047 2)
_MAX_LINE: Final = 998  # RFC 5322 2.1.1
_ENCODED_OCTETS: Final = 39  # in one encoded word, which makes 64 characters of it
_MAX_ADDRESS: Final = 253  # octets without the @ (RFC 5321 4.5.3.1.3)
_MAX_NAME: Final = 60  # characters of a display name that is written as it is
_MAX_PLAIN_FILENAME: Final = 55
_PARAMETER_PIECE: Final = 50  # characters of a file name in one parameter (RFC 2231 3)

_PLAIN_WORD: Final = re.compile(r"(?!.*=\?)[!-~]{1,67}")  # needs no encoding in a header
_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ATOMS: Final = re.compile(rf"{_ATEXT}(?: {_ATEXT})*")
_DOT_ATOM: Final = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_QUOTED_LOCAL: Final = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"')
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Za-z.:]+\]")
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99}")
_PLAIN_FILENAME: Final = re.compile(r"[A-Za-z0-9_()+.-]+(?: [A-Za-z0-9_()+.-]+)*")


@dataclass(frozen=True, slots=True)
class File:
    """An attached file; an unusable ``content_type`` is sent as application/octet-stream."""

    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class MimeMail:
    """A mail before it is encoded; Message-IDs have no angle brackets, ``date`` has a time zone.

    ``original`` is a mail that is attached whole, to forward it. ``automatic`` is the value of
    Auto-Submitted (RFC 3834), empty for mail by people. ``loop_mark`` is the address of the
    channel, written on automatic mail only.
    """

    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    text: str
    html: str | None
    message_id: str
    date: datetime
    in_reply_to: str | None
    references: tuple[str, ...]
    reply_to: str | None
    files: tuple[File, ...] = ()
    original: bytes | None = None
    automatic: Literal["", "auto-replied", "auto-generated"] = ""
    loop_mark: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    """A MIME part; the pieces of its body are joined by CRLF."""

    headers: tuple[bytes, ...]
    body: tuple[bytes, ...]


def compose(mail: MimeMail) -> bytes:
    """Return the octets to send (reliability.md 5, 25); Invalid if a value cannot be written."""
    _refuse_breaks(mail)
    body = _body(mail)
    return b"\r\n".join((*_headers(mail), *body.headers, b"", *body.body)) + b"\r\n"


def _refuse_breaks(mail: MimeMail) -> None:
    people = (mail.sender, *mail.to, *mail.cc)
    refuse_breaks("name", *(each.name for each in people))
    refuse_breaks("address", *(each.address for each in people), mail.reply_to, mail.loop_mark)
    refuse_breaks("subject", mail.subject)
    refuse_breaks("Message-ID", mail.message_id, mail.in_reply_to, *mail.references)
    refuse_breaks("file name", *(each.filename for each in mail.files))
    refuse_breaks("content type", *(each.content_type for each in mail.files))


def _headers(mail: MimeMail) -> list[bytes]:
    """Return all headers except those of the body; unusable ids in References are left out."""
    if not usable_id(mail.message_id):
        raise Invalid("invalid Message-ID", "message_id")
    headers = [_people("From", (mail.sender,))]
    if mail.to:
        headers.append(_people("To", mail.to))
    elif not mail.cc:
        headers.append(b"To: undisclosed-recipients:;")
    if mail.cc:
        headers.append(_people("Cc", mail.cc))
    headers += [
        _folded("Subject", _unstructured(mail.subject)),
        _folded("Date", [format_datetime(mail.date)]),
        _folded("Message-ID", [f"<{mail.message_id}>"]),
    ]
    if mail.in_reply_to is not None and usable_id(mail.in_reply_to):
        headers.append(_folded("In-Reply-To", [f"<{mail.in_reply_to}>"]))
    if references := [f"<{each}>" for each in mail.references if usable_id(each)]:
        headers.append(_folded("References", references))
    if mail.reply_to:
        headers.append(_people("Reply-To", (Address("", mail.reply_to),)))
    if mail.automatic:
        headers += [_folded("Auto-Submitted", [mail.automatic]), b"X-Auto-Response-Suppress: All"]
        if mail.loop_mark:
            name = LOOP_HEADER.title()
            headers.append(_folded(name, [_addr_spec(name, mail.loop_mark)]))
    return [*headers, b"MIME-Version: 1.0"]


def _folded(name: str, words: Iterable[str]) -> bytes:
    """Return a header folded between its words (RFC 5322 2.2.3)."""
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _HEADER_WIDTH and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines).encode("ascii")


def _encoded(text: str) -> list[str]:
    """Return a text as encoded words (RFC 2047), none of which ends inside a character."""
    pieces = [b""]
    for octets in map(str.encode, text):
        if len(pieces[-1]) + len(octets) > _ENCODED_OCTETS:
            pieces.append(b"")
        pieces[-1] += octets
    return [f"=?utf-8?b?{binascii.b2a_base64(piece, newline=False).decode()}?=" for piece in pieces]


def _unstructured(text: str) -> list[str]:
    """Return a subject as words; encode from the first to the last word that needs encoding."""
    words = text.split(" ") if text else []
    odd = [at for at, word in enumerate(words) if not _PLAIN_WORD.fullmatch(word)]
    if not odd:
        return words
    # Two blanks in a row are encoded together with the words around them.
    first = max(0, odd[0] - (not words[odd[0]]))
    last = odd[-1] + (not words[odd[-1]])
    return [*words[:first], *_encoded(" ".join(words[first : last + 1])), *words[last + 1 :]]


def _phrase(name: str) -> list[str]:
    """Return a display name (RFC 5322 3.2.5) as plain words, quoted string, or encoded words."""
    name = name.strip()
    if not name:
        return []
    if len(name) > _MAX_NAME or not all(map(_PLAIN_WORD.fullmatch, name.split(" "))):
        return _encoded(name)
    if _ATOMS.fullmatch(name):
        return name.split(" ")
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return [f'"{escaped}"']


def _addr_spec(header: str, given: str | None) -> str:
    """Return an address for a header, domain in ASCII (RFC 5322 3.4.1); Invalid if unusable."""
    local, _, domain = (given or "").strip().rpartition("@")
    domain = ascii_domain(domain).rstrip(".")
    if len(local) + len(domain) > _MAX_ADDRESS:
        raise _invalid_address(header, f"longer than {_MAX_ADDRESS} characters")
    if not local.isascii():
        raise _invalid_address(header, "only ASCII is allowed before the @")
    if not _DOT_ATOM.fullmatch(local) and not _QUOTED_LOCAL.fullmatch(local):
        # Some providers allow dots in odd places; such a local part needs quotes.
        local = f'"{local}"' if local and _DOT_ATOM.fullmatch(local.replace(".", "")) else ""
    if not local or not _DOMAIN.fullmatch(domain):
        raise _invalid_address(header, "expected local@domain")
    return f"{local}@{domain}"


def _invalid_address(header: str, why: str) -> Invalid:
    """Return the error for an address; its text is logged, so it does not contain the address."""
    return Invalid(f"invalid address in {header}: {why}", header.lower())


def _people(name: str, people: tuple[Address, ...]) -> bytes:
    """Return an address header such as To, with these people as mailboxes."""
    words = []
    for position, each in enumerate(people, 1):
        phrase, address = _phrase(each.name), _addr_spec(name, each.address)
        comma = "," if position < len(people) else ""
        words += [*phrase, (f"<{address}>" if phrase else address) + comma]
    return _folded(name, words)


def _body(mail: MimeMail) -> _Part:
    """Return text, HTML and attachments, nested only as far as needed (RFC 2046 5.1)."""
    texts = [_text("plain", mail.text)] if mail.text.strip() or mail.html is None else []
    if mail.html is not None:
        texts.append(_text("html", mail.html))
    attached = [_file(each) for each in mail.files]
    boundary = _boundary(mail)
    body = texts[0] if len(texts) == 1 else _multipart("alternative", f"a{boundary}", texts)
    if mail.original is not None:
        attached.append(_original(mail.original))
    return _multipart("mixed", f"m{boundary}", [body, *attached]) if attached else body


def _boundary(mail: MimeMail) -> str:
    """Return a boundary that occurs in no part; no encoded part contains ``=_``."""
    hashes = (sha256(f"{mail.message_id} {tries}".encode()).hexdigest() for tries in count())
    boundaries = (f"=_{each[:32]}" for each in hashes)
    original = mail.original or b""
    return next(each for each in boundaries if each.encode() not in original)


def _multipart(kind: str, boundary: str, parts: list[_Part]) -> _Part:
    delimiter = f"--{boundary}".encode()
    body = [piece for part in parts for piece in (delimiter, *part.headers, b"", *part.body)]
    header = f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"'.encode()
    return _Part((header,), (*body, delimiter + b"--"))


def _text(kind: str, text: str) -> _Part:
    """Return a text part as quoted-printable, or base64 if that is shorter (RFC 2045 6.7, 6.8)."""
    lines = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    data = (lines.removesuffix("\n") + "\n").encode("utf-8", "replace")
    printable = binascii.b2a_qp(data)
    if len(printable) * 3 <= len(data) * 4 + 300:
        encoding = b"quoted-printable"
        body = printable.replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    else:
        encoding, body = b"base64", _base64(data.replace(b"\n", b"\r\n"))
    headers = (
        f"Content-Type: text/{kind}; charset=utf-8".encode(),
        b"Content-Transfer-Encoding: " + encoding,
    )
    return _Part(headers, (body,))


def _base64(data: bytes) -> bytes:
    encoded = binascii.b2a_base64(data, newline=False)
    return b"\r\n".join(
        [encoded[at : at + _HEADER_WIDTH] for at in range(0, len(encoded), _HEADER_WIDTH)]
    )


def _disposition(filename: str) -> bytes:
    """Return Content-Disposition (RFC 2183) with the file name, encoded by RFC 2231 if needed."""
    filename = filename if filename.strip() else "attachment"
    if len(filename) <= _MAX_PLAIN_FILENAME and _PLAIN_FILENAME.fullmatch(filename):
        return f'Content-Disposition: attachment;\r\n filename="{filename}"'.encode()
    pieces = [""]
    for character in filename:
        escaped = quote(character, safe="")
        if len(pieces[-1]) + len(escaped) > _PARAMETER_PIECE:
            pieces.append("")
        pieces[-1] += escaped
    if len(pieces) == 1:
        return f"Content-Disposition: attachment;\r\n filename*=utf-8''{pieces[0]}".encode()
    first, *rest = pieces
    parameters = [
        f" filename*0*=utf-8''{first}",
        *(f" filename*{number}*={piece}" for number, piece in enumerate(rest, 1)),
    ]
    return ("Content-Disposition: attachment;\r\n" + ";\r\n".join(parameters)).encode()


def _file(file: File) -> _Part:
    """Return an attached file as base64.

    Messages and multiparts get the type application/octet-stream, since RFC 2046 5.2.1 forbids
    base64 for their own types.
    """
    kind = file.content_type.partition(";")[0].strip().lower()
    if not _TYPE.fullmatch(kind) or kind.startswith(("message/", "multipart/")):
        kind = "application/octet-stream"
    headers = (
        f"Content-Type: {kind}".encode(),
        b"Content-Transfer-Encoding: base64",
        _disposition(file.filename),
    )
    return _Part(headers, (_base64(file.data),))


def _original(raw: bytes) -> _Part:
    """Return a forwarded mail as message/rfc822, or as a file if a server might change it."""
    raw = raw if b"\r" in raw else raw.replace(b"\n", b"\r\n")
    ends = raw.count(b"\r\n")
    clean = raw.isascii() and b"\0" not in raw and ends == raw.count(b"\r") == raw.count(b"\n")
    if not clean or max(map(len, raw.split(b"\r\n"))) > _MAX_LINE:
        return _file(File("original.eml", "application/octet-stream", raw))
    return _Part((b"Content-Type: message/rfc822", _disposition("original.eml")), (raw,))
