"""Read bounces in prose, from mailers and gateways that do not follow RFC 3464.

The library flufl.bounce knows many of them (qmail, Exim, old Sendmail, Exchange). Others are
recognised by their shape: a sentence that tells of a failure, then addresses in the usual places,
above the copy of the returned mail. Only the first 64 Ki characters are read, in linear time.

To add a language, add its phrases to ``_FAILURE_SUBJECTS`` (what subjects say) and ``_FAILURES``
(what notices say). To add a mailer, add its phrases to the row of their language. Add the place
where it names the failed address to ``_ADDRESS_PLACES``, and the line above its copy of the mail to
``_COPY_START``.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from email import message_from_bytes
from typing import Final

from core.model.message import BounceAction, BounceRecipient
from gateway.reading.mime.address_lists import addresses
from gateway.reading.mime.headers import Headers
from gateway.reading.mime.part_tree import Part

# flufl.bounce logs a traceback for each detector that fails on a mail.
logging.getLogger("flufl.bounce").disabled = True

_MAX_NOTICE_CHARS: Final = 64 * 1024
_MAX_LIBRARY_BYTES: Final = 256 * 1024
_MAX_RECIPIENTS: Final = 50

# Phrases in the subjects of bounces, by language.
_FAILURE_SUBJECTS: Final = {
    "en": (
        r"undeliver|returned (?:e-?)?mail|mail (?:was )?returned|"
        r"delivery (?:status )?notification|"
        r"delivery (?:has )?(?:failed|failure|error|problem|report|status|unsuccessful)|"
        r"failure (?:notice|delivery|notification)|"
        r"(?:mail|message|e-?mail) (?:delivery )?(?:has )?(?:system )?"
        r"(?:failed|failure|error|problem|could not)|"
        r"could ?n[o']t (?:be )?(?:deliver|send)|unable to deliver|not delivered|"
        r"non[- ]?(?:deliver|remis)|nondeliverable|user unknown|unknown user|"
        r"returning message to sender|returned to sender|undelivered|rejected mail|mail rejected|"
        r"mail could not|permanent (?:delivery )?(?:failure|error)|"
        r"delivery (?:has been )?delayed|delayed mail|message delayed|mail delivery warning|"
        r"warning:? (?:could not send|message)|delivery delay"
    ),
    "de": (
        r"unzustellbar|nicht zugestellt|zustellung\w* fehlgeschlagen|"
        r"fehler bei der (?:mail)?zustellung"
    ),
    "fr": r"échec de (?:la )?(?:remise|distribution)|non remis",
    "es": r"no se (?:pudo|ha podido) entregar|no entregado|devuelto",
    "it": r"mancata consegna|impossibile recapitare",
    "pt": r"não (?:foi )?(?:entregue|possível entregar)|falha na entrega",
    "nl": r"onbestelbaar|niet bezorgd",
    "sv": r"kan inte levereras|olevererad",
    "no": r"levering mislyk|ikke levert",
    "ru": r"не доставлено|недоставлен|не может быть доставлено",
    "ja": r"エラー通知|配信(?:不能|エラー|でき)|配送",
    "zh": r"退信|无法送达|投递失败|傳送失敗",
    "ko": r"배달",
}
# Phrases in the sentences of bounces, by language.
_FAILURES: Final = {
    "en": (
        r"user unknown|unknown user|no such (?:user|mailbox|recipient|address|person|account)|"
        r"mailbox (?:is )?(?:full|unavailable|not found|does ?n[o']t exist|disabled|over)|"
        r"(?:over|exceed\w{0,10}) (?:\w+ ){0,3}(?:quota|limit|size)|quota exceeded|"
        r"(?:could|can)(?: ?not|n't) (?:\w+ ){0,4}(?:deliver|send|relay|find)\w*|"
        r"(?:was|were|been|be) (?:undeliverable|returned|rejected|refused|bounced)|undeliverable|"
        r"unable to (?:deliver|send|relay|find)|"
        r"delivery (?:\w+ ){0,6}(?:failed|failure|unsuccessful)|"
        r"failed (?:permanently|to deliver|recipient|delivery|to be delivered)|"
        r"permanent (?:fatal )?(?:error|failure)|fatal errors|not (?:be )?delivered|"
        r"has not been delivered|(?:did not|didn't) reach|"
        r"does(?:n't| not) (?:exist|have an? )|"
        r"not (?:a )?(?:known|valid|listed|local|registered) (?:user|recipient|address|mailbox)|"
        r"is not known|address(?:es)? (?:rejected|unknown|failed|had|not found)|"
        r"host (?:unknown|not found|or domain)|giving up|following (?:recipient|address)\w*|"
        r"returned to (?:you|sender)|invalid (?:\w+ )?(?:recipient|address|user|mailbox)|"
        r"recipient (?:\w+ ){0,3}(?:rejected|unknown|failed|unavailable|not found)|"
        r"mailer-daemon|unrouteable"
    ),
    "SMTP": r"\b5\d\d[ -]#?(?:5\.\d{1,3}\.\d{1,3}|[A-Za-z<])|\b5\.\d\.\d\b",
    "ru": r"не (?:удалось|может быть|была?) доставл",
    "de": r"nicht zugestellt|unzustellbar|konnte nicht",
    "fr": r"n'a pas (?:pu )?|ne peut (?:pas )?être",
    "es": r"no (?:se )?(?:pudo|ha podido|existe)",
    "it": r"impossibile",
    "pt": r"não (?:foi|pôde|existe)",
    "ja": r"配信(?:でき|不能)|送信でき|届け|宛先|存在しません|あて先|失敗",
    "zh": r"无法|失败|不存在",
}
FAILURE_SUBJECT: Final = re.compile("|".join(_FAILURE_SUBJECTS.values()), re.IGNORECASE)
_FAILURE: Final = re.compile("|".join(_FAILURES.values()), re.IGNORECASE)
# Phrases in warnings: the mail is delayed, not failed.
_DELAY_SUBJECT: Final = re.compile(
    r"\bdelay(?:ed)?\b|still being retried|delivery warning|"
    r"could not send (?:message|mail) for past|^warning: message|\bverzögert|\bretard\b",
    re.IGNORECASE,
)
_DELAY: Final = re.compile(
    r"(?:will|shall) (?:continue|keep|be retried|try|retry|attempt)|"
    r"still (?:trying|being retried|in the queue)|will be (?:re)?tried|"
    r"has (?:not yet|been (?:delayed|postponed))|not yet been delivered|warning message only|"
    r"no (?:further )?action is required|"
    r"(?:do not|don't|you do not) need to (?:resend|re-send|do anything)|"
    r"delivery attempts will continue|temporary (?:problem|failure|error)|"
    r"message (?:is|has been) delayed|delivery incomplete",
    re.IGNORECASE,
)
_GIVEN_UP: Final = re.compile(
    r"giving up|permanent|fatal|failed permanently|will not (?:be|try)|"
    r"returned to (?:you|sender)|no (?:further|more) (?:attempts|retries)|gave up|timed out|"
    r"too long|expired|could not be delivered within",
    re.IGNORECASE,
)
# The line above the copy of the returned mail, or the first field of that copy.
_COPY_START: Final = re.compile(
    r"^[ \t>]*(?:"
    r"-{2,}[ \t]*(?:below this line|this is a copy|the (?:original|returned) message|"
    r"original message|returned message|message (?:header|text|content)s?|unsent message|"
    r"undelivered message|start of|mail text|the body of|forwarded|included is|"
    r"transcript of (?:the )?message|copy of|the header|header of)"
    r"|(?:original|returned|undelivered|unsent|your) (?:message|mail|e-?mail)(?: headers?)?"
    r"(?: (?:is |was )?(?:follows|attached|below|as follows))?[ \t]*:?[ \t]*-*[ \t]*$"
    r"|(?:the )?(?:original|returned) message (?:was|header|follows|is)\b.*follow.*$"
    r"|message headers? follow|-+ ?the following is|a copy of (?:your|the) (?:original )?message"
    r"|(?:received|return-path|x-received|dkim-signature|mime-version|x-mailer|message-id):"
    r"[ \t]*\S.*)",
    re.IGNORECASE | re.MULTILINE,
)
_ADDR: Final = (
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\uffff-]{1,100}"
    r"@[A-Za-z0-9][A-Za-z0-9.-]{0,200}[A-Za-z0-9]"
)
# Where mailers name the failed address, the most reliable place first.
_ADDRESS_PLACES: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        (  # Final-Recipient: rfc822; <address>
            r"^(?:final|original|x-actual|failed|x-failed)-recipients?[ \t]*:"
            rf"[ \t]*(?:rfc822[ \t]*;[ \t]*)?<?({_ADDR})"
        ),
        (  # a line of its own: "To: <address>", "* <address>: reason"
            r"^[ \t>*-]{0,20}(?:e-?mail|mail|smtp|rcpt to|to|recipient|recipients|address|user|"
            r"mailbox|dest(?:ination)?|failed)?"
            rf"[ \t]*:?[ \t]*[<\"'\[(]{{0,2}}({_ADDR})[>\"'\])]{{0,2}}"
            r"[ \t]*+(?::.{0,400}|\.\.\..{0,300}|[-=]++>?.{0,300}|,|;|\(.{0,300})?[ \t]*+\r?$"
        ),
        (  # inside a sentence: "could not be delivered to <address>"
            r"(?:rcpt to|recipient(?: address)?(?: is)?|user|mailbox|address|account|unknown|"
            r"to the following\w*|delivered to|deliver(?:y)? (?:\w+ )?to|message to|mail to|"
            rf"sent to|reach|rejected|recipients?\)?)[ \t:]{{1,4}}[<\"'\[(]{{0,2}}({_ADDR})"
        ),
        (  # before the reason: "<address>: user unknown"
            rf"<({_ADDR})>(?=[ \t]*(?:\.\.\.|:|\(|$|is |was |not |does|recipient|user|mailbox|"
            r"delivery|unknown|rejected|#|\d\.|5\d\d))"
        ),
        rf"\b5\d\d[ -][^\r\n]{{0,60}}?[<(]({_ADDR})[>)]",  # in an SMTP reply
        (  # at the start of a sentence: "address is not known"
            rf"({_ADDR})[>)\]\"']{{0,2}}(?=[ \t]+(?:is not|was not|not |does|could not|cannot|"
            r"user unknown|unknown|failed|on |mailbox|\())"
        ),
    )
)
_STATUS_CODE: Final = re.compile(
    r"\b(?:[45]\d\d)[ -]{1,3}#?([45]\.\d{1,3}\.\d{1,3})\b|\(#?([45]\.\d{1,3}\.\d{1,3})\)|"
    r"#([45]\.\d{1,3}\.\d{1,3})|\bstatus:?[ \t]*([45]\.\d{1,3}\.\d{1,3})",
    re.IGNORECASE,
)
_SMTP_REPLY: Final = re.compile(r"(?:^|[\s:>])([45]\d\d[ -][^\r\n]{5,400})", re.MULTILINE)
_RETURNED_ID: Final = re.compile(
    r"^[ \t>|]*Message-ID:[ \t]*(?:\r?\n[ \t>]*)?<([^<>\s]{3,500})>", re.IGNORECASE | re.MULTILINE
)
_RETURNED_TO: Final = re.compile(r"^[ \t>|]*To:[ \t]*(.{3,300})$", re.IGNORECASE | re.MULTILINE)
_ROLE_ADDRESS: Final = re.compile(
    r"^(?:mailer-daemon|postmaster|abuse|support|helpdesk|hostmaster|root|help)@", re.IGNORECASE
)
# Phrases in challenges, which ask the reader to do something before the mail is delivered.
_REQUEST: Final = re.compile(
    r"\b(?:please|click|visit|follow|reply|simply|you (?:must|need to|have to|will need)|"
    r"to (?:have|get|let) your (?:mail|message|e-?mail))\b",
    re.IGNORECASE,
)
_PROVE_HUMAN: Final = re.compile(
    r"\b(?:prov(?:e|ing)|confirm(?:ing)?|verify(?:ing)?|verification|validate)\b[^.]{0,80}"
    r"\b(?:human|real person|not (?:a )?(?:spam(?:mer)?|machine|robot)|legitimate|"
    r"you(?:'re| are| sent)|your(?:self| (?:e-?mail )?(?:identity|address)))\b",
    re.IGNORECASE,
)
_RELEASE_MAIL: Final = re.compile(
    r"\b(?:click|visit|follow|go to|reply)\b[^.]{0,160}"
    r"\b(?:message|mail|e-?mail|delivery|list)\b[^.]{0,60}"
    r"(?:deliver|approv|releas|pass|accept|through|added|verif)",
    re.IGNORECASE,
)
_SENDER_CHECK: Final = re.compile(
    r"\b(?:waiting (?:list|for (?:approval|verification|confirmation))|guest ?list|challenge|"
    r"human|white ?list|approved senders?|sender verification|verify (?:your|that you))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Prose:
    """A bounce in prose: its recipients, the action on the mail, and the rule that found it."""

    recipients: tuple[BounceRecipient, ...]
    action: BounceAction
    rule: str
    announced: bool


def is_challenge(text: str) -> bool:
    """Tell whether a notice demands proof that the sender is human before mail is delivered."""
    notice = above_copy(text)[:6000]
    return bool(_REQUEST.search(notice)) and bool(
        _PROVE_HUMAN.search(notice) or _RELEASE_MAIL.search(notice) and _SENDER_CHECK.search(notice)
    )


def read(
    root: Part,
    headers: Headers,
    subject: str,
    text: str,
    returned: Headers | None,
    *,
    is_report: bool,
) -> Prose | None:
    """Return the bounce that a notice tells of, or None.

    ``is_report`` is true if the mail is a multipart/report or has no sender.
    """
    notice = above_copy(text)
    announced = bool(FAILURE_SUBJECT.search(subject)) or "x-failed-recipients" in headers.fields
    by_library = _by_library(root)
    has_copy = returned is not None or len(notice) < len(text)
    if not (
        by_library
        or announced
        or _FAILURE.search(notice)
        and (is_report or has_copy or _SMTP_REPLY.search(notice))
    ):
        return None
    delayed = by_library[1] if by_library else is_delay(subject, notice)
    action: BounceAction = "delayed" if delayed or is_delay(subject, notice) else "failed"
    named = (
        list(by_library[0])
        if by_library
        else named_in(headers, text) or returned_to(returned) or _returned_to_in(text, notice)
    )
    code = _STATUS_CODE.search(notice)
    reply = _SMTP_REPLY.search(notice)
    recipients = tuple(
        BounceRecipient(
            address=address,
            original=None,
            action=action,
            status=next(filter(None, code.groups())) if code else None,
            diagnostic=reply[1].strip()[:2000] if reply else None,
        )
        for address in named[:_MAX_RECIPIENTS]
    )
    rule = "flufl.bounce" if by_library else "notice of a mailer"
    return Prose(recipients, action, rule, announced)


def is_delay(subject: str, notice: str) -> bool:
    """Tell whether a notice only warns of a delay, while delivery is still being tried."""
    if _DELAY_SUBJECT.search(subject):
        return True
    if FAILURE_SUBJECT.search(subject) or not _DELAY.search(notice):
        return False
    return not _GIVEN_UP.search(notice)


def above_copy(text: str) -> str:
    """Return the notice without the copy of the returned mail."""
    head = text[:_MAX_NOTICE_CHARS]
    for match in _COPY_START.finditer(head):
        if match.start() > 0 and head[: match.start()].strip():
            return head[: match.start()]
    return head


def named_in(headers: Headers, text: str) -> list[str]:
    """Return the failed addresses in a notice, found in the places where mailers put them."""
    listed = headers.text("x-failed-recipients")
    if listed:
        found = [each.address for each in addresses(listed, _MAX_RECIPIENTS) if each.address]
        if found:
            return found
    notice = above_copy(text)
    for place in _ADDRESS_PLACES:
        hits = dict.fromkeys(match[1].strip(".'") for match in place.finditer(notice))
        kept = [each for each in hits if not _ROLE_ADDRESS.match(each)]
        if kept:
            return list({each.lower(): each for each in kept[:_MAX_RECIPIENTS]}.values())
    return []


def returned_to(returned: Headers | None) -> list[str]:
    """Return the recipient of the returned mail, if it has exactly one."""
    if returned is None:
        return []
    for name in ("x-original-to", "to"):
        found = [
            each.address
            for value in returned.fields.get(name, ())
            for each in addresses(returned.characters(value), 3)
            if each.address
        ]
        if len(found) == 1:
            return found
    return []


def _returned_to_in(text: str, notice: str) -> list[str]:
    """Return the recipient in the copy of the returned mail, if it has exactly one."""
    found = _RETURNED_TO.search(text, len(notice), len(notice) + _MAX_NOTICE_CHARS)
    boxes = [each.address for each in addresses(found[1], 3) if each.address] if found else []
    return boxes if len(boxes) == 1 else []


def returned_id(text: str) -> str | None:
    """Return the Message-ID of the returned mail, if its header is in the text."""
    found = _RETURNED_ID.search(text[: 4 * _MAX_NOTICE_CHARS])
    return found[1] if found else None


def _by_library(root: Part) -> tuple[list[str], bool] | None:
    """Return (addresses that flufl.bounce finds, whether all are only delayed), or None."""
    from flufl.bounce import all_failures

    raw = root.buffer[:_MAX_LIBRARY_BYTES]
    try:
        temporary, permanent = all_failures(message_from_bytes(raw))
    except Exception:  # noqa: BLE001
        # The detectors of flufl.bounce may raise anything on malformed mail.
        return None
    found = permanent or temporary
    named = [each.decode("utf-8", "replace") for each in sorted(found)]
    named = [each.strip("<>\"' ") for each in named if "@" in each]
    return (named, not permanent) if named else None
