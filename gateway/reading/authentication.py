"""Whose word counts: the verdict that a trusted hop wrote into Authentication-Results (RFC 8601;
behaviour.md 5).

Only a header whose id belongs to us counts; anybody can write one. The reader is our own and
bounded: comments are needed (a published policy of none is told in one) and the library for this
header drops them and costs 0.7 ms a field.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, Literal

from core.model.message import AuthenticationResults

_MOST: Final = 20  # headers read
_LONGEST: Final = 8000  # characters of one
_RESULT: Final = re.compile(
    r"\s*([a-z0-9-]{1,30})\s*(?:/\s*\d+\s*)?=\s*([a-z]{1,20})", re.IGNORECASE
)
_POLICY_NONE: Final = re.compile(
    r"\b(?:p|policy|pol|policy\.(?:published-domain-policy|dmarc|applied-disposition))\s*=\s*\"?none\b",
    re.IGNORECASE,
)
_ORDER: Final = {"pass": 0, "none": 2, "neutral": 3}

Verdict = Literal["pass", "fail", "none"]


def read_results(values: Sequence[str]) -> tuple[AuthenticationResults, ...]:
    """The Authentication-Results fields of a mail, topmost first, unfolded values in. A field that
    is none is left out.
    """
    found = (_read(value[:_LONGEST]) for value in values[:_MOST])
    return tuple(each for each in found if each is not None)


def _read(value: str) -> AuthenticationResults | None:
    pieces = _pieces(value)
    if not pieces:
        return None
    head = pieces[0][0].split()
    if not head:
        return None
    results: dict[str, str] = {}
    policy_none = False
    start = 1
    if _RESULT.match(pieces[0][0]):  # written without an id
        head, start = [""], 0
    for text, comments in pieces[start:]:
        match = _RESULT.match(text)
        if match is None:
            continue
        method, result = match[1].lower(), match[2].lower()
        if method not in {"spf", "dkim", "dmarc"}:
            continue
        before = results.get(method)
        if before is None or _ORDER.get(result, 1) < _ORDER.get(
            before, 1
        ):  # several signatures: one that passes is enough
            results[method] = result
        if method == "dmarc" and (_POLICY_NONE.search(comments) or _POLICY_NONE.search(text)):
            policy_none = True
    return AuthenticationResults(
        head[0].strip('"').lower()[:255],
        results.get("spf"),
        results.get("dkim"),
        results.get("dmarc"),
        policy_none,
    )


_SIGNS: Final = re.compile(r'[()";\\]')


def _pieces(value: str) -> list[tuple[str, str]]:
    """The value cut at its semicolons: (text without comments, the comments), in one pass."""
    out: list[tuple[str, str]] = []
    text: list[str] = []
    comments: list[str] = []
    depth = at = 0
    quoted = False
    for sign in _SIGNS.finditer(value):
        if sign.start() < at:
            continue
        (comments if depth else text).append(value[at : sign.start()])
        at = sign.end()
        char = sign[0]
        if char == "\\":
            (comments if depth else text).append(value[at : at + 1])
            at += 1
        elif char == '"' and not depth:
            quoted = not quoted
        elif quoted:
            text.append(char)
        elif char == "(":
            depth += 1
            comments.append(" ")
        elif char == ")":
            depth = max(0, depth - 1)
        elif char == ";" and not depth:
            out.append(("".join(text), "".join(comments)))
            text, comments = [], []
        else:
            (comments if depth else text).append(char)
    (comments if depth else text).append(value[at:])
    out.append(("".join(text), "".join(comments)))
    return out


def verdict(results: Sequence[AuthenticationResults], trusted: Collection[str]) -> Verdict:
    """``pass``, ``fail`` or ``none`` by the topmost header whose id is in ``trusted`` (behaviour.md
    5).

    ``dmarc=fail`` is a fail unless the published policy is none; everything else but ``dmarc=pass``
      says nothing.
    """
    ids = {each.lower() for each in trusted}
    for each in results:
        if each.authserv_id not in ids:
            continue
        if each.dmarc == "pass":
            return "pass"
        if each.dmarc == "fail" and not each.dmarc_policy_none:
            return "fail"
        return "none"
    return "none"


def relied_on(
    results: Sequence[AuthenticationResults], trusted: Collection[str]
) -> AuthenticationResults | None:
    """The header that :func:`verdict` goes by, for showing; without a trusted one the topmost of
    all.
    """
    ids = {each.lower() for each in trusted}
    return next(
        (each for each in results if each.authserv_id in ids), results[0] if results else None
    )
