"""DKIM signatures of outgoing mail (RFC 6376, RFC 8463); the only module that uses dkimpy.

A signature contains no time, so equal bytes get equal signatures: a mail submitted twice after a
crash has the same bytes both times. Raises ``ConfigError`` when the key cannot be used, and
:class:`CannotSign` for headers that cannot be signed; such a mail is not sent unsigned.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import dkim
from dkim import canonicalization

from config.keys import SigningKey, read_key
from config.problems import ConfigError, Problem
from config.settings import OutboundSettings
from gateway.errors import InternalError

SIGNED: Final = (
    *("from", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references", "reply-to"),
    *("mime-version", "content-type", "auto-submitted"),
)
OVERSIGNED: Final = ("from", "subject", "to")  # a second field of these makes the signature invalid
CHUNK_BYTES: Final = 1 << 18  # of a body hashed at once, before other threads run


class CannotSign(InternalError):
    """This mail cannot be signed."""


class Signer:
    """A signer for the mail of one domain."""

    def __init__(self, domain: str, selector: str, key: SigningKey) -> None:
        self._domain = domain.encode("ascii")
        self._selector = selector.encode("ascii")
        self._algorithm = b"rsa-sha256" if key.kind == "rsa" else b"ed25519-sha256"
        self._key = _pem(key.secret) if key.kind == "rsa" else base64.b64encode(key.secret)

    @classmethod
    def of(cls, settings: OutboundSettings) -> Self | None:
        """Return the configured signer, or None; ConfigError if its key is unusable."""
        if not settings.dkim_key_file:
            return None
        key = _usable_key(Path(settings.dkim_key_file))
        return cls(settings.dkim_domain, settings.dkim_selector, key)

    async def sign(self, raw: bytes) -> bytes:
        """Return the mail (CRLF line ends) with a signature; raises :class:`CannotSign`."""
        return await asyncio.to_thread(self._signed, raw)

    def _signed(self, raw: bytes) -> bytes:
        head, _, body = raw.partition(b"\r\n\r\n")
        try:
            message = _Message(head + b"\r\n\r\n", body)
            present = [name.lower().decode("ascii", "replace") for name, _ in message.headers]
            include = [name for name in SIGNED for _ in range(present.count(name))] + list(
                OVERSIGNED
            )
            header: bytes = message.sign(
                self._selector,
                self._domain,
                self._key,
                signature_algorithm=self._algorithm,
                canonicalize=(b"relaxed", b"relaxed"),
                include_headers=include,
            )
        except dkim.DKIMException as error:
            raise CannotSign("the mail cannot be signed: its headers are malformed") from error
        return header + raw


def _usable_key(file: Path) -> SigningKey:
    """Return the private key in a file; ConfigError if the key is unusable."""
    try:
        return read_key(file.read_text())
    except (OSError, ValueError):
        problem = Problem("", "outbound.dkim_key_file", "cannot be read, or holds no key")
        raise ConfigError((problem,)) from None


class _Message(dkim.DKIM):  # type: ignore[misc]  # the library has no types
    """A mail to be signed by dkimpy, but without a time, and with the body hashed in chunks.

    Hashing a large body at once would block other threads.
    """

    def __init__(self, head: bytes, body: bytes) -> None:
        super().__init__(head)
        self._hash = base64.b64encode(body_hash(body))

    def gen_header(self, fields: Sequence[tuple[bytes, bytes]], *rest: Any, **more: Any) -> bytes:
        """Return the signature header as dkimpy makes it, with our body hash and without a time."""
        ours = [
            (name, self._hash if name == b"bh" else value) for name, value in fields if name != b"t"
        ]
        made: bytes = super().gen_header(ours, *rest, **more)
        return made


def body_hash(body: bytes) -> bytes:
    """Return the SHA-256 of a body in relaxed form (RFC 6376 3.4.4)."""
    digest = hashlib.sha256()
    waiting = b""  # line ends, hashed only when something follows
    end = b""
    at = 0
    while at < len(body):
        cut = body.find(b"\r\n", at + CHUNK_BYTES) + 2
        upto = cut if cut > 1 else len(body)
        piece = canonicalization.compress_whitespace(
            canonicalization.strip_trailing_whitespace(body[at:upto])
        )
        if kept := piece.rstrip(b"\r\n"):
            digest.update(waiting + kept)
            waiting, end = b"", b"\r\n"
        waiting += piece[len(kept) :]
        at = upto
    digest.update(end)
    return digest.digest()


def _pem(der: bytes) -> bytes:
    return (
        b"-----BEGIN RSA PRIVATE KEY-----\n"
        + base64.encodebytes(der)
        + b"-----END RSA PRIVATE KEY-----\n"
    )
