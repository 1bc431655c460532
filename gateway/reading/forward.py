"""Forwards: the mail inside a mail, in any language and from any client (behaviour.md 2.1, step 8 b
to e).

Found by a mark with a header block, by a forward prefix with a header block, by an attached mail,
or by the header fields of a resent mail. A mark below the introduction of a quote belongs to the
quoted mail and does not count. The rule that found a forward is its evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from core.model.message import Address, Forwarded
from gateway.reading.languages import FORWARD_PREFIX, REPLY_PREFIX, Role, fold
from gateway.reading.mime import charset, limits
from gateway.reading.mime.address_lists import addresses
from gateway.reading.mime.content import Collector
from gateway.reading.mime.headers import Headers
from gateway.reading.mime.part_tree import Part
from gateway.reading.text.header_blocks import collapsed_fields, header_block
from gateway.reading.text.outline import after_mark
from gateway.reading.text.quotes import Found, depth_of, is_framed, unquoted

_RULE_LINE: Final = re.compile(r"[\s\u00a0]*[-_=*~—–]{3,}[\s\u00a0]*")
_CLOSING_RULE: Final = re.compile(
    r"\s*+[-=*~—–]{3,80}(?: ?[Ee]nd (?:of )?[\w ]{3,40})?[-=*~—–]{3,80}\s*+"
)
_MAILTO: Final = re.compile(r"[\[<(]\s*+mailto:\s*+([^\s<>()\[\]]++)\s*+[\]>)]", re.IGNORECASE)
_DOUBLE: Final = re.compile(r"<\s*+([^<>\s@]++@[^<>\s]++)\s*+<[^<>]*+>\s*+>", re.IGNORECASE)
_REPEATED: Final = re.compile(r"(<[^<>\s@]++@[^<>\s]++>)\s*+<[^<>@]*+@[^<>]*+>")
_ADDRESS_LINK: Final = re.compile(
    r"(?<![^\s<>,;])([^\s<>,;@]++@[^\s<>,;]++)\s*+<mailto:[^<>]*+>", re.IGNORECASE
)
_ON_BEHALF: Final = re.compile(
    (
        r"\b(?:on behalf of|im auftrag von|de la part de|en nombre de|namens|à la demande de|em "
        r"nome de|per conto di|w imieniu|от имени)\b.*"
    ),
    re.IGNORECASE,
)


def find(
    text: str,
    lines: list[str],
    found: list[Found],
    subject: str,
    headers: Headers,
    messages: Sequence[Part],
) -> Forwarded | None:
    """The forward that a mail is, or None. ``lines`` and ``found`` are the outline of ``text``;
    ``messages`` the mails attached to it.
    """
    prefix = bool(subject and FORWARD_PREFIX.match(subject))
    in_text = _in_text(
        lines,
        found,
        prefix,
        subject,
        is_reply="in-reply-to" in headers.fields or "references" in headers.fields,
    )
    if in_text is not None:
        return (
            in_text
            if in_text.subject is not None or not prefix
            else replace(in_text, subject=FORWARD_PREFIX.sub("", subject, count=1).strip())
        )
    if messages and _is_content(messages, text, prefix):
        return _attached(messages[0], text)
    if "x-forwarded-message-id" in headers.fields:
        return _bare("X-Forwarded-Message-Id", text)
    if (
        "resent-from" in headers.fields
        or "resent-to" in headers.fields
        or "resent-message-id" in headers.fields
    ):
        return _resent(headers, text)
    return None


def _in_text(
    lines: list[str], found: list[Found], prefix: bool, subject: str, *, is_reply: bool
) -> Forwarded | None:
    """A forward that stands in the text: the first telling thing in the outline decides."""
    for index, each in enumerate(found):
        if each.sign == "forward_mark":
            if each.depth and not _may_be_quoted(lines, found, index, each):
                return None
            made = _after_mark(lines, each)
            if made is not None:
                return made
        elif each.sign == "block":
            return _by_block(
                lines, each, _mark_above(lines, found[:index], each), prefix, subject, is_reply
            )
        elif each.sign == "introduction":
            if prefix and each.strong:
                return _introduced(lines, each, _mark_above(lines, found[:index], each))
            return None
        elif each.sign == "reply_mark" and not prefix:
            return None
    return None


def _mark_above(lines: list[str], before: list[Found], each: Found) -> int:
    """The line where what was found begins, or the mark right above it: a client that has one mark
    for answers and forwards.
    """
    mark = before[-1] if before and before[-1].sign in {"reply_mark", "forward_mark"} else None
    return (
        each.start
        if mark is None or any(line.strip() for line in lines[mark.end : each.start])
        else mark.start
    )


def _by_block(
    lines: list[str], block: Found, cut: int, prefix: bool, subject: str, is_reply: bool
) -> Forwarded | None:
    """A header block without mark: a forward by its prefix, or because nothing says that the mail
    answers one. Else it is a reply.
    """
    if block.depth > 1:
        return None
    if prefix:
        return _made(lines, block, cut, "forward prefix and header block")
    if is_reply or block.depth or REPLY_PREFIX.match(subject) or not _unanswered(block, subject):
        return None
    return _made(lines, block, cut, "header block of a mail with this very subject")


def _unanswered(block: Found, subject: str) -> bool:
    """Whether a full header block bears the subject of the mail itself, unchanged. Clients put
    their prefix before the subject when one answers.
    """
    inner = block.fields.get("subject", "")
    return (
        {"from", "to", "date"} <= block.fields.keys()
        and bool(inner)
        and fold(inner) == fold(subject)
    )


def _may_be_quoted(lines: list[str], found: list[Found], index: int, mark: Found) -> bool:
    """A quoted mark counts only as the very first line of an unintroduced quote: clients that quote
    the whole forward, mark included.
    """
    if mark.depth > 1 or any(
        each.sign in {"introduction", "reply_mark", "block"} for each in found[:index]
    ):
        return False
    before = next((line for line in reversed(lines[: mark.start]) if line.strip("> \t")), "")
    return depth_of(before) == 0 and not before.rstrip().endswith((":", "："))


def _after_mark(lines: list[str], mark: Found) -> Forwarded | None:
    rest = (
        after_mark(unquoted(lines[mark.start], mark.depth)) if len(lines[mark.start]) > 40 else ""
    )
    if rest:
        fields = collapsed_fields(rest)
        if len(fields) > 1:
            return _made(
                lines,
                Found("block", mark.start, mark.start + 1, mark.depth, fields),
                mark.start,
                "forward mark",
            )
    block = header_block(lines, mark.end, mark.depth, marked=True)
    return _made(lines, block, mark.start, "forward mark") if block is not None else None


def _made(lines: list[str], block: Found, cut: int, rule: str) -> Forwarded:
    """The forward whose header block was found; what stands above line ``cut`` is the forwarder's
    comment.
    """
    fields = block.fields
    end = _end_of(lines, block)
    comment = comment_of(lines[:cut]) or comment_of(lines[end:])
    sender = _boxes(_ON_BEHALF.sub("", fields.get("from", "")))
    return Forwarded(
        sender=sender[0] if sender else None,
        to=tuple(_boxes(fields.get("to", ""))),
        cc=tuple(_boxes(fields.get("cc", ""))),
        subject=charset.one_line(fields["subject"], limits.SUBJECT)
        if "subject" in fields
        else None,
        date=charset.one_line(fields["date"], 200) if "date" in fields else None,
        text=_text_of(lines[block.end : end], block.depth),
        comment=comment,
        rule=rule,
    )


def _text_of(lines: list[str], depth: int) -> str:
    """The text of a forwarded mail, without the signs of a client that quotes all of it, and
    without the rule that closes it.
    """
    end = len(lines)
    while end and (
        not lines[end - 1].strip()
        or len(lines[end - 1]) > 15
        and _CLOSING_RULE.fullmatch(lines[end - 1])
    ):
        end -= 1
    if not depth and end and all(depth_of(line) for line in lines[:end] if line.strip()):
        depth = 1
    return "\n".join(unquoted(line, depth) for line in lines[:end]).strip()


def _end_of(lines: list[str], block: Found) -> int:
    """The line behind the forwarded mail: the end of the text, or of the quote where the client
    quotes what it forwards.
    """
    if not block.depth or not any(depth_of(line) for line in lines[block.end : block.end + 5]):
        return len(lines)
    last = max(index for index in range(block.start, len(lines)) if depth_of(lines[index]))
    return last + 1 if any(not line.strip() for line in lines[last + 1 : last + 2]) else len(lines)


def comment_of(lines: list[str]) -> str:
    """What the forwarder wrote, without the rule that separates it from the rest."""
    end = len(lines)
    while end and (
        not lines[end - 1].strip()
        or _RULE_LINE.fullmatch(lines[end - 1])
        or is_framed(lines[end - 1])
    ):
        end -= 1
    return "\n".join(lines[:end]).strip()


def _introduced(lines: list[str], intro: Found, cut: int) -> Forwarded:
    """A forward made by a client that introduces it like a quote."""
    sentence = " ".join(line.strip() for line in lines[intro.start : intro.end])
    depth = 1 if any(depth_of(line) for line in lines[intro.end : intro.end + 3]) else 0
    return Forwarded(
        sender=_named_in(sentence),
        to=(),
        cc=(),
        subject=None,
        date=None,
        text="\n".join(unquoted(line, depth) for line in lines[intro.end :]).strip(),
        comment=comment_of(lines[:cut]),
        rule="forward prefix and introduction",
    )


_QUOTED_NAME: Final = re.compile(
    r"[\"«„“‚‘]\s*([^\"«»„“”<>]{1,80}?)\s*[\"»“”’‘]\s*[<(\[]{1,2}(?:mailto:)?([^<>()\[\]\s]+@[^<>()\[\]\s]+)"
)
_NAME_BEFORE: Final = re.compile(
    r"(?:^|,|\d|[ap]\.?m\.?|(?:[^\W\d]{3,14}\s){0,3}(?:schrieb|schreef|skrev|escribió|heeft|użytkownik|uživatel|používateľ|пользователь|χρήστης|lietotājs|oseba|user)\s)"
    r"\s*([^\d,<>\"'«»„“”()]{2,60}?)\s*,?\s*[<(\[]{0,2}(?:mailto:)?([^<>()\[\]\s,:]+@[^<>()\[\]\s,:]+)",
    re.IGNORECASE,
)
_USER: Final = re.compile(
    r"^.{0,30}\b(?:user|usuario|utilisateur|używtkownik|użytkownik|uživatel|používateľ|пользователь|користувач|korisnik|uporabnik|lietotājs|oseba|χρήστης|schrieb|schreef|skrev|heeft)\s+",
    re.IGNORECASE,
)
_ANY_ADDRESS: Final = re.compile(r"[^\s<>()\[\]\"',;]+@[^\s<>()\[\]\"',;:]+")


def _named_in(sentence: str) -> Address | None:
    """Who is named in an introduction: the name in quotes before the address, or the words before
    it.
    """
    hits = list(_QUOTED_NAME.finditer(sentence[:1000])) or list(
        _NAME_BEFORE.finditer(sentence[:1000])
    )
    if hits:
        name = _USER.sub("", hits[-1][1]).strip(" (<[")
        return Address(
            charset.one_line(name, limits.NAME), charset.one_line(hits[-1][2], limits.ADDRESS)
        )
    bare = _ANY_ADDRESS.search(sentence[:1000])
    return Address("", charset.one_line(bare[0], limits.ADDRESS)) if bare else None


def _boxes(value: str) -> list[Address]:
    """The mailboxes of a field of a header block: semicolons or commas between them, links of all
    kinds behind them.
    """
    if not value:
        return []
    value = _DOUBLE.sub(r"<\1>", _MAILTO.sub(r"<\1>", value[:20_000]))
    value = _REPEATED.sub(r"\1", _ADDRESS_LINK.sub(r"\1", value))
    found = addresses(value.replace("；", ";").replace("，", ","))
    return [_tidy(each) for each in found]


def _tidy(box: Address) -> Address:
    name = box.name.strip(" *_'\"\u00a0")
    if box.address and name.lower() == box.address.lower():
        name = ""
    return Address(name, box.address)


def _is_content(messages: Sequence[Part], text: str, prefix: bool) -> bool:
    """Whether attached mails are what a mail is about: shown inline, or announced by the subject,
    or nothing else is there.
    """
    if len(messages) > 20:
        return False
    return (
        prefix
        or not text.strip()
        or messages[0].path == ""
        or any(part.disposition != "attachment" for part in messages)
    )


def _attached(part: Part, text: str) -> Forwarded:
    """A forward as an attached mail."""
    if not part.children:
        return _bare("attached mail", text)
    inner = part.children[0]
    headers = inner.headers
    boxes: Mapping[Role, list[Address]] = {
        "from": _all(headers, "from"), "to": _all(headers, "to"), "cc": _all(headers, "cc"),
    }  # fmt: skip
    return Forwarded(
        sender=boxes["from"][0] if boxes["from"] else None,
        to=tuple(boxes["to"]),
        cc=tuple(boxes["cc"]),
        subject=headers.text("subject", limits.SUBJECT),
        date=headers.text("date", 200),
        text=Collector(inner, html=False).run().text.strip(),
        comment=text.strip(),
        rule="attached mail",
    )


def _all(headers: Headers, name: str) -> list[Address]:
    return [
        box
        for value in headers.fields.get(name, ())
        for box in addresses(headers.characters(value))
    ][: limits.ADDRESSES]


def _bare(rule: str, text: str) -> Forwarded:
    """A forward of which only the fact is known."""
    return Forwarded(None, (), (), None, None, text, "", rule)


def _resent(headers: Headers, text: str) -> Forwarded:
    """A mail that was resent as it is: its own header is the original's (RFC 5322 3.6.6)."""
    sender = _all(headers, "from")
    return Forwarded(
        sender=sender[0] if sender else None,
        to=tuple(_all(headers, "to")),
        cc=tuple(_all(headers, "cc")),
        subject=headers.text("subject", limits.SUBJECT),
        date=headers.text("date", 200),
        text=text,
        comment="",
        rule="Resent fields",
    )
