"""Machine reports: delivery reports (RFC 3464), read receipts (RFC 8098), feedback reports (RFC
5965), TLS and DMARC reports.

The machine-readable part is read first; mailers that write prose only are read by
:mod:`gateway.reading.reports.prose_bounces`, and then only when the mail comes from the null path
or a mailer's address (behaviour.md 2.1, step 5b). What can go wrong: an absence note from such an
address taken for a bounce, which is why classification tests responders before prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from core.mail.classify import is_mailer
from core.model.message import Address, Bounce, BounceAction, BounceRecipient
from gateway.reading.mime import charset
from gateway.reading.mime.headers import Headers, message_ids
from gateway.reading.mime.part_tree import Part
from gateway.reading.reports import prose_bounces, ses_notice

_ACTIONS: Final[dict[str, BounceAction]] = {
    "failed": "failed", "failure": "failed", "fail": "failed", "failed.": "failed",
    "hardfail": "failed", "error": "failed", "delayed": "delayed", "delay": "delayed",
    "deferred": "delayed", "delivered": "delivered", "relayed": "relayed", "expanded": "expanded",
    "deliverable": "delivered",
}  # fmt: skip
_WORST: Final[tuple[BounceAction, ...]] = (
    "failed",
    "delayed",
    "unknown",
    "expanded",
    "relayed",
    "delivered",
)
_STATUS: Final = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_ADDRESS: Final = re.compile(
    r"(?<![^\s<>@\"(),;:])[^\s<>@\"(),;:]++@[A-Za-z0-9._\u0080-\uffff-]+|\"[^\"]{1,100}\"@[A-Za-z0-9._-]+"
)
_STATUS_TYPES: Final = frozenset(
    {
        "message/delivery-status",
        "message/global-delivery-status",
        "text/delivery-status",
        "message/xdelivery-status",
    }
)
_MDN_TYPES: Final = frozenset(
    {"message/disposition-notification", "message/global-disposition-notification"}
)
_RETURNED: Final = frozenset(
    {
        "message/rfc822",
        "message/global",
        "text/rfc822-headers",
        "message/global-headers",
        "text/rfc822",
        "message/partial",
    }
)
_DMARC: Final = re.compile(r"report[ _-]?domain:.*submitter:", re.IGNORECASE | re.DOTALL)
_AGGREGATE: Final = re.compile(
    r"[\w.-]{1,200}![\w.-]{1,200}!\d{6,12}!\d{6,12}(?:![\w.-]{1,100})?\.(?:xml|zip|xml\.gz|gz)",
    re.IGNORECASE,
)
_COMPLAINT: Final = re.compile(
    r"^(?:complaint about message from|abuse report|spam report about|e?mail feedback report)\b",
    re.IGNORECASE,
)
_FIELD: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,60})[ \t]*:[ \t]*(.*)")
_SERVICE: Final = re.compile(
    r"[\w.-]*(?:smtp|mail)[-_.]?(?:service|daemon|delivery|system|agent|gateway)|no-?reply|do-?not-?reply|imss|interscan",
    re.IGNORECASE,
)
_MOST: Final = 1000  # recipients of one report
_LONGEST: Final = 512 * 1024  # bytes of a report that are read
_XTEXT: Final = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What was found: ``kind`` is "dsn", "mdn", "arf", "tls", "dmarc" or empty; a bounce told in
    prose has no kind but a ``bounce``.

    ``told`` means that its subject or X-Failed-Recipients says that it is one.
    """

    kind: str = ""
    bounce: Bounce | None = None
    rule: str = ""
    challenge: bool = False
    told: bool = False


@dataclass(slots=True)
class _Parts:
    """The parts of a report that say something, attached mails not entered."""

    status: list[Part] = field(default_factory=list)
    returned: list[Part] = field(default_factory=list)
    texts: list[Part] = field(default_factory=list)
    types: set[str] = field(default_factory=set)


_NOTHING: Final = DeliveryReport()


def read(
    root: Part,
    headers: Headers,
    sender: Address | None,
    subject: str,
    text: str,
    *,
    null_path: bool,
) -> DeliveryReport:
    """The report a mail is, if it is one. ``text`` is its body as a person reads it."""
    if text[:1] == "{" and (notice := ses_notice.read(text)) is not None:
        return DeliveryReport(notice[0], notice[1], "delivery notice of a mail service", told=True)
    structured = root.content_type == "multipart/report"
    by_machine = (
        null_path
        or sender is None
        or sender.address is None
        or is_mailer(sender)
        or "x-failed-recipients" in headers.fields
    )
    by_machine = (
        by_machine
        or bool(sender and sender.address and _SERVICE.match(sender.address))
        and bool(prose_bounces.FAILURE_SUBJECT.search(subject))
    )
    if not structured and not by_machine:
        return _other_report(root, headers, subject)
    parts = _collect(root)
    named = root.params.get("report-type", "").lower()
    if (
        not parts.status
        and (parts.types & _MDN_TYPES or named == "disposition-notification")
        and not _tells_failure(subject)
    ):
        return DeliveryReport("mdn")
    if "message/feedback-report" in parts.types or named == "feedback-report":
        return DeliveryReport("arf")
    if named == "tlsrpt" or "tls-report-domain" in headers.fields:
        return DeliveryReport("tls")
    found = _other_report(root, headers, subject)
    if found.kind:
        return found
    returned = _returned_headers(parts)
    recipients = _from_status(parts)
    if recipients:
        bounce = _bounce(_completed(recipients, text, headers, returned), returned, text)
        return DeliveryReport(
            "dsn", bounce, "RFC 3464 delivery report", prose_bounces.is_challenge(text)
        )
    nobody = sender is None or not sender.address
    prose = prose_bounces.read(root, headers, subject, text, returned, sure=structured or nobody)
    if prose is None:
        return (
            DeliveryReport(challenge=True)
            if null_path and prose_bounces.is_challenge(text)
            else _NOTHING
        )
    bounce = _bounce(list(prose.recipients), returned, text, prose.action)
    return DeliveryReport(
        "dsn" if structured else "",
        bounce,
        prose.rule,
        prose_bounces.is_challenge(text),
        prose.told,
    )


def _tells_failure(subject: str) -> bool:
    return bool(prose_bounces.FAILURE_SUBJECT.search(subject))


def _other_report(root: Part, headers: Headers, subject: str) -> DeliveryReport:
    """Reports that are no multipart/report: complaints in Hotmail's form, DMARC aggregates, TLS
    reports, receipts.
    """
    if root.content_type in _MDN_TYPES:
        return DeliveryReport("mdn")
    if (
        _DMARC.search(subject)
        or "x-dmarc-report" in headers.fields
        or any(map(_is_aggregate, root.children or [root]))
    ):
        return DeliveryReport("dmarc")
    if "tls-report-domain" in headers.fields:
        return DeliveryReport("tls")
    if root.main != "multipart":
        return _NOTHING
    kinds = {part.content_type for part in root.children}
    if (
        "message/feedback-report" in kinds
        or kinds & {"message/rfc822"}
        and _COMPLAINT.match(subject)
    ):
        return DeliveryReport("arf")
    return _NOTHING


def _is_aggregate(part: Part) -> bool:
    """Whether a file bears the name that DMARC gives an aggregate report (RFC 7489 7.2.1.1)."""
    return part.main == "application" and bool(_AGGREGATE.fullmatch(part.filename or ""))


def _collect(root: Part) -> _Parts:
    found = _Parts()
    stack = [root]
    while stack:
        part = stack.pop()
        found.types.add(part.content_type)
        if part.content_type in _STATUS_TYPES or _misnamed_status(part):
            found.status.append(part)
        elif part.content_type in _RETURNED:
            found.returned.append(part)
        elif part.main == "text":
            found.texts.append(part)
        if part.main == "multipart":
            stack.extend(reversed(part.children))
    return found


_STATUS_BODY: Final = re.compile(rb"(?im)^(?:final-recipient|original-recipient)[ \t]*:[^\n]*;")


def _misnamed_status(part: Part) -> bool:
    """A status part sent under another type: it starts with the fields of one."""
    if (
        part.path in {"", "1"}
        or part.main not in {"text", "message", "application"}
        or part.content_type in _RETURNED
    ):
        return False
    head = part.buffer[part.start : min(part.end, part.start + 3000)]
    return (
        part.encoding in {"", "7bit", "8bit"}
        and bool(_STATUS_BODY.search(head))
        and b"ction:" in head
    )


def _groups(text: str) -> Iterator[dict[str, str]]:
    """The field groups of a status body. A blank line ends a group; so does a recipient field that
    is already there.
    """
    group: dict[str, str] = {}
    last = ""
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line.strip():
            if group:
                yield group
            group, last = {}, ""
        elif line[0] in " \t" and last:
            if len(group[last]) < 4000:
                group[last] += " " + line.strip()
        elif match := _FIELD.match(line):
            name = match[1].lower()
            if name in group and name in {"final-recipient", "original-recipient"}:
                yield group
                group = {}
            group.setdefault(name, match[2].strip())
            last = name
    if group:
        yield group


def _from_status(parts: _Parts) -> list[BounceRecipient]:
    """The recipients of all status parts."""
    out: list[BounceRecipient] = []
    for part in parts.status:
        text, _ = charset.decode(part.content()[:_LONGEST], part.params.get("charset") or "utf-8")
        for group in _groups(text):
            if (
                any(
                    name in group
                    for name in (
                        "final-recipient",
                        "original-recipient",
                        "x-actual-recipient",
                        "action",
                    )
                )
                and len(out) < _MOST
            ):
                out.append(_recipient(group))
    seen = {each for each in out if each.address}
    return [each for each in out if each.address] if seen else out


def _recipient(group: dict[str, str]) -> BounceRecipient:
    original = _typed_address(group.get("original-recipient", ""))
    final = _typed_address(group.get("final-recipient", ""))
    address = final or original or _typed_address(group.get("x-actual-recipient", ""))
    diagnostic = charset.one_line(group.get("diagnostic-code", ""), 2000)
    status = _STATUS.search(group.get("status", "")) or _STATUS.search(diagnostic)
    word = group.get("action", "").split("(")[0].split(";")[0].strip().lower()
    action = _ACTIONS.get(word.split(" ")[0] if word else "", None)
    if action is None:
        action = _by_status(status[1] if status else "")
    return BounceRecipient(
        address, original, action, status[1] if status else None, diagnostic or None
    )


def _by_status(status: str) -> BounceAction:
    """The action where the report names none or an unknown one, by the class of the status (RFC
    3463).
    """
    return {"5": "failed", "4": "delayed", "2": "delivered"}.get(status[:1], "unknown")  # type: ignore[return-value]


def _typed_address(value: str) -> str | None:
    """The address in ``rfc822; user@example.org``; None where it is none (a mailbox path, an X.400
    name).
    """
    kind, semicolon, rest = value.partition(";")
    text = (rest if semicolon else value).strip()
    if kind.strip().lower() == "utf-8":
        text = _XTEXT.sub(lambda m: chr(int(m[1], 16)) if int(m[1], 16) < 0xD800 else "", text)
    text = text.replace("< ", "<").strip("<> \t'")
    if "<" in text:
        text = text.rpartition("<")[2]
    match = _ADDRESS.search(text)
    return charset.one_line(match[0].strip(".'`"), 500) if match else None


def _completed(
    recipients: list[BounceRecipient], text: str, headers: Headers, returned: Headers | None
) -> list[BounceRecipient]:
    """Recipients of a report that names no usable address, with the one that its prose or the
    returned mail names.
    """
    if any(each.address for each in recipients):
        return recipients
    named = prose_bounces.named_in(headers, text) or prose_bounces.returned_to(returned)
    if not named:
        return recipients
    first = recipients[0]
    return [
        BounceRecipient(address, None, first.action, first.status, first.diagnostic)
        for address in named[:_MOST]
    ]


def _returned_headers(parts: _Parts) -> Headers | None:
    """The header of the mail that came back."""
    for part in parts.returned:
        if part.children:
            return part.children[0].headers
        body = part.content()[:65536].replace(b"\r\n", b"\n").lstrip(b"\n")
        block, _, _ = body.partition(b"\n\n")
        found = Headers(block)
        if found.fields:
            return found
    return None


def _bounce(
    recipients: list[BounceRecipient],
    returned: Headers | None,
    text: str,
    action: BounceAction | None = None,
) -> Bounce:
    worst = next(
        (each for each in _WORST if any(r.action == each for r in recipients)), action or "unknown"
    )
    unique = list({(r.address or str(i), r.action): r for i, r in enumerate(recipients)}.values())
    ids: list[str] = []
    if returned is not None:
        ids = message_ids(returned.characters(returned.raw("message-id")), 1)
    return Bounce(
        action if action and not recipients else worst,
        tuple(unique),
        ids[0] if ids else prose_bounces.returned_id(text),
    )
