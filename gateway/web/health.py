"""Serve ``/livez``, ``/readyz`` and ``/metrics`` for supervisors and load balancers.

These pages have a listener of their own, on loopback by default (interfaces.md 5). The listener
uses no web framework, since a daemon without the web role loads none. A client whose request is not
complete within a second, or is too large, is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import Unavailable
from gateway.web.metrics import CONTENT_TYPE, Figure, page

MAX_REQUEST: Final = 4096  # bytes of the request line and headers
REQUEST_SECONDS: Final = 1.0  # for the whole request
REQUEST_ERRORS: Final = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The state of the daemon: "ok" or a short error for each part and each mailbox.

    If one of the ``parts`` fails, the daemon is not ready.
    """

    parts: Mapping[str, str]
    mailboxes: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Return "ok", "degraded" (only mailboxes fail), or "not ready" (a part fails)."""
        if any(state != "ok" for state in self.parts.values()):
            return "not ready"
        return "degraded" if any(state != "ok" for state in self.mailboxes.values()) else "ok"


Check = Callable[[], Awaitable[HealthReport]]
Measure = Callable[[], Awaitable[Sequence[Figure]]]


class Health:
    """The listener; ``measure`` returns the figures of ``/metrics`` and may raise Unavailable."""

    name = "health"

    def __init__(self, host: str, port: int, check: Check, measure: Measure) -> None:
        self._address = (host, port)
        self._check = check
        self._measure = measure
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Bind the listener; OSError if its address is taken."""
        self._server = await asyncio.start_server(self._answer, *self._address, limit=MAX_REQUEST)

    async def run(self, stop: asyncio.Event) -> None:
        """Answer requests until ``stop``."""
        if self._server is None:
            await self.start()
        await stop.wait()
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(*REQUEST_ERRORS):
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._response(request.split(b"\r\n", 1)[0]))
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def _response(self, request_line: bytes) -> bytes:
        match request_line.split():
            case [b"GET" | b"HEAD", b"/livez", *_]:
                return _json("200 OK", {"status": "ok"})
            case [b"GET" | b"HEAD", b"/readyz", *_]:
                return _readiness(await self._check())
            case [b"GET" | b"HEAD", b"/metrics", *_]:
                try:
                    return _page("200 OK", CONTENT_TYPE, page(await self._measure()))
                except Unavailable as error:
                    return _json("503 Service Unavailable", {"status": error.message})
            case _:
                return _json("404 Not Found", {"status": "not found"})


def _readiness(report: HealthReport) -> bytes:
    status = "503 Service Unavailable" if report.status == "not ready" else "200 OK"
    document = {
        "status": report.status,
        "parts": dict(report.parts),
        "mailboxes": dict(report.mailboxes),
    }
    return _json(status, document)


def _json(status: str, document: Mapping[str, object]) -> bytes:
    return _page(status, "application/json", json.dumps(document).encode() + b"\n")


def _page(status: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
