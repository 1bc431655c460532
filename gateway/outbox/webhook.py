"""Calls webhooks: JSON that is posted to a server of somebody else, signed, until it takes it,
refuses it, or three days are over.

Nothing is ever sent to an address that is not public, unless ``[webhooks] allow`` names it: a name
is looked up once, and what is looked at is the very address that is connected to. Redirects are not
followed and no proxy is used.

What can go wrong: the receiver is away, slow or overloaded (tried again after 1 min, 2 min, 4 min
... 4 h); it refuses the call, or the URL is none that may be called (failed at once); there is no
secret to sign with (calls wait); we die while a call is made, or the database is away just then (it
is made again, with the same ``X-Ticketgate-Delivery``). A log line tells where a call went by
scheme, host and port only, since the rest may hold a secret.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from config.settings import WebhookSettings
from gateway import http_client, log
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.http_client import NoAnswer, NotAllowed
from gateway.store.engine import Database
from gateway.store.queues.wake import Wake
from gateway.store.queues.webhooks import Call, Calls, State

SECONDS: Final = 20.0  # for one call in all
LEASE_SECONDS: Final = 60.0
AT_ONCE: Final = 16
MOST_READ: Final = 64 << 10  # bytes of an answer
FIRST_PAUSE: Final = timedelta(minutes=1)
LAST_PAUSE: Final = timedelta(hours=4)
GIVE_UP: Final = timedelta(days=3)
POLL_SECONDS: Final = 5.0
UNSIGNED: Final = "no secret is configured: set secret_file in [webhooks]"
_PASSING: Final = frozenset({408, 425, 429})
_REPLY: Final = 300  # characters that are kept of an answer
_URL: Final = re.compile(
    r"(?P<place>https?://(?P<host>\[[0-9a-f:.]+\]|[\w.-]+)(?::\d{1,5})?)(?:[/?#]\S*)?",
    re.IGNORECASE,
)
_GLOBAL_UNICAST: Final = IPv6Network(
    "2000::/3"
)  # RFC 4291 section 2.4; all the rest is nobody's or not for the internet
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052
_SPECIAL: Final = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20"))
)  # not public either (RFC 6890, 7526, 9637)
_log = log.logger("webhook")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Called:
    """One attempt: of which call, where to (scheme, host and port), how many there were with this
    one, and what came of it.
    """

    id: int
    ticket: int | None
    place: str
    attempts: int
    state: State
    reply: str


class Webhooks:
    """Makes the calls of one process."""

    def __init__(self, database: Database, clock: Clock, settings: WebhookSettings) -> None:
        self.calls = Calls(database)
        self.clock = clock
        self._secret = settings.secret.get_secret_value().encode()
        self._allow = Allowed(settings.allow)

    async def run_due(self) -> list[Called]:
        """One pass: each call that is due gets one attempt, and so do those that another process
        leaves behind meanwhile.
        """
        now = self.clock.now()
        done: list[Called] = []
        while some := await self._some(now):
            done += some
        return done

    async def next_due(self) -> datetime | None:
        """When the next call is to be made; None without a secret, since none is made then."""
        return await self.calls.next_due() if self._secret else None

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Until ``stop``: makes calls as they become due. What is under way then is finished."""
        while not stop.is_set():
            try:
                while not stop.is_set() and await self._some(self.clock.now()):
                    pass
            except Unavailable as error:
                _log.warning("webhooks wait", reason=error.message)
            await _first(stop.wait(), wake.wait("webhook", POLL_SECONDS))

    async def _some(self, now: datetime) -> list[Called]:
        """Takes some calls and makes them at once."""
        if not self._secret:
            await self.calls.put_off(UNSIGNED)
            return []
        calls = await self.calls.claim(AT_ONCE, LEASE_SECONDS, now)
        results = await asyncio.gather(*map(self._make, calls), return_exceptions=True)
        for each in results:
            if isinstance(each, BaseException):
                raise each
        return [each for each in results if isinstance(each, Called)]

    async def _make(self, call: Call) -> Called:
        found = _URL.fullmatch(call.url)
        place = found["place"].lower() if found is not None else ""
        try:
            state, reply = (
                await self._ask(call, found["host"].lower())
                if found is not None
                else ("failed", "its URL may not be called")
            )
        # whatever it is, the call must not be made again and again without end
        except Exception as error:  # noqa: BLE001
            _log.error("webhook stumbled", call=call.id, **log.error_fields(error))
            state, reply = (
                "deferred",
                f"something unforeseen happened here ({type(error).__name__}); the log says where",
            )
        now, end = self.clock.now(), call.created_at + GIVE_UP
        if state == "deferred" and now >= end:
            state = "failed"
        due = min(now + pause(call.attempts), end) if state == "deferred" else None
        say = _log.info if state == "sent" else _log.warning
        say(
            f"webhook {state}",
            call=call.id,
            ticket=call.ticket,
            to=place,
            attempt=call.attempts,
            reply=log.redact(reply),
        )
        await self.calls.settle(call.id, state, reply, due)
        return Called(call.id, call.ticket, place, call.attempts, state, reply)

    async def _ask(self, call: Call, host: str) -> tuple[State, str]:
        """One attempt, and what the answer means."""
        try:
            reply = await http_client.post(
                call.url,
                call.body.encode(),
                self._head(call),
                seconds=SECONDS,
                most=MOST_READ,
                allowed=lambda address: self._allow.covers(host, address),
            )
        except NotAllowed as error:
            return "failed", f"{host} {error.message}"
        except NoAnswer as error:
            return "deferred", f"{host} {error.message}"
        said = "".join(
            each if each.isprintable() else " " for each in f"{reply.status} {reply.reason}"
        )[:_REPLY].strip()
        if 200 <= reply.status < 300:
            return "sent", said
        return (
            "failed" if 400 <= reply.status < 500 and reply.status not in _PASSING else "deferred",
            said,
        )

    def _head(self, call: Call) -> dict[str, str]:
        at = str(int(self.clock.now().timestamp()))
        return {
            "Content-Type": "application/json",
            "User-Agent": "ticketgate",
            "Accept-Encoding": "identity",
            "X-Ticketgate-Timestamp": at,
            "X-Ticketgate-Signature": signature(self._secret, at, call.body),
            "X-Ticketgate-Delivery": call.key or str(call.id),
        }


def signature(secret: bytes, timestamp: str, body: str) -> str:
    """``v1=`` and the hex HMAC-SHA256 over timestamp (seconds since 1970), a dot and the body
    (interfaces.md 5).
    """
    return "v1=" + hmac.digest(secret, f"{timestamp}.{body}".encode(), "sha256").hex()


def pause(attempts: int) -> timedelta:
    """How long to wait after so many attempts."""
    return min(FIRST_PAUSE * (1 << min(attempts - 1, 20)), LAST_PAUSE)


class Allowed:
    """Where calls may go. ``entries`` are networks and names of hosts that are allowed beside the
    public internet (reliability.md 29).
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._networks = []
        self._hosts = set()
        for each in entries:
            try:
                self._networks.append(ip_network(each))
            except ValueError:
                self._hosts.add(each.lower())

    def covers(self, host: str, address: str) -> bool:
        """Whether a call to this host, as its URL names it in small letters, may be made to this IP
        address, as it is connected to.
        """
        end = _end(address)
        return (
            host in self._hosts
            or is_public(end)
            or any(end in network for network in self._networks)
        )


def _end(address: str) -> Address:
    """The address at which packets end up: an IPv4 address may stand in an IPv6 one, mapped or for
    a way between the two.
    """
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return found
    within = IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else None
    return found.ipv4_mapped or found.sixtofour or within or found


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet: not private, loopback, link-local, multicast,
    reserved or shared by a carrier (RFC 6890).
    """
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Waits until one of several waits is over; the others are given up."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
