"""Tests of mail in files: order, separators, quoting, memory, unreadable files."""

from __future__ import annotations

import mailbox
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ingress import mail_files
from gateway.ingress.mail_files import FoundMail, Unreadable, iter_paths

ONE = b"From: a@client.example\nSubject: one\n\nhello\n"
TWO = b"From: b@client.example\nSubject: two\n\nbye\n"
LINE = b"From a@client.example Sun Nov 22 10:00:00 2026\n"


def names(found, root):
    """Return the labels of the found mails, relative to a folder."""
    return [each.file.removeprefix(f"{root}/") for each in found]


def test_paths_in_the_order_given(tmp_path):
    """Arguments keep their order, folders go by file name; hidden files are left out."""
    for name, content in {
        "b/2.eml": TWO, "b/1.EML": ONE, "b/.hidden.eml": ONE, "b/manifest.jsonl": b"{}",
        "b/notes.txt": b"a: b", "b/sub/3.eml": ONE, "b/4": TWO, "b/README": b"Read me\n",
        "z.eml": ONE, "a.msg": TWO,
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = list(iter_paths([tmp_path / "z.eml", tmp_path / "b", str(tmp_path / "a.msg")]))
    assert names(found, tmp_path) == ["z.eml", "b/1.EML", "b/2.eml", "b/4", "b/sub/3.eml", "a.msg"]
    assert [each.raw for each in found] == [ONE, ONE, TWO, TWO, ONE, TWO]


def test_maildir(tmp_path):
    """Both parts of a Maildir are read by file name; tmp is left out."""
    for part in ("cur", "new", "tmp"):
        (tmp_path / part).mkdir()
    (tmp_path / "cur" / "2.x:2,S").write_bytes(TWO)
    (tmp_path / "new" / "1.x").write_bytes(ONE)
    (tmp_path / "new" / "3.x").write_bytes(ONE)
    (tmp_path / "tmp" / "0.x").write_bytes(ONE)
    (tmp_path / "dovecot.index").write_bytes(ONE)
    assert names(iter_paths([tmp_path]), tmp_path) == ["new/1.x", "cur/2.x:2,S", "new/3.x"]


def test_mbox(tmp_path):
    """The mails of an mbox are numbered from 1, without separators and quoting."""
    quoted = b"Subject: q\n\n>From here\n>>From there\n> From not\n"
    path = tmp_path / "old.mbox"
    path.write_bytes(LINE + ONE + b"\n" + LINE + quoted + b"\n" + LINE + TWO)
    found = list(iter_paths([path]))
    assert names(found, tmp_path) == ["old.mbox:1", "old.mbox:2", "old.mbox:3"]
    assert [each.raw for each in found] == [
        ONE,
        b"Subject: q\n\nFrom here\n>From there\n> From not\n",
        TWO,
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"From here on it burns.\n\nFrom 10:30 on too.\n",
        b"\nFrom a@client.example Sun Nov 22 10:00:00 2026\n\tno header\n",
        b"x\nFrom: me\n",
    ],
)
def test_text_that_begins_with_from_does_not_split_a_mail(tmp_path, text):
    """A separator follows an empty line and precedes a header."""
    path = tmp_path / "mbox"
    path.write_bytes(LINE + ONE + text + b"\n" + LINE + TWO)
    assert [each.raw for each in iter_paths([path])] == [ONE + text, TWO]


def test_mbox_with_cr_lf(tmp_path):
    """CR LF line ends are kept."""
    path = tmp_path / "mbox"
    path.write_bytes((LINE + ONE + b"\n" + LINE + TWO + b"\n").replace(b"\n", b"\r\n"))
    assert [each.raw for each in iter_paths([path])] == [
        ONE.replace(b"\n", b"\r\n"),
        TWO.replace(b"\n", b"\r\n"),
    ]


@settings(max_examples=60, deadline=None)
@given(
    bodies=st.lists(
        st.lists(
            st.sampled_from(
                [
                    "",
                    "x",
                    "From me",
                    "From a@b.example Sun Nov 22 10:00:00 2026",
                    ">From",
                    "Subject: y",
                ]
            ),
            max_size=8,
        ),
        max_size=6,
    )
)
def test_an_mbox_of_the_standard_library_is_read(tmp_path_factory, bodies):
    """An mbox written by Python's module gives back every mail."""
    folder = tmp_path_factory.mktemp("mbox")
    written = mailbox.mbox(folder / "mbox", create=True)
    texts = [
        "Subject: x\n\n" + "".join(line + "\n" for line in body if not line.startswith(">"))
        for body in bodies
    ]
    for text in texts:
        written.add(text.encode())
    written.close()
    assert [each.raw.decode() for each in iter_paths([folder / "mbox"])] == texts


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_an_mbox_of_any_block_size(tmp_path, monkeypatch, block):
    """The size of the blocks that are read makes no difference."""
    path = tmp_path / "mbox"
    path.write_bytes(b"".join(LINE + ONE * 3 + b"\n" + LINE + TWO + b"\n" for _ in range(30)))
    whole = [each.raw for each in iter_paths([path])]
    assert whole == [ONE * 3, TWO] * 30
    monkeypatch.setattr(mail_files, "_BLOCK", block)
    assert [each.raw for each in iter_paths([path])] == whole


def test_memory_is_that_of_one_mail(tmp_path):
    """An mbox of 64 MB is read with a few megabytes."""
    path = tmp_path / "mbox"
    mail = LINE + ONE + b"x" * 70 * 1000 + b"\n\n"
    with path.open("wb") as stream:
        for _ in range(900):
            stream.write(mail)
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_paths([path])) == 900
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_unreadable_files_are_reported_in_order(tmp_path, monkeypatch):
    """Missing, wrong and too large files are reported in order; the rest is read."""
    monkeypatch.setattr(mail_files, "MAX_MAIL_BYTES", 1000)
    monkeypatch.setattr(mail_files, "_BLOCK", 4096)
    (tmp_path / "no.mbox").write_bytes(b"hello")
    (tmp_path / "large.eml").write_bytes(b"x" * 1001)
    (tmp_path / "m.mbox").write_bytes(
        LINE + ONE + b"\n" + LINE + ONE + b"x" * 50_000 + b"\n\n" + LINE + TWO
    )
    (tmp_path / "empty.mbox").write_bytes(b"")
    (tmp_path / "z.eml").write_bytes(ONE)
    (tmp_path / "dangling.eml").symlink_to(tmp_path / "nowhere")
    found = list(iter_paths([tmp_path / "gone.eml", tmp_path]))
    assert [
        (type(each), name) for each, name in zip(found, names(found, tmp_path), strict=True)
    ] == [
        (Unreadable, "gone.eml"),
        (Unreadable, "dangling.eml"),
        (Unreadable, "large.eml"),
        (FoundMail, "m.mbox:1"),
        (Unreadable, "m.mbox:2"),
        (FoundMail, "m.mbox:3"),
        (Unreadable, "no.mbox"),
        (FoundMail, "z.eml"),
    ]
    assert found[5].raw == TWO
    assert found[0].reason == "there is no such file"


def test_a_read_error_is_reported(tmp_path, monkeypatch):
    """A read error is reported with its reason."""
    (tmp_path / "cur").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "cur" / "1").mkdir()
    found = list(iter_paths([tmp_path]))
    assert found == [Unreadable(f"{tmp_path}/cur/1", "is a directory")]
