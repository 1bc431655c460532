"""Addresses to listen on, as written in the file: ``host:port``, ``[::1]:port``, ``unix:/path``."""

from __future__ import annotations

from dataclasses import dataclass


class ListenError(ValueError):
    """A text that is no address to listen on; ``suggestion`` says what to write instead."""

    def __init__(self, reason: str, suggestion: str) -> None:
        super().__init__(reason)
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a listener binds: host and port, or a Unix socket ``path`` (host "", port 0)."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        """Return the address as it is written in the file."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """Parse an address to listen on; port 0 lets the system choose. Raises ListenError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ListenError(
                "needs an absolute path", "write it as unix:/run/ticketgate/lmtp.sock"
            )
        return Listen("", 0, path)
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ListenError("is not HOST:PORT", "write it as 127.0.0.1:2525")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ListenError("has an IPv6 address without brackets", "write it as [::1]:2525")
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"has no valid port: {port!r}", "use a port from 0 to 65535")
    return Listen(host, int(port))
