"""Read the JSON notices of bounces and complaints that Amazon SES sends by mail, through SNS."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from core.model.message import Bounce, BounceAction, BounceRecipient
from gateway.reading.mime import charset, limits

_MAX_CHARS: Final = 256 * 1024
_BROKEN_LINE: Final = re.compile(r"!?\r?\n ?")  # relays break long lines, some with a mark
_KINDS: Final = {"Bounce": "dsn", "Complaint": "arf", "Delivery": "dsn"}


def read(text: str) -> tuple[str, Bounce | None] | None:
    """Return ("dsn", the bounce) or ("arf", None) for a notice; None for any other text."""
    head = text[:4000]
    if not head.startswith("{") or "notificationType" not in head and "eventType" not in head:
        return None
    try:
        notice, _ = json.JSONDecoder(strict=False).raw_decode(
            _BROKEN_LINE.sub("", text[:_MAX_CHARS])
        )
        if isinstance(notice.get("Message"), str):  # wrapped by the topic it came through
            notice, _ = json.JSONDecoder(strict=False).raw_decode(notice["Message"])
        kind = str(notice.get("notificationType") or notice.get("eventType"))
        if kind not in _KINDS:
            return None
        mail = notice.get("mail") or {}
        return _KINDS[kind], _bounce(notice, kind, str(mail.get("messageId") or "") or None)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _bounce(notice: dict[str, Any], kind: str, message_id: str | None) -> Bounce | None:
    if kind == "Complaint":
        return None
    if kind == "Delivery":
        named = [
            {"emailAddress": each}
            for each in (notice.get("delivery") or {}).get("recipients") or []
        ]
        action: BounceAction = "delivered"
    else:
        named = (notice.get("bounce") or {}).get("bouncedRecipients") or []
        action = "failed"
    recipients = tuple(
        BounceRecipient(
            address=_short(each.get("emailAddress")),
            original=None,
            action=action,
            status=_short(each.get("status")),
            diagnostic=_short(each.get("diagnosticCode")),
        )
        for each in named[:1000]
    )
    return Bounce(action, recipients, message_id[: limits.MESSAGE_ID] if message_id else None)


def _short(value: object) -> str | None:
    return charset.one_line(str(value), 2000) or None if value else None
