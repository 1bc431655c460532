"""``/livez``, ``/readyz`` and ``/metrics`` on a listener of their own, loopback by default
(interfaces.md 5): for supervisors and load balancers.

It answers three fixed paths and nothing else, so it is a few lines over asyncio rather than the web
framework, which a daemon without the web role does not load. A client that sends nothing, or too
much, is dropped after a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import Unavailable
from gateway.web.metrics import CONTENT_TYPE, Figure, page

LINE_LIMIT = 4096
PATIENCE = 1.0  # seconds for the whole request


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How the daemon is. ``parts`` are what it cannot work without, ``mailboxes`` what it reads:
    "ok", or what is wrong.
    """

    parts: Mapping[str, str]
    mailboxes: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """A mailbox that fails is told, but a daemon that takes mail by other ways is ready all the
        same.
        """
        if any(word != "ok" for word in self.parts.values()):
            return "not ready"
        return "degraded" if any(word != "ok" for word in self.mailboxes.values()) else "ok"


Check = Callable[[], Awaitable[HealthReport]]
Measure = Callable[[], Awaitable[Sequence[Figure]]]


class Health:
    """The listener. ``check`` tells how the daemon is, ``measure`` gives the figures of
    ``/metrics``; both may raise Unavailable.
    """

    name = "health"

    def __init__(self, host: str, port: int, check: Check, measure: Measure) -> None:
        self._at = (host, port)
        self._check = check
        self._measure = measure
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Bind; OSError when the address is taken."""
        self._server = await asyncio.start_server(self._answer, *self._at, limit=LINE_LIMIT)

    async def run(self, stop: asyncio.Event) -> None:
        """Answer until ``stop``."""
        if self._server is None:
            await self.start()
        await stop.wait()
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(PATIENCE):
                request = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._response(request.split(b"\r\n", 1)[0]))
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def _response(self, line: bytes) -> bytes:
        match line.split():
            case [b"GET" | b"HEAD", b"/livez", *_]:
                return _document("200 OK", {"status": "ok"})
            case [b"GET" | b"HEAD", b"/readyz", *_]:
                report = await self._check()
                told = {
                    "status": report.status,
                    "parts": dict(report.parts),
                    "mailboxes": dict(report.mailboxes),
                }
                return _document(
                    "503 Service Unavailable" if report.status == "not ready" else "200 OK", told
                )
            case [b"GET" | b"HEAD", b"/metrics", *_]:
                try:
                    return _page("200 OK", CONTENT_TYPE, page(await self._measure()))
                except Unavailable as error:
                    return _document("503 Service Unavailable", {"status": error.message})
            case _:
                return _document("404 Not Found", {"status": "not found"})


def _document(status: str, document: Mapping[str, object]) -> bytes:
    return _page(status, "application/json", json.dumps(document).encode() + b"\n")


def _page(status: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: "
        f"{len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
