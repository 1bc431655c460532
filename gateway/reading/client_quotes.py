"""What clients say in HTML about the mails they quote, where the text alone does not tell: marked
elements, and quotes whose signs got lost.

What stands in the text decides first; a mark adds only what no word and no sign tells. What can go
wrong: answers written into a quote. So a marked quote with unquoted lines between quoted ones is
left to the text, and a quote with words of the sender above and below stays whole.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.reading.mime import charset
from gateway.reading.mime.part_tree import Part
from gateway.reading.text import visible_reply
from gateway.reading.text.outline import outline
from gateway.reading.text.quotes import Found, QuoteMark, depth_of

_NO_LETTER: Final = re.compile(r"[\W_]+")
_LONGEST_INTRODUCTION: Final = 8  # lines
_LONGEST: Final = 512 * 1024  # bytes of HTML beside a plain text that are looked into
_ALIKE: Final = 40  # letters of a quote that must be the same in the text and in the HTML


def merged(lines: list[str], found: list[Found], marks: list[QuoteMark]) -> list[Found]:
    """The outline of a text that was made from HTML, with what the marks add to it."""
    first = next(
        (index for index, line in enumerate(lines) if line.strip() and not depth_of(line)),
        len(lines),
    )
    behind = 0
    for mark in marks:
        if (
            mark.start < behind
            or mark.end <= mark.start
            or mark.start <= first
            and mark.kind == "quote"
        ):
            continue
        new = (
            _introduction(lines, mark)
            if mark.kind == "introduction"
            else _quote(lines, found, mark)
        )
        if new is None or any(
            each.start < new.end and each.end > new.start and each.strong
            for each in found
            if new.sign == "introduction"
        ):
            continue
        found = sorted(
            [each for each in found if not new.start <= each.start < new.end] + [new],
            key=lambda each: each.start,
        )
        behind = mark.end if mark.kind == "quote" else behind
    return found


def _introduction(lines: list[str], mark: QuoteMark) -> Found | None:
    if mark.end - mark.start > _LONGEST_INTRODUCTION or any(
        depth_of(line) for line in lines[mark.start : mark.end]
    ):
        return None
    return Found("introduction", mark.start, mark.end, 0, {}, strong=True)


def _quote(lines: list[str], found: list[Found], mark: QuoteMark) -> Found | None:
    """A marked quote: its introduction where quote signs follow, the whole where there are none;
    nothing where the text tells more.
    """
    inside = [each for each in found if mark.start <= each.start < mark.end]
    if any(each.sign in {"forward_mark", "reply_mark", "block"} for each in inside):
        return None
    signed = [
        index for index in range(mark.start, min(mark.end, len(lines))) if depth_of(lines[index])
    ]
    if not signed:
        return Found("quote", mark.start, mark.end, 1)
    answered = any(
        lines[index].strip() and not depth_of(lines[index])
        for index in range(signed[0], signed[-1])
    )
    if (
        answered
        or signed[0] - mark.start > _LONGEST_INTRODUCTION
        or any(each.start < signed[0] for each in inside)
    ):
        return None
    return (
        Found("introduction", mark.start, signed[0], 0, {}, strong=True)
        if signed[0] > mark.start
        else None
    )


def lost(lines: list[str], beside: Part) -> list[Found]:
    """The quote in a plain text that has no sign of one, found through the HTML ``beside`` it: the
    sender's words come first in both, and what follows them is the same. Nothing where the two
    differ.
    """
    from gateway.reading.mime import html

    source, _ = charset.decode(beside.content()[:_LONGEST], beside.params.get("charset"))
    if "<blockquote" not in source and not html.is_marked(source):
        return []
    text, marks = html.to_text(source)
    shown = text.split("\n")
    reply, quoted = visible_reply.visible(text, shown, merged(shown, outline(shown), marks))
    own, rest = _NO_LETTER.sub("", reply), _NO_LETTER.sub("", quoted)
    if not own or not rest:
        return []
    left = len(own)
    for index, line in enumerate(lines):
        left -= len(_NO_LETTER.sub("", line))
        if left <= 0:
            above, below = (
                _NO_LETTER.sub("", "".join(lines[: index + 1])),
                _NO_LETTER.sub("", "".join(lines[index + 1 :])),
            )
            same = left == 0 and above == own and below[:_ALIKE] == rest[:_ALIKE]
            return [Found("quote", index + 1, len(lines), 1)] if same else []
    return []
