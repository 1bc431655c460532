"""Write HTML anew before it is sanitised, so that it has a single meaning and stays below caps.

The sanitiser builds a tree by the rules of browsers. That takes quadratic time for many attributes
in one tag, for many entities, and for formats (``<b>``) that are never closed and are therefore
opened again in each later element. What exceeds a cap is left out here (:func:`limits.leave_out`).
Comments, scripts, styles and unknown tags are dropped. Tags and entities are written out in full,
so that the sanitiser cannot take markup for text, or text for markup.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from html import escape, unescape
from html.entities import html5
from typing import Final

from gateway.reading.mime import limits

_VALUE: Final = r"""(?:"[^"]*+"?|'[^']*+'?|[^\s>"'][^\s>]*+)?"""
_ATTRIBUTE: Final = rf"[^\s/>][^\s/>=]*+(?:\s*+=\s*+{_VALUE})?"
_TOKEN: Final = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))|"  # a comment
    r"<(?:[!?]|/(?![A-Za-z]))[^>]*+>?|"  # other markup that browsers take for a comment
    rf"<(/?)([A-Za-z][^\s/>]*+)((?:[\s/]++|{_ATTRIBUTE})*+)(>?)",  # a tag
    re.DOTALL | re.ASCII,
)
_ATTRIBUTES: Final = re.compile(rf"([^\s/>][^\s/>=]*+)(?:\s*+=\s*+({_VALUE}))?", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9:_-]{0,30}")
_NUMBER: Final = r"#[0-9]{1,8}+(?![0-9]);?|#[xX][0-9a-fA-F]{1,8}+(?![0-9a-fA-F]);?"
_ENTITY: Final = re.compile(rf"&(?:{_NUMBER}|[A-Za-z0-9]{{1,31}};?)")
# In a value, a name without semicolon is no entity if a letter follows, as in "?a=1&copy=2".
_ENTITY_IN_VALUE: Final = re.compile(rf"&(?:{_NUMBER}|([A-Za-z0-9]{{1,31}}(?:;|(?![A-Za-z0-9=]))))")
_ENDS: Final = {
    name: re.compile(f"</{name}(?=[\\s/>])", re.IGNORECASE) for name in ("script", "style")
}
VOID: Final = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()
)
CLOSES_ITSELF: Final = frozenset(
    "p li td th tr dt dd option tbody thead tfoot colgroup rt rp optgroup".split()
)
# Browsers open these again behind an element that ended before they did.
_FORMATS: Final = frozenset("a b big code em font i nobr s small strike strong tt u".split())
_ITEMS: Final = {"li": "li", "dt": "dt", "dd": "dt"}  # an item ends the items of its own kind


class TooDeep(ValueError):
    """HTML whose tree would take too long to build."""


def rewrite(source: str, tags: Collection[str]) -> str:
    """Return HTML with its text and only the given ``tags``; TooDeep if it nests too deeply."""
    return _Writer(tags).write(source)


def unescaped(text: str) -> str:
    """Replace the entities in a text with characters, but not entities with huge numbers."""
    return _ENTITY.sub(lambda found: unescape(found[0]), text) if "&" in text else text


class _Writer:
    """Writes one HTML body token by token."""

    def __init__(self, tags: Collection[str]) -> None:
        self.tags = tags
        self.out: list[str] = []
        self.opened: dict[str, int] = {}
        self.depth = 0
        self.formats = 0
        self.reopened = 0
        self.written = 0
        self.entities = 0
        self.item = ""

    def write(self, source: str) -> str:
        at = 0
        while token := _TOKEN.search(source, at):
            self.text(source[at : token.start()])
            at = token.end()
            name = (token[2] or "").lower()
            if name in _ENDS and not token[1]:
                end = _ENDS[name].search(source, at)
                at = end.start() if end else len(source)
            elif name in self.tags and token[4]:
                self.tag(name, token[1] != "", token[3])
            if self.written > limits.HTML_TAGS or self.entities > limits.HTML_ENTITIES:
                limits.leave_out("more tags or entities than are shown")
                return "".join(self.out)
        self.text(source[at:])
        return "".join(self.out)

    def text(self, text: str) -> None:
        """Write a text in which only ``&``, ``<`` and ``>`` are entities; cut it at the cap."""
        if not text:
            return
        self.out.append(self.escaped(unescaped(text), "&<>"))

    def escaped(self, text: str, signs: str) -> str:
        """Replace these signs in a text with entities; cut the text if there are too many."""
        self.entities += sum(map(text.count, signs))
        if self.entities > limits.HTML_ENTITIES:
            limits.leave_out("more tags or entities than are shown")
            text = text[: limits.HTML_ENTITIES]
        return escape(text, quote='"' in signs)

    def tag(self, name: str, closing: bool, attributes: str) -> None:
        """Write a tag, and count what it opens or closes."""
        self.written += 1
        self.reopened += self.formats
        if self.reopened > limits.HTML_REOPENED:
            raise TooDeep
        if closing and name != "br":  # "</br>" is a line break
            if name not in VOID:
                self.close(name)
                self.out.append(f"</{name}>")
            return
        # Unlike browsers, people who write "<div/>" mean that it is empty.
        empty = attributes.endswith("/") and _ATTRIBUTES.sub("", attributes).endswith("/")
        end = f"></{name}>" if empty and name not in VOID else ">"
        self.out.append(f"<{name}{self.attributes(attributes)}{end}")
        if name not in VOID and not empty:
            self.open(name)

    def open(self, name: str) -> None:
        """Count an open element, except one that the next element of its kind closes."""
        if name in _ITEMS:
            self.depth += self.item not in ("", _ITEMS[name])  # "<dt><li><dt><li>" nests
            self.item = _ITEMS[name]
        if name not in CLOSES_ITSELF:
            self.item = ""
            self.opened[name] = self.opened.get(name, 0) + 1
            self.formats += name in _FORMATS
            self.depth += 1
        if self.depth > limits.HTML_DEPTH:
            raise TooDeep

    def close(self, name: str) -> None:
        """Count the end of an element."""
        if self.opened.get(name):
            self.opened[name] -= 1
            self.formats -= name in _FORMATS
            self.depth -= 1

    def attributes(self, text: str) -> str:
        """Return the attributes of a tag, each once, in double quotes."""
        if not text:
            return ""
        found: dict[str, str] = {}
        for each in _ATTRIBUTES.finditer(text):
            name = each[1].lower()
            if len(found) >= limits.HTML_ATTRIBUTES:
                limits.leave_out("more attributes in a tag than are shown")
                break
            if _NAME.fullmatch(name) and name not in found:
                found[name] = self.value(each[2] or "")
        return "".join(f' {name}="{value}"' for name, value in found.items())

    def value(self, written: str) -> str:
        """Return a value, which may have quotes around it, with its entities written out."""
        if written[:1] in ('"', "'"):
            written = written[1:-1] if len(written) > 1 and written[-1] == written[0] else ""
        if "&" in written:
            written = _ENTITY_IN_VALUE.sub(_in_value, written)
        return self.escaped(written, '&<>"')


def _in_value(found: re.Match[str]) -> str:
    """Return the character of an entity in the value of an attribute."""
    return unescape(found[0]) if found[1] is None else html5.get(found[1], found[0])
