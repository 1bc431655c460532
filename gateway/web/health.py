"""``/livez`` and ``/readyz`` on a listener of their own, loopback by default (interfaces.md 5): for supervisors and load balancers.

It answers two fixed paths and nothing else, so it is a few lines over asyncio rather than the web framework, which a daemon without the web
role does not load. A client that sends nothing, or too much, is dropped after a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping

LINE_LIMIT = 4096
PATIENCE = 1.0  # seconds for the whole request

Check = Callable[[], Awaitable[Mapping[str, str]]]  # part -> "ok" or what is wrong with it


class Health:
    """The listener. ``check`` tells how each part of the daemon is; ready means every part says ok."""

    name = "health"

    def __init__(self, host: str, port: int, check: Check) -> None:
        self._at = (host, port)
        self._check = check
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
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
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
                return _page("200 OK", {"status": "ok"})
            case [b"GET" | b"HEAD", b"/readyz", *_]:
                parts = await self._check()
                well = all(word == "ok" for word in parts.values())
                return _page(
                    "200 OK" if well else "503 Service Unavailable", {"status": "ok" if well else "not ready", "parts": dict(parts)}
                )
            case _:
                return _page("404 Not Found", {"status": "not found"})


def _page(status: str, document: Mapping[str, object]) -> bytes:
    body = json.dumps(document).encode() + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
