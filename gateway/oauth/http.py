"""What a provider is asked over HTTP: one form posted to it, and one visit of a browser that comes
back from it.

What can go wrong: the provider is away, slow, overloaded, or answers with something that is no JSON
or far too long. That is :class:`TokenUnavailable`; what it says in JSON, refusals too, is for the
caller. Nothing of a form or an answer is ever logged here.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

from gateway import http_client
from gateway.errors import Unavailable

SECONDS: Final = 20.0  # for one request
LARGEST: Final = 64 << 10  # bytes of an answer
LONGEST: Final = 3600.0  # seconds for which a provider can ask to be left alone
_HEAD: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}  # a packed answer could be larger than it looks
_PAGE: Final = "<!doctype html><meta charset=utf-8><title>ticketgate</title><p>{}</p>"


class TokenUnavailable(Unavailable):
    """The provider cannot be asked now. ``after`` are the seconds it wants to be left alone for,
    where it told.
    """

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said: the HTTP status, and the object it sent."""

    status: int
    document: Mapping[str, Any] = field(repr=False)


async def post(url: str, form: Mapping[str, str]) -> Answer:
    """Posts a form and reads the JSON object that comes back; proxies of the environment are used.
    Raises TokenUnavailable.
    """
    host = url.split("/")[2]
    try:
        reply = await http_client.post(url, form, _HEAD, seconds=SECONDS, most=LARGEST + 1)
        if reply.broken is not None:
            raise reply.broken
    except (http_client.NoAnswer, http_client.NotAllowed) as error:
        raise TokenUnavailable(f"{host} {error.message}") from None
    return _answer(host, reply.status, reply.body, reply.head)


def _answer(host: str, status: int, body: bytes, head: Mapping[str, str]) -> Answer:
    if status == 429 or status >= 500:
        raise TokenUnavailable(f"{host} is overloaded or broken (HTTP {status})", _after(head))
    if len(body) > LARGEST:
        raise TokenUnavailable(
            f"{host} sent more than {LARGEST >> 10} KiB; is this its token endpoint?"
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise TokenUnavailable(
            f"{host} sent no JSON object (HTTP {status}); is this its token endpoint?"
        )
    return Answer(status, document)


def _after(head: Mapping[str, str]) -> float:
    """Retry-After in seconds; where it is a date, by the provider's own clock (RFC 9110, 10.2.3)."""
    wanted = head.get("Retry-After", "")
    try:
        apart = parsedate_to_datetime(wanted) - parsedate_to_datetime(head.get("Date", ""))
        seconds = apart.total_seconds()
    except (ValueError, TypeError):
        seconds = float(wanted) if wanted.isascii() and wanted.isdecimal() else 0.0
    return min(max(seconds, 0.0), LONGEST)


class Visit:
    """A browser that is awaited on an address of this machine."""

    def __init__(self, url: str, came: asyncio.Future[dict[str, str]]) -> None:
        """``url`` is where it is expected, ``came`` what it brings."""
        self.url = url
        self._came = came

    async def query(self) -> dict[str, str]:
        """What stands behind the question mark of the visit that brings the state we gave."""
        return await self._came


@asynccontextmanager
async def visit(host: str, port: int, path: str, state: str) -> AsyncIterator[Visit]:
    """Listens on the loopback while the block runs; port 0 takes a free one. A visit without our
    ``state`` is turned away and changes nothing.

    Unavailable where the port is taken.
    """
    came: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def page(query: dict[str, str]) -> tuple[int, str]:
        if query.get("state") != state or not {"code", "error"} & query.keys():
            return 404, _PAGE.format("This is no answer to the sign-in that ticketgate waits for.")
        if not came.done():
            came.set_result(query)
        said = (
            "ticketgate was not let in."
            if "error" in query
            else "Thank you. You may close this window and go back to the terminal."
        )
        return 200, _PAGE.format(said)

    async with AsyncExitStack() as stack:
        try:
            taken = await stack.enter_async_context(
                http_client.listen(host if host == "::1" else "127.0.0.1", port, page)
            )
        except OSError as error:
            raise Unavailable(
                f"the browser cannot come back to port {port}: "
                f"{os.strerror(error.errno or 0).lower()}"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        stack.callback(came.cancel)
        yield Visit(f"http://{shown}:{taken}{path}", came)
