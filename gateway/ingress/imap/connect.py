"""The way to a server: all its addresses in turn, and why none of them led there, in words.

What can go wrong: everything on the way; it comes out as OSError (ssl.SSLError is one), or
TimeoutError where an address swallows what is sent to it.
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
    """Where to connect. ``context`` None means plain text, which is for the loopback."""

    host: str
    port: int
    context: ssl.SSLContext | None = None


async def connect(
    factory: Callable[[], asyncio.Protocol], server: ImapServer, seconds: float
) -> None:
    """Makes a connection; each address gets its share of the time, so that one that swallows
    packets does not hide the others.

    Raises what the last address did, or the first that answered: a certificate that is not trusted
    is no reason to ask elsewhere.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    places = list(dict.fromkeys(str(each[4][0]) for each in found))
    name = server.host if server.context is not None else None
    for left in range(len(places) - 1, -1, -1):
        try:
            async with asyncio.timeout(seconds / len(places)):
                await loop.create_connection(
                    factory,
                    places[-1 - left],
                    server.port,
                    ssl=server.context,
                    server_hostname=name,
                )
        except ssl.SSLError:
            raise
        except OSError:
            if not left:
                raise
        else:
            return


def reason(error: OSError) -> str:
    """What went wrong, in lower case and without addresses."""
    number = error.errno or 0
    said = (
        error.reason
        if isinstance(error, ssl.SSLError)
        else os.strerror(number)
        if number > 0
        else error.strerror
    )
    return (said or type(error).__name__).replace("_", " ").lower()
