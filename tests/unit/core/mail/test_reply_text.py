"""Tests of reply text: subject, references, quotation, signature and recipients of an answer."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.mail import reply_tokens
from core.mail.reply_text import (
    one_line,
    opening_lines,
    quote,
    quote_html,
    recipients,
    references_of,
    subject_of,
    usable_id,
    with_signature,
)
from core.mail.threading import TicketRef
from core.model.message import Address

TAG = reply_tokens.tag(b"k" * 32, 12)
OTHER = reply_tokens.tag(b"k" * 32, 13)
MARK = f"[{TAG}]"
WHEN = datetime(2026, 11, 25, 9, 15, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
ANN = Address("Ann Example", "ann@example.org")
BOB = Address("Bob", "Bob@example.net")
CAT = Address("", "cat@example.com")
OURS = frozenset({"help@desk.example"})
ANY = st.text(st.characters(codec=None), max_size=200)  # lone surrogates too
SUBJECTS = st.lists(
    st.one_of(
        ANY,
        st.sampled_from(
            ["Re: ", "AW:", "Fwd: ", MARK, f"[{OTHER}]", MARK.upper(), "x" * 390, "\r\n", "回复："]
        ),
    ),
    max_size=6,
)


@pytest.mark.parametrize(
    ("given_subject", "expected"),
    [
        ("A question", f"Re: A question {MARK}"),
        ("Re: A question", f"Re: A question {MARK}"),
        ("RE: Aw: SV: Antw: Odp: RES: R: A question", f"Re: A question {MARK}"),
        ("Re[2]: Re (3): Re^4: A question", f"Re: A question {MARK}"),
        ("回复：答复: 返信: A question", f"Re: A question {MARK}"),
        ("Отв: ΑΠ: YNT: Vá: رد: A question", f"Re: A question {MARK}"),
        ("Re: Fwd: Re: A question", f"Re: Fwd: Re: A question {MARK}"),
        ("WG: A question", f"Re: WG: A question {MARK}"),
        ("Regarding: rest: resist", f"Re: Regarding: rest: resist {MARK}"),
        (f"Re: {MARK} Received: A question", f"Re: {MARK} Received: A question"),
        (f"Re: A question {MARK.upper()}", f"Re: A question {MARK.upper()}"),
        (f"Re: A question {MARK} {MARK}", f"Re: A question {MARK}"),
        (f"[{OTHER}] Re: A question [{OTHER}]", f"Re: A question {MARK}"),
        ("Two\r\nBcc: x@example.org\x00 lines", f"Re: Two Bcc: x@example.org lines {MARK}"),
        ("", f"Re: {MARK}"),
        ("Re:", f"Re: {MARK}"),
    ],
)
def test_a_subject_gets_one_prefix_and_one_tag(given_subject: str, expected: str) -> None:
    """Old reply prefixes and foreign tags go, forward marks stay; a second pass changes nothing."""
    assert subject_of(given_subject, TAG) == expected
    assert subject_of(expected, TAG) == expected


def test_another_prefix_or_none() -> None:
    """A forward gets its own prefix; a new conversation gets none."""
    assert subject_of("Re: A question", TAG, "Fwd") == f"Fwd: A question {MARK}"
    assert subject_of("A question", TAG, "") == f"A question {MARK}"
    assert subject_of("", TAG, "") == MARK


@given(SUBJECTS)
@example([MARK, "R:", "x" * 390])
def test_any_subject_becomes_one_short_line_with_the_tag(parts: list[str]) -> None:
    """Any subject becomes one line of at most 400 characters with our tag, and never grows."""
    subject = subject_of("".join(parts), TAG)
    assert subject.startswith("Re: ")
    assert len(subject) <= 400
    assert one_line(subject) == subject
    assert subject.encode()
    assert subject.lower().count(MARK) == 1
    assert f"[{OTHER}]" not in subject
    assert reply_tokens.read_tag([b"k" * 32], subject) == TicketRef(12)
    assert subject_of(subject, TAG) == subject


def test_references_grow_by_the_parent() -> None:
    """RFC 5322 3.6.4: the parent's references, then the parent, each once."""
    assert references_of("c@x", ["a@x", "b@x", "a@x"]) == ("a@x", "b@x", "c@x")
    assert references_of("b@x", ["a@x", "b@x", "c@x"]) == ("a@x", "c@x", "b@x")
    assert references_of(None, ["a@x"]) == ("a@x",)
    assert references_of("a@x", []) == ("a@x",)
    assert references_of(None, []) == ()


def test_references_that_cannot_be_written_are_left_out() -> None:
    """An id with blanks, control or non-ASCII characters, brackets or absurd length is left out."""
    wrong = ["a b@x", "a\r\n@x", "a\x00@x", "<a@x>", "ä@x", "", "a" * 251]
    assert not any(map(usable_id, wrong))
    assert references_of("p@x", wrong) == ("p@x",)
    assert references_of("a b", ["a@x"]) == ("a@x",)


def test_long_references_keep_the_first_and_the_newest() -> None:
    """Long references lose ids from the middle, by number and by bytes."""
    ids = [f"{number}@x" for number in range(100)]
    assert references_of("p@x", ids) == (
        "0@x",
        *(f"{number}@x" for number in range(82, 100)),
        "p@x",
    )
    assert references_of("p@x", ids, limit=1) == ("p@x",)
    wide = [f"{number:0240}@x" for number in range(30)]
    kept = references_of("p@x", wide)
    assert kept == (wide[0], *wide[-15:], "p@x")
    assert sum(len(each) + 3 for each in kept) <= 4000


@given(
    st.one_of(st.none(), ANY),
    st.lists(ANY | st.text("abc@", min_size=1, max_size=3)),
    st.integers(1, 25),
    st.integers(0, 5000),
)
def test_references_hold_whatever_is_given(
    parent: str | None, references: list[str], limit: int, octets: int
) -> None:
    """References stay within the limit, valid, unique and ordered, with a valid parent last."""
    result = references_of(parent, references, limit, octets)
    assert len(result) <= limit
    assert len(set(result)) == len(result)
    assert all(map(usable_id, result))
    assert len(result) == 1 or sum(len(each) + 3 for each in result) <= octets
    if parent is not None and usable_id(parent):
        assert result[-1] == parent
        result = result[:-1]
    order = list(dict.fromkeys(references))
    assert sorted(result, key=order.index) == list(result)


def test_a_mail_is_quoted_with_its_time_in_the_zone() -> None:
    """The time is in the reader's zone, quotes nest one deeper, blank lines at the end go."""
    text = "Hello,\r\n\r\nyes.  \n> earlier\n>> still\n\n \n"
    expected = (
        "On Wed, 25 Nov 2026 at 10:15, Ann Example wrote:\n> Hello,\n>\n> yes.\n>> "
        "earlier\n>>> still"
    )
    assert quote(text, WHEN, BERLIN, "Ann\nExample") == expected
    assert quote("", WHEN, UTC, "").startswith("On Wed, 25 Nov 2026 at 09:15, somebody wrote:")


def test_a_long_mail_is_cut_at_a_line() -> None:
    """A cut quotation ends with a whole line, or inside a very long one, and says it was cut."""
    assert quote("one\ntwo\nthree", WHEN, UTC, "Ann", limit=10).splitlines()[1:] == [
        "> one",
        "> two",
        "> [...]",
    ]
    assert quote("x" * 50, WHEN, UTC, "Ann", limit=10).splitlines()[1:] == [
        "> " + "x" * 10,
        "> [...]",
    ]


@given(ANY, ANY, st.integers(1, 50))
def test_no_line_escapes_the_quotation(text: str, name: str, limit: int) -> None:
    """Every line below the introduction is marked as quoted, whatever ends a line."""
    introduction, *lines = quote(text, WHEN, BERLIN, name, limit).splitlines()
    assert introduction.endswith("wrote:")
    assert all(line.startswith(">") for line in lines)
    assert all(line.startswith(">") for line in opening_lines(text).splitlines())


@given(ANY, ANY)
def test_quoted_html_holds_no_markup_of_the_mail(text: str, name: str) -> None:
    """Only our own elements are in the output, whatever the mail and the name contain."""
    found = quote_html(f"<script>{text}</blockquote>", WHEN, BERLIN, f"<b>{name}")
    assert set(re.findall(r"<[^>]*>", found)) <= {
        "<p>",
        "</p>",
        '<blockquote type="cite">',
        "<br>",
        "</blockquote>",
    }
    assert found.count("</blockquote>") == 1


def test_quoted_html_is_cut_too() -> None:
    """The HTML quotation obeys the same limit."""
    cut = quote_html("one\ntwo\nthree", WHEN, UTC, "Ann", limit=10)
    assert cut == (
        "<p>On Wed, 25 Nov 2026 at 09:15, Ann wrote:</p>\n<blockquote "
        'type="cite">\none<br>\ntwo<br>\n[...]\n</blockquote>'
    )


def test_a_signature_stands_behind_its_line() -> None:
    """RFC 3676 4.3: the signature follows "-- "; without a signature nothing is added."""
    assert with_signature("Yes.\n\n", "Ann\nSales\n") == "Yes.\n\n-- \nAnn\nSales"
    assert with_signature("Yes.", "-- \nAnn") == "Yes.\n\n-- \nAnn"
    for nothing in (None, "", " \n"):
        assert with_signature("Yes.\n", nothing) == "Yes.\n"


def test_the_opening_lines_of_a_mail() -> None:
    """The first lines are quoted, each of limited width, with a mark that more follows."""
    assert opening_lines("\n\none\n\ntwo\n") == "> one\n>\n> two"
    assert opening_lines("1\n2\n3", lines=2) == "> 1\n> 2\n> [...]"
    assert opening_lines("x" * 30, width=10) == "> xxxxxxx..."
    assert opening_lines(" \r\n ") == ""


def test_an_answer_goes_to_the_newest_writer_and_the_approved() -> None:
    """An answer goes to the newest writer and the approved; nobody twice, To before Cc."""
    assert recipients(BOB, ANN, [ANN, BOB], [], [], OURS) == ((BOB,), (ANN,))
    assert recipients(None, ANN, [Address("Ann", "ANN@example.org")], [], [CAT, CAT], OURS) == (
        (ANN,),
        (CAT,),
    )
    assert recipients(Address("Ann", None), None, [CAT], [], [], OURS) == ((), (CAT,))


def test_given_recipients_replace_the_defaults() -> None:
    """``to`` replaces the newest writer and the approved; ``cc`` is added to either."""
    assert recipients(BOB, ANN, [ANN], [CAT], [BOB, CAT], OURS) == ((CAT,), (BOB,))


def test_no_answer_goes_to_our_own_channel() -> None:
    """A channel and its signed addresses are never recipients, in any spelling."""
    signed = Address("", reply_tokens.reply_address(b"k" * 32, "Help@desk.example", 12))
    assert recipients(
        signed,
        ANN,
        [Address("", "HELP@desk.example.")],
        [],
        [Address("", '"help"@desk.example')],
        OURS,
    ) == ((ANN,), ())
    assert recipients(BOB, ANN, [], [signed], [], OURS) == ((), ())


def test_names_of_recipients_are_one_line() -> None:
    """Line ends in a recipient's name are removed, so that the name can be written again."""
    assert recipients(Address("Ann\r\nBcc: x", "ann@example.org"), None, [], [], [], OURS)[0] == (
        Address("Ann Bcc: x", "ann@example.org"),
    )
