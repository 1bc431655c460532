"""Tests of normal forms: the same as Unicode's, except for endless runs of combining marks."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as some

from core.normal_form import LONGEST_RUN, is_nfc, nfc, nfc_and_rest, nfkc

MARKS = "\u0301\u0323"


@given(some.text(max_size=LONGEST_RUN))
def test_ordinary_text_is_normalised_as_unicode_says(text):
    """A text without long runs of marks becomes what Unicode defines."""
    assert nfc(text) == unicodedata.normalize("NFC", text)
    assert nfkc(text) == unicodedata.normalize("NFKC", text)
    assert is_nfc(nfc(text))


def test_real_letters_keep_their_marks():
    """Letters with three and four marks, as Vietnamese and Hebrew have them, lose none."""
    for text in ("e\u0323\u0302\u0301", "\u05e9\u05c1\u05bc\u05b8\u0591", "a" + MARKS * 15):
        assert nfc_and_rest(text) == (unicodedata.normalize("NFC", text), 0)


def test_a_long_run_keeps_its_first_marks():
    """Of a run of marks the first thirty are kept, and the number of the others is told."""
    text, left_out = nfc_and_rest("a" + MARKS * 50 + "b")
    assert left_out == 100 - LONGEST_RUN
    assert len(unicodedata.normalize("NFD", text)) == 2 + LONGEST_RUN
    assert (text[0], text[-1], is_nfc(text)) == ("\u1ea1", "b", True)


@pytest.mark.alone
@pytest.mark.parametrize(
    "unit", [MARKS, "\u0344\u0323", "\u0f73\u0f71", "\u1e69\u0323\u0301", "\u0301" * 9 + "\u0323"]
)
@pytest.mark.parametrize("form", [nfc, nfkc, is_nfc])
def test_a_million_marks_take_no_time(unit, form):
    """A million marks in the worst order are normalised within a second of processor time."""
    text = "a" + unit * (1_000_000 // len(unit))
    begun = time.process_time()
    form(text)
    assert time.process_time() - begun < 1
