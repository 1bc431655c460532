"""A certificate authority for the tests, and certificates signed by it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import require_program

_CONFIG = """[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of its own in ``folder``; clients trust ``ca``."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._own = self._make("ca", name, "ca", "DNS:unused")

    @property
    def ca(self) -> Path:
        """Return the certificate of the authority."""
        return self._own.certificate

    def issue(self, *names: str, file: str = "server") -> Pair:
        """Issue a certificate for these names, written ``DNS:localhost`` or ``IP:127.0.0.1``."""
        signed = ["-CA", self._own.certificate, "-CAkey", self._own.key]
        return self._make(file, names[0].partition(":")[2], "server", ",".join(names), *signed)

    def _make(self, file: str, subject: str, section: str, names: str, *more: object) -> Pair:
        pair = Pair(self.folder / f"{file}.pem", self.folder / f"{file}.key")
        config = self.folder / "openssl.cnf"
        config.write_text(_CONFIG.format(names=names))
        command = [
            require_program("openssl"),
            "req",
            "-x509",
            "-config",
            config,
            "-extensions",
            section,
            "-days",
            "2",
            "-nodes",
        ]
        command += [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-subj",
            f"/CN={subject}",
            *more,
        ]
        subprocess.run(
            [*map(str, command), "-keyout", str(pair.key), "-out", str(pair.certificate)],
            check=True,
            capture_output=True,
        )
        return pair
