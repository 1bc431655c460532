"""What of the part tree is the body and what is an attachment (RFC 2046 section 5, and what clients
make of it).

Text of an attached mail never mixes into the body (reliability.md section 2). Of alternatives the plain
text is read and the HTML shown. Attachments are hashed here and their content dropped; it is read
out of the raw mail again when somebody asks.
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
_SEALED: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_TNEF: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_CALENDAR_EVENTS: Final = 20  # of one mail; calendars beyond stay attachments
_SIGNATURES: Final = frozenset(
    {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}
)


@dataclass(slots=True)
class Piece:
    """A stretch of the body: its plain parts, its HTML parts, either may be empty."""

    plain: list[Part] = field(default_factory=list)
    html: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Content:
    """The body and the attachments of one mail, and the mails attached to it. ``digests`` are for
    the content digest.
    """

    text: str = ""
    html: str | None = None
    marks: list[QuoteMark] = field(default_factory=list)  # of clients, by the lines of ``text``
    beside: list[Part] = field(default_factory=list)  # HTML bodies of which the plain text was read
    attachments: list[Attachment] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
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

    def run(self) -> Content:
        """The content of the tree below the root."""
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
                content.beside.extend(piece.html)
            texts.append(text)
            shown.extend(sources)
        if len(texts) > 1:
            content.marks.clear()
        content.text = _joined(texts)
        if content.invitations and not content.text.strip():
            content.text = invitation.lines(content.invitations[0])
        if len(content.text) > limits.TEXT:
            content.text = content.text[: limits.TEXT]
            content.over_limit = True
            content.defects.append("text longer than is kept")
        if self.want_html and shown:
            self.sanitise(shown)
        content.attachments.extend(self.pasted)
        return content

    def sanitise(self, sources: list[str]) -> None:
        """Fill ``html`` from the HTML bodies."""
        from gateway.reading.mime import html

        out = []
        for source in sources:
            safe, defect = html.sanitise(source)
            out.append(safe)
            if defect:
                self.content.defects.append(defect)
        self.content.html = "\n".join(out)[: limits.HTML] or None

    def from_html(self, sources: list[str]) -> str:
        """The text of HTML bodies."""
        from gateway.reading.mime import html

        made = [html.to_text(source) for source in sources]
        self.content.marks = made[0][1] if len(made) == 1 else []
        return "\n\n".join(text for text, _ in made)

    def visit(self, part: Part, *, first: bool, related: bool = False) -> list[Piece]:
        """The body pieces below a part; whatever is none becomes an attachment on the way."""
        if part.children and part.main == "multipart":
            return self.multipart(part, first)
        if part.content_type in {"message/rfc822", "message/global"}:
            self.content.messages.append(part)
            self.attach(part)
            return []
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
        """The body pieces of a multipart, by its subtype."""
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
        """Everything below is an attachment, none of it body."""
        if part.main == "multipart":
            for child in part.children:
                self.only_attach(child)
        else:
            if part.content_type in {"message/rfc822", "message/global"}:
                self.content.messages.append(part)
            self.attach(part)
        return []

    def alternative(self, part: Part, first: bool) -> list[Piece]:
        """One piece of all alternatives: the first plain text, the last HTML."""
        merged = Piece()
        for child in part.children:
            pieces = self.visit(child, first=first)
            html = [each for piece in pieces for each in piece.html]
            plain = [each for piece in pieces for each in piece.plain]
            if plain and not merged.plain:
                merged.plain = plain
            if html:
                merged.html = html
        return [merged] if merged.plain or merged.html else []

    def body_kind(self, part: Part, first: bool, related: bool) -> str | None:
        """What a leaf is: ``plain`` or ``html`` body, or None for an attachment."""
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
        """The characters of a text part, lines ending in LF, bounded."""
        data = part.content()
        if len(data) > limits.TEXT * 4:
            data = data[: limits.TEXT * 4]
            self.content.over_limit = True
        text, defect = charset.decode(data, part.params.get("charset"))
        if defect and defect not in self.content.defects:
            self.content.defects.append(defect)
        return _LINE_END.sub("\n", text) if "\r" in text else text

    def text_of(self, part: Part) -> str:
        """The text of a plain part, files pasted into it taken out."""
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
        """The text around uuencoded files, which become attachments."""
        body = part.content()
        at = 0
        kept = []
        for index, found in enumerate(uuencode.find(body)):
            name = charset.clean(charset.decode(found.name)[0], limits.FILENAME)
            self.pasted.append(
                Attachment(
                    name,
                    "application/octet-stream",
                    len(found.content),
                    sha256(found.content).hexdigest(),
                    False,
                    None,
                    f"{part.path or '1'}#{index}",
                )
            )
            kept.append(body[at : found.start])
            at = found.end
        text, _ = charset.decode(b"".join(kept) + body[at:], part.params.get("charset"))
        return _LINE_END.sub("\n", text)

    def attach(self, part: Part) -> None:
        """Note an attachment: its content is decoded once for size and digest."""
        data = part.content()
        digest = sha256(data).hexdigest()
        inline = (
            part.disposition == "inline"
            or part.content_id is not None
            and part.disposition != "attachment"
        )
        name = part.filename
        self.content.attachments.append(
            Attachment(
                name,
                part.content_type,
                len(data),
                digest,
                inline,
                part.content_id,
                part.path or "1",
            )
        )
        self.content.digests.append(
            digest
            if part.encoding == "base64" or b"\r\n" not in data
            else sha256(data.replace(b"\r\n", b"\n")).hexdigest()
        )
        if part.content_type in _SEALED and part is self.root:
            kind = part.params.get("smime-type", "").lower()
            self.content.defects.append(
                "signed as one piece, kept whole"
                if kind == "signed-data"
                else "encrypted, kept whole"
            )
        if part.content_type in _TNEF or name and name.lower() == "winmail.dat":
            self.unpack_tnef(part, data)
        elif part.content_type in invitation.TYPES or name and name[-4:].lower() == ".ics":
            self.invited(part, data)

    def invited(self, part: Part, data: bytes) -> None:
        """Note the events of a calendar, each once: clients send the same one to be shown and to be
        saved.
        """
        if len(self.content.invitations) >= _CALENDAR_EVENTS:
            return
        found, defect = invitation.read(
            data, part.params.get("charset"), part.params.get("method", "")
        )
        if defect and defect not in self.content.defects:
            self.content.defects.append(defect)
        known = {(each.uid, each.start, each.summary) for each in self.content.invitations}
        self.content.invitations += [
            each for each in found if (each.uid, each.start, each.summary) not in known
        ]

    def unpack_tnef(self, part: Part, data: bytes) -> None:
        """Note the files inside a winmail.dat beside it."""
        from gateway.reading.mime import tnef

        files, defect = tnef.unpack(data)
        if defect:
            self.content.defects.append(defect)
        for index, (name, inner) in enumerate(files):
            self.content.attachments.append(
                Attachment(
                    name,
                    "application/octet-stream",
                    len(inner),
                    sha256(inner).hexdigest(),
                    False,
                    None,
                    f"{part.path or '1'}!{index}",
                )
            )


def unenriched(text: str) -> str:
    """Plain text of text/enriched (RFC 1896): tags gone, parameters of tags gone, single line ends
    to blanks.
    """
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


def _joined(texts: list[str]) -> str:
    """Stretches of text one below the other, without blank lines around the whole."""
    return "\n".join(
        text.strip("\n") if len(texts) > 1 else text for text in texts if text.strip()
    ).strip("\n")


def content_of(root: Part, path: str) -> Iterator[tuple[Attachment, bytes]]:
    """The attachment with that part path and its content, at most one."""
    base = path.split("#")[0].split("!")[0]
    for part in root.walk():
        if (part.path or "1") != base:
            continue
        data = part.content()
        name, kind = part.filename, part.content_type
        if path != base:
            index = int(path[len(base) + 1 :]) if path[len(base) + 1 :].isdigit() else -1
            found = _inner(path[len(base)], data, index)
            if found is None:
                return
            name, data = found
            kind = "application/octet-stream"
        elif (
            part.main == "multipart"
            or part.children
            and part.content_type not in {"message/rfc822", "message/global"}
        ):
            continue
        inline = (
            part.disposition == "inline"
            or part.content_id is not None
            and part.disposition != "attachment"
        )
        yield (
            Attachment(
                name,
                kind,
                len(data),
                sha256(data).hexdigest(),
                inline and path == base,
                part.content_id if path == base else None,
                path,
            ),
            data,
        )
        return


def _inner(sign: str, data: bytes, index: int) -> tuple[str, bytes] | None:
    """A file inside a text (``#``) or inside a winmail.dat (``!``)."""
    if sign == "#":
        pasted = uuencode.find(data)
        return (
            (
                charset.clean(charset.decode(pasted[index].name)[0], limits.FILENAME),
                pasted[index].content,
            )
            if 0 <= index < len(pasted)
            else None
        )
    from gateway.reading.mime import tnef

    files, _ = tnef.unpack(data)
    return files[index] if 0 <= index < len(files) else None
