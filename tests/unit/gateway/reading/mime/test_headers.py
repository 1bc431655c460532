"""Tests of header fields: words, addresses, ids, dates, parameters."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.model.message import Address
from gateway.reading.mime.address_lists import addresses
from gateway.reading.mime.headers import (
    Headers,
    base64_bytes,
    date,
    decode_words,
    message_ids,
    parameters,
)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?B?w6Q=?=", "ä"),
        ("=?UTF-8?Q?a=C3=A4_b?= c", "aä b c"),
        ("=?utf-8?B?w?= =?utf-8?B?6Q=?=", "ä"),
        ("=?utf-8?Q?=E2=82?= =?utf-8?Q?=AC?=", "€"),
        ("=?iso-8859-1*en?Q?=E9?=", "é"),
        ("=?x-unknown?Q?abc?=", "abc"),
        ("=?utf-8?Q?a b?=", "a b"),
        ("=?utf-8?Q?open", "=?utf-8?Q?open"),
        ("a =?utf-8?Q?b?= =?iso-8859-1?Q?=E9?= c", "a bé c"),
        ("=?ISO-2022-JP?B?GyRCJUYlOSVIGyhC?=", "テスト"),
    ],
)
def test_encoded_words(raw, text):
    """RFC 2047 words as sent: split characters, languages, unknown and broken charsets."""
    assert decode_words(raw) == text


@pytest.mark.parametrize(
    ("raw", "boxes"),
    [
        ("a@x.example", [("", "a@x.example")]),
        ("Ada Reader <a@x.example>", [("Ada Reader", "a@x.example")]),
        ('"Reader, Ada" <a@x.example>', [("Reader, Ada", "a@x.example")]),
        ("Reader, Ada <a@x.example>", [("Reader, Ada", "a@x.example")]),
        ("a@x.example (Ada)", [("Ada", "a@x.example")]),
        ("<a@x.example>, b@y.example", [("", "a@x.example"), ("", "b@y.example")]),
        ("team: a@x.example, B <b@y.example>;", [("", "a@x.example"), ("B", "b@y.example")]),
        ("undisclosed-recipients:;", []),
        ("=?utf-8?Q?J=C3=BCrgen,_A?= <j@x.example>", [("Jürgen, A", "j@x.example")]),
        ("<@relay.example:a@x.example>", [("", "a@x.example")]),
        ("<mailto:a@x.example>", [("", "a@x.example")]),
        ('"a b"@x.example', [("", '"a b"@x.example')]),
        ("Ada", [("Ada", None)]),
        ("a@x.example; b@y.example", [("", "a@x.example"), ("", "b@y.example")]),
        ("'Ada' <a@x.example>", [("Ada", "a@x.example")]),
        ("<>", []),
        ("", []),
    ],
)
def test_address_fields(raw, boxes):
    """Mailboxes are read as RFC 5322 and as programs write them."""
    assert [(box.name, box.address) for box in addresses(raw)] == boxes


def test_addresses_are_capped():
    """A field with ten thousand mailboxes gives as many as the limit."""
    assert len(addresses("a@x.example," * 10_000)) == 1000


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        ("<a@b>", ["a@b"]),
        ("<a@b> <c@d>\t<a@b>", ["a@b", "c@d"]),
        ("a@b", ["a@b"]),
        ("<a\r\n b@c>", ["ab@c"]),
        ("see <a@b> of Monday", ["a@b"]),
        ("", []),
        ("<>", []),
    ],
)
def test_message_ids(raw, ids):
    """Ids have no brackets, appear once, and folded ones are joined."""
    assert message_ids(raw) == ids


@pytest.mark.parametrize(
    ("raw", "moment"),
    [
        ("Mon, 02 Mar 2026 10:00:00 +0100", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("2 Mar 2026 10:00:00 GMT", datetime(2026, 3, 2, 10, tzinfo=UTC)),
        ("Mon, 2 Mar 26 10:00 EST", datetime(2026, 3, 2, 15, tzinfo=UTC)),
        ("Mon, 02 Mar 2026 10:00:60 +0000", datetime(2026, 3, 2, 10, 0, 59, tzinfo=UTC)),
        ("yesterday", None),
        ("Mon, 99 Mar 2026 10:00:00 +0000", None),
        ("Mon, 02 Mar 9999 10:00:00 +0000", None),
        ("Mon, 02 Mar 2026 10:00:00 +9999", datetime(2026, 3, 2, 10, tzinfo=UTC)),
    ],
)
def test_dates(raw, moment):
    """Dates are in UTC; an absurd or invalid date is None."""
    assert date(raw) == moment


@pytest.mark.parametrize(
    ("raw", "value", "found"),
    [
        ('text/plain; charset="utf-8"', "text/plain", {"charset": "utf-8"}),
        ("a/b; name=two words.txt; x=1", "a/b", {"name": "two words.txt", "x": "1"}),
        ("a/b; name*=utf-8''%e2%82%ac.txt", "a/b", {"name": "€.txt"}),
        ("a/b; name*0*=utf-8''%e2%82; name*1*=%ac; name*2=.txt", "a/b", {"name": "€.txt"}),
        ('a/b; name="=?utf-8?B?w6Q=?=.txt"', "a/b", {"name": "ä.txt"}),
        ('a/b; name="open', "a/b", {"name": "open"}),
        ("a/b;;;; x=1", "a/b", {"x": "1"}),
        ('a/b; name="a\\"b"', "a/b", {"name": 'a"b'}),
    ],
)
def test_parameters(raw, value, found):
    """Parameters with quotes, spaces, RFC 2231 pieces and encoded words are read."""
    assert parameters(raw) == (value, found)


def test_a_stray_line_in_the_header_is_a_defect_and_reading_goes_on():
    """A line that is not a field does not end the header (interfaces.md 3)."""
    headers = Headers(b"From: a@b.example\r\nthis is no field\r\nSubject: still read")
    assert headers.text("subject") == "still read"
    assert headers.defects == ["a line in the header is no header field"]


def test_folded_fields_are_unfolded():
    """A field over three lines is one value."""
    assert Headers(b"Subject: one\r\n two\r\n\tthree").text("subject") == "one two three"


def test_raw_bytes_in_a_header_are_read_with_the_hint():
    """Raw 8-bit headers are UTF-8 if valid, else in the charset of the body."""
    assert Headers("Subject: größer".encode()).text("subject") == "größer"
    assert Headers("Subject: тест".encode("koi8-r"), "koi8-r").text("subject") == "тест"
    assert (
        Headers("Subject: привет, это тест".encode("cp1251")).text("subject") == "привет, это тест"
    )


@pytest.mark.parametrize(
    ("data", "out"),
    [
        (b"YWJj", b"abc"),
        (b"YW Jj\r\n", b"abc"),
        (b"YWJ", b"ab"),
        (b"YWJjZ", b"abc"),
        (b"YQ==\r\nfooter", b"a"),
        (b"!!!!", b""),
    ],
)
def test_broken_base64_gives_what_it_can(data, out):
    """Missing padding, foreign characters and a footer do not lose the content."""
    assert base64_bytes(data) == out


def test_an_address_has_a_comparison_key():
    """Case and spaces do not make another address."""
    assert Address("A", " Ada@X.example ").key == "ada@x.example"
