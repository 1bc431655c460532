"""Find the forwarded mail inside a mail, in any language and from any client.

A forward is recognised by a forward mark with a header block, a subject prefix with a header block,
an attached mail, or the fields of a resent mail (behaviour.md 2.1, step 8 b to e). A mark below an
attribution belongs to the quoted mail and does not count. The message names the rule that
recognised the forward.

To add a forward mark, a header label or a subject prefix, add the words to a table in
:mod:`gateway.reading.languages`; nothing needs to change here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from core.model.message import Address, Forwarded
from gateway.reading.languages import FORWARD_PREFIX, REPLY_PREFIX, fold
from gateway.reading.mime import charset, limits
from gateway.reading.mime.address_lists import addresses
from gateway.reading.mime.content import Collector
from gateway.reading.mime.headers import Headers
from gateway.reading.mime.part_tree import Part
from gateway.reading.text.header_blocks import collapsed_fields, header_block
from gateway.reading.text.outline import after_mark
from gateway.reading.text.quotes import OutlineItem, depth_of, is_framed, unquoted

_RULE_LINE: Final = re.compile(r"[\s\u00a0]*[-_=*~—–]{3,}[\s\u00a0]*")
_CLOSING_RULE: Final = re.compile(
    r"\s*+[-=*~—–]{3,80}(?: ?[Ee]nd (?:of )?[\w ]{3,40})?[-=*~—–]{3,80}\s*+"
)
_MAILTO: Final = re.compile(r"[\[<(]\s*+mailto:\s*+([^\s<>()\[\]]++)\s*+[\]>)]", re.IGNORECASE)
_NESTED_BRACKETS: Final = re.compile(
    r"<\s*+([^<>\s@]++@[^<>\s]++)\s*+<[^<>]*+>\s*+>", re.IGNORECASE
)
_REPEATED_ADDRESS: Final = re.compile(r"(<[^<>\s@]++@[^<>\s]++>)\s*+<[^<>@]*+@[^<>]*+>")
_ADDRESS_LINK: Final = re.compile(
    r"(?<![^\s<>,;])([^\s<>,;@]++@[^\s<>,;]++)\s*+<mailto:[^<>]*+>", re.IGNORECASE
)
_ON_BEHALF: Final = re.compile(
    r"\b(?:on behalf of|im auftrag von|de la part de|en nombre de|namens|à la demande de|"
    r"em nome de|per conto di|w imieniu|от имени)\b.*",
    re.IGNORECASE,
)


def find(
    text: str,
    lines: list[str],
    found: list[OutlineItem],
    subject: str,
    headers: Headers,
    messages: Sequence[Part],
) -> Forwarded | None:
    """Return the mail that this mail forwards, or None.

    ``found`` is the outline of ``lines``, the lines of ``text``; ``messages`` are the attached
    mails.
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
        return _attached_mail(messages[0], text)
    if "x-forwarded-message-id" in headers.fields:
        return _without_header("X-Forwarded-Message-Id", text)
    if (
        "resent-from" in headers.fields
        or "resent-to" in headers.fields
        or "resent-message-id" in headers.fields
    ):
        return _resent(headers, text)
    return None


def _in_text(
    lines: list[str], found: list[OutlineItem], prefix: bool, subject: str, *, is_reply: bool
) -> Forwarded | None:
    """Return the mail forwarded in the text, or None; tries the outline items in order."""
    for index, each in enumerate(found):
        if each.kind == "forward_mark":
            if each.depth and not _may_be_quoted(lines, found, index, each):
                return None
            forward = _after_mark(lines, each)
            if forward is not None:
                return forward
        elif each.kind == "block":
            return _by_block(
                lines, each, _mark_above(lines, found[:index], each), prefix, subject, is_reply
            )
        elif each.kind == "attribution":
            if prefix and each.strong:
                return _after_attribution(lines, each, _mark_above(lines, found[:index], each))
            return None
        elif each.kind == "reply_mark" and not prefix:
            return None
    return None


def _mark_above(lines: list[str], before: list[OutlineItem], each: OutlineItem) -> int:
    """Return the line of the mark directly above an item; without a mark, the item's first line."""
    # Some clients write the same mark above replies and forwards.
    mark = before[-1] if before else each
    is_mark = mark.kind in {"reply_mark", "forward_mark"}
    is_above = is_mark and not any(line.strip() for line in lines[mark.end : each.start])
    return mark.start if is_above else each.start


def _by_block(
    lines: list[str], block: OutlineItem, cut: int, prefix: bool, subject: str, is_reply: bool
) -> Forwarded | None:
    """Return the mail forwarded below a header block without mark; None if it is only quoted.

    The mail counts as forwarded if the subject has a forward prefix, or if the mail around it has
    no sign of an answer.
    """
    if block.depth > 1:
        return None
    if prefix:
        return _forward_of_block(lines, block, cut, "forward prefix and header block")
    if (
        is_reply
        or block.depth
        or REPLY_PREFIX.match(subject)
        or not _bears_own_subject(block, subject)
    ):
        return None
    return _forward_of_block(lines, block, cut, "header block of a mail with this very subject")


def _bears_own_subject(block: OutlineItem, subject: str) -> bool:
    """Tell whether a complete header block has exactly the subject of the mail around it.

    If it has, the mail is no answer: clients put a prefix before the subject of an answer.
    """
    inner = block.fields.get("subject", "")
    is_complete = {"from", "to", "date"} <= block.fields.keys()
    return is_complete and bool(inner) and fold(inner) == fold(subject)


def _may_be_quoted(
    lines: list[str], found: list[OutlineItem], index: int, mark: OutlineItem
) -> bool:
    """Tell whether a quoted mark counts: it must begin a quote that has no attribution.

    Some clients quote the whole forward, its mark included.
    """
    if mark.depth > 1 or any(
        each.kind in {"attribution", "reply_mark", "block"} for each in found[:index]
    ):
        return False
    before = next((line for line in reversed(lines[: mark.start]) if line.strip("> \t")), "")
    return depth_of(before) == 0 and not before.rstrip().endswith((":", "："))


def _after_mark(lines: list[str], mark: OutlineItem) -> Forwarded | None:
    """Return the mail whose header block follows a forward mark, on the same line or below."""
    rest = (
        after_mark(unquoted(lines[mark.start], mark.depth)) if len(lines[mark.start]) > 40 else ""
    )
    if rest:
        fields = collapsed_fields(rest)
        if len(fields) > 1:
            return _forward_of_block(
                lines,
                OutlineItem("block", mark.start, mark.start + 1, mark.depth, fields),
                mark.start,
                "forward mark",
            )
    block = header_block(lines, mark.end, mark.depth, marked=True)
    return (
        _forward_of_block(lines, block, mark.start, "forward mark") if block is not None else None
    )


def _forward_of_block(lines: list[str], block: OutlineItem, cut: int, rule: str) -> Forwarded:
    """Return the forwarded mail below a header block; the lines above ``cut`` are the comment."""
    fields = block.fields
    end = _end_of(lines, block)
    comment = comment_of(lines[:cut]) or comment_of(lines[end:])
    sender = _mailboxes(_ON_BEHALF.sub("", fields.get("from", "")))
    return Forwarded(
        sender=sender[0] if sender else None,
        to=tuple(_mailboxes(fields.get("to", ""))),
        cc=tuple(_mailboxes(fields.get("cc", ""))),
        subject=charset.one_line(fields["subject"], limits.SUBJECT)
        if "subject" in fields
        else None,
        date=charset.one_line(fields["date"], 200) if "date" in fields else None,
        text=_text_of(lines[block.end : end], block.depth),
        comment=comment,
        rule=rule,
    )


def _text_of(lines: list[str], depth: int) -> str:
    """Return the forwarded text without its closing line, and unquoted if every line is quoted."""
    end = len(lines)
    while end and (not lines[end - 1].strip() or _is_closing_rule(lines[end - 1])):
        end -= 1
    if not depth and end and all(depth_of(line) for line in lines[:end] if line.strip()):
        depth = 1
    return "\n".join(unquoted(line, depth) for line in lines[:end]).strip()


def _is_closing_rule(line: str) -> bool:
    """Tell whether a line ends a forwarded mail, such as ``----- End forwarded message -----``."""
    return len(line) > 15 and _CLOSING_RULE.fullmatch(line) is not None


def _end_of(lines: list[str], block: OutlineItem) -> int:
    """Return the line where a forwarded mail ends: the end of the text or of the outer quote."""
    if not block.depth or not any(depth_of(line) for line in lines[block.end : block.end + 5]):
        return len(lines)
    last = max(index for index in range(block.start, len(lines)) if depth_of(lines[index]))
    return last + 1 if any(not line.strip() for line in lines[last + 1 : last + 2]) else len(lines)


def comment_of(lines: list[str]) -> str:
    """Return what the person who forwards wrote, without blank and dashed lines at the end."""
    end = len(lines)
    while end and _is_blank_or_rule(lines[end - 1]):
        end -= 1
    return "\n".join(lines[:end]).strip()


def _is_blank_or_rule(line: str) -> bool:
    return not line.strip() or bool(_RULE_LINE.fullmatch(line)) or is_framed(line)


def _after_attribution(lines: list[str], attribution: OutlineItem, cut: int) -> Forwarded:
    """Return the mail below an attribution; some clients write one instead of a forward mark."""
    sentence = " ".join(line.strip() for line in lines[attribution.start : attribution.end])
    depth = 1 if any(depth_of(line) for line in lines[attribution.end : attribution.end + 3]) else 0
    return Forwarded(
        sender=_author_in(sentence),
        to=(),
        cc=(),
        subject=None,
        date=None,
        text="\n".join(unquoted(line, depth) for line in lines[attribution.end :]).strip(),
        comment=comment_of(lines[:cut]),
        rule="forward prefix and introduction",
    )


_QUOTED_NAME: Final = re.compile(
    r"[\"«„“‚‘]\s*([^\"«»„“”<>]{1,80}?)\s*[\"»“”’‘]\s*"
    r"[<(\[]{1,2}(?:mailto:)?([^<>()\[\]\s]+@[^<>()\[\]\s]+)"
)
_NAME_BEFORE: Final = re.compile(
    r"(?:^|,|\d|[ap]\.?m\.?|(?:[^\W\d]{3,14}\s){0,3}"
    r"(?:schrieb|schreef|skrev|escribió|heeft|użytkownik|uživatel|používateľ|пользователь|"
    r"χρήστης|lietotājs|oseba|user)\s)"
    r"\s*([^\d,<>\"'«»„“”()]{2,60}?)\s*,?\s*"
    r"[<(\[]{0,2}(?:mailto:)?([^<>()\[\]\s,:]+@[^<>()\[\]\s,:]+)",
    re.IGNORECASE,
)
_WORDS_BEFORE_NAME: Final = re.compile(
    r"^.{0,30}\b(?:user|usuario|utilisateur|używtkownik|użytkownik|uživatel|používateľ|"
    r"пользователь|користувач|korisnik|uporabnik|lietotājs|oseba|χρήστης|schrieb|schreef|"
    r"skrev|heeft)\s+",
    re.IGNORECASE,
)
_ANY_ADDRESS: Final = re.compile(r"[^\s<>()\[\]\"',;]+@[^\s<>()\[\]\"',;:]+")


def _author_in(sentence: str) -> Address | None:
    """Return the author that an attribution names; None if the attribution has no address."""
    head = sentence[:1000]
    hits = list(_QUOTED_NAME.finditer(head)) or list(_NAME_BEFORE.finditer(head))
    if hits:
        return _address(_WORDS_BEFORE_NAME.sub("", hits[-1][1]).strip(" (<["), hits[-1][2])
    bare = _ANY_ADDRESS.search(head)
    return _address("", bare[0]) if bare else None


def _address(name: str, address: str) -> Address:
    """Return a name and an address as a mailbox, each cut to its limit."""
    return Address(charset.one_line(name, limits.NAME), charset.one_line(address, limits.ADDRESS))


def _mailboxes(value: str) -> list[Address]:
    """Return the mailboxes in a field of a header block; links behind addresses are ignored."""
    if not value:
        return []
    value = _NESTED_BRACKETS.sub(r"<\1>", _MAILTO.sub(r"<\1>", value[:20_000]))
    value = _REPEATED_ADDRESS.sub(r"\1", _ADDRESS_LINK.sub(r"\1", value))
    found = addresses(value.replace("；", ";").replace("，", ","))
    return [_tidy_mailbox(each) for each in found]


def _tidy_mailbox(box: Address) -> Address:
    """Return a mailbox with a plain name, or with no name if the name only repeats the address."""
    name = box.name.strip(" *_'\"\u00a0")
    if box.address and name.lower() == box.address.lower():
        name = ""
    return Address(name, box.address)


def _is_content(messages: Sequence[Part], text: str, prefix: bool) -> bool:
    """Tell whether attached mails are the forwarded content of the mail, not just attachments.

    They are if the subject has a forward prefix, if an attached mail is to be shown inline, or if
    the mail has no text of its own.
    """
    if len(messages) > 20:
        return False
    if prefix or not text.strip() or messages[0].path == "":
        return True
    return any(part.disposition != "attachment" for part in messages)


def _attached_mail(part: Part, text: str) -> Forwarded:
    """Return an attached mail as a forward; ``text`` is the text of the mail around it."""
    if not part.children:
        return _without_header("attached mail", text)
    inner = part.children[0]
    forwarded = Collector(inner, html=False).run().text.strip()
    return _of_headers(inner.headers, text=forwarded, comment=text.strip(), rule="attached mail")


def _mailboxes_of(headers: Headers, name: str) -> list[Address]:
    """Return the mailboxes in all fields named ``name``."""
    return [
        box
        for value in headers.fields.get(name, ())
        for box in addresses(headers.characters(value))
    ][: limits.ADDRESSES]


def _without_header(rule: str, text: str) -> Forwarded:
    """Return a forward without sender, recipients, subject and date."""
    return Forwarded(
        sender=None, to=(), cc=(), subject=None, date=None, text=text, comment="", rule=rule
    )


def _resent(headers: Headers, text: str) -> Forwarded:
    """Return a resent mail as a forward; resending keeps the header fields (RFC 5322 3.6.6)."""
    return _of_headers(headers, text=text, comment="", rule="Resent fields")


def _of_headers(headers: Headers, *, text: str, comment: str, rule: str) -> Forwarded:
    """Return the forward whose sender, recipients, subject and date are in these headers."""
    sender = _mailboxes_of(headers, "from")
    return Forwarded(
        sender=sender[0] if sender else None,
        to=tuple(_mailboxes_of(headers, "to")),
        cc=tuple(_mailboxes_of(headers, "cc")),
        subject=headers.text("subject", limits.SUBJECT),
        date=headers.text("date", 200),
        text=text,
        comment=comment,
        rule=rule,
    )
