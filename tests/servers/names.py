"""Folder names and strings of IMAP, without the program's encoder, so that its errors show."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode


def encode_folder(name: str) -> str:
    """Return a folder name in modified UTF-7 (RFC 3501, 5.1.3)."""

    def shifted(match: re.Match[str]) -> str:
        if match[0] == "&":
            return "&-"
        return (
            "&"
            + b64encode(match[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
            + "-"
        )

    return re.sub(r"&|[^\x20-\x7e]+", shifted, name)


def decode_folder(name: str) -> str:
    """Reverse :func:`encode_folder`."""

    def plain(match: re.Match[str]) -> str:
        if not match[1]:
            return "&"
        code = match[1].replace(",", "/")
        return b64decode(code + "=" * (-len(code) % 4)).decode("utf-16-be")

    return re.sub(r"&([^-]*)-", plain, name)


def quote(text: str) -> str:
    """Return a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def folder_argument(name: str) -> str:
    """Return a folder's name as an argument of a command."""
    return quote(encode_folder(name))
