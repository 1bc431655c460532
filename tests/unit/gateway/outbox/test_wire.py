"""Tests of mail as sent: line ends, and printable replies."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbox.wire import cleaned, is_this_machine, lines


@given(
    st.lists(st.sampled_from([b"a", b".", b"\r", b"\n", b"\r\n", b"\0"]), max_size=40).map(b"".join)
)
def test_no_bare_line_end_goes_out(raw: bytes):
    """Every CR is before an LF and every LF after a CR, and the last line is ended."""
    made = lines(raw)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", made)
    assert made.endswith(b"\r\n")
    assert lines(made) == made
    assert made.replace(b"\r\n", b"") == raw.replace(b"\r", b"").replace(b"\n", b"")


@given(st.text())
def test_a_reply_is_one_line_of_plain_text(text: str):
    """A reply has at most 500 characters, without control or unstorable characters."""
    made = cleaned(text)
    assert len(made) <= 500
    assert len(made.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", made)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%lo", False),
    ],
)
def test_the_loopback(peer, expected):
    """Only loopback addresses, in each of their forms, are this machine."""
    assert is_this_machine(peer) is expected
