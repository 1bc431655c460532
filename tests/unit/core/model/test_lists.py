"""Tests of address keys and lists: no spelling gets past them (behaviour.md 2.1, step 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.message import address_key
from core.rules.screening import listed


@pytest.mark.parametrize(
    "written",
    ["SPAM@Evil.example", ' "spam"@evil.example', "spam@evil.example.", '"Spam"@EVIL.example..'],
)
def test_spellings_of_one_mailbox_have_one_key(written):
    """Case, needless quotes and a final dot do not change the key."""
    assert address_key(written) == "spam@evil.example"


@pytest.mark.parametrize(
    "written", ['"a b"@evil.example', '"a@b"@evil.example', '"a\\"b"@evil.example']
)
def test_needed_quotes_stay(written):
    """A local part that needs its quotes keeps them."""
    assert address_key(written) == written


@pytest.mark.parametrize(
    ("sender", "entry"),
    [
        ("spam@xn--bcher-kva.example", "@b\u00fccher.example"),
        ("spam@b\u00fccher.example", "@xn--bcher-kva.example"),
        ("spam@b\u00fccher.example", "spam@xn--bcher-kva.example"),
        ("spam@\uff45vil.example", "@evil.example"),
        ("spam@evil\u3002example", "@evil.example"),
    ],
)
def test_a_list_holds_in_any_script(sender, entry):
    """A listed domain matches in its Unicode and in its ASCII form."""
    assert listed(address_key(sender), frozenset({"other@x.example", address_key(entry)}))
    assert not listed(
        address_key(sender.replace("spam@", "spam@x")), frozenset({address_key(entry)})
    )
    assert not listed(
        address_key(sender.replace("spam@", "ham@")),
        frozenset({"spam@" + address_key(entry).partition("@")[2]}),
    )


@given(st.text(max_size=40), st.sets(st.text(max_size=20), max_size=3))
def test_nothing_in_an_address_raises(text, entries):
    """No address raises; the key of a key is the key itself, and lists accept it."""
    key = address_key(text)
    assert address_key(key) == key
    listed(key, frozenset(entries))
    listed("a@" + text, frozenset({f"@{each}" for each in entries}))
