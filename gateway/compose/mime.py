"""How outgoing mail is made: from what it says to the octets that are sent (RFC 5322, 2045 to 2047,
2183, 2231).

Headers and parts are written here and not by ``email.message``: that one folds long tokens wrongly,
takes what looks like an encoded word in a subject for one, and needs several times as long for
large files. Everything is 7-bit with CRLF line ends and lines far below 998 octets, so no server
has a reason to change it and break its signature. What goes wrong is a value that would open a new
header line: it is refused, never mended.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from typing import Final, Literal
from urllib.parse import quote

from core.mail.classify import LOOP_HEADER
from core.mail.reply_text import usable_id
from core.model.message import Address, ascii_domain
from gateway.errors import Refused
from gateway.validation import refuse_breaks

_WIDTH: Final = 76  # of a folded header line (RFC 2047 2)
_LINE: Final = 998  # RFC 5322 2.1.1
_ENCODED: Final = 39  # octets in one encoded word, which makes 64 characters of it
_LONGEST_ADDRESS: Final = 253  # octets without the @, RFC 5321 4.5.3.1.3
_PARAMETER: Final = 50  # characters of one piece of a file name, RFC 2231 3
_WORD: Final = re.compile(
    r"(?!.*=\?)[!-~]{1,67}"
)  # what a word of a header looks like that needs no encoding
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOT_ATOM: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
)
_QUOTED_LOCAL: Final = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"')
_DOMAIN: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*|\[[0-9A-Za-z.:]+\]"
)
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99}")
_FILENAME: Final = re.compile(r"[A-Za-z0-9_()+.-]+(?: [A-Za-z0-9_()+.-]+)*")
_LONGEST_FILENAME: Final = 55


@dataclass(frozen=True, slots=True)
class File:
    """A file that is attached. ``content_type`` is ``type/subtype``; what a mail cannot hold under
    it is sent as application/octet-stream.
    """

    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class MimeMail:
    """What a mail says. Message-IDs carry no angle brackets; ``date`` is aware.

    ``original`` is a whole mail that is forwarded as an attachment. ``automatic`` is the value of
    Auto-Submitted (RFC 3834), empty for mail by people; ``loop_mark`` is the address of the
    channel, told on automatic mail only.
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
    """One part: its own headers, and its body as the pieces that follow each other."""

    headers: tuple[bytes, ...]
    body: tuple[bytes, ...]


def compose(letter: MimeMail) -> bytes:
    """The mail as it is sent: 7-bit, CRLF, nothing but the headers of the letter (reliability.md 5,
    25).

    Raises :class:`Refused` where a value holds a line end or another character that no header may
    hold, and where an address cannot be written. Ids of other mails that cannot be written are left
    out.
    """
    _refuse_breaks(letter)
    body = _body(letter)
    return b"\r\n".join((*_headers(letter), *body.headers, b"", *body.body)) + b"\r\n"


def _refuse_breaks(letter: MimeMail) -> None:
    people = (letter.sender, *letter.to, *letter.cc)
    values: dict[str, Iterable[str | None]] = {
        "name": (each.name for each in people),
        "address": (*(each.address for each in people), letter.reply_to, letter.loop_mark),
        "subject": (letter.subject,),
        "Message-ID": (letter.message_id, letter.in_reply_to, *letter.references),
        "file name": (each.filename for each in letter.files),
        "content type": (each.content_type for each in letter.files),
    }
    for what, given in values.items():
        refuse_breaks(what, *given)


def _headers(letter: MimeMail) -> list[bytes]:
    """All headers but those of the body, in the usual order."""
    if not usable_id(letter.message_id):
        raise Refused("The Message-ID cannot be written in a mail.")
    headers = [_people("From", (letter.sender,))]
    if letter.to:
        headers.append(_people("To", letter.to))
    elif not letter.cc:
        headers.append(b"To: undisclosed-recipients:;")
    if letter.cc:
        headers.append(_people("Cc", letter.cc))
    headers += [
        _folded("Subject", _unstructured(letter.subject)),
        _folded("Date", [format_datetime(letter.date)]),
        _folded("Message-ID", [f"<{letter.message_id}>"]),
    ]
    if letter.in_reply_to is not None and usable_id(letter.in_reply_to):
        headers.append(_folded("In-Reply-To", [f"<{letter.in_reply_to}>"]))
    if references := [f"<{each}>" for each in letter.references if usable_id(each)]:
        headers.append(_folded("References", references))
    if letter.reply_to:
        headers.append(_people("Reply-To", (Address("", letter.reply_to),)))
    if letter.automatic:
        headers += [_folded("Auto-Submitted", [letter.automatic]), b"X-Auto-Response-Suppress: All"]
        headers += (
            [_folded(LOOP_HEADER.title(), [_addr_spec(letter.loop_mark)])]
            if letter.loop_mark
            else []
        )
    return [*headers, b"MIME-Version: 1.0"]


def _folded(name: str, words: Iterable[str]) -> bytes:
    """A header from words that may stand on lines of their own (RFC 5322 2.2.3)."""
    line = f"{name}:"
    lines = []
    for word in words:
        if len(line) + 1 + len(word) > _WIDTH and line != f"{name}:":
            lines.append(line)
            line = ""
        line += f" {word}"
    return "\r\n".join([*lines, line]).encode("ascii")


def _encoded(text: str) -> list[str]:
    """A text as encoded words (RFC 2047), none of which ends inside a character."""
    pieces: list[bytes] = [b""]
    for character in text:
        octets = character.encode()
        if len(pieces[-1]) + len(octets) > _ENCODED:
            pieces.append(b"")
        pieces[-1] += octets
    return [f"=?utf-8?b?{binascii.b2a_base64(piece, newline=False).decode()}?=" for piece in pieces]


def _unstructured(text: str) -> list[str]:
    """The words of a subject: as they are where they come out the same, and from the first to the
    last of the others encoded.
    """
    words = text.split(" ") if text else []
    odd = [at for at, word in enumerate(words) if not _WORD.fullmatch(word)]
    if not odd:
        return words
    first = max(
        0, odd[0] - (not words[odd[0]])
    )  # two blanks in a row are encoded together with the words around them
    last = odd[-1] + (not words[odd[-1]])
    return [*words[:first], *_encoded(" ".join(words[first : last + 1])), *words[last + 1 :]]


def _phrase(name: str) -> list[str]:
    """A display name (RFC 5322 3.2.5): plain words, a quoted string, or encoded words."""
    name = name.strip()
    if not name:
        return []
    if len(name) > 60 or not all(map(_WORD.fullmatch, name.split(" "))):
        return _encoded(name)
    if _ATOMS.fullmatch(name):
        return name.split(" ")
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return [f'"{escaped}"']


def _addr_spec(address: str | None) -> str:
    """An address as it stands in a header, its domain as the DNS knows it (RFC 5322 3.4.1). Raises
    :class:`Refused` where it is none.
    """
    local, _, domain = (address or "").strip().rpartition("@")
    domain = ascii_domain(domain).rstrip(".")
    if len(local) + len(domain) > _LONGEST_ADDRESS:
        raise Refused("An address is longer than any that can be written to.")
    if not local.isascii():
        raise Refused(
            "An address with other letters than ASCII before the @ cannot be written in a mail."
        )
    if not _DOT_ATOM.fullmatch(local) and not _QUOTED_LOCAL.fullmatch(local):
        # dots in odd places, as some providers allow them, need quotes
        local = f'"{local}"' if local and _DOT_ATOM.fullmatch(local.replace(".", "")) else ""
    if not local or not _DOMAIN.fullmatch(domain):
        raise Refused("An address is none that can be written in a mail.")
    return f"{local}@{domain}"


def _people(name: str, people: tuple[Address, ...]) -> bytes:
    """A header with mailboxes."""
    words = []
    for position, each in enumerate(people, 1):
        phrase = _phrase(each.name)
        address = _addr_spec(each.address)
        words += [
            *phrase,
            (f"<{address}>" if phrase else address) + ("," if position < len(people) else ""),
        ]
    return _folded(name, words)


def _body(letter: MimeMail) -> _Part:
    """The text, its HTML twin and what is attached, nested as far as needed (RFC 2046 5.1)."""
    texts = [_text("plain", letter.text)] if letter.text.strip() or letter.html is None else []
    if letter.html is not None:
        texts.append(_text("html", letter.html))
    attached = [_file(each) for each in letter.files]
    boundary = _boundary(letter)
    body = texts[0] if len(texts) == 1 else _multipart("alternative", f"a{boundary}", texts)
    if letter.original is not None:
        attached.append(_original(letter.original))
    return _multipart("mixed", f"m{boundary}", [body, *attached]) if attached else body


def _boundary(letter: MimeMail) -> str:
    """A boundary that stands in no part: ``=_`` is in no base64 and no quoted-printable, and a mail
    attached as it is is looked at.
    """
    tried = 0
    while True:
        boundary = "=_" + sha256(f"{letter.message_id} {tried}".encode()).hexdigest()[:32]
        if letter.original is None or boundary.encode() not in letter.original:
            return boundary
        tried += 1


def _multipart(kind: str, boundary: str, parts: list[_Part]) -> _Part:
    mark = f"--{boundary}".encode()
    body = [piece for part in parts for piece in (mark, *part.headers, b"", *part.body)]
    return _Part(
        (f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"'.encode(),),
        (*body, mark + b"--"),
    )


def _text(kind: str, text: str) -> _Part:
    """A text part, as quoted-printable or, where that is longer, as base64 (RFC 2045 6.7, 6.8). It
    ends with a line end.
    """
    lines = (
        text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n") + "\n"
    )
    data = lines.encode("utf-8", "replace")
    printable = binascii.b2a_qp(data)
    if len(printable) * 3 <= len(data) * 4 + 300:
        encoding, body = (
            b"quoted-printable",
            printable.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
        )
    else:
        encoding, body = b"base64", _base64(data.replace(b"\n", b"\r\n"))
    headers = (
        f"Content-Type: text/{kind}; charset=utf-8".encode(),
        b"Content-Transfer-Encoding: " + encoding,
    )
    return _Part(headers, (body,))


def _base64(data: bytes) -> bytes:
    encoded = binascii.b2a_base64(data, newline=False)
    return b"\r\n".join([encoded[at : at + _WIDTH] for at in range(0, len(encoded), _WIDTH)])


def _disposition(filename: str) -> bytes:
    """Content-Disposition with a file name (RFC 2183); a name of more than plain characters as RFC
    2231 3 and 4 say.
    """
    filename = filename if filename.strip() else "attachment"
    if len(filename) <= _LONGEST_FILENAME and _FILENAME.fullmatch(filename):
        return f'Content-Disposition: attachment;\r\n filename="{filename}"'.encode()
    pieces = [""]
    for character in filename:
        written = quote(character, safe="")
        if len(pieces[-1]) + len(written) > _PARAMETER:
            pieces.append("")
        pieces[-1] += written
    if len(pieces) == 1:
        return f"Content-Disposition: attachment;\r\n filename*=utf-8''{pieces[0]}".encode()
    first, *rest = pieces
    named = [
        f" filename*0*=utf-8''{first}",
        *(f" filename*{number}*={piece}" for number, piece in enumerate(rest, 1)),
    ]
    return ("Content-Disposition: attachment;\r\n" + ";\r\n".join(named)).encode()


def _file(file: File) -> _Part:
    """An attached file. Mails and parts in parts may not be base64 (RFC 2046 5.2.1), so under such
    a type it is sent as plain octets.
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
    """A forwarded mail: as it is where every server passes it on as it is, else as a file of
    octets.
    """
    if b"\r" not in raw:
        raw = raw.replace(b"\n", b"\r\n")
    ends = raw.count(b"\r\n")
    clean = raw.isascii() and b"\0" not in raw and ends == raw.count(b"\r") == raw.count(b"\n")
    if not clean or max(map(len, raw.split(b"\r\n"))) > _LINE:
        return _file(File("original.eml", "application/octet-stream", raw))
    return _Part((b"Content-Type: message/rfc822", _disposition("original.eml")), (raw,))
