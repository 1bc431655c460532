"""Read Authentication-Results (RFC 8601) and return a trusted server's verdict (behaviour.md 5).

Anybody can write this header, so only headers with the id of a trusted server count. The parser is
our own and bounded: the library for this header drops comments, which may hold the published
policy, and takes 0.7 ms a field.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, Literal

from core.model.message import AuthenticationResults

_MAX_FIELDS: Final = 20
_MAX_FIELD_CHARS: Final = 8000
_RESULT: Final = re.compile(
    r"\s*([a-z0-9-]{1,30})\s*(?:/\s*\d+\s*)?=\s*([a-z]{1,20})", re.IGNORECASE
)
_POLICY_NONE: Final = re.compile(
    (
        r"\b(?:p|policy|pol|policy\.(?:published-domain-policy|dmarc|"
        r"applied-disposition))\s*=\s*\"?none\b"
    ),
    re.IGNORECASE,
)
# Of several results of a method, the lowest rank wins; results not listed rank 1.
_RANK: Final = {"pass": 0, "none": 2, "neutral": 3}

Verdict = Literal["pass", "fail", "none"]


def read_results(values: Sequence[str]) -> tuple[AuthenticationResults, ...]:
    """Return the results in these unfolded fields, topmost first; unreadable fields are skipped."""
    found = (_read(value[:_MAX_FIELD_CHARS]) for value in values[:_MAX_FIELDS])
    return tuple(each for each in found if each is not None)


def _read(value: str) -> AuthenticationResults | None:
    """Return the results in one field; None if the text before its first semicolon is empty."""
    pieces = _split_at_semicolons(value)
    if not pieces:
        return None
    head = pieces[0][0].split()
    if not head:
        return None
    results: dict[str, str] = {}
    policy_none = False
    start = 1
    if _RESULT.match(pieces[0][0]):  # the field has no id
        head, start = [""], 0
    for text, comments in pieces[start:]:
        match = _RESULT.match(text)
        if match is None:
            continue
        method, result = match[1].lower(), match[2].lower()
        if method not in {"spf", "dkim", "dmarc"}:
            continue
        before = results.get(method)
        # Of several signatures, one that passes is enough.
        if before is None or _RANK.get(result, 1) < _RANK.get(before, 1):
            results[method] = result
        if method == "dmarc" and (_POLICY_NONE.search(comments) or _POLICY_NONE.search(text)):
            policy_none = True
    return AuthenticationResults(
        authserv_id=head[0].strip('"').lower()[:255],
        spf=results.get("spf"),
        dkim=results.get("dkim"),
        dmarc=results.get("dmarc"),
        dmarc_policy_none=policy_none,
    )


_DELIMITERS: Final = re.compile(r'[()";\\]')


def _split_at_semicolons(value: str) -> list[tuple[str, str]]:
    """Split at semicolons outside comments and quotes; return (text, comments) of each piece."""
    out: list[tuple[str, str]] = []
    text: list[str] = []
    comments: list[str] = []
    depth = at = 0
    quoted = False
    for sign in _DELIMITERS.finditer(value):
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
    """Return ``pass``, ``fail`` or ``none`` from the topmost header of a server in ``trusted``.

    ``dmarc=pass`` is ``pass``; ``dmarc=fail`` is ``fail`` unless the published policy is none;
    everything else is ``none`` (behaviour.md 5).
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
    """Return the header that :func:`verdict` uses, else the topmost header, else None."""
    ids = {each.lower() for each in trusted}
    return next(
        (each for each in results if each.authserv_id in ids), results[0] if results else None
    )
