"""Sanitise HTML mail for display, and turn it into the plain text that a person would read.

Caps on length and depth (1 MiB, 256) are checked first, since 40,000 nested ``div`` take a tree
builder five seconds (reliability.md 28). The text is written from parser events without a tree, in
linear time. ``blockquote`` becomes ``> `` lines, so that the same code finds replies and forwards
in text and HTML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from lxml import etree

from gateway.reading.mime import limits, quote_classes
from gateway.reading.mime.charset import clean
from gateway.reading.mime.html_tokens import CLOSES_ITSELF, VOID, TooDeep, rewrite, unescaped
from gateway.reading.text.quotes import QuoteMark

_OPEN: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)\b[^<>]{0,2000}?(/?)>")
_NOT_SHOWN: Final = frozenset(
    "script style head title template noscript object svg math select textarea".split()
)
_BLOCK: Final = frozenset(
    "address article aside body center dd dir div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr html li main menu "
    "nav ol section table tbody tfoot thead tr ul caption legend details summary".split()
)
_PARAGRAPH: Final = frozenset("p h1 h2 h3 h4 h5 h6 ul ol dl table pre blockquote figure".split())
_SPACES: Final = re.compile(r"[ \t\r\n\f\x0b\u2028\u2029]+")
_BLANKS: Final = re.compile(r"\n{3,}")
_HIDDEN: Final = re.compile(
    (
        r"display\s*:\s*none|mso-hide\s*:\s*all|"
        r"max-height\s*:\s*0(?:px)?\s*;[^\"]*overflow\s*:\s*hidden"
    ),
    re.IGNORECASE,
)
_BARE_CONDITION: Final = re.compile(r"<!\[(?:if[^\]>]{0,200}|endif)\]>")
_ANY_TAG: Final = re.compile(r"<[^<>]{0,5000}>")
_MAX_QUOTE_DEPTH: Final = 20
_MAX_MARKS: Final = 50
_MAX_STYLE_CHARS: Final = 2000
_TAGS: Final = {
    "a", "abbr", "address", "article", "aside", "b", "bdi", "bdo", "blockquote", "br", "caption",
    "center", "cite", "code", "col", "colgroup", "dd", "del", "details", "dfn", "div", "dl", "dt",
    "em", "figcaption", "figure", "font", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header",
    "hr", "i", "img", "ins", "kbd", "li", "main", "mark", "nav", "ol", "p", "pre", "q", "s",
    "samp", "section", "small", "span", "strike", "strong", "sub", "summary", "sup", "table",
    "tbody", "td", "tfoot", "th", "thead", "time", "tr", "tt", "u", "ul", "var", "wbr",
}  # fmt: skip


def depth_within(source: str, limit: int = limits.HTML_DEPTH) -> bool:
    """Tell whether elements nest at most ``limit`` deep, in one pass over the tags."""
    depth = 0
    opened: dict[str, int] = {}
    for tag in _OPEN.finditer(source):
        name = tag[2].lower()
        if name in VOID or name in CLOSES_ITSELF or tag[3]:
            continue
        if not tag[1]:
            opened[name] = opened.get(name, 0) + 1
            depth += 1
            if depth > limit:
                return False
        elif opened.get(name):
            opened[name] -= 1
            depth -= 1
    return True


def without_conditions(source: str) -> str:
    """Return HTML without parts that only Outlook shows (``<!--[if mso]> ... <![endif]-->``)."""
    out = []
    at = 0
    while (start := source.find("<!--[if", at)) >= 0:
        end = source.find("<![endif]-->", start)
        if end < 0:
            break
        out.append(source[at:start])
        at = end + 12
    return _BARE_CONDITION.sub("", "".join(out) + source[at:])


def sanitise(source: str) -> tuple[str, str | None]:
    """Return (HTML that may be shown in a sandboxed frame, defect or None).

    Styles, event handlers and forms are removed.
    """
    import nh3

    defect = None
    if len(source) > limits.HTML:
        source, defect = source[: limits.HTML], "HTML longer than is shown"
    try:
        written = rewrite(source, _TAGS)
    except TooDeep:
        return "", "HTML nested too deeply to be shown"
    return clean(
        nh3.clean(
            written,
            tags=_TAGS,
            url_schemes={"http", "https", "mailto", "tel", "cid"},
            link_rel="noopener noreferrer nofollow",
        )
    ), defect


def to_text(source: str) -> tuple[str, list[QuoteMark]]:
    """Return (plain text of an HTML body, quote marks with their lines in that text).

    Paragraphs become lines, table cells are set apart, quoted blocks become ``> `` lines, lists get
    bullets or numbers, and links keep their words only.
    """
    if len(source) > limits.HTML:
        source = source[: limits.HTML]
        limits.leave_out("HTML longer than is read")
    if "<!" in source:
        source = without_conditions(source)
    if not depth_within(source):
        return clean(
            "\n".join(
                " ".join(line.split()) for line in unescaped(_ANY_TAG.sub(" ", source)).split("\n")
            ).strip()
        ), []
    target = _TextWriter(marked=quote_classes.is_marked(source))
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=False, recover=True)
    try:
        parser.feed(b"<div>")
        parser.feed(source.encode("utf-8", "replace"))
        text = parser.close()
    except (etree.LxmlError, AssertionError, ValueError):
        text = target.close()
    return clean(text), target.found()


@dataclass(slots=True)
class _Mark:
    """A quote mark: its lines in the text written so far, and how deep its element is nested."""

    kind: Literal["quote", "attribution"]
    start: int
    end: int | None = None  # None: to the end of the text
    depth: int = 0


class _TextWriter:
    """Receives the events of an HTML parser and writes the lines of a text."""

    def __init__(self, *, marked: bool) -> None:
        self.marked = marked
        self.marks: list[_Mark] = []
        self.open_marks: list[_Mark] = []
        self.lines: list[str] = []
        self.line: list[str] = []
        self.quote = 0
        self.skip = 0
        self.pre = 0
        self.lists: list[int] = []
        self.space = False
        self.gap = False
        self.stack: list[tuple[str, bool, bool]] = []  # tag, hidden, quoting
        self.bullet = ""

    def start(self, tag: object, attrib: dict[str, str]) -> None:
        if not isinstance(tag, str):
            return
        tag = tag.lower()
        if tag == "br":
            if not self.skip:
                self.newline(force=True)
            return
        hidden = tag in _NOT_SHOWN or bool(
            attrib and "style" in attrib and _HIDDEN.search(attrib["style"], 0, _MAX_STYLE_CHARS)
        )
        quoting = tag == "blockquote" and not (
            attrib
            and "margin" in attrib.get("style", "")
            and "cite" not in attrib.get("type", "")
            and "border" in attrib.get("style", "")
            and "none" in attrib.get("style", "")
        )
        self.stack.append((tag, hidden, quoting))
        self.skip += hidden
        if self.skip:
            return
        if tag == "img":
            self.image(attrib)
        elif tag in _BLOCK or tag in _PARAGRAPH:
            self.newline()
            self.gap = self.gap or tag in _PARAGRAPH
            self.opened(tag)
        elif tag in {"td", "th"}:
            self.cell()
        if self.marked and attrib:
            self.note(tag, attrib)
        if quoting:
            self.quote += 1

    def note(self, tag: str, attrib: dict[str, str]) -> None:
        """Note where a marked element begins; :meth:`end` notes where it ends."""
        kind = quote_classes.mark_of(tag, attrib)
        if kind is None or len(self.marks) >= _MAX_MARKS:
            return
        self.newline()
        mark = _Mark("attribution" if kind == "attribution" else "quote", len(self.lines))
        self.marks.append(mark)
        if kind != "above_quote":
            mark.depth = len(self.stack)
            self.open_marks.append(mark)

    def opened(self, tag: str) -> None:
        if tag == "pre":
            self.pre += 1
        elif tag in {"ul", "ol"}:
            self.gap = self.gap and not self.lists
            self.lists.append(0 if tag == "ol" else -1)
        elif tag == "li" and self.lists:
            if self.lists[-1] >= 0:
                self.lists[-1] += 1
            self.bullet = f"{self.lists[-1]}. " if self.lists[-1] > 0 else "* "
        elif tag == "hr":
            self.gap = True

    def image(self, attrib: dict[str, str]) -> None:
        alt = " ".join(attrib.get("alt", "").split())
        if 1 < len(alt) <= 120 and attrib.get("width") not in {"0", "1"}:
            self.data(f"[{alt}]")

    def cell(self) -> None:
        if self.line:
            self.line.append(" ")
            self.space = True

    def end(self, tag: object) -> None:
        if not isinstance(tag, str):
            return
        tag = tag.lower()
        if tag == "br":
            return
        while self.stack:
            opened, hidden, quoting = self.stack.pop()
            self.closed(opened, hidden, quoting)
            while self.open_marks and self.open_marks[-1].depth > len(self.stack):
                self.newline()
                self.open_marks.pop().end = len(self.lines)
            if opened == tag:
                break

    def closed(self, tag: str, hidden: bool, quoting: bool) -> None:
        if not self.skip and (tag in _BLOCK or tag in _PARAGRAPH):
            self.newline()
            self.gap = self.gap or tag in _PARAGRAPH
        if hidden:
            self.skip -= 1
        if quoting and not self.skip:
            self.quote = max(0, self.quote - 1)
        if self.skip:
            return
        if tag == "pre":
            self.pre = max(0, self.pre - 1)
        elif tag in {"ul", "ol"} and self.lists:
            self.lists.pop()

    def data(self, data: str) -> None:
        if self.skip:
            return
        if self.pre:
            first, *rest = data.replace("\r\n", "\n").split("\n")
            self.word(first)
            for line in rest:
                self.newline(force=True)
                self.word(line)
            return
        text = (
            _SPACES.sub(" ", data).replace("\xa0", " ").replace("\u200b", "").replace("\ufeff", "")
        )
        if not self.line or self.space:
            text = text.lstrip(" ")
        if text:
            self.space = text[-1] == " "
            self.word(text)

    def word(self, text: str) -> None:
        if not text:
            return
        if self.gap and not self.line:
            if self.lines and self.lines[-1].strip("> "):
                self.lines.append("> " * min(self.quote, self.last_quote()) if self.quote else "")
            self.gap = False
        if self.bullet and not self.line:
            self.line.append(self.bullet)
            self.bullet = ""
        self.line.append(text)

    def last_quote(self) -> int:
        head = self.lines[-1]
        count = 0
        while head.startswith("> ", count * 2):
            count += 1
        return count

    def newline(self, force: bool = False) -> None:
        if self.line or force:
            self.lines.append(
                "> " * min(self.quote, _MAX_QUOTE_DEPTH) + "".join(self.line).rstrip()
            )
            self.line = []
        self.space = False

    def found(self) -> list[QuoteMark]:
        """Return the quote marks, with their lines in the text that :meth:`close` returns.

        That text has no blank lines at its start, and one blank line in place of several.
        """
        if not self.marks:
            return []
        at: list[int] = []
        count = 0
        blank = True
        for line in self.lines:
            at.append(count)
            empty = not line or line.isspace()
            count += not (empty and blank)
            blank = empty
        at.append(count)
        return [
            QuoteMark(mark.kind, at[mark.start], count if mark.end is None else at[mark.end])
            for mark in self.marks
        ]

    def comment(self, data: str) -> None:
        """Skip a comment."""

    def pi(self, target: str, data: str | None = None) -> None:
        """Skip a processing instruction."""

    def close(self) -> str:
        self.newline()
        return _BLANKS.sub("\n\n", "\n".join(line.rstrip() for line in self.lines)).strip()
