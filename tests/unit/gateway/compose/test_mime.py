"""Tests of composed mail: its form on the wire, and that reading it returns all of it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from email.utils import collapse_rfc2231_value, getaddresses
from time import process_time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.model.message import Address
from gateway.compose.mime import File, MimeMail, compose
from gateway.errors import Invalid, Rejected
from gateway.reading.parse import read

ANN = Address("Ann Example", "ann@example.org")
DESK = Address("Help Desk", "help@desk.example")
PLAIN = MimeMail(
    sender=DESK,
    to=(ANN,),
    cc=(),
    subject="A question",
    text="Yes.\n",
    html=None,
    message_id="tg.abc.1.mac@desk.example",
    date=datetime(2026, 11, 25, 9, 15, tzinfo=UTC),
    in_reply_to=None,
    references=(),
    reply_to=None,
)
WHOLE = replace(
    PLAIN,
    cc=(Address("", "cat@example.com"),),
    html="<p>Yes.</p>",
    in_reply_to="b@x",
    references=("a@x", "b@x"),
    reply_to="help+12.mac@desk.example",
    automatic="auto-replied",
    loop_mark="help@desk.example",
)
BASE = ["From", "To", "Subject", "Date", "Message-ID"]
BODY = ["MIME-Version", "Content-Type", "Content-Transfer-Encoding"]
BREAKS = "\r\n\0\x0b\x0c\x85\u2028\u2029\ud800\udfff"
LINE = st.text(st.characters(codec="utf-8", exclude_characters=BREAKS), max_size=120)
WORDS = st.lists(
    st.one_of(
        LINE,
        st.sampled_from([" ", "=?utf-8?q?x?=", '"', "\\", "(a)", "a@b", ",", "Größe", "x" * 80]),
    ),
    max_size=6,
).map("".join)
LOCAL = st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,30}", fullmatch=True)
ADDRESS = st.builds(
    lambda name, local: Address(name, f"{local}@example.org"),
    WORDS,
    LOCAL.filter(lambda local: local.strip(".")),
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=300)
FILES = st.builds(
    File,
    WORDS,
    st.sampled_from(["text/plain", "image/png", "message/rfc822", "multipart/mixed", "odd", ""]),
    st.binary(max_size=200),
)


def parsed(mail: bytes) -> Message:
    """Return the mail read by the standard library; assert what every mail must have."""
    assert mail.isascii()
    assert b"\0" not in mail
    assert mail.endswith(b"\r\n")
    assert mail.count(b"\r\n") == mail.count(b"\r") == mail.count(b"\n")
    assert max(map(len, mail.split(b"\r\n"))) <= 998
    return message_from_bytes(mail)


def header(message: Message, name: str) -> str:
    """Return a header without its folds and encoded words."""
    return str(make_header(decode_header(str(message[name]).replace("\r\n", "").replace("\n", ""))))


def people(message: Message, name: str) -> list[tuple[str, str]]:
    """Return the mailboxes of a header, names decoded."""
    unfolded = str(message[name]).replace("\r\n", "").replace("\n", "")
    return [
        (str(make_header(decode_header(each))), address)
        for each, address in getaddresses([unfolded])
    ]


def text_of(part: Message) -> str:
    """Return the text of a part with LF line ends."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


def lines(text: str) -> str:
    """Return the text as it must be read back: no NUL, LF line ends, no final one."""
    return text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def test_a_plain_mail_has_these_headers_only() -> None:
    """A person's plain mail has one text part and no needless header."""
    message = parsed(compose(PLAIN))
    assert message.keys() == BASE + BODY
    assert message["From"] == "Help Desk <help@desk.example>"
    assert message["To"] == "Ann Example <ann@example.org>"
    assert message["Date"] == "Wed, 25 Nov 2026 09:15:00 +0000"
    assert message["Message-ID"] == "<tg.abc.1.mac@desk.example>"
    assert message["Content-Type"] == "text/plain; charset=utf-8"
    assert text_of(message) == "Yes.\n"


def test_an_automatic_mail_says_so() -> None:
    """RFC 3834: automatic mail alone has its marks and the loop header; threads have theirs."""
    message = parsed(compose(WHOLE))
    assert message.keys() == [
        *(
            "From",
            "To",
            "Cc",
            "Subject",
            "Date",
            "Message-ID",
            "In-Reply-To",
            "References",
            "Reply-To",
            "Auto-Submitted",
        ),
        *("X-Auto-Response-Suppress", "X-Ticketgate-Loop", "MIME-Version", "Content-Type"),
    ]
    assert message["References"] == "<a@x> <b@x>"
    assert message["Reply-To"] == "help+12.mac@desk.example"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["X-Ticketgate-Loop"] == "help@desk.example"
    assert "X-Ticketgate-Loop" not in parsed(compose(replace(WHOLE, automatic="")))


def test_recipients_may_be_hidden() -> None:
    """RFC 5322 3.4: without To and Cc recipients are undisclosed; Cc alone needs no To."""
    assert parsed(compose(replace(PLAIN, to=())))["To"] == "undisclosed-recipients:;"
    assert parsed(compose(replace(PLAIN, to=(), cc=(ANN,)))).keys() == [
        "From",
        "Cc",
        *BASE[2:],
        *BODY,
    ]


def test_the_parts_are_nested_as_far_as_needed() -> None:
    """Text and HTML are alternatives, files are beside them; HTML may be alone."""
    file = File("a.pdf", "application/pdf", b"%PDF")

    def shape(letter: MimeMail) -> list[str]:
        return [part.get_content_type() for part in parsed(compose(letter)).walk()]

    assert shape(WHOLE) == ["multipart/alternative", "text/plain", "text/html"]
    assert shape(replace(PLAIN, files=(file,))) == [
        "multipart/mixed",
        "text/plain",
        "application/pdf",
    ]
    assert shape(replace(WHOLE, files=(file,))) == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "application/pdf",
    ]
    assert shape(replace(WHOLE, text="\n")) == ["text/html"]
    assert shape(replace(PLAIN, text="")) == ["text/plain"]


@pytest.mark.parametrize("bad", BREAKS)
@pytest.mark.parametrize(
    "place",
    [
        "name",
        "address",
        "subject",
        "message_id",
        "in_reply_to",
        "references",
        "reply_to",
        "loop",
        "file",
        "type",
    ],
)
def test_no_value_can_start_a_header_line(place: str, bad: str) -> None:
    """reliability.md 25: a line end in any header value is refused, without showing the value."""
    value = f"a{bad}Bcc:x@example.org"
    given_values: dict[str, MimeMail] = {
        "name": replace(WHOLE, cc=(Address(value, "a@example.org"),)),
        "address": replace(WHOLE, to=(Address("", value),)),
        "subject": replace(WHOLE, subject=value),
        "message_id": replace(WHOLE, message_id=value),
        "in_reply_to": replace(WHOLE, in_reply_to=value),
        "references": replace(WHOLE, references=("a@x", value)),
        "reply_to": replace(WHOLE, reply_to=value),
        "loop": replace(WHOLE, loop_mark=value),
        "file": replace(WHOLE, files=(File(value, "text/plain", b""),)),
        "type": replace(WHOLE, files=(File("a", value, b""),)),
    }
    with pytest.raises(Rejected) as caught:
        compose(given_values[place])
    assert "Bcc" not in caught.value.message


@pytest.mark.parametrize(
    "address",
    [
        *(
            None,
            "",
            "ann",
            "@example.org",
            "ann@",
            "änn@example.org",
            "a b@example.org",
            "a,b@example.org",
            "ann@exa mple.org",
            "<ann@example.org>",
        ),
        *(
            "ann@-.org",
            "ann@a..b",
            f"{'a' * 300}@example.org",
            'ann"@example.org',
            "..@example.org",
            "ann@" + "ü" * 120,
            "a@b@example.org",
        ),
    ],
)
def test_an_address_that_cannot_be_written_is_refused(address: str | None) -> None:
    """Only an ASCII local part and a domain of the DNS are accepted."""
    with pytest.raises(Invalid, match=r"^invalid address in To: ") as caught:
        compose(replace(PLAIN, to=(Address("Ann", address),)))
    assert caught.value.field == "to"
    assert not address or address not in caught.value.message


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("Ann.O'Hara+x@Example.ORG", "Ann.O'Hara+x@Example.ORG"),
        ('"a b"@example.org', '"a b"@example.org'),
        ("a..b.@example.org", '"a..b."@example.org'),
        ("ann@[192.0.2.1]", "ann@[192.0.2.1]"),
        ("ann@example.org.", "ann@example.org"),
    ],
)
def test_an_address_is_written_as_servers_know_it(address: str, written: str) -> None:
    """Domains become A-labels (RFC 5891), local parts are quoted where needed."""
    assert parsed(compose(replace(PLAIN, to=(Address("", address),))))["To"] == written


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Ann Example", "Ann Example <ann@example.org>"),
        ("Example, Ann", '"Example, Ann" <ann@example.org>'),
        ('Ann "A" \\', '"Ann \\"A\\" \\\\" <ann@example.org>'),
        ("Änn", "=?utf-8?b?w4Rubg==?= <ann@example.org>"),
        ("=?utf-8?q?x?=", "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?= <ann@example.org>"),
        ("  ", "ann@example.org"),
    ],
)
def test_a_name_is_plain_quoted_or_encoded(name: str, written: str) -> None:
    """Names stay readable where possible; text that looks like an encoded word is encoded."""
    assert parsed(compose(replace(PLAIN, to=(Address(name, "ann@example.org"),))))["To"] == written


def test_only_the_odd_words_of_a_subject_are_encoded() -> None:
    """A subject's tag stays readable for programs that decode nothing."""
    subject = parsed(
        compose(replace(PLAIN, subject="Re: Größe der Lieferung [#12.abcdefghijklmnop]"))
    )["Subject"]
    assert subject == "Re: =?utf-8?b?R3LDtsOfZQ==?= der Lieferung [#12.abcdefghijklmnop]"


def test_ids_that_cannot_be_written_are_left_out_but_ours_must_be_right() -> None:
    """An invalid foreign id is dropped and does not stop the answer; ours must be valid."""
    message = parsed(compose(replace(PLAIN, in_reply_to="a b", references=("ä@x", "<a@x>", "b@x"))))
    assert message.keys() == [*BASE, "References", *BODY]
    assert message["References"] == "<b@x>"
    with pytest.raises(Invalid, match="invalid Message-ID"):
        compose(replace(PLAIN, message_id="a b"))


def test_long_references_are_folded() -> None:
    """Each id may be on a line of its own."""
    ids = tuple(f"{number}{'x' * 240}@y" for number in range(10, 30))
    mail = compose(replace(PLAIN, references=ids))
    assert max(map(len, mail.split(b"\r\n"))) < 260
    assert str(parsed(mail)["References"]).split() == [f"<{each}>" for each in ids]


@given(WORDS, ADDRESS, st.lists(ADDRESS, max_size=4), st.lists(ADDRESS, max_size=3))
@example("a  b", Address("a  b", "a@example.org"), [Address(" ", ".a..b@example.org")], [])
@example(" \t ", Address("\t", "a@example.org"), [], [])
@example("x" * 5000, Address("ü" * 2000, "a@example.org"), [], [])
def test_any_header_comes_back_as_it_was(
    subject: str, sender: Address, to: list[Address], cc: list[Address]
) -> None:
    """Any subject and name is read back, and no other header appears."""
    message = parsed(
        compose(replace(PLAIN, subject=subject, sender=sender, to=tuple(to), cc=tuple(cc)))
    )
    expected = [
        "From",
        *(["To"] if to or not cc else []),
        *(["Cc"] if cc else []),
        *BASE[2:],
        *BODY,
    ]
    assert message.keys() == expected
    assert message.defects == []
    assert header(message, "Subject") == subject
    for name, given_people in (("From", [sender]), ("To", to), ("Cc", cc)):
        if given_people:
            assert [written.replace('"', "") for _, written in people(message, name)] == [
                each.address for each in given_people
            ]
            assert [shown for shown, _ in people(message, name)] == [
                each.name.strip() for each in given_people
            ]


@given(
    st.text(st.characters(codec=None), max_size=300),
    st.one_of(st.none(), TEXT),
    st.lists(FILES, max_size=2),
)
@example("x \n.\n\n.\nFrom x\n--\n\t \n= =\n" + "y" * 2000, None, [])
@example("ä" * 3000 + "\r\rb", "ö" * 2000, [])
@example("\r\n", None, [])
def test_any_body_and_file_comes_back_as_it_was(
    text: str, html: str | None, files: list[File]
) -> None:
    """Texts are read back but for NUL, surrogates and line ends; files exactly, with names."""
    message = parsed(compose(replace(PLAIN, text=text, html=html, files=tuple(files))))
    parts = [part for part in message.walk() if not part.is_multipart()]
    attached = parts[len(parts) - len(files) :]
    texts = parts[: len(parts) - len(files)]
    expected = ([text] if text.strip() or html is None else []) + (
        [html] if html is not None else []
    )
    shown = [each.encode("utf-8", "replace").decode() for each in expected]
    assert [text_of(part).removesuffix("\n") for part in texts] == [lines(each) for each in shown]
    assert [part.get_payload(decode=True) for part in attached] == [file.data for file in files]
    names = [
        collapse_rfc2231_value(part.get_param("filename", header="content-disposition"))
        for part in attached
    ]
    assert names == [file.filename if file.filename.strip() else "attachment" for file in files]
    assert all(
        part.get_content_type() in {"text/plain", "image/png", "application/octet-stream"}
        for part in attached
    )


@given(
    WORDS,
    st.lists(
        st.builds(
            Address,
            WORDS,
            st.from_regex(r"[a-z]{1,9}\+?[0-9]{1,9}@[a-z]{2,9}\.example", fullmatch=True),
        ),
        min_size=1,
        max_size=3,
    ),
    TEXT,
)
def test_our_own_reader_understands_it(subject: str, to: list[Address], text: str) -> None:
    """Our reader finds the same recipients, ids and files, and no human author."""
    message = read(
        compose(
            replace(
                WHOLE,
                subject=subject,
                to=tuple(to),
                text=text,
                html=None,
                files=(File("ä.txt", "text/plain", b"x"),),
            )
        )
    )
    assert message.message_id == WHOLE.message_id
    assert message.references == WHOLE.references
    assert message.loop_marks == ("help@desk.example",)
    assert [each.key for each in message.to] == [each.key for each in to]
    assert [each.filename for each in message.attachments] == ["ä.txt"]
    assert message.kind != "human"


def test_a_clean_original_is_attached_unchanged() -> None:
    """RFC 2046 5.2.1: a 7-bit mail is attached unchanged, also without a final line break."""
    for original in (
        compose(WHOLE),
        b"Subject: x\r\n\r\n--m=_\r\nno end",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nopen",
    ):
        mail = compose(replace(PLAIN, original=original))
        assert original in mail
        last = parsed(mail).get_payload()
        assert isinstance(last, list)
        assert [part.get_content_type() for part in last] == ["text/plain", "message/rfc822"]
        assert last[1].get_filename() == "original.eml"
    assert b"Subject: x\r\n\r\nhi\r\n" in compose(replace(PLAIN, original=b"Subject: x\n\nhi\n"))


@pytest.mark.parametrize(
    "original",
    [
        "Subject: ä\r\n\r\n".encode(),
        b"A: b\r\n\r\n" + b"x" * 999 + b"\r\n",
        b"A: b\r\n\r\n\0\r\n",
        b"A: b\r\n\r\nx\ny\r\n",
        b"A: b\r\n\r\nx\ry\r\n",
    ],
    ids=["8-bit", "long", "NUL", "bare LF", "bare CR"],
)
def test_another_original_is_a_file(original: bytes) -> None:
    """A mail that some server would change or refuse is attached as base64 data."""
    parts: Any = parsed(compose(replace(PLAIN, original=original))).get_payload()
    assert (parts[1].get_content_type(), parts[1].get_filename()) == (
        "application/octet-stream",
        "original.eml",
    )
    assert parts[1].get_payload(decode=True) == original


def test_an_attached_mail_cannot_end_our_parts() -> None:
    """An attached mail that contains our boundary makes us choose another one."""
    first = compose(replace(WHOLE, files=(File("a", "text/plain", b"x"),)))
    second = parsed(compose(replace(WHOLE, original=first)))
    parts: Any = second.get_payload()
    assert [part.get_content_type() for part in parts] == [
        "multipart/alternative",
        "message/rfc822",
    ]
    assert second.get_boundary().encode() not in first  # type: ignore[union-attr]
    assert parts[1].get_payload()[0].as_bytes().count(b"Content-Disposition") == 1


def test_large_files_take_a_moment_only() -> None:
    """25 MiB are composed within two seconds of processor time."""
    data = random.Random(1).randbytes(25 * 2**20)
    begun = process_time()
    mail = compose(replace(PLAIN, files=(File("a.bin", "application/zip", data),)))
    assert process_time() - begun < 2
    assert len(mail) < len(data) * 1.4
