"""Find which of our channels a mail is for (behaviour.md section 5, *Recipient*, and E32)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.mail.our_addresses import our_address
from core.model.message import Envelope, Message
from core.model.ticket import Channel


def channels_of(
    desk_channels: Mapping[str, Channel],
    default: Channel | None,
    envelope: Envelope,
    message: Message,
) -> tuple[Channel, ...]:
    """Return our channels among the recipients, the deciding one first (behaviour.md 5, C17)."""
    named = _reached(desk_channels, [each.key for each in (*message.to, *message.cc)])
    for found in (
        _reached(desk_channels, envelope.recipients),
        _reached(desk_channels, message.delivered_to),
        named,
    ):
        if not found:
            continue
        if not any(channel in named for channel in found):
            return tuple(found)
        # Every channel gets a copy of such a mail, and all copies must have the same deciding
        # channel. Channels that open no tickets come last.
        everyone = list(dict.fromkeys((*named, *found)))
        return tuple(sorted(everyone, key=lambda channel: not channel.tickets))
    return (default,) if default is not None else ()


def _reached(channels: Mapping[str, Channel], addresses: Sequence[str]) -> list[Channel]:
    """Return the channels with one of the addresses, in the order of the addresses, each once."""
    return list(
        dict.fromkeys(
            channel for each in addresses if (channel := channel_at(channels, each)) is not None
        )
    )


def channel_at(channels: Mapping[str, Channel], address: str) -> Channel | None:
    """Return the channel that an address belongs to, with or without a plus part."""
    key = our_address(channels, address)
    return channels[key] if key is not None else None
