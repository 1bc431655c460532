"""Parse address fields: mailboxes by RFC 5322 3.4, and the many malformed ones.

The parser makes one pass over the tokens, so even 64 KB of ``;;;;`` or of open brackets take linear
time. The number of mailboxes is capped.
"""

from __future__ import annotations

import re
from typing import Final

from core.model.message import Address
from gateway.reading.mime import charset, limits
from gateway.reading.mime.headers import decode_words

_TOKEN: Final = re.compile(
    r'"((?:[^"\\]++|\\.){0,50}+)"|'  # 1: a quoted string
    r"(=\?[A-Za-z0-9][^?\s]{0,60}\?[bBqQ]\?(?:[^?=]++|=(?!\?)|=(?=\?=)|\?(?!=))*+\?=)|"  # 2: a word
    r"<([^<>]*)>?|"  # 3: an address in angle brackets
    r"([,;:()])|"  # 4: a delimiter
    r'([^\s",;:()<=]+)|(\s+)|(.)',
    re.DOTALL,
)
_NAME_AND_ADDRESS: Final = re.compile(
    r"\s*+((?:[A-Za-z0-9._'!#$*/|~`^{}&+-]++(?:[ ]++(?=[^\s<]))?)*+)"
    r"\s*+<([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9._-]+)>\s*"
)
_ADDRESS_ONLY: Final = re.compile(r"\s*([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9._-]+)\s*")
_OUTSIDE_ADDRESS: Final = re.compile(r"[\s\"<>]+")
_COMMENT: Final = re.compile(r"\([^()]*+\)")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_MAX_COMMAS_IN_NAME: Final = 8


def addresses(text: str, limit: int = limits.ADDRESSES) -> list[Address]:
    """Return the mailboxes of an address field, with names decoded; a group becomes its members."""
    if simple := _NAME_AND_ADDRESS.fullmatch(text):
        return [Address(_without_quotes(simple[1]), simple[2])]
    if bare := _ADDRESS_ONLY.fullmatch(text):
        return [Address("", bare[1])]
    return _FieldReader(limit).read(text)


def _without_quotes(name: str) -> str:
    """Return a name without the single quotes that some clients put around it."""
    return name[1:-1].strip() if len(name) > 1 and name[0] == name[-1] == "'" else name


class _FieldReader:
    """Reads one address field, token by token."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found: list[Address] = []
        self.depth = 0
        self.reset()

    def reset(self) -> None:
        self.words: list[str] = []
        self.comment: list[str] = []
        self.angle: str | None = None
        self.quoted = False
        self.commas = 0

    def read(self, text: str) -> list[Address]:
        for token in _TOKEN.finditer(text):
            if len(self.found) >= self.limit:
                break
            self.take(token)
        self.flush()
        return self.found[: self.limit]

    def take(self, token: re.Match[str]) -> None:
        if self.depth:
            self.inside_comment(token)
        elif (sign := token[4]) is not None:
            self.sign(sign)
        elif token[1] is not None:
            self.words.append(_QUOTED_PAIR.sub(r"\1", token[1]))
            self.quoted = True
        elif token[3] is not None:
            if self.angle is None or "@" not in self.angle:
                if self.angle:
                    self.words.append(self.angle)
                self.angle = token[3]
        else:
            self.words.append(token[0])

    def inside_comment(self, token: re.Match[str]) -> None:
        if token[4] == "(":
            self.depth += 1
        elif token[4] == ")":
            self.depth -= 1
            if not self.depth:
                return
        self.comment.append(token[0])

    def sign(self, sign: str) -> None:
        if sign == "(":
            self.depth = 1
            self.comment.append(" ")
        elif sign == ")":
            self.words.append(sign)
        elif sign == ":":
            if self.angle is None and not any("@" in word for word in self.words):
                self.words = []  # the name of a group
            else:
                self.words.append(sign)
        elif sign == ",":
            self.comma()
        else:
            self.flush()

    def comma(self) -> None:
        """End the mailbox, unless the comma may be inside a name, as in ``Doe, Jane <j@x>``."""
        if (
            self.angle is None
            and self.words
            and not self.quoted
            and self.commas < _MAX_COMMAS_IN_NAME
            and not any("@" in word for word in self.words)
            and "".join(self.words).strip()
        ):
            self.words.append(",")
            self.commas += 1
        else:
            self.flush()

    def flush(self) -> None:
        raw = "".join(self.words)
        comment = decode_words("".join(self.comment))
        angle = self.angle
        quoted = self.quoted
        self.reset()
        name = charset.one_line(decode_words(raw), limits.NAME).strip(" ,")
        if angle is not None:
            address = clean_address(angle)
            if not address and "@" in name:
                address, name = clean_address(name), ""
            self.add(_without_quotes(name) or charset.one_line(comment, limits.NAME), address)
        elif "@" in raw and not quoted:
            self.bare(raw, comment)
        elif "@" in raw:
            local, _, domain = raw.strip().rpartition("@")
            self.add("", f'"{local}"@{domain}' if " " in local else clean_address(raw))
        elif name:  # a name without a mailbox
            self.add(name, None)

    def bare(self, raw: str, comment: str) -> None:
        """Add a mailbox without angle brackets; words beside the address are its name."""
        pieces = raw.replace(",", " ").split()
        holder = next((piece for piece in pieces if "@" in piece), raw)
        if len(pieces) > 1 and (holder.startswith("@") or holder.endswith("@")):
            pieces, holder = [], raw  # there are blanks around the @
        words = " ".join(piece for piece in pieces if piece is not holder)
        name = charset.one_line(decode_words(words), limits.NAME)
        self.add(name or charset.one_line(comment, limits.NAME), clean_address(holder))

    def add(self, name: str, address: str | None) -> None:
        if name or address:
            self.found.append(Address(name, address or None))


def clean_address(text: str) -> str:
    """Return an address without decoration; empty if nothing is left.

    Blanks, quotes around the whole, comments, a source route and ``mailto:`` are removed.
    """
    text = decode_words(text) if "=?" in text else text
    text = text.strip()
    if text.endswith('"'):
        text = text.strip('"')
    if text.startswith("@") and ":" in text:
        text = text.rpartition(":")[2]
    if text[:7].lower() == "mailto:":
        text = text[7:]
    if not text.startswith('"'):
        text = _COMMENT.sub("", text) if "(" in text else text
        text = _OUTSIDE_ADDRESS.sub("", text)
    return charset.one_line(text.strip("'`,;") if "@" in text else text, limits.ADDRESS)
