"""Tests of the IMAP grammar: the same result however bytes are split, within bounds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingress.imap import grammar
from gateway.ingress.imap.grammar import FetchResponse, Framing, TooLongError

WHOLE = (
    b"* 1 FETCH (UID 7 BODY[] {5}\r\na\r\n\n) FLAGS ())\r\n"
    b"* 2 FETCH (UID 8 BODY[] {0}\r\n)\r\n"
    b"* OK this ends like a literal {3}\r\n"
    b"+ idling {2}\r\n"
    b"* SEARCH 1 2 3\r\n"
    b"A1 OK [CAPABILITY IMAP4rev1] done {7}\r\n"
)
READ = [
    [b"* 1 FETCH (UID 7 BODY[] ", b"a\r\n\n)", b" FLAGS ())"],
    [b"* 2 FETCH (UID 8 BODY[] ", b"", b")"],
    [b"* OK this ends like a literal {3}"],
    [b"+ idling {2}"],
    [b"* SEARCH 1 2 3"],
    [b"A1 OK [CAPABILITY IMAP4rev1] done {7}"],
]


def framed(pieces):
    framing = Framing()
    return [response for piece in pieces for response in framing.feed(piece) if response]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=40))
def test_pieces_do_not_matter(cuts):
    """Split anywhere, the responses are the same; braces at the end of text are no literal."""
    places = [0, *sorted(cuts), len(WHOLE)]
    assert framed(WHOLE[a:b] for a, b in pairwise(places)) == READ


def test_an_answer_of_endless_pieces_is_given_up():
    """Literals without end in one answer are refused before they fill the memory."""
    for pieces in ([b"x {1048576}\r\n" + b"y" * (1 << 20)] * 100, [b"x {0}\r\n" * 1_000_000]):
        with pytest.raises(TooLongError, match="an answer of more than"):
            framed(pieces)


def test_single_bytes_and_bare_line_ends_are_read_too():
    """Single bytes, and lines that end with LF alone, are read too."""
    assert framed(bytes([byte]) for byte in WHOLE) == READ
    assert framed([b"* SEARCH 1\nA1 OK\n"]) == [[b"* SEARCH 1"], [b"A1 OK"]]


def test_empty_lines_are_passed_over():
    """Empty lines between responses are ignored."""
    assert framed([b"\r\n\r\n* OK\r\n\r\n"]) == [[b"* OK"]]


@pytest.mark.parametrize(
    "piece",
    [
        b"x" * 100_000,
        b"* 1 FETCH (BODY[] {67108865}\r\n",
        b"* 1 FETCH (BODY[] {99999999999999999999}\r\n",
    ],
)
def test_endless_responses_are_rejected(piece):
    """Endless lines and huge literals are rejected before they fill the memory."""
    with pytest.raises(TooLongError):
        framed([piece] * 100)


def test_reading_takes_time_in_proportion_to_its_bytes():
    """Five times the input takes about five times as long, not 25 times."""

    def seconds(n):
        began = time.process_time()
        framed([b"* 1 FETCH (FLAGS ())\r\n" * n])
        framed([b"x"] * n + [b"\r\n"])
        for hard in (b"(" * n, b'("' * n, b'"' + b'\\"' * n, b"[" * n, b"a[" * n):
            grammar.parse_items([hard])
        return time.process_time() - began

    small, large = (min(seconds(n) for _ in range(3)) for n in (10_000, 50_000))
    assert large < 15 * small


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_no_response_upsets_the_reader(parts):
    """Reading any bytes as a response never raises an error."""
    grammar.parse_items(parts)
    grammar.parse_fetch(parts)
    list(grammar.search_results(parts))
    grammar.response_code(parts[0])
    grammar.decode_folder(parts[0])


def test_a_fetch_is_read_whatever_its_form():
    """Any order and case, extra items, quoted strings, NIL and pieces are read."""
    date = b'INTERNALDATE "22-Nov-2026 10:00:00 +0100"'
    line = (
        b"* 12 fetch (X-GM-MSGID 17 uid 5 Flags (\\Seen $x NIL) MODSEQ (12) RFC822.SIZE 99 "
        + date
        + b' BODY[] "a\\"b")'
    )
    received = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
    assert grammar.parse_fetch([line]) == FetchResponse(
        5, 99, frozenset({"\\Seen", "$x"}), received, b'a"b'
    )
    assert grammar.parse_fetch([b"* 1 FETCH (UID 5 BODY[]<0> ", b"xyz", b")"]) == FetchResponse(
        5, body=b"xyz"
    )
    assert grammar.parse_fetch([b"* 1 FETCH (UID 5 BODY[] NIL)"]) == FetchResponse(5)
    assert grammar.parse_fetch([b"* 1 FETCH (UID 5 BODY[]<9> NIL)"]) == FetchResponse(5)
    assert grammar.parse_fetch([b"* 1 FETCH (UID 5 BODY[]<9> ", b"", b")"]) == FetchResponse(
        5, body=b""
    )
    assert grammar.parse_fetch(
        [b"* 1 FETCH (BODY[HEADER.FIELDS (FROM TO)] ", b"From: a", b" UID 5)"]
    ) == FetchResponse(5)


@pytest.mark.parametrize(
    "line",
    [
        b"* 1 FETCH (FLAGS (\\Seen))",
        b"* 1 EXISTS",
        b"* FETCH",
        b"* 1 FETCH (UID x)",
        b"A1 OK FETCH (UID 1)",
    ],
)
def test_a_response_without_uid_is_no_fetch(line):
    """Flags by sequence number and other responses are ignored."""
    assert grammar.parse_fetch([line]) is None


@pytest.mark.parametrize(
    "text", [b"31-Feb-2026 10:00:00 +0000", b"", b"1-Jan-0001 00:00:00 +2300", b"yesterday"]
)
def test_an_invalid_date_is_left_out(text):
    """An invalid INTERNALDATE is left out."""
    assert grammar.internal_date(text) is None


def test_search_answers_are_read_in_their_order():
    """The numbers of several SEARCH lines are read, a final MODSEQ and other lines are not."""
    lines = [[b"* SEARCH 5 3"], [b"* search 3 9 (MODSEQ 77)"], [b"* SEARCH"], [b"* 5 EXISTS"]]
    assert [uid for line in lines for uid in grammar.search_results(line)] == [5, 3, 3, 9]


@given(st.sets(st.integers(1, 60), min_size=1))
def test_a_set_names_exactly_its_uids(uids):
    """A UID set, read back, has exactly its UIDs."""
    read = set()
    for span in grammar.uid_set(uids).split(","):
        first, _, last = span.partition(":")
        read |= set(range(int(first), int(last or first) + 1))
    assert read == uids


@given(
    st.text(
        st.characters(exclude_categories=("C", "Z")) | st.sampled_from(' &-"\\/'),
        min_size=1,
        max_size=20,
    )
)
def test_folder_names_come_back(name):
    """A folder name is printable ASCII on the wire and is read back unchanged."""
    sent = grammar.encode_folder(name)
    assert sent.isascii()
    assert sent.isprintable()
    [read] = grammar.parse_items([sent.encode()])
    assert grammar.decode_folder(read) == name


def test_folder_names_as_the_standard_has_them():
    """The examples of RFC 3501 section 5.1.3, and a name that needs quoting."""
    assert grammar.encode_folder("~peter/mail/台北/日本語") == '"~peter/mail/&U,BTFw-/&ZeVnLIqe-"'
    assert grammar.encode_folder('a "b" & \\c') == '"a \\"b\\" &- \\\\c"'
    assert grammar.decode_folder(b"&Jjo-!") == "☺!"
    assert grammar.decode_folder(b"no utf-7 &x") == "no utf-7 &x"


@pytest.mark.parametrize("name", ["a\r\nb", "a\0", "\x1b[0m"])
def test_a_name_cannot_smuggle_a_command(name):
    """Control characters in a folder's name are refused."""
    with pytest.raises(ValueError, match="control"):
        grammar.encode_folder(name)


def test_strings_are_quoted_or_refused():
    """Quotes and backslashes are escaped; a string that cannot be quoted is refused."""
    assert grammar.quoted('a"\\b') == '"a\\"\\\\b"'
    for wrong in ("ä", "a\n"):
        with pytest.raises(ValueError, match="ASCII"):
            grammar.quoted(wrong)


def test_response_codes_are_read():
    """A code with an argument, without one, and no code are read."""
    assert grammar.response_code(b"OK [UIDNEXT 4392] Predicted next UID") == ("UIDNEXT", "4392")
    assert grammar.response_code(b"NO [trycreate] no such mailbox") == ("TRYCREATE", "")
    assert grammar.response_code(b"OK done") == ("", "")
