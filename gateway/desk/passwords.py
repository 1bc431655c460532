"""Passwords of users: kept as scrypt hashes with their parameters beside them, so that these can
grow without locking anybody out (RFC 7914).

What can go wrong: a stored text that is no hash of ours verifies nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from gateway.errors import Refused

COST, BLOCK, PARALLEL = 1 << 15, 8, 1  # 32 MiB and about a tenth of a second
SHORTEST = 8
SALT_BYTES = 16


def hashed(password: str) -> str:
    """The text to be stored: ``scrypt$N$r$p$salt$hash``. Refused for a password that is too short."""
    if len(password) < SHORTEST:
        raise Refused(f"a password has at least {SHORTEST} characters")
    salt = os.urandom(SALT_BYTES)
    derived = _derive(password, salt, COST, BLOCK, PARALLEL)
    return "$".join(("scrypt", str(COST), str(BLOCK), str(PARALLEL), _text(salt), _text(derived)))


def verifies(password: str, stored: str | None) -> bool:
    """Whether the password is the one that was hashed; takes as long as hashing it, also where
    nothing is stored.
    """
    kind, *fields = (stored or "").split("$")
    if kind != "scrypt" or len(fields) != 5:
        _derive(password, bytes(SALT_BYTES), COST, BLOCK, PARALLEL)
        return False
    cost, block, parallel, salt, derived = fields
    found = _derive(password, base64.b64decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, base64.b64decode(derived))


def _derive(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=cost,
        r=block,
        p=parallel,
        maxmem=256 * cost * block,
        dklen=32,
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
