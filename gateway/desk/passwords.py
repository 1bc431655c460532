"""Passwords of users, stored as scrypt hashes (RFC 7914).

The parameters are stored with each hash, so that a change of parameters leaves older hashes valid.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from gateway.errors import Invalid

COST, BLOCK, PARALLEL = 1 << 15, 8, 1  # 32 MiB and about a tenth of a second
SHORTEST = 8
SALT_BYTES = 16


def hashed(password: str) -> str:
    """Return ``scrypt$N$r$p$salt$hash`` for a password; Invalid where it is too short."""
    if len(password) < SHORTEST:
        raise Invalid(f"a password has at least {SHORTEST} characters", "password")
    salt = os.urandom(SALT_BYTES)
    derived = _derive(password, salt, COST, BLOCK, PARALLEL)
    return "$".join(("scrypt", str(COST), str(BLOCK), str(PARALLEL), _text(salt), _text(derived)))


def verifies(password: str, stored: str | None) -> bool:
    """Return whether ``stored`` is a hash of the password; False for any other stored text."""
    kind, *fields = (stored or "").split("$")
    if kind != "scrypt" or len(fields) != 5:
        # as slow as a real check, so that nobody can tell who has a password
        _derive(password, bytes(SALT_BYTES), COST, BLOCK, PARALLEL)
        return False
    cost, block, parallel, salt, derived = fields
    found = _derive(password, base64.b64decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, base64.b64decode(derived))


def _derive(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    """Return the scrypt hash of a password."""
    memory = 256 * cost * block
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=memory, dklen=32
    )


def _text(data: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(data).decode()
