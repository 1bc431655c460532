"""Read machine reports: delivery reports, read receipts, and feedback, TLS and DMARC reports.

Their formats are in RFC 3464, RFC 8098 and RFC 5965. The machine-readable part is read first.
:mod:`gateway.reading.reports.prose_bounces` reads bounces in prose, but only if the mail comes from
the null path or a mailer's address (behaviour.md 2.1, step 5b). An out-of-office reply from such an
address must not be taken for a bounce, so classification looks for automatic replies first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from core.mail.classify import is_mailer
from core.model.message import Address, Bounce, BounceAction, BounceRecipient
from gateway.reading.mime import charset
from gateway.reading.mime.headers import Headers, message_ids
from gateway.reading.mime.part_tree import Part
from gateway.reading.reports import prose_bounces, ses_notice

# The words that mailers write into Action.
_ACTIONS: Final[dict[str, BounceAction]] = {
    "failed": "failed", "failure": "failed", "fail": "failed", "failed.": "failed",
    "hardfail": "failed", "error": "failed", "delayed": "delayed", "delay": "delayed",
    "deferred": "delayed", "delivered": "delivered", "relayed": "relayed", "expanded": "expanded",
    "deliverable": "delivered",
}  # fmt: skip
_ACTION_BY_CLASS: Final[dict[str, BounceAction]] = {
    "5": "failed", "4": "delayed", "2": "delivered",
}  # fmt: skip
# From the worst action to the best.
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
    r"(?<![^\s<>@\"(),;:])[^\s<>@\"(),;:]++@[A-Za-z0-9._\u0080-\uffff-]+|"
    r"\"[^\"]{1,100}\"@[A-Za-z0-9._-]+"
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
_SERVICE_ADDRESS: Final = re.compile(
    r"[\w.-]*(?:smtp|mail)[-_.]?(?:service|daemon|delivery|system|agent|gateway)|"
    r"no-?reply|do-?not-?reply|imss|interscan",
    re.IGNORECASE,
)
_MAX_RECIPIENTS: Final = 1000  # of one report
_MAX_REPORT_BYTES: Final = 512 * 1024
_XTEXT: Final = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """The report in a mail, if there is one.

    ``kind`` is "dsn", "mdn", "arf", "tls", "dmarc" or empty; a bounce in prose has a ``bounce`` but
    no kind, unless it is a multipart/report. ``announced`` is true if the subject or
    X-Failed-Recipients tells of a bounce.
    """

    kind: str = ""
    bounce: Bounce | None = None
    rule: str = ""
    challenge: bool = False
    announced: bool = False


@dataclass(slots=True)
class _Parts:
    """The parts of a report that say what happened, without the parts inside attached mails."""

    status: list[Part] = field(default_factory=list)
    returned: list[Part] = field(default_factory=list)
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
    """Return the report in a mail, else an empty report; ``text`` is the body."""
    if text[:1] == "{" and (notice := ses_notice.read(text)) is not None:
        rule = "delivery notice of a mail service"
        return DeliveryReport(notice[0], notice[1], rule, announced=True)
    is_report = root.content_type == "multipart/report"
    if not is_report and not (
        null_path or _is_from_machine(sender, subject) or "x-failed-recipients" in headers.fields
    ):
        return _other_report(root, headers, subject)
    parts = _collect(root)
    found = _without_recipients(root, headers, subject, parts)
    if found.kind:
        return found
    returned = _returned_headers(parts)
    is_challenge = prose_bounces.is_challenge(text)
    recipients = _from_status(parts)
    if recipients:
        return DeliveryReport(
            kind="dsn",
            bounce=_bounce(_completed(recipients, text, headers, returned), returned, text),
            rule="RFC 3464 delivery report",
            challenge=is_challenge,
        )
    from_nobody = sender is None or not sender.address
    prose = prose_bounces.read(
        root, headers, subject, text, returned, is_report=is_report or from_nobody
    )
    if prose is None:
        return DeliveryReport(challenge=null_path and is_challenge)
    return DeliveryReport(
        kind="dsn" if is_report else "",
        bounce=_bounce(list(prose.recipients), returned, text, prose.action),
        rule=prose.rule,
        challenge=is_challenge,
        announced=prose.announced,
    )


def _is_from_machine(sender: Address | None, subject: str) -> bool:
    """Tell whether a machine sent a mail.

    It did if the mail has no sender, if the sender is a mail system, or if a service reports a
    failure.
    """
    if sender is None or sender.address is None or is_mailer(sender):
        return True
    return bool(_SERVICE_ADDRESS.match(sender.address)) and _announces_failure(subject)


def _without_recipients(
    root: Part, headers: Headers, subject: str, parts: _Parts
) -> DeliveryReport:
    """Return a report that names no recipients: a receipt, or a TLS, DMARC or abuse report."""
    kind = root.params.get("report-type", "").lower()
    if (
        not parts.status
        and (parts.types & _MDN_TYPES or kind == "disposition-notification")
        and not _announces_failure(subject)
    ):
        return DeliveryReport("mdn")
    if "message/feedback-report" in parts.types or kind == "feedback-report":
        return DeliveryReport("arf")
    if kind == "tlsrpt" or "tls-report-domain" in headers.fields:
        return DeliveryReport("tls")
    return _other_report(root, headers, subject)


def _announces_failure(subject: str) -> bool:
    """Tell whether a subject announces a failed delivery."""
    return bool(prose_bounces.FAILURE_SUBJECT.search(subject))


def _other_report(root: Part, headers: Headers, subject: str) -> DeliveryReport:
    """Return the receipt, DMARC, TLS or abuse report in a mail that is no multipart/report."""
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
    """Tell whether a file is named like a DMARC aggregate report (RFC 7489 7.2.1.1)."""
    return part.main == "application" and bool(_AGGREGATE.fullmatch(part.filename or ""))


def _collect(root: Part) -> _Parts:
    """Collect the status parts, the returned mails and the part types of a report."""
    found = _Parts()
    stack = [root]
    while stack:
        part = stack.pop()
        found.types.add(part.content_type)
        if part.content_type in _STATUS_TYPES or _misnamed_status(part):
            found.status.append(part)
        elif part.content_type in _RETURNED:
            found.returned.append(part)
        if part.main == "multipart":
            stack.extend(reversed(part.children))
    return found


_STATUS_BODY: Final = re.compile(rb"(?im)^(?:final-recipient|original-recipient)[ \t]*:[^\n]*;")


def _misnamed_status(part: Part) -> bool:
    """Tell whether a part of another type starts with the fields of a delivery status."""
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
    """Yield the field groups of a delivery status.

    A group ends at a blank line, or where one of its recipient fields occurs again.
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


_RECIPIENT_FIELDS: Final = frozenset(
    {"final-recipient", "original-recipient", "x-actual-recipient", "action"}
)


def _from_status(parts: _Parts) -> list[BounceRecipient]:
    """Return the recipients that all status parts name.

    Recipients without an address are left out, unless none has an address.
    """
    groups = (group for part in parts.status for group in _groups(_text_of(part)))
    described = (group for group in groups if _RECIPIENT_FIELDS & group.keys())
    out = [_recipient(group) for group in islice(described, _MAX_RECIPIENTS)]
    return [each for each in out if each.address] or out


def _text_of(part: Part) -> str:
    """Return the text of a delivery status part, up to the cap."""
    body = part.content()[:_MAX_REPORT_BYTES]
    return charset.decode(body, part.params.get("charset") or "utf-8")[0]


def _recipient(group: dict[str, str]) -> BounceRecipient:
    """Return the recipient that one field group of a delivery status describes."""
    original = _typed_address(group.get("original-recipient", ""))
    final = _typed_address(group.get("final-recipient", ""))
    address = final or original or _typed_address(group.get("x-actual-recipient", ""))
    diagnostic = charset.one_line(group.get("diagnostic-code", ""), 2000)
    status = _STATUS.search(group.get("status", "")) or _STATUS.search(diagnostic)
    word = group.get("action", "").split("(")[0].split(";")[0].strip().lower()
    action = _ACTIONS.get(word.split(" ")[0])
    return BounceRecipient(
        address=address,
        original=original,
        action=action or _by_status(status[1] if status else ""),
        status=status[1] if status else None,
        diagnostic=diagnostic or None,
    )


def _by_status(status: str) -> BounceAction:
    """Return the action that the first digit of a status means (RFC 3463)."""
    return _ACTION_BY_CLASS.get(status[:1], "unknown")


def _typed_address(value: str) -> str | None:
    """Return the address in ``rfc822; user@example.org``; None for a mailbox path or X.400 name."""
    kind, semicolon, rest = value.partition(";")
    text = (rest if semicolon else value).strip()
    if kind.strip().lower() == "utf-8":
        text = _XTEXT.sub(lambda m: chr(int(m[1], 16)) if int(m[1], 16) < 0xD800 else "", text)
    match = _ADDRESS.search(text.replace("< ", "<").strip("<> \t'").rpartition("<")[2])
    return charset.one_line(match[0].strip(".'`"), 500) if match else None


def _completed(
    recipients: list[BounceRecipient], text: str, headers: Headers, returned: Headers | None
) -> list[BounceRecipient]:
    """Return the recipients, with addresses from elsewhere if none has an address.

    These addresses are found in the text or in the returned mail.
    """
    if any(each.address for each in recipients):
        return recipients
    named = prose_bounces.named_in(headers, text) or prose_bounces.returned_to(returned)
    if not named:
        return recipients
    first = recipients[0]
    return [replace(first, address=address, original=None) for address in named[:_MAX_RECIPIENTS]]


def _returned_headers(parts: _Parts) -> Headers | None:
    """Return the header of the returned mail."""
    for part in parts.returned:
        headers = _headers_in(part)
        if headers.fields or part.children:
            return headers
    return None


def _headers_in(part: Part) -> Headers:
    """Return the header in a part: of the attached mail, or at the beginning of a text."""
    if part.children:
        return part.children[0].headers
    body = part.content()[:65536].replace(b"\r\n", b"\n").lstrip(b"\n")
    return Headers(body.partition(b"\n\n")[0])


def _bounce(
    recipients: list[BounceRecipient],
    returned: Headers | None,
    text: str,
    action: BounceAction | None = None,
) -> Bounce:
    """Return the bounce: each recipient once, and the worst action of any recipient."""
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
