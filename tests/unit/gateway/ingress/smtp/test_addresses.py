"""Tests of the addresses of MAIL and RCPT, and of which recipients are ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingress.smtp.addresses import Addresses, parse_path


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("<a@b.example>", ("a@b.example", "")),
        ("<a@b.example> SIZE=5 BODY=8BITMIME", ("a@b.example", "SIZE=5 BODY=8BITMIME")),
        ("a@b.example SIZE=5", ("a@b.example", "SIZE=5")),
        ("<>", ("<>", "")),
        ("<> SIZE=1", ("<>", "SIZE=1")),
        ("<@hop.example,@next.example:a@b.example>", ("a@b.example", "")),
        ('<"john doe\\""@b.example>', ('"john doe\\""@b.example', "")),
        ("<a@[192.0.2.1]>", ("a@[192.0.2.1]", "")),
        ("<a@[IPv6:2001:db8::1]>", ("a@[IPv6:2001:db8::1]", "")),
        ("<o'hara+x=y&z@b.example>", ("o'hara+x=y&z@b.example", "")),
        ("<prvs=12ab=a@b.example>", ("prvs=12ab=a@b.example", "")),
        ("<jörg@bücher.example>", ("jörg@bücher.example", "")),
        ("<POSTmaster>", ("POSTmaster", "")),
        ("<" + "l" * 64 + "@" + "d" * 255 + ">", ("l" * 64 + "@" + "d" * 255, "")),
    ],
)
def test_paths(text, parsed):
    """Address and parameters are split; missing brackets and source routes are accepted."""
    assert parse_path(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<",
        ">",
        "<a>",
        "<a@>",
        "<@b.example>",
        "<a@b@c.example>",
        "<a b@c.example>",
        "<a@b.example",
        "<a@b.example>x",
        "<<a@b.example>>",
        "<a\x00@b.example>",
        "<a@b.exam\rple>",
        "<a\n@b.example>",
        "<\udc80@b.example>",
        "<a\x85@b.example>",
        '<"a\rb"@b.example>',
        "<a,b@c.example>",
        "Anna <a@b.example>",
        "<" + "l" * 400 + "@b.example>",
    ],
)
def test_no_paths(text):
    """Malformed paths are refused."""
    assert parse_path(text) is None


@given(st.text(max_size=40))
def test_no_control_character_gets_through(text):
    """Accepted addresses have a domain and no control characters or surrogates."""
    for candidate in (f"<{text}>", f"<{text}@b.example>", f"<a@{text}>", f'<"{text}"@b.example>'):
        parsed = parse_path(candidate)
        if parsed is not None and parsed[0] != "<>":
            address = parsed[0]
            assert not any(
                ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000
                for letter in address
            )
            assert "@" in address or address.lower() == "postmaster"


@pytest.mark.parametrize(
    ("address", "verdict"),
    [
        ("support@desk.example", "ours"),
        ("SUPPORT@DESK.EXAMPLE.", "ours"),
        ("support+a+b@desk.example", "ours"),
        ("a+b@desk.example", "ours"),
        ("a+c@desk.example", "unknown"),
        ("a@desk.example", "unknown"),
        ("+x@desk.example", "unknown"),
        ("postmaster@other.example", "ours"),
        ("abuse@desk.example", "ours"),
        ("postmaster", "ours"),
        ("abuse", "foreign"),
        ("postmaster@else.example", "foreign"),
        ("help@bücher.example", "ours"),
        ("help@xn--bcher-kva.example", "ours"),
        ("support@sub.desk.example", "foreign"),
    ],
)
async def test_verdicts(address, verdict):
    """Channels with any plus part, case and form of domain are ours, and postmaster and abuse."""
    directory = Addresses(
        ["Support@desk.example", "a+b@desk.example", "info@other.example", "help@bücher.example"]
    )
    assert await directory.lookup(address) == verdict


async def test_channels_can_be_replaced():
    """An added or removed channel counts from the next recipient on."""
    directory = Addresses()
    assert await directory.lookup("support@desk.example") == "foreign"
    directory.replace(["support@desk.example"])
    assert await directory.lookup("support@desk.example") == "ours"
    directory.replace(["sales@desk.example"])
    assert await directory.lookup("support@desk.example") == "unknown"
