"""Divide the parts of a mail into its body and its attachments (RFC 2046 5).

Text of an attached mail never gets into the body (reliability.md 2). If a body is given both as
plain text and as HTML, the plain text is read and the HTML is shown to people. Attachments are
hashed here and their content is dropped; on request the content is read from the raw mail again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from core.model.message import Attachment, Invitation
from gateway.reading.mime import charset, invitation, limits, uuencode
from gateway.reading.mime.part_tree import Part
from gateway.reading.text.quotes import QuoteMark

_LINE_END: Final = re.compile(r"\r\n?")
_ENRICHED: Final = re.compile(r"<(/?)([A-Za-z-]{1,40})>")
_NEVER_TEXT: Final = frozenset(
    {
        "text/calendar",
        "text/x-vcard",
        "text/vcard",
        "text/directory",
        "text/rfc822-headers",
        "text/csv",
    }
)
_SMIME: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_TNEF: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_MESSAGES: Final = frozenset({"message/rfc822", "message/global"})
_MAX_BODY_BYTES: Final = limits.TEXT * 4  # of all texts; no charset needs more for a character
_MAX_EVENTS: Final = 20  # of one mail; calendars beyond stay attachments
_SIGNATURES: Final = frozenset(
    {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}
)


@dataclass(slots=True)
class Piece:
    """A piece of the body: its plain parts and its HTML parts; either list may be empty."""

    plain: list[Part] = field(default_factory=list)
    html: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Content:
    """The body of one mail, its attachments, and the mails attached to it."""

    text: str = ""
    html: str | None = None
    marks: list[QuoteMark] = field(default_factory=list)  # by the lines of ``text``
    html_alternatives: list[Part] = field(default_factory=list)  # HTML of the text read
    attachments: list[Attachment] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)  # of attachments, for the content digest
    messages: list[Part] = field(default_factory=list)
    invitations: list[Invitation] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    over_limit: bool = False


class Collector:
    """Walks the tree below ``root`` once and fills a :class:`Content`."""

    def __init__(self, root: Part, *, html: bool) -> None:
        self.root = root
        self.want_html = html
        self.content = Content()
        self.pasted: list[Attachment] = []
        self.room = _MAX_BODY_BYTES

    def run(self) -> Content:
        """Return the content of the tree below the root."""
        pieces = self.visit(self.root, first=True)
        content = self.content
        texts: list[str] = []
        shown: list[str] = []
        for piece in pieces:
            plain = [self.text_of(part) for part in piece.plain]
            text = "\n".join(plain)
            sources = (
                [self.decoded(part) for part in piece.html]
                if piece.html and (self.want_html or not text.strip())
                else []
            )
            if not text.strip() and sources:
                text = self.from_html(sources)
            elif text.strip():
                content.html_alternatives.extend(piece.html)
            texts.append(text)
            shown.extend(sources)
        if len(texts) > 1:
            content.marks.clear()
        content.text = _join(texts)
        if content.invitations and not content.text.strip():
            content.text = invitation.lines(content.invitations[0])
        if len(content.text) > limits.TEXT:
            content.text = content.text[: limits.TEXT]
            content.over_limit = True
            content.defects.append("text too long, kept in part")
        if self.want_html and shown:
            self.sanitise(shown)
        content.attachments.extend(self.pasted)
        return content

    def sanitise(self, sources: list[str]) -> None:
        """Sanitise the HTML bodies and store them as the HTML of the content."""
        from gateway.reading.mime import html

        found = [html.sanitise(source) for source in sources]
        self.content.defects += [defect for _, defect in found if defect]
        self.content.html = "\n".join(safe for safe, _ in found)[: limits.HTML] or None

    def from_html(self, sources: list[str]) -> str:
        """Return the text of HTML bodies, and note where the HTML marks quotes.

        The marks are noted only if there is a single body.
        """
        from gateway.reading.mime import html

        made = [html.to_text(source) for source in sources]
        self.content.marks = made[0][1] if len(made) == 1 else []
        return "\n\n".join(text for text, _ in made)

    def visit(self, part: Part, *, first: bool, related: bool = False) -> list[Piece]:
        """Return the body pieces in a part; parts outside the body become attachments."""
        if part.children and part.main == "multipart":
            return self.multipart(part, first)
        if part.main == "multipart":
            return []
        kind = self.body_kind(part, first, related)
        if kind == "html":
            return [Piece(html=[part])]
        if kind == "plain":
            return [Piece(plain=[part])]
        self.attach(part)
        return []

    def multipart(self, part: Part, first: bool) -> list[Piece]:
        """Return the body pieces of a multipart, by its subtype."""
        subtype = part.content_type.partition("/")[2]
        if subtype == "alternative":
            return self.alternative(part, first)
        if subtype in {"report", "signed"}:
            out = self.visit(part.children[0], first=first)
            for child in part.children[1:]:
                out += (
                    self.visit(child, first=False)
                    if subtype == "signed" and child.content_type not in _SIGNATURES
                    else self.only_attach(child)
                )
            return out
        if subtype == "encrypted":
            self.content.defects.append("encrypted, kept whole")
            for child in part.children:
                self.only_attach(child)
            return []
        out = []
        for index, child in enumerate(part.children):
            found = self.visit(
                child, first=first and not out, related=subtype == "related" and index > 0
            )
            out += found
        return out

    def only_attach(self, part: Part) -> list[Piece]:
        """Make a part, or all parts inside it, attachments; return no body pieces."""
        if part.main == "multipart":
            for child in part.children:
                self.only_attach(child)
        else:
            self.attach(part)
        return []

    def alternative(self, part: Part, first: bool) -> list[Piece]:
        """Return one piece for all alternatives: the first plain text and the last HTML."""
        merged = Piece()
        for child in part.children:
            pieces = self.visit(child, first=first)
            merged.plain = merged.plain or [each for piece in pieces for each in piece.plain]
            merged.html = [each for piece in pieces for each in piece.html] or merged.html
        return [merged] if merged.plain or merged.html else []

    def body_kind(self, part: Part, first: bool, related: bool) -> str | None:
        """Return "plain" or "html" for a part that belongs to the body, None for an attachment."""
        if part.main != "text" or part.content_type in _NEVER_TEXT:
            return None
        if part.disposition == "attachment" and not (first and not part.filename):
            return None
        named = part.filename is not None
        if named and (
            not first
            or related
            or part.disposition == "inline"
            and part.content_type not in {"text/plain", "text/html"}
        ):
            return None
        if related and part.content_id is not None and part.content_type != "text/html":
            return None
        if part.content_type == "text/html":
            return "html"
        if part.content_type not in {"text/plain", "text/enriched", "text/richtext"} and named:
            return None
        return "plain"

    def decoded(self, part: Part) -> str:
        """Return the text of a part with LF line ends, up to the cap."""
        data = part.content()
        if len(data) > self.room:
            data = data[: self.room]
            limits.leave_out("text longer than is read")
        self.room -= len(data)
        text, defect = charset.decode(data, part.params.get("charset"))
        self.note_defect(defect)
        return _LINE_END.sub("\n", text) if "\r" in text else text

    def note_defect(self, defect: str | None) -> None:
        """Add a defect if there is one and it is not noted yet."""
        if defect and defect not in self.content.defects:
            self.content.defects.append(defect)

    def text_of(self, part: Part) -> str:
        """Return the text of a plain part; files pasted into it become attachments."""
        if (
            b"\nend" in part.body()
            and b"begin" in part.body()
            and part.content_type == "text/plain"
        ):
            return self.without_pasted(part)
        text = self.decoded(part)
        if part.content_type in {"text/enriched", "text/richtext"}:
            return unenriched(text)
        if (
            part.params.get("format", "").lower() == "flowed"
            and part.params.get("delsp", "").lower() == "yes"
        ):
            text = text.replace(" \n", "")
        return text

    def without_pasted(self, part: Part) -> str:
        """Return the text around uuencoded files, which become attachments."""
        body = part.content()
        at = 0
        kept = []
        for index, found in enumerate(uuencode.find(body)):
            path = f"{part.path or '1'}#{index}"
            self.pasted.append(_inner_file(_name_of(found), found.content, path))
            kept.append(body[at : found.start])
            at = found.end
        rest = b"".join(kept) + body[at:]
        if len(rest) > _MAX_BODY_BYTES:
            limits.leave_out("text longer than is read")
        text, _ = charset.decode(rest[:_MAX_BODY_BYTES], part.params.get("charset"))
        return _LINE_END.sub("\n", text)

    def attach(self, part: Part) -> None:
        """Note an attachment with its size and digest; its content is decoded only once."""
        if part.content_type in _MESSAGES:
            self.content.messages.append(part)
        data = part.content()
        found = _attachment_of(part, data)
        self.content.attachments.append(found)
        self.content.digests.append(
            found.sha256
            if part.encoding == "base64" or b"\r\n" not in data
            else sha256(data.replace(b"\r\n", b"\n")).hexdigest()
        )
        if part.content_type in _SMIME and part is self.root:
            kind = part.params.get("smime-type", "").lower()
            self.content.defects.append(
                "signed as one piece, kept whole"
                if kind == "signed-data"
                else "encrypted, kept whole"
            )
        self.open_attachment(part, data, found.filename)

    def open_attachment(self, part: Part, data: bytes, name: str | None) -> None:
        """Note the files in a winmail.dat, or the events of a calendar."""
        if part.content_type in _TNEF or name and name.lower() == "winmail.dat":
            self.unpack_tnef(part, data)
        elif part.content_type in invitation.TYPES or name and name[-4:].lower() == ".ics":
            self.invited(part, data)

    def invited(self, part: Part, data: bytes) -> None:
        """Note the events of a calendar; an event that is already noted is skipped."""
        if len(self.content.invitations) >= _MAX_EVENTS:
            return
        found, defect = invitation.read(
            data, part.params.get("charset"), part.params.get("method", "")
        )
        self.note_defect(defect)
        known = {(each.uid, each.start, each.summary) for each in self.content.invitations}
        self.content.invitations += [
            each for each in found if (each.uid, each.start, each.summary) not in known
        ]

    def unpack_tnef(self, part: Part, data: bytes) -> None:
        """Note the files inside a winmail.dat as attachments of their own."""
        files, defect = _unpack_tnef(data)
        self.note_defect(defect)
        for index, (name, inner) in enumerate(files):
            self.content.attachments.append(_inner_file(name, inner, f"{part.path or '1'}!{index}"))


def _attachment_of(part: Part, data: bytes) -> Attachment:
    """Return a part as an attachment; ``data`` is its content."""
    return Attachment(
        filename=part.filename,
        content_type=part.content_type,
        size=len(data),
        sha256=sha256(data).hexdigest(),
        inline=(
            part.disposition == "inline"
            or part.content_id is not None
            and part.disposition != "attachment"
        ),
        content_id=part.content_id,
        part=part.path or "1",
    )


def _inner_file(name: str, data: bytes, path: str) -> Attachment:
    """Return the attachment for a file that a text or a winmail.dat contains."""
    return Attachment(
        filename=name,
        content_type="application/octet-stream",
        size=len(data),
        sha256=sha256(data).hexdigest(),
        inline=False,
        content_id=None,
        part=path,
    )


def unenriched(text: str) -> str:
    """Return the plain text of text/enriched (RFC 1896), without tags and their parameters."""
    out: list[str] = []
    at = skip = 0
    for tag in _ENRICHED.finditer(text):
        if not skip:
            out.append(text[at : tag.start()])
        at = tag.end()
        if tag[2].lower() == "param":
            skip = 0 if tag[1] else 1
        elif tag[2].lower() == "nl":
            out.append("\n")
    if not skip:
        out.append(text[at:])
    return "".join(out).replace("<<", "<")


def _join(texts: list[str]) -> str:
    """Join pieces to one text, without blank lines at its start and end."""
    return "\n".join(
        text.strip("\n") if len(texts) > 1 else text for text in texts if text.strip()
    ).strip("\n")


def content_of(root: Part, path: str) -> Iterator[tuple[Attachment, bytes]]:
    """Yield (attachment, content) for a part path; yield nothing if no attachment is there."""
    base = path.split("#")[0].split("!")[0]
    leaves = (each for each in root.walk() if (each.path or "1") == base and _is_leaf(each))
    part = next(leaves, None)
    if part is None:
        return
    data = part.content()
    if path == base:
        yield _attachment_of(part, data), data
        return
    number = path[len(base) + 1 :]
    found = _inner(path[len(base)], data, int(number) if number.isdigit() else -1)
    if found is not None:
        yield _inner_file(*found, path), found[1]


def _is_leaf(part: Part) -> bool:
    """Tell whether a part can be an attachment; an attached mail can, a multipart cannot."""
    if part.main == "multipart":
        return False
    return not part.children or part.content_type in _MESSAGES


def _inner(sign: str, data: bytes, index: int) -> tuple[str, bytes] | None:
    """Return (name, content) of the file with this index inside a part, or None.

    ``sign`` tells what the part is: a text (``#``) or a winmail.dat (``!``).
    """
    files = _pasted_files(data) if sign == "#" else _unpack_tnef(data)[0]
    return files[index] if 0 <= index < len(files) else None


def _unpack_tnef(data: bytes) -> tuple[list[tuple[str, bytes]], str | None]:
    """Return the names and contents of the files in a winmail.dat, and a defect or None."""
    from gateway.reading.mime import tnef

    return tnef.unpack(data)


def _pasted_files(body: bytes) -> list[tuple[str, bytes]]:
    """Return the names and contents of the files pasted into a text."""
    return [(_name_of(each), each.content) for each in uuencode.find(body)]


def _name_of(file: uuencode.PastedFile) -> str:
    """Return the name of a pasted file, decoded."""
    return charset.clean(charset.decode(file.name)[0], limits.FILENAME)
