"""Reports about our own mail: which deliveries they are about, and what follows (rows E29, O12).

A report may name recipients otherwise than we wrote them; then the signed return path decides.
Nothing raises.
"""

from __future__ import annotations

from core.decisions.outgoing import FailDelivery
from core.decisions.tickets import Decision, Remark
from core.events import Cause, Delivered, MailArrived
from core.model.message import BounceRecipient, address_key
from core.rules.outbound import is_hard, tell


def came_back(event: MailArrived, ticket: int | None) -> list[Decision]:
    """Return what follows from a report; ``ticket`` is that of the thread it is tied to."""
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
            decided.append(FailDelivery(delivery.id, delivery.recipient, reply, is_hard(reply)))
            decided.extend(tell(number, delivery, reply) if number is not None else ())
        elif each.action == "delayed" and number is not None:
            decided.append(
                Remark(
                    number,
                    Cause("mail", event.message.message_id),
                    f"mail to {delivery.recipient} is delayed: {reply}",
                )
            )
    return decided


def _delivery(event: MailArrived, about: BounceRecipient) -> Delivered | None:
    """Return the delivery that a recipient group of a report is about, or None.

    Of several it is the one whose mail or return path the report names.
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
