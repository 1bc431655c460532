"""Make subject, references, quote and recipients of an answer from the mail that it answers.

Strangers wrote that mail, so every function accepts any text and never fails. Characters and ids
that cannot stand in a header are left out, long text is cut, and every quoted line gets a ``>``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Final

from core.mail.our_addresses import our_address
from core.model.message import Address

_LONGEST_SUBJECT: Final = 400
_READ_SUBJECT: Final = 4000  # characters of a subject that are looked at
_LONGEST_ID: Final = 250
_CUT: Final = "> [...]"
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_ID: Final = re.compile(rf"[!-;=?-~]{{1,{_LONGEST_ID}}}")
_OUR_TAG: Final = re.compile(r"\[(#[0-9]{1,15}\.[a-z2-7]{16})\]", re.IGNORECASE | re.ASCII)
# "Reply" as mail programs put it before a subject, without words that people begin a subject with
# (ref, rep, on).
_REPLY_WORDS: Final = (
    "re aw antw antwort sv svar vs odp odg res r rif rép va vá ynt yanıt bls atb ats απ σχετ "
    "отв ответ відп תשובה השב رد "
    "回复 回覆 答复 答覆 回信 返信 답장 회신"
).split()
_REPLY: Final = re.compile(
    rf"(?:(?:{'|'.join(_REPLY_WORDS)})(?: ?[\[(][0-9]{{1,3}}[\])]|\^[0-9]{{1,3}})? ?[:：] ?)+",
    re.IGNORECASE,
)
_DAYS: Final = "Mon Tue Wed Thu Fri Sat Sun".split()
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def one_line(text: str) -> str:
    """Return a text as one line that may stand in a header.

    Control characters, line ends and lone surrogates become blanks; runs of blanks become one.
    """
    return " ".join(_UNSAFE.sub(" ", text).split())


def subject_of(subject: str, tag: str, prefix: str = "Re") -> str:
    """Return the subject of an answer: ``Re: <subject> [tag]``, one line of at most 400 characters.

    Reply prefixes in any language are removed, forward prefixes stay. Tags of other tickets are
    removed; this ticket's ``tag`` (see :func:`core.mail.reply_tokens.tag`) stays where it is or is
    appended, never cut. ``prefix`` may be empty. A subject that this function returned earlier is
    returned unchanged.
    """
    kept = False

    def own(found: re.Match[str]) -> str:
        nonlocal kept
        if kept or found[1].lower() != tag.lower():
            return " "
        kept = True
        return found[0]

    text = one_line(_OUR_TAG.sub(own, one_line(subject[:_READ_SUBJECT])))
    head = f"{prefix}: " if prefix else ""
    mark = f"[{tag}]"
    text = _bare(text)
    if kept and len(head) + len(text) <= _LONGEST_SUBJECT:
        return head + text
    text = _bare(one_line(_OUR_TAG.sub(" ", text)))
    room = _LONGEST_SUBJECT - len(head) - len(mark) - 1
    return head + f"{text[:room].rstrip()} {mark}".lstrip()


def _bare(subject: str) -> str:
    """Return a subject without the reply prefixes at its beginning."""
    prefixes = _REPLY.match(subject)
    return subject if prefixes is None else subject[prefixes.end() :]


def usable_id(identifier: str) -> bool:
    """Tell whether a Message-ID can stand in a header: printable ASCII, no blanks or brackets."""
    return _ID.fullmatch(identifier) is not None


def references_of(
    parent_id: str | None, parent_references: Sequence[str], limit: int = 20, octets: int = 4000
) -> tuple[str, ...]:
    """Return the References of an answer, oldest first, without angle brackets (RFC 5322 3.6.4).

    They are ``parent_references`` (the References of the answered mail, or its In-Reply-To),
    followed by ``parent_id`` (the Message-ID of the answered mail). Ids that cannot stand in a
    header are left out. If there are more than ``limit`` ids or ``octets`` bytes, ids in the middle
    are left out, but never ``parent_id``.
    """
    ids = [
        each for each in dict.fromkeys(parent_references) if each != parent_id and usable_id(each)
    ]
    if parent_id is not None and usable_id(parent_id):
        ids.append(parent_id)
    if not ids:
        return ()
    first, *rest = ids
    newest = [rest.pop()] if rest else []
    room = octets - sum(len(each) + 3 for each in (first, *newest))
    if newest and (room < 0 or limit < 2):
        return tuple(newest)
    while rest and len(newest) + 1 < limit and (room := room - len(rest[-1]) - 3) >= 0:
        newest.append(rest.pop())
    return (first, *reversed(newest))


def _introduction(when: datetime, zone: tzinfo, name: str) -> str:
    at = when.astimezone(zone)  # not strftime, which speaks the language of the machine
    return (
        f"On {_DAYS[at.weekday()]}, {at.day} {_MONTHS[at.month - 1]} {at.year} at {at:%H:%M}, "
        f"{one_line(name) or 'somebody'} wrote:"
    )


def _cut(text: str, limit: int) -> tuple[str, bool]:
    """Cut a text to whole lines within ``limit`` characters; return (text, whether it was cut)."""
    text = text.rstrip()
    if len(text) <= limit:
        return text, False
    whole = text[:limit].rpartition("\n")[0]
    return (whole or text[:limit]).rstrip(), True


def _quoted(lines: Iterable[str]) -> list[str]:
    return [
        (">" if line.startswith(">") else "> " if line else ">") + line
        for line in (each.rstrip() for each in lines)
    ]


def quote(text: str, when: datetime, zone: tzinfo, name: str, limit: int = 20_000) -> str:
    """Return a mail as a quote: a line with author and time, then up to ``limit`` characters."""
    text, cut = _cut(text, limit)
    return "\n".join(
        [_introduction(when, zone, name), *_quoted(text.splitlines()), *([_CUT] if cut else [])]
    )


def quote_html(text: str, when: datetime, zone: tzinfo, name: str, limit: int = 20_000) -> str:
    """Return the quote of :func:`quote` as HTML: the escaped text in a blockquote."""
    text, cut = _cut(text, limit)
    lines = [html.escape(line.rstrip()) for line in text.splitlines()]
    quoted = "<br>\n".join([*lines, *(["[...]"] if cut else [])])
    introduction = html.escape(_introduction(when, zone, name))
    return f'<p>{introduction}</p>\n<blockquote type="cite">\n{quoted}\n</blockquote>'


def with_signature(text: str, signature: str | None) -> str:
    """Return a text with a signature below the line ``-- `` (RFC 3676 4.3)."""
    signature = (signature or "").removeprefix("-- \n").strip()
    return f"{text.rstrip()}\n\n-- \n{signature}" if signature else text


def opening_lines(text: str, lines: int = 6, width: int = 400) -> str:
    """Return the first lines of a mail as a quote, each cut to ``width`` characters."""
    given = text.strip().splitlines()
    shown = [
        line if len(line) <= width else line[: width - 3].rstrip() + "..." for line in given[:lines]
    ]
    return "\n".join([*_quoted(shown), *([_CUT] if len(given) > lines else [])])


def recipients(
    newest_inbound: Address | None,
    requester: Address | None,
    approved: Sequence[Address],
    to: Sequence[Address],
    cc: Sequence[Address],
    ours: frozenset[str],
) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
    """Return (To, Cc) of an answer on a ticket (interfaces.md 2.2); both may be empty.

    To is the sender of the newest inbound mail, or else the requester; Cc are the ``approved``
    participants. A given ``to`` replaces both; ``cc`` is added. Nobody is named twice, and none of
    ``ours`` (address keys of channels, with or without a plus part) is named.
    """
    seen: set[str] = set()

    def allowed(given: Iterable[Address | None]) -> tuple[Address, ...]:
        taken = []
        for each in given:
            if (
                each is None
                or not each.key
                or each.key in seen
                or our_address(ours, each.key) is not None
            ):
                continue
            seen.add(each.key)
            taken.append(Address(one_line(each.name), each.address))
        return tuple(taken)

    if to:
        return allowed(to), allowed(cc)
    first = allowed([newest_inbound]) or allowed([requester])
    return first, allowed([*approved, *cc])
