"""Bounces told in prose: qmail, Exim, old Sendmail, Exchange, Notes, gateways and the rest that
predate or ignore RFC 3464.

flufl.bounce knows many of them; what it does not know is read by the shape of the notice: a
sentence of failure, then addresses in the places where mailers put them, above the copy of the
returned mail. Everything is bounded to the first 64 Ki characters of the notice and to linear
patterns.
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

logging.getLogger(
    "flufl.bounce"
).disabled = True  # it logs each detector that a mail trips over, with a traceback

_NOTICE: Final = 64 * 1024
_FLUFL_BYTES: Final = 256 * 1024
_MOST: Final = 50

FAILURE_SUBJECT: Final = re.compile(
    r"undeliver|returned (?:e-?)?mail|mail (?:was )?returned|delivery (?:status "
    r")?notification|delivery (?:has "
    r")?(?:failed|failure|error|problem|report|status|unsuccessful)|failure "
    r"(?:notice|delivery|notification)|"
    r"(?:mail|message|e-?mail) (?:delivery )?(?:has )?(?:system "
    r")?(?:failed|failure|error|problem|could not)|could ?n[o']t (?:be "
    r")?(?:deliver|send)|unable to deliver|not delivered|non[- ]?(?:deliver|remis)|"
    r"nondeliverable|user unknown|unknown user|returning message to sender|returned to "
    r"sender|undelivered|rejected mail|mail rejected|mail could not|permanent (?:delivery "
    r")?(?:failure|error)|"
    r"delivery (?:has been )?delayed|delayed mail|message delayed|mail delivery "
    r"warning|warning:? (?:could not send|message)|delivery delay|"
    r"unzustellbar|nicht zugestellt|zustellung\w* fehlgeschlagen|fehler bei der "
    r"(?:mail)?zustellung|échec de (?:la )?(?:remise|distribution)|non remis|no se (?:pudo|ha "
    r"podido) entregar|no entregado|devuelto|"
    r"mancata consegna|impossibile recapitare|não (?:foi )?(?:entregue|possível "
    r"entregar)|falha na entrega|onbestelbaar|niet bezorgd|kan inte "
    r"levereras|olevererad|levering mislyk|ikke levert|не доставлено|недоставлен|"
    r"не может быть доставлено|エラー通知|配信(?:不能|エラー|でき)|配送|退信|无法送达|投递失败|傳送失敗|배달",
    re.IGNORECASE,
)
_FAILURE: Final = re.compile(
    r"user unknown|unknown user|no such "
    r"(?:user|mailbox|recipient|address|person|account)|mailbox (?:is "
    r")?(?:full|unavailable|not found|does ?n[o']t "
    r"exist|disabled|over)|(?:over|exceed\w{0,10}) (?:\w+ ){0,3}(?:quota|limit|size)|quota "
    r"exceeded|"
    r"(?:could|can)(?: ?not|n't) (?:\w+ "
    r"){0,4}(?:deliver|send|relay|find)\w*|(?:was|were|been|be) "
    r"(?:undeliverable|returned|rejected|refused|bounced)|undeliverable|unable to "
    r"(?:deliver|send|relay|find)|delivery (?:\w+ ){0,6}(?:failed|failure|unsuccessful)|"
    r"failed (?:permanently|to deliver|recipient|delivery|to be delivered)|permanent (?:fatal "
    r")?(?:error|failure)|fatal errors|not (?:be )?delivered|has not been delivered|(?:did "
    r"not|didn't) reach|"
    r"does(?:n't| not) (?:exist|have an? )|not (?:a )?(?:known|valid|listed|local|registered) "
    r"(?:user|recipient|address|mailbox)|is not known|address(?:es)? "
    r"(?:rejected|unknown|failed|had|not found)|host (?:unknown|not found|or domain)|giving up|"
    r"following (?:recipient|address)\w*|returned to (?:you|sender)|invalid (?:\w+ "
    r")?(?:recipient|address|user|mailbox)|recipient (?:\w+ "
    r"){0,3}(?:rejected|unknown|failed|unavailable|not found)|mailer-daemon|unrouteable|"
    r"\b5\d\d[ -]#?(?:5\.\d{1,3}\.\d{1,3}|[A-Za-z<])|\b5\.\d\.\d\b|не (?:удалось|может "
    r"быть|была?) доставл|nicht zugestellt|unzustellbar|konnte nicht|n'a pas (?:pu )?|ne peut "
    r"(?:pas )?être|no (?:se )?(?:pudo|ha podido|existe)|impossibile|"
    r"não (?:foi|pôde|existe)|配信(?:でき|不能)|送信でき|届け|宛先|存在しません|あて先|失敗|无法|失败|不存在",
    re.IGNORECASE,
)
_DELAY_SUBJECT: Final = re.compile(
    (
        r"\bdelay(?:ed)?\b|still being retried|delivery warning|could not send (?:message|mail) "
        r"for past|^warning: message|\bverzögert|\bretard\b"
    ),
    re.IGNORECASE,
)
_DELAY: Final = re.compile(
    r"(?:will|shall) (?:continue|keep|be retried|try|retry|attempt)|still (?:trying|being "
    r"retried|in the queue)|will be (?:re)?tried|has (?:not yet|been "
    r"(?:delayed|postponed))|not yet been delivered|warning message only|no (?:further "
    r")?action is required|"
    r"(?:do not|don't|you do not) need to (?:resend|re-send|do anything)|delivery attempts "
    r"will continue|temporary (?:problem|failure|error)|message (?:is|has been) "
    r"delayed|delivery incomplete",
    re.IGNORECASE,
)
_FINAL: Final = re.compile(
    (
        r"giving up|permanent|fatal|failed permanently|will not (?:be|try)|returned to "
        r"(?:you|sender)|no (?:further|more) (?:attempts|retries)|gave up|timed out|too "
        r"long|expired|could not be delivered within"
    ),
    re.IGNORECASE,
)
_COPY: Final = re.compile(
    r"^[ \t>]*(?:"
    r"-{2,}[ \t]*(?:below this line|this is a copy|the (?:original|returned) message|original "
    r"message|returned message|message (?:header|text|content)s?|unsent message|undelivered "
    r"message|start of|mail text|the body of|forwarded|included is|transcript of (?:the "
    r")?message|copy of|the header|header of)"
    r"|(?:original|returned|undelivered|unsent|your) (?:message|mail|e-?mail)(?: headers?)?(?: "
    r"(?:is |was )?(?:follows|attached|below|as follows))?[ \t]*:?[ \t]*-*[ \t]*$"
    r"|(?:the )?(?:original|returned) message (?:was|header|follows|is)\b.*follow.*$|message "
    r"headers? follow|-+ ?the following is|a copy of (?:your|the) (?:original )?message"
    r"|(?:received|return-path|x-received|dkim-signature|mime-version|x-mailer|message-id):[ "
    r"\t]*\S.*)",
    re.IGNORECASE | re.MULTILINE,
)
_ADDR: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\uffff-]{1,100}@[A-Za-z0-9][A-Za-z0-9.-]{0,200}[A-Za-z0-9]"
_PLACES: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        (
            r"^(?:final|original|x-actual|failed|x-failed)-recipients?[ \t]*:[ \t]*(?:rfc822[ "
            rf"\t]*;[ \t]*)?<?({_ADDR})"
        ),
        (
            r"^[ \t>*-]{0,20}(?:e-?mail|mail|smtp|rcpt "
            r"to|to|recipient|recipients|address|user|mailbox|dest(?:ination)?|failed)?[ \t]*:?[ "
            rf"\t]*[<\"'\[(]{{0,2}}({_ADDR})[>\"'\])]{{0,2}}[ "
            r"\t]*+(?::.{0,400}|\.\.\..{0,300}|[-=]++>?.{0,300}|,|;|\(.{0,300})?[ "
            r"\t]*+\r?$"
        ),
        (
            r"(?:rcpt to|recipient(?: address)?(?: is)?|user|mailbox|address|account|unknown|to "
            r"the following\w*|delivered to|deliver(?:y)? (?:\w+ )?to|message to|mail to|sent "
            rf"to|reach|rejected|recipients?\)?)[ \t:]{{1,4}}[<\"'\[(]{{0,2}}({_ADDR})"
        ),
        (
            rf"<({_ADDR})>(?=[ \t]*(?:\.\.\.|:|\(|$|is |was |not "
            r"|does|recipient|user|mailbox|delivery|unknown|rejected|#|\d\.|5\d\d))"
        ),
        rf"\b5\d\d[ -][^\r\n]{{0,60}}?[<(]({_ADDR})[>)]",
        (
            rf"({_ADDR})[>)\]\"']{{0,2}}(?=[ \t]+(?:is not|was not|not |does|could not|cannot|user "
            r"unknown|unknown|failed|on |mailbox|\())"
        ),
    )
)
_CODE: Final = re.compile(
    (
        r"\b(?:[45]\d\d)[ "
        r"-]{1,3}#?([45]\.\d{1,3}\.\d{1,3})\b|\(#?([45]\.\d{1,3}\.\d{1,3})\)|#([45]\.\d{1,3}\.\d{1,3})|\bstatus:?[ \t]*([45]\.\d{1,3}\.\d{1,3})"
    ),
    re.IGNORECASE,
)
_REPLY: Final = re.compile(r"(?:^|[\s:>])([45]\d\d[ -][^\r\n]{5,400})", re.MULTILINE)
_RETURNED_ID: Final = re.compile(
    r"^[ \t>|]*Message-ID:[ \t]*(?:\r?\n[ \t>]*)?<([^<>\s]{3,500})>", re.IGNORECASE | re.MULTILINE
)
_RETURNED_TO: Final = re.compile(r"^[ \t>|]*To:[ \t]*(.{3,300})$", re.IGNORECASE | re.MULTILINE)
_ROBOT: Final = re.compile(
    r"^(?:mailer-daemon|postmaster|abuse|support|helpdesk|hostmaster|root|help)@", re.IGNORECASE
)
_PROVE: Final = re.compile(
    r"\b(?:prov(?:e|ing)|confirm(?:ing)?|verify(?:ing)?|verification|validate)\b[^.]{0,80}\b(?:human|real person|not (?:a )?(?:spam(?:mer)?|machine|robot)|legitimate|"
    r"you(?:'re| are| sent)|your(?:self| (?:e-?mail )?(?:identity|address)))\b",
    re.IGNORECASE,
)
_ASKED: Final = re.compile(
    (
        r"\b(?:please|click|visit|follow|reply|simply|you (?:must|need to|have to|will need)|to "
        r"(?:have|get|let) your (?:mail|message|e-?mail))\b"
    ),
    re.IGNORECASE,
)
_RELEASE: Final = re.compile(
    (
        r"\b(?:click|visit|follow|go "
        r"to|reply)\b[^.]{0,160}\b(?:message|mail|e-?mail|delivery|list)\b[^.]{0,60}(?:deliver|approv|releas|pass|accept|through|added|verif)"
    ),
    re.IGNORECASE,
)
_GATE: Final = re.compile(
    (
        r"\b(?:waiting (?:list|for (?:approval|verification|confirmation))|guest "
        r"?list|challenge|human|white ?list|approved senders?|sender verification|verify "
        r"(?:your|that you))\b"
    ),
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Prose:
    """A bounce told in prose: whom it is about, what became of the mail, and what recognised it."""

    recipients: tuple[BounceRecipient, ...]
    action: BounceAction
    rule: str
    told: bool


def is_challenge(text: str) -> bool:
    """Whether a notice asks its reader to prove that he is human before the mail is delivered."""
    notice = above_copy(text)[:6000]
    return bool(_ASKED.search(notice)) and bool(
        _PROVE.search(notice) or _RELEASE.search(notice) and _GATE.search(notice)
    )


def read(
    root: Part, headers: Headers, subject: str, text: str, returned: Headers | None, *, sure: bool
) -> Prose | None:
    """The bounce that a notice tells, or None. ``sure`` means that the mail calls itself a report."""
    notice = above_copy(text)
    told = bool(FAILURE_SUBJECT.search(subject)) or "x-failed-recipients" in headers.fields
    by_library = _by_library(root)
    if not (
        by_library
        or told
        or sure
        and _FAILURE.search(notice)
        or _FAILURE.search(notice)
        and (returned is not None or len(notice) < len(text) or _REPLY.search(notice))
    ):
        return None
    delayed = by_library[1] if by_library else is_delay(subject, notice)
    action: BounceAction = "delayed" if delayed or is_delay(subject, notice) else "failed"
    named = (
        list(by_library[0])
        if by_library
        else named_in(headers, text) or returned_to(returned) or _returned_to_text(text, notice)
    )
    codes = list(
        dict.fromkeys(next(filter(None, match.groups())) for match in _CODE.finditer(notice))
    )
    reply = _REPLY.search(notice)
    status = codes[0] if codes else None
    recipients = tuple(
        BounceRecipient(address, None, action, status, reply[1].strip()[:2000] if reply else None)
        for address in named[:_MOST]
    )
    return Prose(recipients, action, "flufl.bounce" if by_library else "notice of a mailer", told)


def is_delay(subject: str, notice: str) -> bool:
    """Whether a notice is only a warning: the mail is still being tried."""
    if _DELAY_SUBJECT.search(subject):
        return True
    return (
        bool(_DELAY.search(notice))
        and not _FINAL.search(notice)
        and not FAILURE_SUBJECT.search(subject)
    )


def above_copy(text: str) -> str:
    """The notice itself, without the copy of the mail that came back."""
    head = text[:_NOTICE]
    for match in _COPY.finditer(head):
        if match.start() > 0 and head[: match.start()].strip():
            return head[: match.start()]
    return head


def named_in(headers: Headers, text: str) -> list[str]:
    """The addresses that a notice complains about, by the place they stand in."""
    listed = headers.text("x-failed-recipients")
    if listed:
        found = [each.address for each in addresses(listed, _MOST) if each.address]
        if found:
            return found
    notice = above_copy(text)
    for place in _PLACES:
        hits = dict.fromkeys(match[1].strip(".'") for match in place.finditer(notice))
        kept = [each for each in hits if not _ROBOT.match(each)]
        if kept:
            return list({each.lower(): each for each in kept[:_MOST]}.values())
    return []


def returned_to(returned: Headers | None) -> list[str]:
    """The recipient of the returned mail, where it has exactly one."""
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


def _returned_to_text(text: str, notice: str) -> list[str]:
    """The same, from a copy that stands in the text."""
    found = _RETURNED_TO.search(text, len(notice), len(notice) + _NOTICE)
    boxes = [each.address for each in addresses(found[1], 3) if each.address] if found else []
    return boxes if len(boxes) == 1 else []


def returned_id(text: str) -> str | None:
    """The Message-ID of a returned mail whose header stands in the text."""
    found = _RETURNED_ID.search(text[: 4 * _NOTICE])
    return found[1] if found else None


def _by_library(root: Part) -> tuple[list[str], bool] | None:
    """flufl.bounce's addresses, and whether all of them are only delayed; None where it knows
    nothing.
    """
    from flufl.bounce import all_failures

    raw = root.buffer[:_FLUFL_BYTES]
    try:
        temporary, permanent = all_failures(message_from_bytes(raw))
    except Exception:  # noqa: BLE001
        # its detectors raise whatever the odd mail makes them raise
        return None
    found = permanent or temporary
    named = [each.decode("utf-8", "replace") for each in sorted(found)]
    named = [each.strip("<>\"' ") for each in named if "@" in each]
    return (named, not permanent) if named else None
