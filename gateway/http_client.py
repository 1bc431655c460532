"""Access to aiohttp: POST a form to a foreign server, or serve one page to a local browser.

aiohttp is imported on first use. Nothing of a request or an answer is logged here or put into an
error.
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
    from aiohttp import ClientResponse, ClientSession

_READ_BYTES: Final = 64 << 10  # of an answer, at a time


class NoAnswer(Unavailable):
    """No complete answer came.

    The message is to be put after the server's name, like "did not answer".
    """


class NotAllowed(Refused):
    """Nothing was sent: the address is invalid or refused by the caller.

    The message is to be put after the server's name, like "may not be asked".
    """


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A server's answer; ``broken`` says why the body ended early, if it did."""

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
    """POST a form or bytes without following redirects; raises NoAnswer and NotAllowed.

    ``seconds`` limits the whole request, ``most`` the bytes of the body that are read. The name is
    looked up once. If ``allowed`` is given, it is asked about each IP address before we connect to
    that address, and no proxy is used, since a proxy would connect to addresses that we do not see.
    Otherwise the proxies named in the environment are used.
    """
    import aiohttp

    guard = _Guard(allowed)
    try:
        async with (
            _session(guard, seconds, use_proxies=allowed is None) as session,
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
        raise _timed_out(seconds) from None
    except (aiohttp.InvalidURL, UnicodeError):  # UnicodeError: DNS cannot hold the name
        raise NotAllowed("cannot be asked: its address is invalid") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if guard.refused and not guard.allowed_any:
            raise NotAllowed(f"may not be asked: {guard.refused[0]} is not allowed") from None
        raise NoAnswer(f"cannot be asked: {_reason(error)}") from None


def _session(guard: _Guard, seconds: float, *, use_proxies: bool) -> ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=seconds),
        trust_env=use_proxies,
        auto_decompress=False,
        connector=aiohttp.TCPConnector(socket_factory=guard.socket),
    )


class _Guard:
    """Makes the sockets of one request, only to allowed addresses."""

    def __init__(self, allowed: Callable[[str], bool] | None) -> None:
        self._allowed = allowed
        self.refused: list[str] = []
        self.allowed_any = False

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for an entry of getaddrinfo; OSError if its address is not allowed."""
        family, kind, protocol, _, address = info
        if self._allowed is not None and not self._allowed(address[0]):
            self.refused.append(address[0])
            raise OSError(errno.EACCES, "not allowed")
        self.allowed_any = True
        return socket.socket(family, kind, protocol)


async def _read(
    response: ClientResponse, most: int, seconds: float
) -> tuple[bytes, NoAnswer | None]:
    import aiohttp

    body = b""
    try:
        while len(body) < most and (
            more := await response.content.read(min(_READ_BYTES, most - len(body)))
        ):
            body += more
    except TimeoutError:
        return body, _timed_out(seconds)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return body, NoAnswer(f"cannot be asked: {_reason(error)}")
    return body, None


def _timed_out(seconds: float) -> NoAnswer:
    return NoAnswer(f"did not answer within {seconds:.0f} s")


def _reason(error: Exception) -> str:
    """Return why no answer came; leave out the error's text, since it may quote the request."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "its TLS certificate is not trusted"
        case aiohttp.ClientConnectorDNSError():
            return "its name is unknown"
        case OSError() if (error.errno or 0) > 0:
            return os.strerror(error.errno or 0).lower()
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
        case _:
            return f"it does not speak HTTP ({type(error).__name__})"


@asynccontextmanager
async def listen(
    host: str, port: int, page: Callable[[dict[str, str]], tuple[int, str]]
) -> AsyncIterator[int]:
    """While the block runs, answer each request with the status and HTML of ``page(query)``.

    Yields the port; port 0 takes a free one. Raises OSError if the port is taken.
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
