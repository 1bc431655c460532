"""Find the signed tokens in a mail (behaviour.md 5) and the deliveries that a report concerns.

Tokens stand in reply and relay addresses, the return path, our own Message-IDs and the subject tag.
A token with a wrong signature counts as none. Nothing in a mail makes these functions raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.events import Delivered
from core.mail import reply_tokens
from core.mail.threading import TicketRef, ids_of
from core.model.message import Envelope, Message, address_key
from gateway.intake.recipients import channel_at
from gateway.store.setup.desk_config import DeskConfig
from gateway.store.tickets import pending_outgoing
from gateway.store.tickets.unit_of_work import UnitOfWork

REPORTS = frozenset({"bounce", "report", "auto_reply"})


@dataclass(frozen=True, slots=True)
class TokenLookup:
    """The signed tokens of one mail.

    ``message`` is the mail; a bounce has the mail that bounced among its parents.
    """

    message: Message
    reply: TicketRef | None
    own: dict[str, int]  # our own Message-IDs, and the thread in each
    tag: TicketRef | None
    returned: int | None  # id of the delivery to whose return path the mail came
    relay: int | None  # id of the user to whose relay address the mail came


def read_tokens(desk: DeskConfig, envelope: Envelope, message: Message) -> TokenLookup:
    """Return the tokens in recipients, in our own Message-IDs and in the subject tag."""
    keys = desk.keys
    addresses = (
        *envelope.recipients,
        *message.delivered_to,
        *(each.key for each in (*message.to, *message.cc)),
    )
    reply: TicketRef | None = None
    returned: int | None = None
    relay: int | None = None
    for each in addresses:
        _, plus = reply_tokens.bare(address_key(each))
        if not plus or channel_at(desk.channels, each) is None:
            continue
        named = reply_tokens.read_relay(keys, plus)
        if named is not None and reply is None:
            reply, relay = named
        reply = reply or reply_tokens.read_reply(keys, plus)
        returned = returned or reply_tokens.read_return(keys, plus)
    linked = _with_bounced_parent(message)
    own = {
        each: thread
        for each in ids_of(linked)
        if each.startswith("tg.") and (thread := reply_tokens.read_own_id(keys, each)) is not None
    }
    return TokenLookup(
        message=linked,
        reply=reply,
        own=own,
        tag=reply_tokens.read_tag(keys, message.subject),
        returned=returned,
        relay=relay,
    )


def _with_bounced_parent(message: Message) -> Message:
    """Return the message; if it is a bounce, its first parent is the mail that bounced."""
    original = message.bounce.original_message_id if message.bounce is not None else None
    if not original or original in message.in_reply_to:
        return message
    return replace(message, in_reply_to=(original, *message.in_reply_to))


async def load_deliveries(unit: UnitOfWork, lookups: Sequence[TokenLookup]) -> dict[int, Delivered]:
    """Load the deliveries that the reports of a batch can be about, and return them by id.

    The threads and tickets of deliveries that only a return path names are loaded too.
    """
    reports = [
        lookup
        for lookup in lookups
        if lookup.message.bounce is not None or lookup.returned is not None
    ]
    if not reports:
        return {}
    pointed = {
        ref.message
        for lookup in reports
        for each in ids_of(lookup.message)
        for ref in unit.refs.get(each, ())
        if ref.message
    }
    found = await pending_outgoing.deliveries(
        unit.connection,
        messages=pointed,
        ids={lookup.returned for lookup in reports if lookup.returned},
    )
    ids = {each.message_id for each in found if each.message_id}
    threads = {
        thread
        for each in ids
        if (thread := reply_tokens.read_own_id(unit.desk.keys, each)) is not None
    }
    await unit.load_for(
        ids,
        {each.recipient for each in found},
        threads,
        {each.ticket for each in found if each.ticket},
    )
    return {each.id: each for each in found}


def reporting(
    lookup: TokenLookup, deliveries: Mapping[int, Delivered], envelope: Envelope
) -> Message:
    """Return the mail; if it has no sender and came to a signed return path, return it as a report.

    Such a mail is about the delivery in that path, whatever it says (behaviour.md 2.1 step 3).
    """
    message, about = lookup.message, deliveries.get(lookup.returned or 0)
    if about is None or not about.message_id:
        return message
    from_nobody = envelope.sender == "" or (envelope.sender is None and message.return_path == "")
    if message.kind not in REPORTS and not from_nobody:
        return message  # a person wrote to that address
    if about.message_id not in message.in_reply_to:
        message = replace(message, in_reply_to=(about.message_id, *message.in_reply_to))
    return message if message.kind in REPORTS else replace(message, kind="report")


def reported(
    message: Message, lookup: TokenLookup, deliveries: Mapping[int, Delivered]
) -> tuple[Delivered, ...]:
    """Return the deliveries that a report can be about, by its parents or its return path."""
    if not deliveries or message.kind not in ("bounce", "report"):
        return ()
    named = set(message.parents)
    return tuple(
        each
        for each in deliveries.values()
        if each.message_id in named or each.id == lookup.returned
    )
