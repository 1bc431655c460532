"""Tests of dialogs with swaks, the usual tool for trying a mail server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.ingress.connection_limits import Limits
from gateway.ingress.smtp.lmtp import LmtpServer
from gateway.ingress.smtp.tls import Certificate
from tests.unit.gateway.ingress.conftest import make_pair, open_desk

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_pair", "open_desk"]  # fixtures of the listeners' own tests


@pytest.fixture
def swaks(require):
    """Return a function that runs swaks against a listener; it returns exit code and dialog."""
    program: Path = require("swaks")

    async def run(desk, *arguments: str) -> tuple[int, str]:
        address = desk.server.addresses[0]
        where = (
            ["--socket", address.removeprefix("unix:")]
            if address.startswith("unix:")
            else ["--server", address]
        )
        command = [
            str(program),
            *where,
            "--from",
            "a@client.example",
            "--timeout",
            "20s",
            *arguments,
        ]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    return run


async def test_a_mail(open_desk, swaks):
    """The command line of the manual delivers a mail."""
    desk = await open_desk()
    code, dialog = await swaks(
        desk,
        "--to",
        "support@desk.example",
        "--header",
        "Subject: Hilfe",
        "--body",
        ".dot\nand more",
    )
    assert code == 0, dialog
    assert desk.spool.stored()[0].endswith(b"\r\n\r\n.dot\r\nand more\r\n\r\n\r\n")


async def test_pipelining_and_many_recipients(open_desk, swaks):
    """With PIPELINING, an unknown recipient does not keep the mail from the others."""
    desk = await open_desk()
    code, dialog = await swaks(
        desk, "--pipeline", "--to", "support@desk.example,nobody@desk.example,sales@desk.example"
    )
    assert code == 0, dialog
    assert "550 5.1.1" in dialog
    assert desk.spool.mails[0].envelope.recipients == ("support@desk.example", "sales@desk.example")


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [("nobody@desk.example", "550 5.1.1"), ("a@elsewhere.example", "550 5.7.1")],
)
async def test_refused_recipients(open_desk, swaks, recipient, reply):
    """Unknown and foreign recipients are refused at RCPT (exit code 24 of swaks)."""
    code, dialog = await swaks(await open_desk(), "--to", recipient)
    assert (code, reply in dialog) == (24, True), dialog


async def test_tls(open_desk, swaks, make_pair):
    """STARTTLS works when we offer it, and a client that requires it fails when we do not."""
    pair = make_pair("mx.desk.example")
    desk = await open_desk(certificate=Certificate(pair.certificate, pair.key))
    code, dialog = await swaks(desk, "--to", "support@desk.example", "--tls")
    assert code == 0, dialog
    assert desk.spool.mails[0].envelope.tls
    code, dialog = await swaks(await open_desk(), "--to", "support@desk.example", "--tls")
    assert code == 29, dialog


async def test_authentication_is_not_on_offer(open_desk, swaks):
    """A client that wants to sign in learns that AUTH is not offered."""
    desk = await open_desk()
    code, dialog = await swaks(
        desk,
        "--to",
        "support@desk.example",
        "--auth",
        "PLAIN",
        "--auth-user",
        "u",
        "--auth-password",
        "p",
    )
    assert code == 28, dialog
    assert "did not advertise authentication" in dialog
    assert desk.spool.mails == []


@pytest.mark.parametrize("kind", ["inet", "unix"])
async def test_lmtp(open_desk, swaks, tmp_path, kind):
    """LMTP gives a reply for each recipient."""
    listen = "127.0.0.1:0" if kind == "inet" else f"unix:{tmp_path}/lmtp.sock"
    desk = await open_desk(server=LmtpServer, listen=[listen])
    code, dialog = await swaks(
        desk, "--protocol", "LMTP", "--to", "support@desk.example,sales@desk.example"
    )
    assert code == 0, dialog
    assert dialog.count("250 2.0.0 Queued as 1") == 2, dialog
    assert len(desk.spool.mails) == 1


async def test_proxy_header(open_desk, swaks):
    """The client is the address that the PROXY header names."""
    desk = await open_desk(proxy_from=("127.0.0.1",))
    given = [
        "--proxy-version",
        "1",
        "--proxy-family",
        "TCP4",
        "--proxy-source",
        "198.51.100.7",
        "--proxy-source-port",
        "4711",
    ]
    given += ["--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25"]
    code, dialog = await swaks(desk, "--to", "support@desk.example", *given)
    assert code == 0, dialog
    assert desk.spool.mails[0].envelope.peer == "198.51.100.7"


async def test_too_large(open_desk, swaks, tmp_path):
    """A mail over the limit is refused with 552 after its end."""
    desk = await open_desk(limits=Limits(message_bytes=100_000))
    (tmp_path / "large").write_bytes(b"Subject: x\n\n" + b"x" * 70 + b"\n" * 2000 + b"y" * 120_000)
    code, dialog = await swaks(desk, "--to", "support@desk.example", "--data", f"@{tmp_path}/large")
    assert code != 0
    assert "552 5.3.4" in dialog
    assert desk.spool.stored() == []


async def test_drop_after_each_step(open_desk, swaks):
    """Only a connection dropped after the end of the data leaves a mail."""
    desk = await open_desk()
    for step in ("CONNECT", "FIRST-HELO", "MAIL", "RCPT", "DATA"):
        await swaks(desk, "--to", "support@desk.example", "--drop-after", step)
    assert desk.spool.stored() == []
    await swaks(desk, "--to", "support@desk.example", "--drop-after-send", "DOT")
    await desk.accept.drain()
    code, dialog = await swaks(desk, "--to", "support@desk.example")
    assert code == 0, dialog
    assert len(desk.spool.stored()) == 2
