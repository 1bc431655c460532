"""Read the TOML files of ``pipeline import`` and ``workflow import``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.documents import BadDocument, parse_toml
from gateway.errors import Invalid
from gateway.ingress.mail_files import read_limited


def read_toml(file: Path) -> dict[str, Any]:
    """Return the tables of a file; raise Invalid where it cannot be read or is not such TOML."""
    try:
        return parse_toml(read_limited(file).decode())
    except UnicodeDecodeError:
        raise Invalid(f"{file} is not UTF-8 text") from None
    except BadDocument as error:
        raise Invalid(f"{file} {error}") from None
