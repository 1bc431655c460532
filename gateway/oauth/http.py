"""HTTP for OAuth: post a form to a provider; wait for a browser that a provider redirects.

Raises :class:`TokenUnavailable` if the provider is away, slow or overloaded, or if its answer is
too long or not JSON. A JSON answer is returned, even if it is a refusal. Forms and answers are
never logged.
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
MAX_ANSWER_BYTES: Final = 64 << 10
MAX_RETRY_AFTER: Final = 3600.0  # seconds
# No compression, since a small answer could unpack to a large one.
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}
_PAGE: Final = "<!doctype html><meta charset=utf-8><title>ticketgate</title><p>{}</p>"


class TokenUnavailable(Unavailable):
    """The provider cannot be asked now; ``after`` is its Retry-After in seconds, or 0."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer: the HTTP status and the JSON object."""

    status: int
    document: Mapping[str, Any] = field(repr=False)


async def post(url: str, form: Mapping[str, str]) -> Answer:
    """Post a form and return the provider's answer; raises TokenUnavailable.

    Uses the proxies named in the environment.
    """
    host = url.split("/")[2]
    try:
        reply = await http_client.post(
            url, form, _HEADERS, seconds=SECONDS, most=MAX_ANSWER_BYTES + 1
        )
        if reply.broken is not None:
            raise reply.broken
    except (http_client.NoAnswer, http_client.NotAllowed) as error:
        raise TokenUnavailable(f"{host} {error.message}") from None
    return _answer(host, reply.status, reply.body, reply.head)


def _answer(host: str, status: int, body: bytes, head: Mapping[str, str]) -> Answer:
    if status == 429 or status >= 500:
        raise TokenUnavailable(
            f"{host} is overloaded or failing (HTTP {status})", _retry_after(head)
        )
    if len(body) > MAX_ANSWER_BYTES:
        raise TokenUnavailable(
            f"{host} sent more than {MAX_ANSWER_BYTES >> 10} KiB; check token_url"
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise TokenUnavailable(f"{host} sent no JSON object (HTTP {status}); check token_url")
    return Answer(status, document)


def _retry_after(head: Mapping[str, str]) -> float:
    """Return the header Retry-After in seconds (RFC 9110, 10.2.3).

    If the header is a date, return the seconds from the answer's Date to that date.
    """
    wanted, sent = head.get("Retry-After", ""), head.get("Date", "")
    try:
        seconds = (parsedate_to_datetime(wanted) - parsedate_to_datetime(sent)).total_seconds()
    except (ValueError, TypeError):
        seconds = float(wanted) if wanted.isascii() and wanted.isdecimal() else 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


class RedirectListener:
    """A listener on this machine, to which the provider redirects the browser.

    ``url`` is its address.
    """

    def __init__(self, url: str, received: asyncio.Future[dict[str, str]]) -> None:
        """Store our address, and the future for the query string of the browser's request."""
        self.url = url
        self._received = received

    async def query(self) -> dict[str, str]:
        """Wait for the browser's request with our ``state``, and return its query."""
        return await self._received


@asynccontextmanager
async def listen_for_redirect(
    host: str, port: int, path: str, state: str
) -> AsyncIterator[RedirectListener]:
    """Listen on the loopback address while the block runs; port 0 takes any free port.

    Requests without our ``state`` are refused and change nothing. Raises Unavailable if the port is
    taken.
    """
    received: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def page(query: dict[str, str]) -> tuple[int, str]:
        if query.get("state") != state or not {"code", "error"} & query.keys():
            return 404, _PAGE.format(
                "This is not the answer to the sign-in that ticketgate waits for."
            )
        if not received.done():
            received.set_result(query)
        message = (
            "ticketgate was refused access."
            if "error" in query
            else "Thank you. You may close this window and go back to the terminal."
        )
        return 200, _PAGE.format(message)

    async with AsyncExitStack() as stack:
        try:
            free_port = await stack.enter_async_context(
                http_client.listen(host if host == "::1" else "127.0.0.1", port, page)
            )
        except OSError as error:
            raise Unavailable(
                f"cannot listen on port {port} for the browser to return: "
                f"{os.strerror(error.errno or 0).lower()}"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        stack.callback(received.cancel)
        yield RedirectListener(f"http://{shown}:{free_port}{path}", received)
