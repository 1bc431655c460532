"""Read Authentication-Results (RFC 8601) and return a trusted server's verdict (behaviour.md 5).

Anybody can write this header, so only headers with the id of a trusted server count. In mail by
SMTP they count only if a listed peer sent it; else intake drops them
(:attr:`Envelope.results_count`). An id is read strictly, as mail servers read it when they remove
forged headers. So a header that such a server overlooks never has a trusted id here. Words in
comments and quoted strings are no results, since a sender may have chosen them.

The parser is our own and bounded: the library for this header drops comments, which may hold the
published policy, and takes 0.7 ms a field.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple

from core.model.message import AuthenticationResults, related_domains

_MAX_FIELDS: Final = 20
_MAX_FIELD_CHARS: Final = 8000
_DELIMITERS: Final = re.compile(r'[()";\\]')
_HEAD: Final = re.compile(r'[ \t]*([^ \t"]+|")([ \t]+1)?[ \t]*')
_FIRST_WORD: Final = re.compile(r'[ \t]*([^ \t"]+|")')
_RESULT: Final = re.compile(
    r"[ \t]*([a-z0-9-]{1,30})[ \t]*(?:/[ \t]*\d+[ \t]*)?=[ \t]*([a-z]{1,20})(?![^ \t])",
    re.IGNORECASE | re.ASCII,
)
# OpenDMARC, Google and Yahoo write "p=", rspamd "policy=".
_HEADER_FROM: Final = re.compile(
    r"\bheader\.from\s*=\s*([^\s;\"<>@]+)(?=[\s;]|$)", re.IGNORECASE | re.ASCII
)
_POLICY: Final = re.compile(
    r"(?<![\w.-])(?:p|pol|policy)[ \t]*=[ \t]*\"?([a-z]+)", re.IGNORECASE | re.ASCII
)
# The lowest rank wins; words not listed rank 1. Of several signatures, one that passes is enough.
# DMARC has one result as a rule: of two, the sender may have slipped in the better one.
_BEST: Final = {"pass": 0, "none": 2, "neutral": 3}
_WORST: Final = {"fail": 0, "pass": 2}

Verdict = Literal["pass", "fail", "none"]


class _Piece(NamedTuple):
    """The part of a field up to a semicolon: text, comments and quoted strings.

    In ``text``, each comment is replaced with a blank, and each quoted string with one quotation
    mark.
    """

    text: str
    comments: str
    quoted: list[str]


def read_results(values: Sequence[str]) -> tuple[AuthenticationResults, ...]:
    """Return the results in these unfolded fields, topmost first; unreadable fields are skipped."""
    found = (_read(value[:_MAX_FIELD_CHARS]) for value in values[:_MAX_FIELDS])
    return tuple(each for each in found if each is not None)


def _read(value: str) -> AuthenticationResults | None:
    """Return the results in one field; None if the text before its first semicolon is empty."""
    head, *pieces = _split_at_semicolons(value)
    if _RESULT.match(head.text):  # the field has no id
        return _results("", [head, *pieces])
    word = _FIRST_WORD.match(head.text)
    if word is None:
        return None
    authserv_id = head.quoted[0] if word[1] == '"' else word[1]
    # Of a version that we do not know, only the id is read, so that no field below it counts.
    known = _HEAD.fullmatch(head.text) is not None
    return _results(_folded(authserv_id)[:255], pieces if known else [])


def _results(authserv_id: str, pieces: Sequence[_Piece]) -> AuthenticationResults:
    found: dict[str, list[str]] = {"spf": [], "dkim": [], "dmarc": []}
    failed_policies: list[bool] = []
    domains: list[str] = []
    for piece in pieces:
        match = _RESULT.match(piece.text)
        if match is None or (method := match[1].lower()) not in found:
            continue
        found[method].append(match[2].lower())
        if method == "dmarc":
            failed_policies.append(_is_policy_none(piece.comments))
            domains += [found[1].lower() for found in _HEADER_FROM.finditer(piece.text)]
    return AuthenticationResults(
        authserv_id=authserv_id,
        spf=min(found["spf"], key=_rank_best, default=None),
        dkim=min(found["dkim"], key=_rank_best, default=None),
        dmarc=min(found["dmarc"], key=_rank_worst, default=None),
        dmarc_policy_none=bool(failed_policies) and all(failed_policies),
        dmarc_from=domains[0][:255] if domains else None,
    )


def _rank_best(result: str) -> int:
    return _BEST.get(result, 1)


def _rank_worst(result: str) -> int:
    return _WORST.get(result, 1)


def _is_policy_none(comments: str) -> bool:
    """Tell whether comments name the policy "none", and no other policy."""
    named = {each.lower() for each in _POLICY.findall(comments)}
    return named == {"none"}


def _folded(authserv_id: str) -> str:
    """Return an id for comparison: without regard to case, but only of ASCII letters."""
    # Beyond ASCII, lower case turns other letters into ASCII ones, such as the Kelvin sign.
    return authserv_id.lower() if authserv_id.isascii() else authserv_id


def _split_at_semicolons(value: str) -> list[_Piece]:
    """Split a field at its semicolons outside comments and quoted strings."""
    out: list[_Piece] = []
    text: list[str] = []
    comments: list[str] = []
    quotes: list[list[str]] = []
    depth = at = 0
    quoted = False
    for sign in _DELIMITERS.finditer(value):
        if sign.start() < at:
            continue  # behind a backslash
        here = comments if depth else quotes[-1] if quoted else text
        here.append(value[at : sign.start()])
        at = sign.end()
        char = sign[0]
        if char == "\\" and here is not text:
            here.append(value[at : at + 1])
            at += 1
        elif char == '"' and not depth:
            quoted = not quoted
            if quoted:
                text.append('"')
                quotes.append([])
        elif quoted:
            here.append(char)
        elif char == "(":
            here.append(" ")
            depth += 1
        elif char == ")" and depth:
            depth -= 1
            comments.append(" ")
        elif char == ";" and not depth:
            out.append(_piece(text, comments, quotes))
            text, comments, quotes = [], [], []
        else:
            here.append(char)
    (comments if depth else quotes[-1] if quoted else text).append(value[at:])
    return [*out, _piece(text, comments, quotes)]


def _piece(text: list[str], comments: list[str], quotes: list[list[str]]) -> _Piece:
    return _Piece("".join(text), "".join(comments), ["".join(each) for each in quotes])


def verdict(
    results: Sequence[AuthenticationResults], trusted: Collection[str], domain: str = ""
) -> Verdict:
    """Return ``pass``, ``fail`` or ``none`` from the topmost header of a server in ``trusted``.

    ``dmarc=pass`` is ``pass``; ``dmarc=fail`` is ``fail`` unless its comment says p=none;
    everything else is ``none`` (behaviour.md 5). A pass that names another domain than the one we
    read in From (``domain``, if given) is none: it is about another author.
    """
    ids = {_folded(each) for each in trusted}
    for each in results:
        if each.authserv_id not in ids:
            continue
        if each.dmarc == "pass":
            return "pass" if _is_about(each.dmarc_from, domain) else "none"
        if each.dmarc == "fail" and not each.dmarc_policy_none:
            return "fail"
        return "none"
    return "none"


def _is_about(named: str | None, domain: str) -> bool:
    """Tell whether a result is about a domain, one above or below it, or does not say."""
    return not named or not domain or related_domains(named, domain)


def is_from(results: Sequence[AuthenticationResults], trusted: Collection[str]) -> bool:
    """Tell whether a header has an id in ``trusted``."""
    ids = {_folded(each) for each in trusted}
    return any(each.authserv_id in ids for each in results)


def relied_on(
    results: Sequence[AuthenticationResults], trusted: Collection[str]
) -> AuthenticationResults | None:
    """Return the header that :func:`verdict` uses, else the topmost header, else None."""
    ids = {_folded(each) for each in trusted}
    return next(
        (each for each in results if each.authserv_id in ids), results[0] if results else None
    )
