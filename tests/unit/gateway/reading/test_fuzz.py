"""Property tests: any bytes give one storable message, and nothing is raised."""

from __future__ import annotations

import dataclasses
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model.message import Message
from gateway.reading import parse
from gateway.reading.mime import limits

PIECES = st.sampled_from(
    [
        b"From: ", b"To: ", b"Subject: ", b"Content-Type: ", b"multipart/mixed; boundary=b",
        b"multipart/alternative; boundary=b", b"message/rfc822", b"text/html",
        b"text/plain; charset=", b"utf-8", b"iso-2022-jp", b"utf-7", b"hz", b"gb18030",
        b"punycode", b"utf-16", b"--b", b"--b--", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t",
        b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Disposition: attachment; filename=", b"=?utf-8?B?", b"=?utf-8?Q?=ff?=", b"?=",
        b"<", b">", b"@", b'"', b"\\", b"(", b")", b";", b",", b":", b"*0*=", b"utf-8''%ff%00",
        b"Date: Mon, 1 Jan 2024 00:00:00 +0000", b"Date: ", b"99999999999999999999",
        b"begin 644 x\n", b"\nend\n", b"---------- Forwarded message ---------\n",
        b"On Mon, 1 Jan 2024 at 10:00, a <a@b.c> wrote:\n", b"> ",
        b"-----Original Message-----\n", b"Return-Path: <>", b"MAILER-DAEMON@x",
        b"multipart/report; report-type=delivery-status; boundary=b", b"message/delivery-status",
        b"Final-Recipient: rfc822; a@b", b"Action: failed", b"Status: 5.1.1", b"<blockquote>",
        b"<div>", b"</div>", b"<!--[if", b"&#0;", b"&#xD800;", b"\x00", b"\xff\xfe",
        b"\xed\xa0\x80", b"\xc3\xa4", b"\x1b$B", b"e\xcc\x81", b"application/ms-tnef",
        b"\x78\x9f\x3e\x22", b"A" * 100,
    ]
)  # fmt: skip
MAILS = st.one_of(
    st.binary(max_size=2000),
    st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=60).map(b"".join),
)


def strings(value):
    """Yield every string inside a value."""
    match value:
        case str():
            yield value
        case tuple():
            for each in value:
                yield from strings(each)
        case _ if dataclasses.is_dataclass(value):
            for each in dataclasses.fields(value):
                yield from strings(getattr(value, each.name))


def sound(found):
    assert isinstance(found, Message)
    assert not any(each.startswith("could not be read whole") for each in found.defects)
    for text in strings(found):
        assert "\x00" not in text
        assert not any("\ud800" <= char <= "\udfff" for char in text)
        assert len(text) <= limits.TEXT
        assert unicodedata.is_normalized("NFC", text)
    assert len(found.subject) <= limits.SUBJECT


@given(MAILS)
@settings(max_examples=400, deadline=None)
def test_any_bytes_make_a_message(raw):
    """Nothing raises or gives an unstorable string; reading again gives the same."""
    found = parse.read(raw, html=True)
    sound(found)
    assert parse.read(raw, html=True) == found
    sound(parse.fallback(raw))


@given(MAILS)
@settings(max_examples=100, deadline=None)
def test_every_attachment_can_be_fetched(raw):
    """Every listed attachment can be fetched, with the listed size."""
    for each in parse.read(raw).attachments:
        again, content = parse.attachment(raw, each.part)
        assert len(content) == each.size
        assert again.sha256 == each.sha256


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_mail_is_read(data):
    """A rich mail with bytes flipped, cut, doubled and joined is read."""
    raw = bytearray(RICH)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(0, len(raw) - 1)))
        match data.draw(st.sampled_from(["flip", "cut", "double", "join"])):
            case "flip":
                raw[at : at + 1] = data.draw(st.binary(min_size=1, max_size=3))
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 80))]
            case "double":
                raw[at:at] = raw[at : at + 120]
            case _:
                raw = bytearray(
                    bytes(raw[:at])
                    + bytes(raw[at : at + 200]).replace(b"\r\n", b"", 1)
                    + bytes(raw[at + 200 :])
                )
    sound(parse.read(bytes(raw), html=True))


RICH = (
    b'Return-Path: <a@b.example>\r\nReceived: from x by y; Mon, 2 Mar 2026 10:00:00 '
        b'+0000\r\nFrom: =?utf-8?Q?J=C3=BCrgen?= <a@b.example>\r\nTo: "B, C" <b@c.example>, g: '
        b'd@e.example;\r\n'
    b'Subject: =?iso-2022-jp?B?GyRCJUYlOSVIGyhC?=\r\nDate: Mon, 2 Mar 2026 10:00:00 '
        b'+0000\r\nMessage-ID: <x@y>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; '
        b'boundary="out"\r\n\r\n'
    b"--out\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n--in\r\nContent-Type: "
        b"text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "
        b"quoted-printable\r\n\r\nGr=C3=B6=C3=9Fe\r\n\r\n"
    b"On Mon, 2 Mar 2026 at 09:12, Bob <bob@site.example> wrote:\r\n> "
        b"old\r\n--in\r\nContent-Type: "
        b"text/html\r\n\r\n<p>Gr&ouml;&szlig;e</p><blockquote>old</blockquote>\r\n--in--\r\n"
    b"--out\r\nContent-Type: application/pdf; name*0*=utf-8''%e2%82; "
        b"name*1*=%ac.pdf\r\nContent-Transfer-Encoding: "
        b"base64\r\n\r\nAAECAwQF\r\n--out\r\nContent-Type: message/rfc822\r\n\r\n"
    b"From: c@d.example\r\nSubject: inner\r\n\r\nbegin 644 x\r\n#0V%T\r\n`\r\nend\r\n--out--\r\n"
)  # fmt: skip


@pytest.mark.parametrize("at", range(0, len(RICH), 97))
def test_a_mail_cut_off_anywhere_is_read(at):
    """A mail whose transfer broke off is read."""
    sound(parse.read(RICH[:at], html=True))
