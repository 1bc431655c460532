"""The certificate of the listeners, loaded again when its files change, without a restart.

If the files are unreadable or do not match for a moment, the previous certificate stays in use.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from gateway import maillog

if TYPE_CHECKING:
    from pathlib import Path


class Certificate:
    """A certificate chain and its key in PEM files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Load both files now, to find mistakes at start; raises OSError or ssl.SSLError."""
        self._files = (certificate, key)
        self._seen = self._stamp()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """Return a context for TLS 1.2 or newer, with the files as they are now."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._context = self._load()
                self._seen = stamp
        except (OSError, ssl.SSLError) as error:
            maillog.failed(source="tls", error_id="certificate", exc=error)
        return self._context

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(
            (status.st_mtime_ns, status.st_size, status.st_ino)
            for status in (path.stat() for path in self._files)
        )

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.load_cert_chain(*self._files)
        return context
