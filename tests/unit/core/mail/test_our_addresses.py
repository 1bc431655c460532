"""Tests of which of our addresses a mail address belongs to (behaviour.md 5, *Recipient*)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.mail import reply_tokens
from core.mail.our_addresses import our_address

OURS = {
    "support@desk.example",
    "info@desk.example",
    "info+shop@desk.example",
    "info+shop+it+north@desk.example",
    "only+plus@desk.example",
    "help@bücher.example",
    "hilfe@xn--mnchen-3ya.example",
}
KEYS = (b"k" * 32,)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("Support@Desk.example", "support@desk.example"),
        ("support+anything@desk.example", "support@desk.example"),
        ("support+a+b+c+d+e@desk.example", "support@desk.example"),
        ("info+shop@desk.example", "info+shop@desk.example"),
        ("info+shop+x@desk.example", "info+shop@desk.example"),
        ("info+shopping@desk.example", "info@desk.example"),
        ("info+shop+it@desk.example", "info+shop@desk.example"),
        ("info+shop+it+north+x+y@desk.example", "info+shop+it+north@desk.example"),
        ("only@desk.example", None),
        ("only+plus+x@desk.example", "only+plus@desk.example"),
        ("+x@desk.example", None),
        ("support@other.example", None),
        ("support", None),
        ("", None),
        ("help+x@xn--bcher-kva.example", "help@bücher.example"),
        ("hilfe+x@münchen.example", "hilfe@xn--mnchen-3ya.example"),
        ("help@xn--\udcff.example", None),
        ('"support"@desk.example.', "support@desk.example"),
    ],
)
def test_the_longest_of_our_addresses_that_fits(address, found):
    """The longest channel wins, in any case and spelling of the domain; the rest is a plus part."""
    assert our_address(OURS, address) == found


@given(st.sampled_from(sorted(OURS)), st.integers(1, 10**9), st.integers(1, 10**9))
def test_every_address_we_write_belongs_to_its_channel(channel, number, other):
    """Reply, relay and return addresses of each channel lead to it, and their token is read."""
    reply = reply_tokens.reply_address(KEYS[0], channel, number, other)
    relay = reply_tokens.relay_address(KEYS[0], channel, number, other)
    path = reply_tokens.return_path(KEYS[0], channel, number)
    for address in (reply, relay, path):
        assert our_address(OURS, address.upper()) == channel
        assert reply_tokens.bare(address)[0] == channel
    assert reply_tokens.read_reply(KEYS, reply_tokens.bare(reply)[1]) is not None
    assert reply_tokens.read_relay(KEYS, reply_tokens.bare(relay)[1]) is not None
    assert reply_tokens.read_return(KEYS, reply_tokens.bare(path)[1]) == number


def test_an_address_of_plus_signs_costs_little():
    """The work grows with the length of an address only, however many plus signs it has."""

    def cost(length: int) -> float:
        address = "+1" * length + "@desk.example"
        before = time.process_time()
        for _ in range(200):
            our_address(OURS, address)
            reply_tokens.bare(address)
        return time.process_time() - before

    cost(1000)
    assert cost(20_000) < 60 * cost(1000)
