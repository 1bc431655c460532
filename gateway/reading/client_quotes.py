"""Find quotes that only the HTML of a mail shows: blockquotes and elements marked by clients.

The text is searched first; the HTML only adds quotes that the text does not show. Answers that the
sender wrote into a quote must not get lost. So a marked quote is ignored if unquoted lines stand
between its quoted lines. A quote stays in the visible reply if the sender wrote above and below it.

To add the class or id with which a client marks quotes, edit
:mod:`gateway.reading.mime.quote_classes`; nothing needs to change here.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.reading.mime import charset, quote_classes
from gateway.reading.mime.part_tree import Part
from gateway.reading.text import visible_reply
from gateway.reading.text.outline import outline
from gateway.reading.text.quotes import OutlineItem, QuoteMark, depth_of

_NON_LETTERS: Final = re.compile(r"[\W_]+")
_MAX_ATTRIBUTION_LINES: Final = 8
_MAX_HTML_BYTES: Final = 512 * 1024
_MATCHING_LETTERS: Final = 40  # of a quote, the same in the text and in the HTML


def merge(lines: list[str], found: list[OutlineItem], marks: list[QuoteMark]) -> list[OutlineItem]:
    """Add the quotes that ``marks`` show to an outline, and return the new outline.

    ``found`` is the outline of ``lines``.
    """
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
            _attribution(lines, mark) if mark.kind == "attribution" else _quote(lines, found, mark)
        )
        if new is None or any(
            each.start < new.end and each.end > new.start and each.strong
            for each in found
            if new.kind == "attribution"
        ):
            continue
        found = sorted(
            [each for each in found if not new.start <= each.start < new.end] + [new],
            key=lambda each: each.start,
        )
        behind = mark.end if mark.kind == "quote" else behind
    return found


def _attribution(lines: list[str], mark: QuoteMark) -> OutlineItem | None:
    """Return the outline item of an attribution that the HTML marks, or None.

    The result is None if the attribution is too long or contains quoted lines.
    """
    if mark.end - mark.start > _MAX_ATTRIBUTION_LINES or any(
        depth_of(line) for line in lines[mark.start : mark.end]
    ):
        return None
    return OutlineItem("attribution", mark.start, mark.end, 0, {}, strong=True)


def _quote(lines: list[str], found: list[OutlineItem], mark: QuoteMark) -> OutlineItem | None:
    """Return the outline item that a marked quote adds, or None if it adds nothing.

    If no marked line has a quote sign, the item is the whole quote. Otherwise the text shows the
    quote already, and the item is only its attribution.
    """
    inside = [each for each in found if mark.start <= each.start < mark.end]
    if any(each.kind in {"forward_mark", "reply_mark", "block"} for each in inside):
        return None
    signed = [
        index for index in range(mark.start, min(mark.end, len(lines))) if depth_of(lines[index])
    ]
    if not signed:
        return OutlineItem("quote", mark.start, mark.end, 1)
    answered = any(
        lines[index].strip() and not depth_of(lines[index])
        for index in range(signed[0], signed[-1])
    )
    if (
        answered
        or signed[0] - mark.start > _MAX_ATTRIBUTION_LINES
        or any(each.start < signed[0] for each in inside)
    ):
        return None
    return (
        OutlineItem("attribution", mark.start, signed[0], 0, {}, strong=True)
        if signed[0] > mark.start
        else None
    )


def find_in_html(lines: list[str], beside: Part) -> list[OutlineItem]:
    """Find the quote in a plain text that has no quote signs, by comparing the text with its HTML.

    The list is empty unless both hold the same words of the sender, followed by the same quote.
    """
    from gateway.reading.mime import html

    source, _ = charset.decode(beside.content()[:_MAX_HTML_BYTES], beside.params.get("charset"))
    if "<blockquote" not in source and not quote_classes.is_marked(source):
        return []
    text, marks = html.to_text(source)
    shown = text.split("\n")
    reply, quoted = visible_reply.split(text, shown, merge(shown, outline(shown), marks))
    own, rest = _NON_LETTERS.sub("", reply), _NON_LETTERS.sub("", quoted)
    if not own or not rest:
        return []
    left = len(own)
    for index, line in enumerate(lines):
        left -= len(_NON_LETTERS.sub("", line))
        if left <= 0:
            above, below = (
                _NON_LETTERS.sub("", "".join(lines[: index + 1])),
                _NON_LETTERS.sub("", "".join(lines[index + 1 :])),
            )
            same = (
                left == 0 and above == own and below[:_MATCHING_LETTERS] == rest[:_MATCHING_LETTERS]
            )
            return [OutlineItem("quote", index + 1, len(lines), 1)] if same else []
    return []
