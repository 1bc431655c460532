"""Signed tokens by which mail finds its ticket: reply addresses, subject tags, our Message-IDs.

See behaviour.md 5 and reliability.md 18. A token is short, survives lower-casing, and carries 80
bits of HMAC-SHA256 over its purpose and content, so that no token can be turned into one of another
kind. The first key signs, any key verifies. A token that does not verify is ignored: these
functions return None and never raise.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence

from core.mail.threading import TicketRef

MAC_CHARACTERS = 16  # of 5 bit each
# Without ASCII, digits of other scripts match, and letters that fold to k, s and i.
_WRITTEN = re.IGNORECASE | re.ASCII
_MAC = rf"([a-z2-7]{{{MAC_CHARACTERS}}})"
_PLUS = re.compile(rf"(\d{{1,15}}(?:-\d{{1,15}})?)\.{_MAC}", _WRITTEN)
_RELAY = re.compile(rf"r(\d{{1,15}}-\d{{1,10}}(?:-\d{{1,15}})?)\.{_MAC}", _WRITTEN)
_RETURN = re.compile(rf"b(\d{{1,15}})\.{_MAC}", _WRITTEN)
_SIGNED = re.compile(rf"[rb]?\d{{1,15}}(?:-\d{{1,15}}){{0,2}}\.{_MAC}", _WRITTEN)
_KEYS = re.compile(rf"\+[rb]?\d{{1,15}}(?:-\d{{1,15}}){{0,2}}\.{_MAC}(?=@|=40|%40)", _WRITTEN)
_TAG = re.compile(rf"\[#(\d{{1,15}})\.{_MAC}\]", _WRITTEN)
_OWN_ID = re.compile(rf"tg\.([a-z0-9]{{1,40}})\.(\d{{1,15}})\.{_MAC}@", _WRITTEN)


def mac(key: bytes, purpose: str, content: str) -> str:
    """Return 80 bits of HMAC-SHA256 as 16 lower-case base32 characters."""
    digest = hmac.digest(key, f"{purpose}:{content}".encode(), "sha256")
    return base64.b32encode(digest[:10]).decode().lower()


def _verified(keys: Sequence[bytes], purpose: str, content: str, given: str) -> bool:
    given = given.lower()
    return any(hmac.compare_digest(mac(key, purpose, content), given) for key in keys)


def tag(key: bytes, number: int) -> str:
    """Return the tag of a ticket, without the brackets that it has in subjects."""
    return f"#{number}.{mac(key, 'tag', str(number))}"


def reply_address(key: bytes, channel: str, number: int, thread: int | None = None) -> str:
    """Return ``local+<ref>.<mac>@domain`` for a ticket, or for one thread of it."""
    local, _, domain = channel.rpartition("@")
    ref = str(number) if thread is None else f"{number}-{thread}"
    return f"{local}+{ref}.{mac(key, 'reply', ref)}@{domain}"


def relay_address(
    key: bytes, channel: str, number: int, user: int, thread: int | None = None
) -> str:
    """Return ``local+r<ticket>-<user>.<mac>@domain``, or ``r<ticket>-<user>-<thread>``.

    A user's answer to a notice about a ticket, or about mail on one thread of it, goes to this
    address (E19; section 5, what empowers).
    """
    local, _, domain = channel.rpartition("@")
    ref = f"{number}-{user}" if thread is None else f"{number}-{user}-{thread}"
    return f"{local}+r{ref}.{mac(key, 'relay', ref)}@{domain}"


def return_path(key: bytes, channel: str, delivery: int) -> str:
    """Return the address for reports about a delivery: ``local+b<delivery>.<mac>@domain``."""
    local, _, domain = channel.rpartition("@")
    return f"{local}+b{delivery}.{mac(key, 'return', str(delivery))}@{domain}"


def message_id(key: bytes, nonce: str, thread: int, domain: str) -> str:
    """Return a Message-ID without angle brackets; ``nonce`` is unique, of letters and digits."""
    content = f"{nonce}.{thread}"
    return f"tg.{content}.{mac(key, 'id', content)}@{domain}"


def bare(address: str) -> tuple[str, str]:
    """Return (address without its plus part, the plus part).

    If the address ends in a token, only the token is the plus part, since a channel's own address
    may contain "+" too.
    """
    local, at, domain = address.rpartition("@")
    name, _, plus = local.rpartition("+")
    if not name or not ends_in_token(local):
        name, _, plus = local.partition("+")
    return name + at + domain, plus


def ends_in_token(local: str) -> bool:
    """Tell whether a local part ends in what looks like a token; the signature is not checked."""
    return _SIGNED.fullmatch(local.rpartition("+")[2]) is not None


def unmarked(text: str) -> str:
    """Remove the tokens from our addresses in a text, for people who must not get tokens."""
    return _KEYS.sub("", text)


def read_reply(keys: Sequence[bytes], plus: str) -> TicketRef | None:
    """Return the ticket or thread that the plus part of a reply address names, or None."""
    found = _PLUS.fullmatch(plus)
    if found is None or not _verified(keys, "reply", found[1], found[2]):
        return None
    number, _, thread = found[1].partition("-")
    return TicketRef(int(number), int(thread) if thread else None)


def read_relay(keys: Sequence[bytes], plus: str) -> tuple[TicketRef, int] | None:
    """Return the ticket or thread, and the user id, that a relay address's plus part names."""
    found = _RELAY.fullmatch(plus)
    if found is None or not _verified(keys, "relay", found[1], found[2]):
        return None
    number, user, *thread = map(int, found[1].split("-"))
    return TicketRef(number, thread[0] if thread else None), user


def read_return(keys: Sequence[bytes], plus: str) -> int | None:
    """Return the delivery that the plus part of a return path names, or None."""
    found = _RETURN.fullmatch(plus)
    return (
        int(found[1])
        if found is not None and _verified(keys, "return", found[1], found[2])
        else None
    )


def read_tag(keys: Sequence[bytes], subject: str) -> TicketRef | None:
    """Return the ticket of the first valid tag in a subject, or None."""
    for found in _TAG.finditer(subject):
        if _verified(keys, "tag", found[1], found[2]):
            return TicketRef(int(found[1]))
    return None


def read_own_id(keys: Sequence[bytes], identifier: str) -> int | None:
    """Return the thread on which we sent the mail with this Message-ID, or None."""
    found = _OWN_ID.match(identifier)
    if found is None or not _verified(keys, "id", f"{found[1]}.{found[2]}".lower(), found[3]):
        return None
    return int(found[2])
