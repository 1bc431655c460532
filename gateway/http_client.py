"""The door to aiohttp: one request to a server of somebody else, and a page of ours for a browser
of this machine. It is loaded when it is first needed.

What can go wrong: the server is away, slow, or what answers there is no HTTP (:class:`NoAnswer`);
its address is none, or the caller allows none of those that its name stands for
(:class:`NotAllowed`). Nothing of a request or an answer is ever logged here, and no sentence holds
any of it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import Refused, Unavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_PIECE: Final = 64 << 10  # bytes that are read at a time


class NoAnswer(Unavailable):
    """There was no answer, or not all of it. The message is the rest of a sentence about the
    server: "did not answer within 20 s".
    """


class NotAllowed(Refused):
    """Nothing was sent: the address is none, or is not allowed by the caller. The message is the
    rest of a sentence about the server.
    """


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a server said: the status line, its head, as much of the body as was wanted, and why
    that ended early where it did.
    """

    status: int
    reason: str
    head: Mapping[str, str]
    body: bytes = field(repr=False)
    broken: NoAnswer | None


async def post(
    url: str,
    data: Mapping[str, str] | bytes,
    head: Mapping[str, str],
    *,
    seconds: float,
    most: int,
    allowed: Callable[[str], bool] | None = None,
) -> HttpResponse:
    """Posts a form, or bytes; redirects are not followed. ``seconds`` are for all of it, ``most``
    is how many bytes of the body are read.

    The name is looked up once. With ``allowed``, which is asked about the very IP address before
    each connection to it, no proxy is used, since that would connect in our place; without it those
    of the environment are. Raises NoAnswer and NotAllowed.
    """
    import aiohttp

    guard = _Guard(allowed)
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=seconds),
                trust_env=allowed is None,
                auto_decompress=False,
                connector=aiohttp.TCPConnector(socket_factory=guard.socket),
            ) as session,
            session.post(
                url,
                data=data if isinstance(data, bytes) else dict(data),
                headers=head,
                allow_redirects=False,
            ) as response,
        ):
            body, broken = await _read(response, most, seconds)
            return HttpResponse(
                response.status, response.reason or "", response.headers, body, broken
            )
    except TimeoutError:
        raise _silent(seconds) from None
    except (aiohttp.InvalidURL, UnicodeError):  # the latter for a name that DNS cannot hold
        raise NotAllowed("cannot be asked: its address is none") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if guard.refused and not guard.tried:
            raise NotAllowed(f"may not be asked: {guard.refused[0]} is not allowed") from None
        raise NoAnswer(f"cannot be asked: {_reason(error)}") from None


class _Guard:
    """Makes the sockets of one request, for addresses that are allowed only."""

    def __init__(self, allowed: Callable[[str], bool] | None) -> None:
        self._allowed = allowed
        self.refused: list[str] = []
        self.tried = False

    def socket(self, where: tuple[Any, ...]) -> socket.socket:
        """A socket for an entry of getaddrinfo."""
        family, kind, protocol, _, place = where
        if self._allowed is not None and not self._allowed(place[0]):
            self.refused.append(place[0])
            raise OSError(errno.EACCES, "not allowed")
        self.tried = True
        return socket.socket(family, kind, protocol)


async def _read(
    response: ClientResponse, most: int, seconds: float
) -> tuple[bytes, NoAnswer | None]:
    import aiohttp

    body = b""
    try:
        while len(body) < most and (
            more := await response.content.read(min(_PIECE, most - len(body)))
        ):
            body += more
    except TimeoutError:
        return body, _silent(seconds)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return body, NoAnswer(f"cannot be asked: {_reason(error)}")
    return body, None


def _silent(seconds: float) -> NoAnswer:
    return NoAnswer(f"did not answer within {seconds:.0f} s")


def _reason(error: Exception) -> str:
    """Why there was no answer, in words for a person; the text of the error may quote an address
    with what we asked.
    """
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "it does not prove who it is (TLS)"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known"
        case OSError() if (error.errno or 0) > 0:
            return os.strerror(error.errno or 0).lower()
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
        case _:
            return f"what it says is no HTTP ({type(error).__name__})"


@asynccontextmanager
async def listen(
    host: str, port: int, page: Callable[[dict[str, str]], tuple[int, str]]
) -> AsyncIterator[int]:
    """While the block runs, whoever asks for anything there gets the page (status, HTML) that
    ``page`` makes of the query; gives the port.

    Port 0 takes a free one. Raises OSError where the port is taken.
    """
    from aiohttp import web

    async def show(request: web.Request) -> web.Response:
        status, text = page(dict(request.query))
        return web.Response(status=status, text=text, content_type="text/html")

    application = web.Application()
    application.router.add_get("/{anything:.*}", show)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
