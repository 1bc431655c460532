"""The door to aiohttp: one form posted to a provider, and one visit of a browser that comes back from it.

What can go wrong: the provider is away, slow, overloaded, or answers with something that is no JSON or far too long. That is
:class:`TokenUnavailable`; what it says in JSON, refusals too, is for the caller. Nothing of a form or an answer is ever logged here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web

from gateway.errors import TryAgain

SECONDS: Final = 20.0  # for one request
LARGEST: Final = 64 << 10  # bytes of an answer
_CLOSE: Final = "<!doctype html><meta charset=utf-8><title>ticketgate</title><p>{}</p>"


class TokenUnavailable(TryAgain):
    """The provider cannot be asked now. ``after`` are the seconds it wants to be left alone for, where it told."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said: the HTTP status, and the object it sent."""

    status: int
    document: Mapping[str, Any] = field(repr=False)


async def post(url: str, form: Mapping[str, str]) -> Answer:
    """Posts a form and reads the JSON object that comes back; proxies of the environment are used. Raises TokenUnavailable."""
    host = url.split("/")[2]
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS), trust_env=True) as session,
            session.post(url, data=dict(form), headers={"Accept": "application/json"}, allow_redirects=False) as response,
        ):
            body = await response.content.read(LARGEST + 1)
            while len(body) <= LARGEST and (more := await response.content.read(LARGEST)):
                body += more
            status, after = response.status, response.headers.get("Retry-After", "")
    except TimeoutError:
        raise TokenUnavailable(f"{host} did not answer within {SECONDS:.0f} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise TokenUnavailable(f"{host} cannot be reached ({type(error).__name__})") from None
    return _answer(host, status, body, float(after) if after.isdecimal() else 0.0)


def _answer(host: str, status: int, body: bytes, after: float) -> Answer:
    if status == 429 or status >= 500:
        raise TokenUnavailable(f"{host} is overloaded or broken (HTTP {status})", after)
    if len(body) > LARGEST:
        raise TokenUnavailable(f"{host} sent more than {LARGEST >> 10} KiB")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise TokenUnavailable(f"{host} sent no JSON (HTTP {status}); is this its token endpoint?")
    return Answer(status, document)


class Visit:
    """A browser that is awaited on an address of this machine."""

    def __init__(self, url: str, came: asyncio.Future[dict[str, str]]) -> None:
        self.url = url
        self._came = came

    async def query(self) -> dict[str, str]:
        """What stands behind the question mark of the first visit that brings a code or an error."""
        return await self._came


@asynccontextmanager
async def visit(host: str, port: int, path: str) -> AsyncIterator[Visit]:
    """Listens on the loopback while the block runs; port 0 takes a free one. OSError where the port is taken."""
    came: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def take(request: web.Request) -> web.Response:
        query = dict(request.query)
        if not {"code", "error"} & query.keys():
            return web.Response(status=404)
        if not came.done():
            came.set_result(query)
        said = "ticketgate was not let in." if "error" in query else "Thank you. You may close this window and go back to the terminal."
        return web.Response(text=_CLOSE.format(said), content_type="text/html")

    application = web.Application()
    application.router.add_get("/{anything:.*}", take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        taken = runner.addresses[0][1]
        yield Visit(f"http://{host}:{taken}{path}", came)
    finally:
        came.cancel()
        await runner.cleanup()
