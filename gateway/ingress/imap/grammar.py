"""The syntax of IMAP (RFC 3501, 9): framing, strings, folder names, UID sets, FETCH data.

:class:`Framing` rejects lines and literals beyond its limits and takes time linear in the input.
Responses that cannot be understood are ignored, since a server may say more than was asked.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

LINE_LIMIT = 4 << 20  # bytes; the longest line we ask for lists 20,000 UIDs
LITERAL_LIMIT = 64 << 20  # bytes; no mail is larger
_RESPONSE_LIMIT = LITERAL_LIMIT + LINE_LIMIT
_PART_OVERHEAD = 100  # bytes of memory that each part costs beside its text
_SENTENCE_LENGTH = 300  # characters of a server's sentence that are kept
_PARSED_TEXT = 64 << 10  # bytes of a response beside its literals; what is longer is ignored
_CODE_LENGTH = 64 << 10  # bytes in which a response code is looked for
_LITERAL_LENGTH = 30  # bytes at the end of a line that may announce a literal
_LITERAL = re.compile(rb"~?\{(\d{1,20})\+?\}$")
_STATUS = re.compile(
    rb"(?:\+|[^ ]{1,99} (?:OK|NO|BAD|BYE|PREAUTH)\b)", re.IGNORECASE
)  # human text follows, which may end like a literal
_TOKEN = re.compile(
    rb'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|((?:[^\s()"\[]|\[[^\]]{0,999}\]?)+)|("))', re.DOTALL
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_CODE = re.compile(r"\[([A-Za-z0-9.=-]+)(?: ([^\[\]]*))?\]")
_NUMBER = re.compile(rb"\s(\d{1,10})(?!\S)")

_ENCODED_IN_FOLDERS = re.compile(r"&|[^ -~]+")

Parts = list[bytes]  # a response: text, literal, text, literal, ... text


class TooLongError(ValueError):
    """A server sent a line or literal beyond the limits."""


class Framing:
    """Cuts the server's bytes into responses; the bytes may arrive in any pieces."""

    __slots__ = ("_line", "_line_size", "_literal", "_missing", "_parts", "_size")

    def __init__(self) -> None:
        self._line: list[bytes] = []  # of a line that has not ended
        self._line_size = 0
        self._literal: list[bytes] = []
        self._missing = 0  # bytes of a literal that are still to come
        self._parts: Parts = []
        self._size = 0  # of the parts

    def feed(self, data: bytes) -> Iterator[Parts | None]:
        """Add bytes; at each line end in ``data``, yield the response that is complete, or None.

        Raises TooLongError beyond the limits.
        """
        at = 0
        while at < len(data):
            if self._missing:
                piece = data[at : at + self._missing]
                self._literal.append(piece)
                self._missing -= len(piece)
                at += len(piece)
                if not self._missing:
                    self._close_literal()
                continue
            end = data.find(b"\n", at) + 1
            piece = data[at:end] if end else data[at:]
            at += len(piece)
            self._line.append(piece)
            self._line_size += len(piece)
            if self._line_size > LINE_LIMIT:
                raise TooLongError(f"the server sent a line of more than {LINE_LIMIT} bytes")
            if end:
                yield self._close_line()

    def _close_literal(self) -> None:
        self._parts.append(b"".join(self._literal))
        self._literal = []

    def _close_line(self) -> Parts | None:
        """Take a complete line; return the response that ends with it, if any."""
        line = b"".join(self._line).rstrip(b"\r\n")
        self._line, self._line_size = [], 0
        start = max(0, len(line) - _LITERAL_LENGTH)
        announced = _LITERAL.search(line, start)
        if announced is None or (not self._parts and _STATUS.match(line)):
            response, self._parts, self._size = [*self._parts, line], [], 0
            return response if len(response) > 1 or line else None
        size = int(announced[1])
        if size > LITERAL_LIMIT:
            raise TooLongError(f"the server announced a piece of {size} bytes")
        self._size += len(line) + size + _PART_OVERHEAD
        if self._size > _RESPONSE_LIMIT:
            raise TooLongError(f"the server sent an answer of more than {_RESPONSE_LIMIT} bytes")
        self._parts.append(line[: announced.start()])
        self._missing = size
        if not size:
            self._close_literal()
        return None


Item = bytes | list["Item"] | None


def parse_items(parts: Sequence[bytes]) -> list[Item]:
    """Return a response as nested lists: atoms, strings and literals are bytes, NIL is None.

    Unclosed lists and strings end with the response. The list is empty if the response is longer
    than any that we ask for.
    """
    stack: list[list[Item]] = [[]]
    is_short = sum(map(len, parts[::2])) <= _PARSED_TEXT
    for number, part in enumerate(parts if is_short else ()):
        if number % 2:
            stack[-1].append(part)
            continue
        for token in _TOKEN.finditer(part):
            opened, closed, string, atom, unclosed = token.groups()
            if opened:
                stack.append([])
            elif closed:
                if len(stack) > 1:
                    inner = stack.pop()
                    stack[-1].append(inner)
            elif atom:
                stack[-1].append(None if atom.upper() == b"NIL" else atom)
            elif unclosed:
                break
            else:
                stack[-1].append(_ESCAPED.sub(rb"\1", string))
    while len(stack) > 1:
        inner = stack.pop()
        stack[-1].append(inner)
    return stack[0]


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """The data of a mail in one FETCH response; items that the response lacks are None.

    ``body`` has the raw bytes of the mail, or of the piece that was asked for.
    """

    uid: int
    size: int | None = None
    flags: frozenset[str] | None = None
    received: datetime | None = None
    body: bytes | None = None


def parse_fetch(parts: Sequence[bytes]) -> FetchResponse | None:
    """Parse ``* n FETCH (...)``; return None for a response that is no FETCH or has no UID."""
    match parse_items(parts):
        case [b"*", _, bytes() as verb, [*pairs]] if verb.upper() == b"FETCH":
            told = {
                name.upper(): value
                for name, value in zip(pairs[::2], pairs[1::2], strict=False)
                if isinstance(name, bytes)
            }
        case _:
            return None
    uid = parse_number(told.get(b"UID"))
    if uid is None:
        return None
    flags = told.get(b"FLAGS")
    body = next((value for name, value in told.items() if name.startswith(b"BODY[]")), None)
    return FetchResponse(
        uid,
        parse_number(told.get(b"RFC822.SIZE")),
        frozenset(decode(each) for each in flags if isinstance(each, bytes))
        if isinstance(flags, list)
        else None,
        internal_date(told.get(b"INTERNALDATE")),
        body if isinstance(body, bytes) else None,
    )


def parse_number(value: Item) -> int | None:
    """Return bytes as a non-negative number, or None if they are anything else."""
    return int(value) if isinstance(value, bytes) and value.isdigit() and len(value) <= 20 else None


def decode(value: bytes) -> str:
    """Return the server's bytes as text that may be shown to people."""
    return value.decode("utf-8", "replace")


def printable(line: bytes) -> str:
    """Return the part of a response that people read, as one line without control characters."""
    text = decode(line[: 4 * _SENTENCE_LENGTH])
    return "".join(letter if letter.isprintable() else " " for letter in text)[
        :_SENTENCE_LENGTH
    ].strip()


def internal_date(value: Item) -> datetime | None:
    """Parse an INTERNALDATE such as ``22-Nov-2026 10:00:00 +0100`` to UTC, or return None."""
    text = value.decode("ascii", "replace").strip() if isinstance(value, bytes) else ""
    try:
        return datetime.strptime(text, "%d-%b-%Y %H:%M:%S %z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def search_results(response: Parts) -> Iterator[int]:
    """Yield the numbers of a response if it is that of a SEARCH, in the server's order."""
    words = response[0][:100].split(None, 2)
    if len(response) == 1 and [word.upper() for word in words[1:2]] == [b"SEARCH"]:
        end = response[0].find(b"(")
        for number in _NUMBER.finditer(response[0], 0, end if end >= 0 else len(response[0])):
            yield int(number[1])


def response_code(line: bytes) -> tuple[str, str]:
    """Return code and argument of a response like ``OK [UIDNEXT 4392]``; both "" without a code."""
    match = _CODE.search(decode(line[:_CODE_LENGTH]))
    return (match[1].upper(), match[2] or "") if match else ("", "")


def uid_set(uids: Collection[int]) -> str:
    """Return UIDs as a sequence set with ranges: ``1:3,7``."""
    spans: list[list[int]] = []
    for uid in sorted(uids):
        if spans and spans[-1][1] == uid - 1:
            spans[-1][1] = uid
        else:
            spans.append([uid, uid])
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in spans)


def quoted(name: str) -> str:
    """Quote a string; raises ValueError for control characters and non-ASCII text."""
    if not name.isascii() or not name.isprintable():
        raise ValueError("the server accepts only ASCII here")
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def encode_folder(folder: str) -> str:
    """Return a folder name as a quoted argument in modified UTF-7 (RFC 3501, 5.1.3).

    Raises ValueError for control characters.
    """
    if not folder.isprintable():
        raise ValueError("a folder's name cannot contain control characters")
    return quoted(_ENCODED_IN_FOLDERS.sub(_utf7, folder))


def _utf7(match: re.Match[str]) -> str:
    if match.group() == "&":
        return "&-"
    return (
        "&"
        + b64encode(match.group().encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
        + "-"
    )


def decode_folder(name: bytes) -> str:
    """Return a folder name decoded from modified UTF-7; unchanged if it is not valid."""

    def decoded(match: re.Match[str]) -> str:
        packed = match[1].replace(",", "/")
        return a2b_base64(packed + "=" * (-len(packed) % 4)).decode("utf-16-be") if packed else "&"

    plain = decode(name)
    try:
        return re.sub(r"&([A-Za-z0-9+,]*)-", decoded, plain)
    except (Base64Error, UnicodeDecodeError):
        return plain
