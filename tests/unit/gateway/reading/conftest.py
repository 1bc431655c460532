"""Fixtures that build mails for the tests of reading."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.model.message import Message
from gateway.reading import parse

HEAD = (
    b"From: Ada Reader <ada@mail.example>\r\nTo: Desk <desk@help.example>\r\nDate: Mon, 02 Mar "
    b"2026 10:00:00 +0100\r\n"
    b"Message-ID: <one@mail.example>\r\n"
)


def make(
    body: bytes | str = b"Hello\r\n",
    *,
    subject: str = "A question",
    head: bytes = HEAD,
    extra: str = "",
    kind: str = "text/plain; charset=utf-8",
) -> bytes:
    """Return a mail with CRLF line ends: the usual headers, ``extra`` ones, a type and a body."""
    if isinstance(body, str):
        body = body.encode()
    body = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    lines = (
        head
        + b"Subject: "
        + subject.encode()
        + b"\r\n"
        + "".join(line + "\r\n" for line in extra.split("\n") if line).encode()
    )
    return lines + b"MIME-Version: 1.0\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + body


def parts(boundary: str, *pieces: str) -> str:
    """Return the body of a multipart; each piece is a part with its own header."""
    return "".join(f"--{boundary}\n{piece}\n" for piece in pieces) + f"--{boundary}--\n"


@pytest.fixture
def mail() -> Callable[..., bytes]:
    """Build a mail (see ``make``)."""
    return make


@pytest.fixture
def read() -> Callable[..., Message]:
    """Build a mail and read it."""

    def reading(
        body: bytes | str = b"Hello\r\n",
        *,
        html: bool = False,
        null_sender: bool | None = None,
        **how,
    ) -> Message:
        return parse.read(make(body, **how), html=html, null_sender=null_sender)

    return reading


@pytest.fixture
def multipart() -> Callable[..., str]:
    """Build the body of a multipart."""
    return parts
