"""Split a header block into fields, and decode their values.

The standard library's structured header parser is never used: it needs 20 seconds for 64 KB of
``;;;;``, and 2.7 GB of memory for 20,000 encoded words (reliability.md 15). Every pattern here
takes linear time, and nothing raises: malformed headers are noted in ``defects``.
"""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.reading.mime import charset, limits

_FIELD_START: Final = re.compile(rb"\r?\n(?![ \t])")
_NAME: Final = re.compile(rb"[!-9;-~]+")
_WORD: Final = re.compile(
    r"=\?([A-Za-z0-9][^?\s]{0,60})\?([bBqQ])\?((?:[^?=]++|=(?!\?)|=(?=\?=)|\?(?!=))*+)\?="
)
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]+")
_ID: Final = re.compile(r"<([^<>]{1,1200})>")
_GAP: Final = re.compile(r"[\s;]*+")
_PARAMETER: Final = re.compile(r'([^\s=;"]{1,80})\s*+=\s*+("(?:[^"\\]|\\.){0,4000}+"|[^;]*)')
_DATE: Final = re.compile(
    r"(?:[A-Z][a-z]{2}, ?)?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d)(?::(\d\d))? "
    r"?([+-]\d{4}|GMT|UT|UTC)\b"
)
_MONTHS: Final = {
    m: i for i, m in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_CONTINUED: Final = re.compile(r"(.+?)\*(\d{1,4})?(\*)?")


class Headers:
    """The fields of one header block, in order, as unfolded bytes; decoding happens on request."""

    __slots__ = ("defects", "fields", "hint", "over_limit")

    def __init__(self, block: bytes, hint: str | None = None) -> None:
        """Split ``block``, which has no blank line; raw 8-bit text may be in charset ``hint``."""
        self.fields: dict[str, list[bytes]] = {}
        self.defects: list[str] = []
        self.over_limit = False
        self.hint = hint
        self._split(block)

    def _split(self, block: bytes) -> None:
        lines = _FIELD_START.split(block, limits.HEADER_FIELDS)
        if len(lines) > limits.HEADER_FIELDS:
            lines = lines[: limits.HEADER_FIELDS]
            self.over_limit = True
        fields = self.fields
        stray = False
        for whole in lines:
            line = whole[: limits.HEADER_FIELD]
            if len(whole) > limits.HEADER_FIELD:
                self.over_limit = True
            name, colon, value = line.partition(b":")
            name = name.rstrip(b" \t")
            if not colon or not _NAME.fullmatch(name):
                stray = stray or bool(line.strip()) and not line.startswith((b"From ", b">From "))
                continue
            if b"\n" in value:
                value = b" ".join([piece.strip(b" \t\r") for piece in value.split(b"\n")])
            fields.setdefault(name.decode("ascii").lower(), []).append(value.strip())
        if stray:
            self.defects.append("a line in the header is no header field")

    def raw(self, name: str) -> bytes:
        """Return the first field with this lower-case name, unfolded; empty if missing."""
        found = self.fields.get(name)
        return found[0] if found else b""

    def text(self, name: str, limit: int = limits.HEADER_VALUE) -> str | None:
        """Return the first field of that name, decoded to one line; None if missing."""
        found = self.fields.get(name)
        return self.decoded(found[0], limit) if found else None

    def texts(self, name: str, limit: int = limits.HEADER_VALUE) -> list[str]:
        """Return all fields of that name, decoded, topmost first."""
        return [self.decoded(value, limit) for value in self.fields.get(name, ())]

    def decoded(self, value: bytes, limit: int = limits.HEADER_VALUE) -> str:
        """Return one field as a line of text, with encoded words decoded."""
        return charset.one_line(decode_words(self.characters(value)), limit)

    def characters(self, value: bytes) -> str:
        """Return one field as characters, with encoded words still encoded."""
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii")
        text, _ = charset.decode(value, None, self.hint)
        if "raw 8-bit text in the header" not in self.defects:
            self.defects.append("raw 8-bit text in the header")
        return text


def decode_words(text: str) -> str:
    """Return ``text`` with its encoded words (RFC 2047) decoded.

    Adjacent words in one charset are joined first, since one character may be divided between two
    words.
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    words: list[tuple[str, str]] = []
    at = 0
    label = ""
    for count, word in enumerate(_WORD.finditer(text), 1):
        gap = text[at : word.start()]
        charset_of = word[1].split("*")[0].lower()
        adjacent = bool(words) and not gap.strip()
        if words and not (adjacent and charset_of == label):
            out.append(charset.decode(_joined_bytes(words), label)[0])
            words = []
        if not adjacent:
            out.append(gap)
        label = charset_of
        words.append((word[2].lower(), word[3]))
        at = word.end()
        if count >= limits.ENCODED_WORDS:
            break
    if words:
        out.append(charset.decode(_joined_bytes(words), label)[0])
    out.append(text[at:])
    return "".join(out)


def _joined_bytes(words: list[tuple[str, str]]) -> bytes:
    """Return the decoded bytes of adjacent encoded words.

    Base64 that is cut inside a group of four characters is joined first.
    """
    out = []
    carried = ""
    for index, (encoding, data) in enumerate(words):
        following = words[index + 1][0] if index + 1 < len(words) else ""
        carried += data
        if encoding == following == "b" and len(carried) % 4 and not carried.endswith("="):
            continue
        out.append(_word_bytes(encoding, carried))
        carried = ""
    return b"".join(out)


def _word_bytes(encoding: str, data: str) -> bytes:
    raw = data.encode("utf-8", "replace")
    if encoding == "q":
        return binascii.a2b_qp(raw.replace(b" ", b"_"), header=True)
    return base64_bytes(raw)


def base64_bytes(data: bytes) -> bytes:
    """Decode base64 as far as possible.

    Other characters are skipped, padding is added, and a last character that is too few for a byte
    is dropped.
    """
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        pass
    out = []
    for chunk in data.split(b"="):  # several runs, each with its padding
        kept = _NOT_BASE64.sub(b"", chunk)
        if len(kept) % 4 == 1:
            kept = kept[:-1]
        if kept:
            out.append(binascii.a2b_base64(kept + b"=" * (-len(kept) % 4)))
    return b"".join(out)


def message_ids(text: str, limit: int = limits.REFERENCES) -> list[str]:
    """Return the Message-IDs in a field, without angle brackets, each once.

    If the field has no angle bracket, the words that contain ``@`` are its Message-IDs.
    """
    if "<" in text:
        raw = [m[1] for m in _ID.finditer(text)]
        if not raw:
            raw = [text.strip("<> ")]
    else:
        tokens = text.split()
        raw = tokens if len(tokens) == 1 else [t for t in tokens if "@" in t]
    out: dict[str, None] = {}
    for each in raw:
        value = charset.clean("".join(each.split()).strip("<>"), limits.MESSAGE_ID)
        if value:
            out[value] = None
        if len(out) >= limit:
            break
    return list(out)


def date(text: str) -> datetime | None:
    """Return a Date field (RFC 5322 3.3) in UTC; None if it is no date from 1970 to 2200."""
    if quick := _DATE.match(text):
        month = _MONTHS.get(quick[2])
        if month:
            try:
                moment = datetime(
                    int(quick[3]),
                    month,
                    int(quick[1]),
                    int(quick[4]),
                    int(quick[5]),
                    min(59, int(quick[6] or 0)),
                    tzinfo=_zone(quick[7]),
                )
            except ValueError:
                return None
            return _within_years(moment)
    try:
        parts = parsedate_tz(text[:200])
        if not parts:
            return None
        zone = timezone(timedelta(seconds=parts[9] or 0))
        return _within_years(datetime(*parts[:5], min(59, parts[5]), tzinfo=zone))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _zone(text: str) -> timezone:
    """Return the time zone for ``+hhmm`` or ``-hhmm``.

    A name, or an offset of 24 hours or more, counts as UTC.
    """
    if text[0] not in "+-":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    if offset >= timedelta(days=1):
        return UTC
    return timezone(offset if text[0] == "+" else -offset)


def _within_years(moment: datetime) -> datetime | None:
    try:
        value = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return value if 1970 <= value.year <= 2200 else None


def parameters(text: str) -> tuple[str, dict[str, str]]:
    """Return (value, parameters by lower-case name) of a structured field (RFC 2045 5.1).

    Parameters that are continued or encoded by RFC 2231 are joined and decoded.
    """
    value, _, rest = text.partition(";")
    value = value.strip().lower()
    if not rest:
        return value, {}
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    at = 0
    while len(plain) + len(pieces) <= 200:
        gap = _GAP.match(rest, at)
        at = gap.end() if gap else at
        match = _PARAMETER.match(rest, at)
        if match is None:
            at = rest.find(";", at)
            if at < 0:
                break
            continue
        at = match.end()
        name, raw = match[1].lower(), match[2].strip()
        raw = (
            _QUOTED_PAIR.sub(r"\1", raw[1:-1])
            if len(raw) > 1 and raw[0] == raw[-1] == '"'
            else raw.strip('"')
        )
        if "*" in name and (parts := _CONTINUED.fullmatch(name)):
            number = int(parts[2]) if parts[2] else 0
            if len(pieces.setdefault(parts[1], {})) < 500:
                pieces[parts[1]][number] = (raw, bool(parts[3]) or parts[2] is None)
        else:
            plain.setdefault(name, decode_words(raw) if "=?" in raw else raw)
    for name, chunks in pieces.items():
        plain[name] = _continued(chunks)
    return value, plain


def _continued(chunks: dict[int, tuple[str, bool]]) -> str:
    """Join the numbered pieces of a parameter (RFC 2231 4); the first piece gives the charset."""
    label, data = "", b""
    for index, number in enumerate(sorted(chunks)):
        piece, encoded = chunks[number]
        if encoded and index == 0 and piece.count("'") >= 2:
            label, _, piece = piece.split("'", 2)
        data += unquote_to_bytes(piece) if encoded else piece.encode("utf-8", "replace")
    return charset.decode(data, label or None)[0]
