"""Users are told what happened to tickets: one mail each, of everything that is due. A user whose
address no mail can go to is told nothing; the log says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.decisions.outgoing import QueueMail
from core.events import Cause
from core.model.message import Address
from gateway import log
from gateway.apply.applier import Applier
from gateway.compose.automatic_mail import AutomaticMail
from gateway.errors import Rejected
from gateway.store.queues.notices import Notice
from gateway.store.setup.templates import Words

_log = log.logger("agenda")
HEADLINES = {"new": "New ticket", "reply": "Reply", "failure": "Failure"}


def notify(
    letters: AutomaticMail, applier: Applier, waiting: Sequence[Notice]
) -> list[tuple[int, str]]:
    """Queue the mails; (ticket, address) of each. A user who left, or whose address is ours, is
    told nothing more.
    """
    unit = letters.unit
    users = {user.id: user for user in unit.desk.users.values()}
    grouped: dict[int, list[Notice]] = {}
    for each in waiting:
        grouped.setdefault(each.user_id, []).append(each)
    told = []
    for user_id, own in grouped.items():
        user = users.get(user_id)
        if user is None or not user.active or user.address in unit.desk.channels:
            unit.outward.dropped.extend({"_id": each.id} for each in own)
            continue
        first = own[0].ticket
        to, key = Address(user.name, user.address), f"notice:{own[0].id}"
        try:
            mail = letters.notice(
                first, to, _words(letters, own), key, user=user, what="notification"
            )
        except (
            Rejected
        ) as error:  # an address that cannot be written to must not keep the others waiting
            _log.warning("user cannot be told", user=user_id, reason=error.message)
            unit.outward.dropped.extend({"_id": each.id} for each in own)
            continue
        applier.perform([QueueMail(first, mail, Cause("mail"))])
        outgoing = unit.outward.outgoing[-1].id
        unit.outward.told.extend({"_id": each.id, "_outgoing": outgoing} for each in own)
        told.append((first, user.address))
    return told


def _words(letters: AutomaticMail, own: Sequence[Notice]) -> Words:
    lines = []
    for each in own:
        ticket = letters.unit.live_ticket(each.ticket)
        subject = ticket.subject if ticket is not None else ""
        lines.append(
            f"{HEADLINES[each.kind]}: ticket {each.ticket}, "
            f"{subject}\n{each.detail or ''}\n{letters.url(each.ticket)}\n"
        )
    head = own[0]
    ticket = letters.unit.live_ticket(head.ticket)
    subject = f"{HEADLINES[head.kind]}: {ticket.subject if ticket is not None else ''}"
    return Words(
        subject if len(own) == 1 else f"{len(own)} things happened to your tickets",
        "\n".join(lines),
    )
