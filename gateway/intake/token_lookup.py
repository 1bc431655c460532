"""The signed marks in a mail (behaviour.md 5): reply and relay address, return path, our own
Message-IDs, subject tag; and what reports are about.

Whatever does not verify is no mark. Nothing in a mail makes these raise.
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
    """The signed marks of one mail. ``message`` is the mail with what a report points at among its
    parents.
    """

    message: Message
    reply: TicketRef | None
    own: dict[str, int]
    tag: TicketRef | None
    returned: int | None  # the delivery whose return path it came to
    relay: int | None  # the user whose relay address it came to


def read_marks(desk: DeskConfig, envelope: Envelope, message: Message) -> TokenLookup:
    """Reply address, relay address and return path among all recipients; our own Message-IDs; the
    subject tag.
    """
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
    pointed = _pointing(message)
    own = {
        each: thread
        for each in ids_of(pointed)
        if each.startswith("tg.") and (thread := reply_tokens.read_own_id(keys, each)) is not None
    }
    return TokenLookup(
        pointed, reply, own, reply_tokens.read_tag(keys, message.subject), returned, relay
    )


def _pointing(message: Message) -> Message:
    """A report points at the mail it reports about, wherever it names it."""
    original = message.bounce.original_message_id if message.bounce is not None else None
    if not original or original in message.in_reply_to:
        return message
    return replace(message, in_reply_to=(original, *message.in_reply_to))


async def load_deliveries(unit: UnitOfWork, marks: Sequence[TokenLookup]) -> dict[int, Delivered]:
    """What reports of a batch can be about, by id; the threads and tickets of mail that only its
    return path names are loaded too.
    """
    reports = [
        mark for mark in marks if mark.message.bounce is not None or mark.returned is not None
    ]
    if not reports:
        return {}
    pointed = {
        ref.message
        for mark in reports
        for each in ids_of(mark.message)
        for ref in unit.refs.get(each, ())
        if ref.message
    }
    found = await pending_outgoing.deliveries(
        unit.connection, messages=pointed, ids={mark.returned for mark in reports if mark.returned}
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
    mark: TokenLookup, deliveries: Mapping[int, Delivered], envelope: Envelope
) -> Message:
    """The mail; one that came from nobody to a signed return path is a report about that delivery,
    whatever it looks like (2.1 step 3).
    """
    message, about = mark.message, deliveries.get(mark.returned or 0)
    if about is None or not about.message_id:
        return message
    from_nobody = envelope.sender == "" or (envelope.sender is None and message.return_path == "")
    if message.kind not in REPORTS and not from_nobody:
        return message  # a person wrote to that address
    if about.message_id not in message.in_reply_to:
        message = replace(message, in_reply_to=(about.message_id, *message.in_reply_to))
    return message if message.kind in REPORTS else replace(message, kind="report")


def reported(
    message: Message, mark: TokenLookup, deliveries: Mapping[int, Delivered]
) -> tuple[Delivered, ...]:
    """The deliveries a report can be about: those of the mail it names, and the one its return path
    names.
    """
    if not deliveries or message.kind not in ("bounce", "report"):
        return ()
    named = set(message.parents)
    return tuple(
        each for each in deliveries.values() if each.message_id in named or each.id == mark.returned
    )
