"""Tests of `inspect`: one line of JSON for each file and exit 0, whatever the file is."""

from __future__ import annotations

import io
import json

import pytest

from gateway.cli.inspect import run

KEYS = {
    "file", "message_id", "in_reply_to", "references", "date", "from", "sender", "reply_to", "to",
    "cc", "subject", "text", "html", "reply_text", "quoted_text", "attachments", "kind",
    "evidence", "auto_respond_ok", "forward", "bounce", "auth", "defects",
}  # fmt: skip
MAIL = (
    "From: Ada <ada@mail.example>\nTo: desk@help.example\nSubject: "
    "=?utf-8?Q?gr=C3=BC=C3=9Fe?=\nDate: Mon, 2 Mar 2026 10:00:00 +0100\nMessage-ID: "
    "<m1@mail.example>\n"
    "In-Reply-To: <m0@mail.example>\nReferences: <r@mail.example> "
    "<m0@mail.example>\nAuthentication-Results: mx.help.example; spf=pass; dmarc=pass\n"
    "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n<p "
    "onclick=x>Hi</p>\n--b\nContent-Type: text/csv; name=a.csv\n\n1,2\n--b--\n"
)


def inspect(*files, trusted=()):
    out = io.StringIO()
    code = run([str(file) for file in files], as_json=True, trusted=trusted, out=out)
    assert code == 0
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_keys_are_those_of_the_interface(tmp_path):
    """interfaces.md 3: every key, ids without brackets, sanitised HTML."""
    (tmp_path / "a.eml").write_text(MAIL)
    (row,) = inspect(tmp_path / "a.eml", trusted=["mx.help.example"])
    assert row.keys() >= KEYS
    assert (row["message_id"], row["in_reply_to"], row["references"]) == (
        "m1@mail.example",
        ["m0@mail.example"],
        ["r@mail.example", "m0@mail.example"],
    )
    assert row["from"] == {"name": "Ada", "address": "ada@mail.example"}
    assert (row["subject"], row["text"], row["html"], row["kind"]) == (
        "grüße",
        "Hi",
        "<p>Hi</p>",
        "human",
    )
    assert row["attachments"] == [
        {
            "filename": "a.csv",
            "content_type": "text/csv",
            "size": 3,
            "sha256": row["attachments"][0]["sha256"],
            "inline": False,
            "content_id": None,
        }
    ]
    assert row["auth"] == {"spf": "pass", "dkim": None, "dmarc": "pass", "verdict": "pass"}


def test_an_untrusted_header_gives_no_verdict(tmp_path):
    """Results of an unknown server give no verdict."""
    (tmp_path / "a.eml").write_text(MAIL)
    assert inspect(tmp_path / "a.eml")[0]["auth"]["verdict"] == "none"


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"\xff\xfe" * 50, b"no header\n", b"From: a@b.example"]
)
def test_any_content_gives_a_line(tmp_path, content):
    """Empty, binary or text: one line each, with its defects."""
    (tmp_path / "odd.eml").write_bytes(content)
    (row,) = inspect(tmp_path / "odd.eml")
    assert row["defects"]


def test_a_missing_file_and_a_folder_give_lines(tmp_path):
    """A file that cannot be opened is a defect in its line, not an error of the command."""
    (tmp_path / "good.eml").write_text(MAIL)
    rows = inspect(tmp_path / "gone.eml", tmp_path, tmp_path / "good.eml")
    assert [bool(row["message_id"]) for row in rows] == [False, False, True]
    assert "cannot be opened" in rows[0]["defects"][0]
    assert rows[0]["file"].endswith("gone.eml")


def test_many_files_keep_their_order(tmp_path):
    """One line for each file, in the order given, though read in parallel."""
    files = []
    for index in range(60):
        files.append(tmp_path / f"{index:03}.eml")
        files[-1].write_text(MAIL.replace("m1@", f"m{index}@"))
    assert [row["message_id"] for row in inspect(*files)] == [
        f"m{index}@mail.example" for index in range(60)
    ]


def test_a_page_for_people(tmp_path):
    """Without --json: the main facts, then the text."""
    (tmp_path / "a.eml").write_text(MAIL)
    out = io.StringIO()
    assert run([str(tmp_path / "a.eml")], as_json=False, out=out) == 0
    assert "Subject   grüße" in out.getvalue()
    assert "a.csv" in out.getvalue()
