"""Reports about our own mail: find the deliveries that failed and mark them (rows E29, O12).

A report may spell recipients differently than we did. Then the signed return path tells which
delivery it is about. Nothing raises.
"""

from __future__ import annotations

from core.decisions.tickets import Decision, Remark
from core.events import Cause, Delivered, MailArrived
from core.model.message import BounceRecipient, address_key
from core.rules.outbound import give_up


def handle_report(event: MailArrived, ticket: int | None) -> list[Decision]:
    """Mark reported deliveries as failed or delayed; the report's thread is on ``ticket``."""
    bounce = event.message.bounce
    if bounce is None:
        return []
    decided: list[Decision] = []
    ended: set[int] = set()
    for each in bounce.recipients or (BounceRecipient(None, None, bounce.action, None, None),):
        delivery = _delivery(event, each)
        if delivery is None:
            continue
        reply = (
            " ".join(word for word in (each.status, each.diagnostic) if word)[:500]
            or "a report says that it could not be delivered"
        )
        number = ticket if ticket is not None else delivery.ticket
        if each.action == "failed" and delivery.state != "failed" and delivery.id not in ended:
            ended.add(delivery.id)
            decided.extend(give_up(delivery, reply, number))
        elif each.action == "delayed" and number is not None:
            detail = f"mail to {delivery.recipient} is delayed: {reply}"
            decided.append(Remark(number, Cause("mail", event.message.message_id), detail))
    return decided


def _delivery(event: MailArrived, about: BounceRecipient) -> Delivered | None:
    """Return the delivery that a recipient group of a report is about, or None.

    If several fit, the delivery whose return path got the report is preferred, then one with the
    returned Message-ID.
    """
    named = {address_key(each) for each in (about.address, about.original) if each}
    original = (
        event.message.bounce.original_message_id if event.message.bounce is not None else None
    )
    ours = sorted(
        event.deliveries, key=lambda each: (each.id != event.returned, each.message_id != original)
    )
    for each in ours:
        if address_key(each.recipient) in named:
            return each
    if ours and (ours[0].id == event.returned or len(ours) == 1):
        return ours[0]  # we sent it to nobody else
    return None
