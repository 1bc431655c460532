"""Tests of signed return paths, by which a report finds the delivery it is about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.mail import reply_tokens
from core.mail.threading import TicketRef

KEYS = (b"k" * 32, b"o" * 32)


@given(st.integers(1, 10**14), st.sampled_from(KEYS))
def test_a_return_path_reads_back(delivery: int, key: bytes) -> None:
    """A return path verifies with an old key and in upper case, and is no other token."""
    path = reply_tokens.return_path(key, "support@example.org", delivery)
    bare, plus = reply_tokens.bare(path)
    assert bare == "support@example.org"
    assert len(path.partition("@")[0]) <= 64
    assert reply_tokens.read_return(KEYS, plus.upper()) == delivery
    assert reply_tokens.read_return((b"x" * 32,), plus) is None
    assert reply_tokens.read_reply(KEYS, plus) is None
    assert reply_tokens.read_reply(KEYS, plus.removeprefix("b")) is None
    assert reply_tokens.read_relay(KEYS, plus) is None


@given(st.integers(1, 10**14), st.integers(1, 10**6))
def test_no_other_mark_is_a_return_path(number: int, other: int) -> None:
    """A reply address, a relay address and another delivery's return path do not verify."""
    reply = reply_tokens.bare(reply_tokens.reply_address(KEYS[0], "support@example.org", number))[1]
    relay = reply_tokens.bare(
        reply_tokens.relay_address(KEYS[0], "support@example.org", number, other)
    )[1]
    signed = reply_tokens.bare(reply_tokens.return_path(KEYS[0], "support@example.org", number))[
        1
    ].partition(".")[2]
    assert reply_tokens.read_return(KEYS, reply) is None
    assert reply_tokens.read_return(KEYS, f"b{reply}") is None
    assert reply_tokens.read_return(KEYS, relay) is None
    assert reply_tokens.read_return(KEYS, f"b{number + other}.{signed}") is None


@given(st.text(max_size=60))
def test_arbitrary_text_is_no_return_path(text: str) -> None:
    """Arbitrary text names no delivery and raises no error."""
    assert reply_tokens.read_return(KEYS, text) is None
    assert reply_tokens.read_return(KEYS, f"b1.{text}") is None


@given(st.integers(1, 10**9), st.integers(1, 10**6), st.none() | st.integers(1, 10**9))
def test_a_relay_address_reads_back(number: int, user: int, thread: int | None) -> None:
    """E19: ticket, user and thread are read in upper case; another thread does not verify."""
    address = reply_tokens.relay_address(KEYS[1], "support@example.org", number, user, thread)
    assert len(address.partition("@")[0]) <= 64
    plus = reply_tokens.bare(address)[1]
    assert reply_tokens.read_relay(KEYS, plus.upper()) == (TicketRef(number, thread), user)
    ref, _, signed = plus.partition(".")
    assert reply_tokens.read_relay(KEYS, f"{ref}1.{signed}") is None
    assert reply_tokens.read_relay(KEYS, f"{ref}-1.{signed}") is None
    assert reply_tokens.read_reply(KEYS, plus) is None
    assert reply_tokens.read_reply(KEYS, plus.removeprefix("r")) is None
    assert reply_tokens.unmarked(f"to <{address}>.") == "to <support@example.org>."
