"""Tests that no command prints what strangers or colleagues wrote raw, as text or as JSON."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])
BAD = "x\x1b]0;owned\x07\x9b31m\u202egpj\u2066\u200f\x85y"
NAME = "x\u202egpj\u2066\u200fy"  # names have no controls, but may turn the order of letters
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MAIL = f"""From: "{BAD}" <ann@customer.example>
To: support@localhost
Subject: {BAD}
Message-ID: <1@mail.example>
Date: Sun, 22 Nov 2026 09:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8

{BAD}
--b
Content-Type: application/octet-stream; name="{BAD}"
Content-Disposition: attachment; filename="{BAD}"

{BAD}
--b--
"""
ACTION = json.dumps({"id": "n", "kind": "add_note", "text": BAD})
COMMANDS = [
    "ticket list",
    "ticket show 1",
    "ticket list --search owned",
    "ticket move 1 --status Closed",
    "ticket merge 2 --into 1",
    "ticket reply 1 --text x",
    "mail list",
    "mail show 1",
    "mail explain 1",
    "mail retry 1",
    "contact list",
    "contact show ann@customer.example",
    "channel list",
    "pipeline list",
    "pipeline show Name",
    "pipeline export",
    "pipeline status delete Name Name",
    "workflow list",
    "workflow show Support New",
    "workflow export",
    "workflow runs Support New",
    "workflow test Support New --ticket 1",
    "template list",
    "template show Name",
    "template show Name --ticket 1",
    "user list",
    "outbox list",
    "outbox show 1",
    "inspect bad.eml",
    "replay bad.eml",
    "config show",
    "config check",
    "agenda run",
    "db check",
    "ticket show Bad",
    "ticket create --subject Bad --pipeline Bad2",
]


@pytest.fixture
def hostile(cli, tmp_path):
    """Put the sequence into everything that people inside and outside can write."""
    (tmp_path / "bad.eml").write_text(MAIL)
    assert cli("replay", "bad.eml").code == 0
    cli.setting("account__name", BAD)
    for arguments in (
        ("pipeline", "add", NAME, "--status", f"{NAME}:open", "--status", "Closed:closed"),
        ("user", "add", "olga@ours.example", "--name", NAME),
        ("channel", "add", "sales@localhost", "--name", NAME),
        ("template", "set", NAME, "--subject", "x", "--text", BAD),
        ("ticket", "create", "--subject", NAME),
        ("ticket", "note", 1, "--text", BAD),
        ("ticket", "reply", 1, "--text", BAD),
        ("workflow", "add", "Support", "New", "--after", "start", "--json-action", ACTION),
        ("workflow", "comment", "Support", "New", "n", "--text", BAD),
    ):
        done = cli(*arguments)
        assert done.code == 0, (arguments, done.err)
    return cli


def test_no_command_prints_it_raw(hostile):
    """No output of any command holds a control, C1 or bidi character, on stdout or stderr."""
    for line in COMMANDS:
        words = [{"Bad": BAD, "Name": NAME}.get(word, word) for word in line.split()]
        for more in ((), ("--json",)):
            result = hostile(*words, *more)
            printed = result.out.decode("utf-8", "surrogateescape") + result.err
            assert not RAW.search(printed), (line, RAW.search(printed))
