"""Tests of whole mails: structure, charsets, attachments, digests, limits."""

from __future__ import annotations

import base64
import hashlib

import pytest

from gateway.reading import parse
from gateway.reading.mime import limits


def test_a_plain_mail_is_read(read):
    """Everything in a plain mail is read, without defects."""
    found = read(
        "Hello\nthere\n",
        extra=(
            "In-Reply-To: <zero@mail.example>\nReferences: <r1@mail.example> "
            "<zero@mail.example>\nCc: C <c@x.example>"
        ),
    )
    assert found.message_id == "one@mail.example"
    assert found.in_reply_to == ("zero@mail.example",)
    assert found.parents == ("zero@mail.example", "r1@mail.example")
    assert found.sender is not None
    assert (found.sender.name, found.sender.address) == ("Ada Reader", "ada@mail.example")
    assert [box.address for box in (*found.to, *found.cc)] == ["desk@help.example", "c@x.example"]
    assert (found.subject, found.text, found.reply_text) == (
        "A question",
        "Hello\nthere",
        "Hello\nthere",
    )
    assert (found.kind, found.auto_respond_ok, found.defects, found.over_limit) == (
        "human",
        True,
        (),
        False,
    )
    assert found.date is not None
    assert found.date.isoformat() == "2026-03-02T09:00:00+00:00"


def test_every_field_that_names_an_author_is_read(read):
    """Reply-To, the author whom a group replaced in From, and all who resent the mail are read."""
    found = read(
        extra=(
            'Reply-To: "Form, Web" <form@shop.example>, Eve <eve@shop.example>\n'
            "X-Original-Sender: BO@mail.example\n"
            "X-Original-Sender: mo@mail.example (Mo)\n"
            "X-Original-From: =?utf-8?q?B=C3=B6?= <bo@mail.example>, nobody\n"
            "Resent-From: Last <last@mail.example>\n"
            "Resent-From: First <first@mail.example>"
        )
    )
    assert [(box.name, box.address) for box in found.reply_to] == [
        ("Form, Web", "form@shop.example"),
        ("Eve", "eve@shop.example"),
    ]
    assert [(box.name, box.address) for box in found.original_from] == [
        ("B\u00f6", "bo@mail.example"),
        ("Mo", "mo@mail.example"),
    ]
    assert [box.address for box in found.resent_from] == ["last@mail.example", "first@mail.example"]
    assert found.sender is not None
    assert found.sender.address == "ada@mail.example"


@pytest.mark.parametrize(
    "name", ["Reply-To", "X-Original-From", "X-Original-Sender", "Resent-From"]
)
def test_fields_that_name_an_author_are_capped_like_all_addresses(mail, name):
    """A thousand mailboxes are read of them and the mail is marked; headers alone give the same."""
    many = ", ".join(f"p{n}@mail.example" for n in range(3000))
    raw = mail(extra=f"{name}: {many}")
    found, alone = parse.read(raw), parse.fallback(raw)
    read_of_it = (*found.reply_to, *found.original_from, *found.resent_from)
    assert 990 <= len(read_of_it) <= limits.ADDRESSES
    assert found.over_limit
    assert (alone.reply_to, alone.original_from, alone.resent_from) == (
        found.reply_to,
        found.original_from,
        found.resent_from,
    )


def test_the_plain_text_alternative_is_read_and_the_html_shown(read, multipart):
    """The plain text is read and the HTML shown; the text is not read twice."""
    body = multipart(
        "b",
        "Content-Type: text/plain\n\nplain",
        "Content-Type: text/html\n\n<p>rich</p><script>x()</script>",
    )
    found = read(body, kind="multipart/alternative; boundary=b", html=True)
    assert found.text == "plain"
    assert found.html == "<p>rich</p>"


def test_html_alone_becomes_text(read):
    """Paragraphs, lists, tables and quotes of HTML become natural text."""
    html = (
        "<html><head><style>p{}</style></head><body><p>Hello&nbsp;<b>you</b></p>"
        "<ul><li>one</li><li>two</li></ul><blockquote>old</blockquote></body></html>"
    )
    found = read(html, kind="text/html; charset=utf-8")
    assert found.text == "Hello you\n\n* one\n* two\n\n> old"


def test_attachments_are_counted_hashed_and_read_on_demand(read, mail, multipart):
    """Size and digest are of the decoded content, which is read again from the raw mail."""
    content = bytes(range(256)) * 20
    body = multipart(
        "b",
        "Content-Type: text/plain\n\nsee file",
        (
            'Content-Type: application/pdf; name="a.pdf"\nContent-Disposition: attachment; '
            'filename="a.pdf"\nContent-Transfer-Encoding: base64\n\n'
        )
        + base64.encodebytes(content).decode(),
        (
            "Content-Type: image/png\nContent-ID: <pic@x>\nContent-Disposition: "
            "inline\nContent-Transfer-Encoding: base64\n\nAAAA"
        ),
    )
    raw = mail(body, kind="multipart/mixed; boundary=b")
    found = parse.read(raw)
    first, second = found.attachments
    assert (first.filename, first.content_type, first.size, first.inline) == (
        "a.pdf",
        "application/pdf",
        len(content),
        False,
    )
    assert first.sha256 == hashlib.sha256(content).hexdigest()
    assert (second.content_id, second.inline, second.size) == ("pic@x", True, 3)
    assert parse.attachment(raw, first.part) == (first, content)
    with pytest.raises(KeyError):
        parse.attachment(raw, "9.9")


def test_the_text_of_an_attached_mail_is_not_the_body(read, multipart):
    """An attached mail is an attachment, and its text is not the sender's."""
    inner = (
        "Content-Type: message/rfc822\nContent-Disposition: attachment; "
        "filename=old.eml\n\nFrom: b@y.example\nSubject: old\n\ninner words"
    )
    found = read(
        multipart("b", "Content-Type: text/plain\n\nouter words", inner),
        kind="multipart/mixed; boundary=b",
    )
    assert found.text == "outer words"
    assert [each.filename for each in found.attachments] == ["old.eml"]
    assert found.kind == "human"


def test_a_uuencoded_file_in_the_text_is_an_attachment(read, mail):
    """A uuencoded file is removed from the text and can be read."""
    body = "see below\n\nbegin 644 note.txt\n#0V%T\n`\nend\nbye\n"
    found = read(body)
    assert [each.filename for each in found.attachments] == ["note.txt"]
    assert parse.attachment(mail(body), found.attachments[0].part)[1] == b"Cat"
    assert "0V%T" not in found.text
    assert "bye" in found.text


def test_a_uuencoded_file_in_an_encoded_part_can_be_read(mail, multipart):
    """The file is searched in its own decoded part, not in the whole mail."""
    text = "Content-Transfer-Encoding: quoted-printable\n\nbegin 644 a.txt\n$=3D&5S=3D```\n`\nend\n"
    raw = mail(multipart("b", text), kind="multipart/mixed; boundary=b")
    [found] = parse.read(raw).attachments
    assert parse.attachment(raw, found.part)[1] == b"test"


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("größe".encode("latin-1"), "text/plain; charset=iso-8859-1", "größe"),
        ("“x”".encode("cp1252"), "text/plain; charset=iso-8859-1", "“x”"),
        ("größe".encode(), "text/plain; charset=iso-8859-1", "größe"),
        ("größe".encode(), "text/plain", "größe"),
        ("größe".encode(), "text/plain; charset=us-ascii", "größe"),
        ("привет".encode("koi8-r"), "text/plain; charset=koi8-r", "привет"),
        ("これはテスト".encode("iso2022_jp"), "text/plain; charset=iso-2022-jp", "これはテスト"),
        ("これはテスト".encode("cp932"), "text/plain; charset=shift_jis", "これはテスト"),
        ("中文测试".encode("gb18030"), "text/plain; charset=gb2312", "中文测试"),
        ("中文測試".encode("big5"), "text/plain; charset=big5", "中文測試"),
        ("안녕하세요".encode("cp949"), "text/plain; charset=ks_c_5601-1987", "안녕하세요"),
        ("abc", "text/plain; charset=punycode", "abc"),
        ("a\x00b", "text/plain", "ab"),
        ("e\u0301".encode(), "text/plain; charset=utf-8", "é"),
        (b"+AOQ-", "text/plain; charset=utf-7", "ä"),
    ],
)
def test_charsets(read, body, kind, text):
    """Declared, wrongly declared and undeclared charsets give NFC without NUL."""
    assert read(body, kind=kind).text == text


def test_line_ends_change_neither_digest_nor_text(mail, multipart):
    """A mail with LF equals the same mail with CRLF."""
    raw = mail(
        multipart(
            "b",
            "Content-Type: text/plain\n\nHello\nthere  ",
            "Content-Type: text/x-log; name=a.log\n\none\ntwo",
        ),
        kind="multipart/mixed; boundary=b",
    )
    one, two = parse.read(raw), parse.read(raw.replace(b"\r\n", b"\n"))
    assert (one.content_digest, one.plain_digest, one.text) == (
        two.content_digest,
        two.plain_digest,
        two.text,
    )


def test_trace_fields_do_not_change_the_digests(mail):
    """Another delivery route gives the same digests; another body or date does not."""
    raw = mail("Hello\n")
    other = (
        b"Return-Path: <ada@mail.example>\r\nReceived: from a by b;\r\n\tMon, 2 Mar 2026 "
        b"10:00:01 +0100\r\nDelivered-To: desk@help.example\r\nX-Spam-Flag: YES\r\n"
    ) + raw
    one, two = parse.read(raw), parse.read(other)
    assert one.plain_digest == two.plain_digest
    assert one.content_digest == two.content_digest
    assert two.spam_flag
    assert two.delivered_to == ("desk@help.example",)
    changed = parse.read(raw.replace(b"Hello", b"Hallo"))
    assert changed.plain_digest != one.plain_digest
    assert changed.content_digest != one.content_digest


def test_null_path_is_known_from_the_envelope_or_the_return_path(mail):
    """The envelope's sender counts before the Return-Path header."""
    raw = b"Return-Path: <>\r\n" + mail()
    assert parse.read(raw).return_path == ""
    assert parse.read(raw).kind == "auto_generated"
    assert parse.read(raw, null_sender=False).kind == "human"
    assert parse.read(mail(), null_sender=True).kind == "auto_generated"


@pytest.mark.parametrize(
    ("raw", "defect"),
    [
        (b"", "no usable From"),
        (b"just text\r\nmore", "no header at all"),
        (b"From: a@b.example\rSubject: x\r\rbody", "no usable Date"),
        (
            b"From: a@b.example\r\nSubject: x\r\nContent-Type: multipart/mixed\r\n\r\nbody",
            "a multipart without its boundary",
        ),
        (
            b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx",
            "a multipart that does not end",
        ),
        (
            b"From: a@b.example\r\nContent-Transfer-Encoding: secret\r\n\r\nx",
            "unknown transfer encoding",
        ),
    ],
)
def test_defects_have_names(raw, defect):
    """A broken mail is read as far as possible, with named defects."""
    assert defect in parse.read(raw).defects


def test_a_boundary_that_was_misspelt_is_guessed(read):
    """The parts behind a misspelt boundary are found."""
    found = read(
        "--right\nContent-Type: text/plain\n\nfound\n--right--\n",
        kind="multipart/mixed; boundary=wrong",
    )
    assert found.text == "found"


def test_a_lone_cr_mail_is_read():
    """Lines that end in CR alone are lines."""
    found = parse.read(b"From: a@b.example\rSubject: old\r\rbody\rmore")
    assert (found.subject, found.text) == ("old", "body\nmore")


def test_leading_blank_lines_and_an_envelope_line_are_skipped(mail):
    """interfaces.md 3: mails cut out of an mbox are read."""
    assert (
        parse.read(b"\r\n\r\nFrom ada Mon Mar  2 10:00:00 2026\r\n" + mail()).subject
        == "A question"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"".join(b"X-%d: y\r\n" % index for index in range(2000)) + b"From: a@b.example\r\n\r\nx",
        b"From: a@b.example\r\nSubject: " + b"x" * 300_000 + b"\r\n\r\nx",
        b"From: a@b.example\r\nTo: " + b"a@b.example, " * 1500 + b"\r\n\r\nx",
        b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\n\r\nx\r\n" * 700,
        b"From: a@b.example\r\n"
        + b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
            for n in range(40)
        )
        + b"\r\nx",
        b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary="
        + b"b" * 3000
        + b"\r\n\r\nx",
        b"Received: from a by b\r\n" * 101 + b"From: a@b.example\r\n\r\nx",
    ],
    ids=["fields", "field", "addresses", "parts", "depth", "boundary", "hops"],
)
def test_over_a_cap_what_lies_within_is_read_and_flagged(raw):
    """reliability.md 12: a mail over a limit is read in part and flagged."""
    found = parse.read(raw)
    assert found.over_limit
    assert any("limit" in each for each in found.defects)


def test_within_the_caps_nothing_is_flagged(read, multipart):
    """A large but ordinary mail has no flag."""
    body = multipart("b", *(f"Content-Type: text/plain\n\npart {index}" for index in range(100)))
    assert not read(body, kind="multipart/mixed; boundary=b").over_limit


def test_fallback_reads_the_headers_only(mail):
    """A mail that killed its reading processes still has sender and subject."""
    found = parse.fallback(mail("poison"), "reading took longer than 20 seconds")
    assert (found.subject, found.text, found.over_limit, found.auto_respond_ok) == (
        "A question",
        "",
        True,
        False,
    )
    assert found.defects == ("reading took longer than 20 seconds",)
    again = parse.fallback(b"Received: from a by b\r\n" + mail("poison").replace(b"\r\n", b"\n"))
    assert (again.plain_digest, again.content_digest) == (found.plain_digest, found.content_digest)
    assert parse.fallback(mail("other poison")).content_digest != found.content_digest


def test_loop_marks_are_handed_over(read):
    """The values of our own loop header are kept, and the kind does not change."""
    found = read(extra="X-Ticketgate-Loop: desk-1\nX-Ticketgate-Loop: desk-2")
    assert found.loop_marks == ("desk-1", "desk-2")
    assert found.kind == "human"
    assert not found.auto_respond_ok
