"""Addresses to listen on, as they stand in the file: ``host:port``, ``[::1]:port`` or
``unix:/path``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a listener binds: a host and a port, or the path of a unix socket (then ``host`` is
    empty and ``port`` 0).
    """

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        """The address as it is written in the file."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """Reads an address to listen on; port 0 lets the system choose one. Raises ValueError with a
    plain sentence.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(
                "a unix socket needs an absolute path, as in unix:/run/ticketgate/lmtp.sock"
            )
        return Listen("", 0, path)
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("is not HOST:PORT, as in 127.0.0.1:2525")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets, as in [::1]:2525")
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{port!r} is not a port (0 to 65535)")
    return Listen(host, int(port))
