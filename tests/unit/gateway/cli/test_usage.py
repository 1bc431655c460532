"""Command lines that ask for something that cannot be: one line on stderr, exit 64, nothing on
stdout (interfaces.md 2).
"""

from __future__ import annotations

import pytest

WRONG = (
    (("ticket", "reply", "1"), "ticket reply needs --text; see ticketgate ticket reply --help"),
    (
        ("ticket", "reply", "abc", "--text", "x"),
        "ticket reply N: 'abc' is no number; see ticketgate ticket reply --help",
    ),
    (
        ("ticket", "show", "9" * 30),
        f"ticket show N: '{'9' * 30}' is more than {2**63 - 1}; see ticketgate ticket show --help",
    ),
    (("ticket", "show", "1", "2"), "there is no place for 2; see ticketgate ticket show --help"),
    (("outbox", "cancel"), "outbox cancel needs ID...; see ticketgate outbox cancel --help"),
    (
        ("mail", "list", "--limit", "0"),
        "mail list --limit: '0' is less than 1; see ticketgate mail list --help",
    ),
    (("mail", "list", "--nope"), "mail list has no option --nope; see ticketgate mail list --help"),
    (
        ("mail", "list", "--limi", "3"),
        "mail list has no option --limi, but --limit; see ticketgate mail list --help",
    ),
    (("mail", "list", "--limit"), "--limit needs a value; see ticketgate --help"),
    (("mail", "list", "--json=yes"), "--json takes no value; see ticketgate --help"),
    (("mail", "list", "-\x1bz"), "mail list has no option -\\x1b; see ticketgate mail list --help"),
    (
        ("replay", "--clock", "moon", "x.eml"),
        "--clock is now or date; see ticketgate replay --help",
    ),
    (("nope",), "there is no command 'nope'; see ticketgate --help"),
    (("ticket", "nope"), "there is no command 'nope', but 'note'; see ticketgate ticket --help"),
    (("--nope",), "ticketgate has no option --nope; see ticketgate --help"),
)


@pytest.mark.parametrize(
    ("arguments", "line"), WRONG, ids=[" ".join(each).replace("\x1b", "ESC") for each, _ in WRONG]
)
def test_a_wrong_command_line_is_told_in_one_line(cli, arguments, line):
    """What is wrong and where help is, on one line of stderr; the exit code is 64."""
    result = cli(*arguments)
    assert (result.code, result.text, result.err) == (64, "", f"ticketgate: {line}\n")


def test_a_group_without_a_command_shows_its_page(cli):
    """`ticketgate ticket` alone shows what there is, as --help does, and is 64."""
    bare, asked = cli("ticket"), cli("ticket", "--help")
    assert (bare.code, asked.code) == (64, 0)
    assert "reply" in asked.text
    assert bare.text.strip() == asked.text.strip()


def test_completion_of_shells_is_no_matter_of_single_commands(cli):
    """Pages of groups and commands show their own options only."""
    for arguments in (("ticket",), ("mail", "list"), ("replay",), ("pipeline", "status")):
        page = cli(*arguments, "--help")
        assert page.code == 0
        assert "completion" not in page.text
    assert cli("replay", "--show-completion").code == 64
