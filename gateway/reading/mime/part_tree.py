"""Build the part tree of a mail by searching its bytes for boundaries, never line by line.

Parts are slices of the raw mail (or of a decoded attached mail); nothing is copied until the
content of a part is requested. Outer delimiters are found first, so a truncated inner multipart
ends with its parent. Depth, number of parts and boundary length are capped. A broken structure is
noted as a defect, and the parts that could be found are kept.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.reading.mime import limits
from gateway.reading.mime.charset import clean
from gateway.reading.mime.headers import Headers, base64_bytes, parameters
from gateway.reading.mime.uuencode import decode_lines

_BLANK: Final = re.compile(rb"\n\r?\n")
# A line of blanks ends a header only if no field follows.
_NEARLY_BLANK: Final = re.compile(rb"\n[ \t]+\r?\n(?![ \t]|[!-9;-~]+[ \t]*:)")
_LEADING: Final = re.compile(rb"(?:[ \t]*\r?\n)*")
_HEADER_LINE: Final = re.compile(rb"[!-9;-~]{1,200}[ \t]*:")
_FROM_LINE: Final = re.compile(rb">?From [^\n]*\n")
_FIRST_DELIMITER: Final = re.compile(rb"(?:^|\n)--([^\r\n\s]{1,200})[ \t]*\r?\n(?=[Cc]ontent-)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(slots=True)
class Part:
    """One node of the tree; ``start`` and ``end`` bound its body in ``buffer``.

    ``path`` is "" for the whole mail, and like "1" or "2.1" for a part below it.
    """

    headers: Headers
    buffer: bytes
    start: int
    end: int
    path: str
    content_type: str = "text/plain"
    params: dict[str, str] = field(default_factory=dict)
    disposition: str = ""
    disposition_params: dict[str, str] = field(default_factory=dict)
    encoding: str = ""
    children: list[Part] = field(default_factory=list)

    @property
    def filename(self) -> str | None:
        """Return the sender's file name without control characters; it is not safe as a path."""
        name = self.disposition_params.get("filename") or self.params.get("name")
        name = name or self.params.get("filename")
        if not name:
            return None
        return _CONTROL.sub("", clean(name, limits.FILENAME)).strip() or None

    @property
    def content_id(self) -> str | None:
        """Return the Content-ID without angle brackets."""
        value = self.headers.text("content-id", limits.MESSAGE_ID)
        return value.strip("<> ") or None if value else None

    @property
    def main(self) -> str:
        """Return the main type of the media type, like "text" of "text/plain"."""
        return self.content_type.partition("/")[0]

    def body(self) -> bytes:
        """Return the body as it stands in the mail, still encoded."""
        return self.buffer[self.start : self.end]

    def content(self) -> bytes:
        """Return the decoded body, as far as it can be decoded; never raises."""
        body = self.body()
        decode = _DECODERS.get(self.encoding)
        return decode(body) if decode is not None else body

    def walk(self) -> Iterator[Part]:
        """Yield this part and all parts below it, in the order of the mail."""
        stack = [self]
        while stack:
            part = stack.pop()
            yield part
            stack.extend(reversed(part.children))


# Each function decodes as far as possible and never raises.
_DECODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "base64": base64_bytes,
    "quoted-printable": binascii.a2b_qp,
    "uuencode": decode_lines,
    "x-uuencode": decode_lines,
    "x-uue": decode_lines,
    "uue": decode_lines,
}
_ENCODINGS: Final = frozenset({"", "7bit", "8bit", "binary", *_DECODERS})


class Tree:
    """The parts of one mail and the defects of its structure."""

    __slots__ = ("count", "defects", "over_limit", "root")

    def __init__(self, raw: bytes) -> None:
        """Read the structure of ``raw``, a whole mail with any line ends."""
        self.defects: list[str] = []
        self.over_limit = False
        self.count = 0
        self.root = self._message(raw, 0, len(raw), "", 0)

    def defect(self, words: str) -> None:
        """Note a defect, unless it is noted already."""
        if words not in self.defects and len(self.defects) < limits.DEFECTS:
            self.defects.append(words)

    def _message(self, buffer: bytes, start: int, end: int, path: str, depth: int) -> Part:
        """Return the root part of the mail in ``buffer[start:end]``."""
        lead = _LEADING.match(buffer, start, end)
        at = lead.end() if lead else start
        if buffer.startswith(b"From ", at) or buffer.startswith(b">From ", at):
            line = _FROM_LINE.match(buffer, at, end)
            at = line.end() if line else at
        body = self._header_end(buffer, at, end, limits.HEADER_BLOCK)
        headers = Headers(buffer[at : min(body, at + limits.HEADER_BLOCK)])
        if not headers.fields and at < end:
            self.defect("no header at all")
            body = at
        return self._part(headers, buffer, body, end, path, depth)

    def _header_end(self, buffer: bytes, at: int, end: int, cap: int) -> int:
        """Return the index where the body begins.

        A header without a blank line runs to ``end``; a header over ``cap`` sets ``over_limit``.
        """
        if buffer.startswith((b"\n", b"\r\n"), at):
            return at + (1 if buffer[at] == 10 else 2)
        blank = _BLANK.search(buffer, at, min(end, at + cap + 4))
        nearly = _NEARLY_BLANK.search(
            buffer, at, blank.start() if blank else min(end, at + cap + 4)
        )
        if nearly:
            return nearly.end()
        if blank:
            return blank.end()
        if end - at > cap:
            self.over_limit = True
            blank = _BLANK.search(buffer, at + cap, end)
            return blank.end() if blank else end
        return end

    def _part(
        self,
        headers: Headers,
        buffer: bytes,
        start: int,
        end: int,
        path: str,
        depth: int,
        *,
        digest: bool = False,
    ) -> Part:
        part = Part(headers, buffer, min(start, end), end, path)
        self.count += 1
        for words in headers.defects:
            self.defect(words)
        self.over_limit = self.over_limit or headers.over_limit
        self._read_type(part, digest=digest)
        if self.count >= limits.PARTS or depth >= limits.DEPTH:
            if part.main == "multipart":
                self.over_limit = True
        elif part.main == "multipart":
            self._split(part, depth)
        elif part.content_type in {"message/rfc822", "message/global"}:
            self._attached(part, depth)
        return part

    def _read_type(self, part: Part, *, digest: bool) -> None:
        raw = part.headers.raw("content-type")
        if raw:
            part.content_type, part.params = parameters(part.headers.characters(raw))
            part.content_type = _media_type(part.content_type)
        else:
            part.content_type = "message/rfc822" if digest else "text/plain"
        raw = part.headers.raw("content-disposition")
        if raw:
            part.disposition, part.disposition_params = parameters(part.headers.characters(raw))
        raw = part.headers.raw("content-transfer-encoding")
        if raw:
            encoding = raw.decode("ascii", "replace").lower().partition(";")[0].strip(" \t\"'")
            encoding = _ENCODING_SPELLINGS.get(encoding, encoding)
            if encoding not in _ENCODINGS:
                self.defect("unknown transfer encoding")
            part.encoding = encoding

    def _split(self, part: Part, depth: int) -> None:
        """Cut a multipart into its children."""
        boundary = part.params.get("boundary", "").rstrip()
        needle = boundary.encode("utf-8", "replace")
        if len(needle) > limits.BOUNDARY:
            self.over_limit = True
            return
        found = list(self._delimiters(part, needle)) if needle else []
        if not found:
            guess = _FIRST_DELIMITER.search(
                part.buffer, max(0, part.start - 1), min(part.end, part.start + 65536)
            )
            if guess is None:
                self.defect("a multipart without its boundary")
                self._as_text(part)
                return
            self.defect("a multipart with a wrong boundary")
            found = list(self._delimiters(part, guess[1]))
        if not found[-1][2]:
            self.defect("a multipart that does not end")
        digest = part.content_type == "multipart/digest"
        prefix = part.path + "." if part.path else ""
        for index, (_, begin, closing) in enumerate(found):
            if closing:
                break
            if self.count >= limits.PARTS:
                self.over_limit = True
                break
            end = found[index + 1][0] if index + 1 < len(found) else part.end
            part.children.append(
                self._child(part.buffer, begin, end, f"{prefix}{index + 1}", depth + 1, digest)
            )

    def _as_text(self, part: Part) -> None:
        """Treat a multipart without parts as plain text."""
        part.content_type = "text/plain"
        part.params = {}

    def _child(
        self, buffer: bytes, begin: int, end: int, path: str, depth: int, digest: bool
    ) -> Part:
        body = self._header_end(buffer, begin, end, limits.PART_HEADER_BLOCK)
        if not _HEADER_LINE.match(buffer, begin, end) and (
            body == end or buffer[begin : begin + 1] not in b"\r\n"
        ):
            if buffer[begin:end].strip():
                self.defect("a part without its own header")
            return self._part(Headers(b""), buffer, begin, end, path, depth, digest=digest)
        headers = Headers(buffer[begin : min(body, begin + limits.PART_HEADER_BLOCK)])
        return self._part(headers, buffer, body, end, path, depth, digest=digest)

    def _delimiters(self, part: Part, needle: bytes) -> Iterator[tuple[int, int, bool]]:
        """Yield (end of the part above, start of the part below, closing) for each delimiter line.

        ``closing`` tells whether the line ends the multipart. At most ``limits.PARTS`` + 2 lines
        are yielded.
        """
        buffer, end = part.buffer, part.end
        line = b"--" + needle
        at = part.start
        count = 0
        while count <= limits.PARTS + 1:
            hit = buffer.find(line, at, end)
            if hit < 0:
                return
            at = hit + len(line)
            if hit > part.start and buffer[hit - 1] != 10:
                continue
            stop = buffer.find(b"\n", at, end)
            stop = end if stop < 0 else stop
            rest = buffer[at : min(stop, at + 200)].rstrip()
            closing = rest.startswith(b"--")
            if rest and not closing:
                continue
            before = hit
            if before > part.start:
                before -= 2 if buffer[before - 2 : before] == b"\r\n" else 1
            at = min(stop + 1, end)
            count += 1
            yield max(before, part.start), at, closing
            if closing:
                return

    def _attached(self, part: Part, depth: int) -> None:
        """Add the mail inside a message/rfc822 part as its only child."""
        buffer, start, end = part.buffer, part.start, part.end
        if part.encoding in {"base64", "quoted-printable"}:
            buffer = part.content()
            start, end = 0, len(buffer)
        path = f"{part.path}.1" if part.path else "1"
        part.children.append(self._message(buffer, start, end, path, depth + 1))


_ENCODING_SPELLINGS: Final = {
    "7-bit": "7bit", "8-bit": "8bit", "quoted-printable7": "quoted-printable",
    "quotedprintable": "quoted-printable", "base-64": "base64",
    "quoted_printable": "quoted-printable", "b": "base64", "q": "quoted-printable", "none": "7bit",
    "7 bit": "7bit", "8 bit": "8bit",
}  # fmt: skip
_SHORT_TYPES: Final = {
    "text": "text/plain",
    "plain": "text/plain",
    "html": "text/html",
    "multipart": "multipart/mixed",
    "": "text/plain",
}
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")


def _media_type(value: str) -> str:
    """Return a media type, or the most likely one if ``value`` is invalid (RFC 2045 5.2)."""
    value = value.strip(" \t\"'")
    if _TYPE.fullmatch(value):
        return value
    first = value.split()[0] if value.split() else ""
    if _TYPE.fullmatch(first):
        return first
    return _SHORT_TYPES.get(
        first,
        "text/plain"
        if "/" not in first or first.startswith("text/")
        else "application/octet-stream",
    )
