"""Webhook calls: post signed JSON, for three days at most, until it is accepted or refused.

Calls are only made to public addresses and to those in ``[webhooks] allow``. A host name is looked
up once, so that we connect to the very address that was checked. Redirects are not followed and no
proxy is used.

A call is repeated after 1 min, 2 min, 4 min ... 4 h when the receiver is away, slow or overloaded.
It fails at once when the receiver refuses it or its URL is not allowed. It waits while no secret is
configured. A call that a crash interrupted is made again with the same ``X-Ticketgate-Delivery``.
The log names a receiver only by scheme, host and port, since the rest may contain a secret.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

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
AT_ONCE: Final = 16  # concurrent calls
MOST_READ: Final = 64 << 10  # bytes of an answer
FIRST_PAUSE: Final = timedelta(minutes=1)
LAST_PAUSE: Final = timedelta(hours=4)
GIVE_UP: Final = timedelta(days=3)
POLL_SECONDS: Final = 5.0
UNSIGNED: Final = "no secret is configured: set secret_file in [webhooks]"
HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "ticketgate",
    "Accept-Encoding": "identity",
}
_TEMPORARY_STATUS: Final = frozenset({408, 425, 429})
_REPLY_CHARS: Final = 300  # of an answer that are kept
_URL: Final = re.compile(
    r"(?P<place>https?://(?P<host>\[[0-9a-f:.]+\]|[\w.-]+)(?::\d{1,5})?)(?:[/?#]\S*)?",
    re.IGNORECASE,
)
# RFC 4291 section 2.4; all other IPv6 addresses are unassigned or not for the internet
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052
# not public either (RFC 6890, 7526, 9637)
_SPECIAL: Final = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
_log = log.logger("webhook")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Called:
    """A call and the result of an attempt.

    ``place`` is scheme, host and port; ``attempts`` includes this attempt.
    """

    id: int
    ticket: int | None
    place: str
    attempts: int
    state: State
    reply: str


class Webhooks:
    """Makes the webhook calls of one process."""

    def __init__(self, database: Database, clock: Clock, settings: WebhookSettings) -> None:
        self.calls = Calls(database)
        self.clock = clock
        self._secret = settings.secret.get_secret_value().encode()
        self._allow = Allowed(settings.allow)

    async def run_due(self) -> list[Called]:
        """Attempt each due call once, including calls that another process releases meanwhile."""
        now = self.clock.now()
        done: list[Called] = []
        while batch := await self._claim_and_call(now):
            done += batch
        return done

    async def next_due(self) -> datetime | None:
        """Return when the next call is due; None if no call waits or no secret is configured."""
        return await self.calls.next_due() if self._secret else None

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Make calls as they become due until ``stop`` is set; then finish calls in progress."""
        while not stop.is_set():
            try:
                while not stop.is_set() and await self._claim_and_call(self.clock.now()):
                    pass
            except Unavailable as error:
                _log.warning("webhooks wait", reason=error.message)
            await wake.wait_or_stop(stop, "webhook", POLL_SECONDS)

    async def _claim_and_call(self, now: datetime) -> list[Called]:
        """Claim some due calls and make them concurrently."""
        if not self._secret:
            await self.calls.put_off(UNSIGNED)
            return []
        calls = await self.calls.claim(AT_ONCE, LEASE_SECONDS, now)
        results = await asyncio.gather(*map(self._call, calls), return_exceptions=True)
        return [_value(each) for each in results]

    async def _call(self, call: Call) -> Called:
        found = _URL.fullmatch(call.url)
        place = found["place"].lower() if found is not None else ""
        try:
            state, reply = (
                await self._ask(call, found["host"].lower())
                if found is not None
                else ("failed", "calls to this URL are not allowed")
            )
        # any error counts as an attempt, or the call would be repeated without end
        except Exception as error:  # noqa: BLE001
            _log.error("webhook call failed unexpectedly", call=call.id, **log.error_fields(error))
            state, reply = (
                "deferred",
                f"internal error ({type(error).__name__}), see the log entry of call {call.id}",
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
        """Post a call and return its new state and the text of the answer."""
        try:
            reply = await http_client.post(
                call.url,
                call.body.encode(),
                self._headers(call),
                seconds=SECONDS,
                most=MOST_READ,
                allowed=lambda address: self._allow.covers(host, address),
            )
        except NotAllowed as error:
            return "failed", f"{host} {error.message}"
        except NoAnswer as error:
            return "deferred", f"{host} {error.message}"
        answer = "".join(
            each if each.isprintable() else " " for each in f"{reply.status} {reply.reason}"
        )[:_REPLY_CHARS].strip()
        if 200 <= reply.status < 300:
            return "sent", answer
        return (
            "failed"
            if 400 <= reply.status < 500 and reply.status not in _TEMPORARY_STATUS
            else "deferred",
            answer,
        )

    def _headers(self, call: Call) -> dict[str, str]:
        at = str(int(self.clock.now().timestamp()))
        return HEADERS | {
            "X-Ticketgate-Timestamp": at,
            "X-Ticketgate-Signature": signature(self._secret, at, call.body),
            "X-Ticketgate-Delivery": call.key or str(call.id),
        }


def _value(result: Called | BaseException) -> Called:
    """Return the result of a call; if it is an exception, raise it."""
    if isinstance(result, BaseException):
        raise result
    return result


def signature(secret: bytes, timestamp: str, body: str) -> str:
    """Return ``v1=`` and the hex HMAC-SHA256 of timestamp, dot and body (interfaces.md 5)."""
    return "v1=" + hmac.digest(secret, f"{timestamp}.{body}".encode(), "sha256").hex()


def pause(attempts: int) -> timedelta:
    """Return how long to wait before the next attempt, after this number of attempts."""
    return min(FIRST_PAUSE * (1 << min(attempts - 1, 20)), LAST_PAUSE)


class Allowed:
    """Networks and host names that calls may go to, beside public addresses (reliability.md 29)."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._networks = []
        self._hosts = set()
        for each in entries:
            try:
                self._networks.append(ip_network(each))
            except ValueError:
                self._hosts.add(each.lower())

    def covers(self, host: str, address: str) -> bool:
        """Return whether a host, in lower case, may be called at this IP address."""
        end = _final_address(address)
        return (
            host in self._hosts
            or is_public(end)
            or any(end in network for network in self._networks)
        )


def _final_address(address: str) -> Address:
    """Return the IPv4 address embedded in an IPv6 address, or else the address itself."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return found
    within = IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else None
    return found.ipv4_mapped or found.sixtofour or within or found


def is_public(address: Address) -> bool:
    """Return whether an address is on the public internet, not private or special (RFC 6890)."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
