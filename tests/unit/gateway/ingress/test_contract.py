"""Tests of the parts of aiosmtpd that we use, and of those that must stay unreachable."""

from __future__ import annotations

import asyncio
import inspect
import sys
from importlib.metadata import version

import aiosmtpd.proxy_protocol
import aiosmtpd.smtp
import pytest

from gateway.ingress.smtp.lmtp import LMTP
from gateway.ingress.smtp.protocol import AIOSMTPD_ATTRIBUTES, SMTP
from gateway.ingress.smtp.session import SessionProtocol


def test_version_is_the_one_that_was_read():
    """The version is pinned: read the new source before changing this line."""
    assert version("aiosmtpd") == "1.4.6"


async def test_borrowed_attributes_are_made_by_its_constructor():
    """Each attribute that our instances take over is set by aiosmtpd's constructor."""
    stock = aiosmtpd.smtp.SMTP(object(), hostname="x", loop=asyncio.get_running_loop())
    assert set(AIOSMTPD_ATTRIBUTES) <= set(vars(stock))


async def test_its_methods_need_no_other_attribute(desk):
    """The aiosmtpd methods that we call use no instance attribute that we do not set."""
    client = await desk.hello()
    session = next(iter(desk.server._registry.sessions))
    used = set()
    for name in (
        "smtp_MAIL",
        "smtp_RCPT",
        "smtp_RSET",
        "smtp_NOOP",
        "smtp_EXPN",
        "check_helo_needed",
        "check_auth_needed",
        "_call_handler_hook",
    ):
        code = inspect.unwrap(getattr(aiosmtpd.smtp.SMTP, name)).__code__
        source = inspect.getsource(code)
        used |= {
            word.split("(")[0].split(".")[0].split(" ")[0].rstrip("):,\n]")
            for word in source.split("self.")[1:]
        }
    used -= {"rset_hook"}
    assert {name for name in used if not hasattr(session, name)} == set()
    assert (await client.say("QUIT")).startswith("221")


@pytest.mark.parametrize(
    "name",
    [
        "_handle_client",
        "smtp_DATA",
        "smtp_STARTTLS",
        "smtp_AUTH",
        "smtp_EHLO",
        "smtp_HELO",
        "push",
        "smtp_QUIT",
        "smtp_HELP",
        "smtp_VRFY",
    ],
)
def test_unsafe_methods_are_not_inherited(name):
    """No stock method with a fault of reliability.md 2 is reachable."""
    for protocol in (SMTP, LMTP):
        assert getattr(protocol, name) is not getattr(aiosmtpd.smtp.SMTP, name)


@pytest.mark.parametrize(
    "name",
    [
        "connection_made",
        "connection_lost",
        "data_received",
        "eof_received",
        "pause_writing",
        "resume_writing",
    ],
)
def test_the_transport_talks_to_us_only(name):
    """No transport event reaches a base class, which would cancel our task."""
    assert getattr(SMTP, name) is getattr(SessionProtocol, name)


def test_every_command_is_accounted_for():
    """A command that a new version of aiosmtpd adds is not offered unnoticed."""
    assert set(SMTP.commands) == {
        b"HELO", b"EHLO", b"STARTTLS", b"MAIL", b"RCPT", b"DATA", b"RSET", b"NOOP", b"QUIT",
        b"VRFY", b"EXPN", b"HELP", b"BDAT", b"AUTH",
    }  # fmt: skip
    assert set(LMTP.commands) == set(SMTP.commands) - {b"HELO", b"EHLO"} | {b"LHLO"}


def test_its_session_and_envelope_begin_empty():
    """The fields that our commands read of a fresh session and envelope exist and are empty."""
    envelope = aiosmtpd.smtp.Envelope()
    assert (envelope.mail_from, envelope.rcpt_tos, envelope.smtp_utf8) == (None, [], False)


def test_its_proxy_data_says_who_and_which_command():
    """The fields that we read of a PROXY header exist."""
    fields = {attribute.name for attribute in aiosmtpd.proxy_protocol.ProxyData.__attrs_attrs__}
    assert {"command", "src_addr"} <= fields
    assert isinstance(inspect.getattr_static(aiosmtpd.proxy_protocol.ProxyData, "valid"), property)


def test_only_one_door_imports_it():
    """Only smtp.py imports aiosmtpd, so that it can be replaced there."""
    for name, module in list(sys.modules.items()):
        if (
            name.startswith(("gateway.", "core.", "config."))
            and name != "gateway.ingress.smtp.protocol"
        ):
            assert not any(
                getattr(value, "__name__", "").startswith("aiosmtpd")
                for value in vars(module).values()
                if inspect.ismodule(value)
            )
