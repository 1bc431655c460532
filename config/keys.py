"""Read private keys for signing mail from PEM: RSA (RFC 8017, bare or PKCS #8), Ed25519 (RFC 8410).

Only what signing needs is checked. Raises ValueError with a short reason for an unusable key.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, Literal

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s+(.*?)-----END \1-----", re.DOTALL)
_RSA: Final = bytes.fromhex("2a864886f70d010101")
_ED25519: Final = bytes.fromhex("2b6570")
_INTEGER, _OCTETS, _OID, _SEQUENCE = 0x02, 0x04, 0x06, 0x30
_LEAST_BITS: Final = 1024  # RFC 8301: receivers ignore shorter keys


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; ``secret`` is the DER of an RSAPrivateKey, or the 32-byte seed of Ed25519."""

    kind: Literal["rsa", "ed25519"]
    secret: bytes


def read_key(text: str) -> SigningKey:
    """Return the first key of a PEM file; raises ValueError if mail cannot be signed with it."""
    found = _PEM.search(text)
    if found is None:
        raise ValueError("contains no PEM key")
    label, body = found[1], found[2]
    if "ENCRYPTED" in label or "ENCRYPTED" in body:
        raise ValueError("contains an encrypted key")
    if label not in {"RSA PRIVATE KEY", "PRIVATE KEY"}:
        raise ValueError(f"contains no private key, but: {label.lower()}")
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
        return _rsa(der) if label == "RSA PRIVATE KEY" else _wrapped(der)
    except (IndexError, binascii.Error):
        raise ValueError("contains a damaged key") from None


def _wrapped(der: bytes) -> SigningKey:
    """Read a PKCS #8 key, which holds a version, an algorithm, and the key itself as octets."""
    parts = _items(_only(der, _SEQUENCE))
    algorithm = _items(_tagged(parts[1], _SEQUENCE))
    inner = _tagged(parts[2], _OCTETS)
    match _tagged(algorithm[0], _OID):
        case oid if oid == _RSA:
            return _rsa(inner)
        case oid if oid == _ED25519:
            seed = _only(inner, _OCTETS)
            if len(seed) != 32:
                raise IndexError
            return SigningKey("ed25519", seed)
        case _:
            raise ValueError("contains a key that is neither RSA nor Ed25519")


def _rsa(der: bytes) -> SigningKey:
    """Return an RSA key, after checking that it is a complete RSAPrivateKey and long enough.

    Such a key holds version, n, e, d, p, q and three more numbers.
    """
    numbers = _integers(der)
    if len(numbers) != 9 or numbers[4] * numbers[5] != numbers[1]:
        raise IndexError
    if numbers[1].bit_length() < _LEAST_BITS:
        raise ValueError(f"contains a key of fewer than {_LEAST_BITS} bits")
    return SigningKey("rsa", der)


def _integers(der: bytes) -> list[int]:
    """Return the integers of a sequence; raises IndexError if it holds anything else."""
    items = _items(_only(der, _SEQUENCE))
    return [int.from_bytes(_tagged(item, _INTEGER), "big") for item in items]


def _items(content: bytes) -> list[tuple[int, bytes]]:
    """Return the tag and content of each element (X.690, 8.1); IndexError if a length is wrong."""
    found = []
    at = 0
    while at < len(content):
        tag, length, start = content[at], content[at + 1], at + 2
        if length >= 0x80:
            start += length - 0x80
            length = int.from_bytes(content[at + 2 : start], "big")
        at = start + length
        if at > len(content):
            raise IndexError
        found.append((tag, content[start:at]))
    return found


def _tagged(item: tuple[int, bytes], tag: int) -> bytes:
    if item[0] != tag:
        raise IndexError
    return item[1]


def _only(der: bytes, tag: int) -> bytes:
    items = _items(der)
    if len(items) != 1:
        raise IndexError
    return _tagged(items[0], tag)
