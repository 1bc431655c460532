"""Tests of wrong command lines: one line on stderr, exit 64, empty stdout (interfaces.md 2)."""

from __future__ import annotations

import pytest

WRONG = (
    (("ticket", "reply", "1"), "missing option --text", "ticket reply"),
    (("ticket", "reply", "abc", "--text", "x"), "N: 'abc' is not a number", "ticket reply"),
    (("ticket", "show", "9" * 30), f"N: '{'9' * 30}' is too large", "ticket show"),
    (("ticket", "show", "1", "2"), "unexpected argument '2'", "ticket show"),
    (("ticket", "show", "1", "2", "3"), "unexpected arguments '2', '3'", "ticket show"),
    (("outbox", "cancel"), "missing argument ID...", "outbox cancel"),
    (("mail", "list", "--limit", "0"), "--limit: '0' is less than 1", "mail list"),
    (("mail", "list", "--nope"), "unknown option --nope", "mail list"),
    (("mail", "list", "--limi", "3"), "unknown option --limi; did you mean --limit?", "mail list"),
    (("mail", "list", "--limit"), "option --limit needs a value", "mail list"),
    (("mail", "list", "--json=yes"), "option --json takes no value", "mail list"),
    (("mail", "list", "-\x1bz"), "unknown option -\\x1b", "mail list"),
    (("replay", "--clock", "moon", "x"), "--clock must be now or date, not 'moon'", "replay"),
    (
        ("user", "set", "a@b.example", "--notify", "new"),
        "--notify must be new, reply or failure, each with =on or =off, not 'new'",
        "user set",
    ),
    (("nope",), "unknown command 'nope'", ""),
    (("ticke",), "unknown command 'ticke'; did you mean ticket?", ""),
    (("ticket", "lst"), "unknown command 'lst'; did you mean list or set?", "ticket"),
    (("--nope",), "unknown option --nope", ""),
    (("ticket", "create"), "missing option --subject or --thread", "ticket create"),
    (("ticket", "set", "1"), "nothing to set: give an option", "ticket set"),
    (("pipeline", "set", "Support"), "nothing to set: give an option", "pipeline set"),
    (("channel", "set", "a@b.example"), "nothing to set: give an option", "channel set"),
    (("contact", "set", "a@b.example"), "nothing to set: give an option", "contact set"),
    (("user", "set", "a@b.example"), "nothing to set: give an option", "user set"),
    (("workflow", "set", "Support", "New"), "nothing to set: give an option", "workflow set"),
)


@pytest.mark.parametrize(
    ("arguments", "problem", "command"),
    WRONG,
    ids=[" ".join(each[0]).replace("\x1b", "ESC") for each in WRONG],
)
def test_a_wrong_command_line_is_reported_in_one_line(console, arguments, problem, command):
    """One line on stderr names the mistake and where help is; the exit code is 64."""
    result = console(*arguments)
    where = " ".join(["ticketgate", *command.split(), "--help"])
    assert result.err == f"ticketgate: {problem} (see {where})\n"
    assert (result.code, result.text) == (64, "")


def test_a_group_without_a_command_shows_its_page(console):
    """`ticketgate ticket` alone shows its help page, with exit 64."""
    bare, asked = console("ticket"), console("ticket", "--help")
    assert (bare.code, asked.code) == (64, 0)
    assert "reply" in asked.text
    assert bare.text.strip() == asked.text.strip()


def test_single_commands_have_no_completion_options(console):
    """Help pages of groups and commands have no shell-completion options."""
    for arguments in (("ticket",), ("mail", "list"), ("replay",), ("pipeline", "status")):
        page = console(*arguments, "--help")
        assert page.code == 0
        assert "completion" not in page.text
    assert console("replay", "--show-completion").code == 64
