"""Connect to a server; if one of its addresses fails, try the next.

Raises OSError (ssl.SSLError is a kind of it), or TimeoutError if an address does not react.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImapServer:
    """The server to connect to.

    If ``context`` is None, TLS is not used; this is for the loopback only.
    """

    host: str
    port: int
    context: ssl.SSLContext | None = None


async def connect(
    factory: Callable[[], asyncio.Protocol], server: ImapServer, seconds: float
) -> None:
    """Connect; each address gets a share of the time, so a dead address cannot use up all of it.

    Raises the error of the last address, or a TLS error at once: an untrusted certificate is no
    reason to try elsewhere.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    name = server.host if server.context is not None else None
    for remaining in range(len(addresses) - 1, -1, -1):
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                await loop.create_connection(
                    factory,
                    addresses[-1 - remaining],
                    server.port,
                    ssl=server.context,
                    server_hostname=name,
                )
        except ssl.SSLError:
            raise
        except OSError:
            if not remaining:
                raise
        else:
            return


def reason(error: OSError) -> str:
    """Return the reason of an error, in lower case and without addresses."""
    number = error.errno or 0
    text = (
        error.reason
        if isinstance(error, ssl.SSLError)
        else os.strerror(number)
        if number > 0
        else error.strerror
    )
    return (text or type(error).__name__).replace("_", " ").lower()
