"""Tests of typed names, subjects, addresses: one line, not empty (reliability.md 5, 25)."""

from __future__ import annotations

import os

import pytest

BREAKS = ("\r\n", "\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029")


def refused(result, words):
    """Check for exit 65, empty stdout, and one line on stderr with these words."""
    assert (result.code, result.text, result.err.count("\n")) == (65, "", 1), result
    assert words in result.err


@pytest.mark.parametrize("blank", ["", "  "])
def test_names_and_subjects_are_not_empty(cli, ticket, blank):
    """Hand-made tickets need a subject, users and channels a name; old values stay."""
    number = ticket("A printer")
    cli.json("user", "add", "olga@ours.example", "--name", "Olga")
    for arguments, what in (
        (("ticket", "create", "--subject", blank), "subject"),
        (("ticket", "set", number, "--subject", blank), "subject"),
        (("user", "add", "paul@ours.example", "--name", blank), "name"),
        (("user", "set", "olga@ours.example", "--name", blank), "name"),
        (("channel", "add", "sales@localhost", "--name", blank), "name"),
        (("channel", "set", "support@localhost", "--name", blank), "name"),
        (("pipeline", "add", blank, "--status", "New:open", "--status", "Done:closed"), "name"),
    ):
        refused(cli(*arguments), f"needs a {what}")
    assert [each["subject"] for each in cli.json("ticket", "list")["tickets"]] == ["A printer"]
    assert [each["name"] for each in cli.json("user", "list")["users"]] == ["Olga"]
    assert [each["address"] for each in cli.json("channel", "list")["channels"]] == [
        "support@localhost"
    ]


def test_mail_without_a_subject_is_mail(cli):
    """Only people who type need a subject."""
    assert cli.replay("ann@customer.example", "1", subject="")["ticket"] == 1
    assert cli.json("ticket", "show", 1)["subject"] == ""


@pytest.mark.parametrize("line_end", BREAKS, ids=ascii)
def test_subjects_hold_no_line_end(cli, ticket, line_end):
    """A subject with a line break is refused; nothing is sent or stored."""
    number = ticket("A printer", "--from", "ann@customer.example")
    odd = f"a{line_end}Bcc: x@evil.example"
    for arguments in (
        ("ticket", "create", "--subject", odd),
        ("ticket", "set", number, "--subject", odd),
        ("ticket", "reply", number, "--new-thread", "--text", "x", "--subject", odd),
        (
            "channel",
            "send",
            "support@localhost",
            "--to",
            "bob@customer.example",
            "--text",
            "x",
            "--subject",
            odd,
        ),
        ("contact", "mail", "ann@customer.example", "--text", "x", "--subject", odd),
        ("template", "set", "Reminder", "--text", "x", "--subject", odd),
    ):
        refused(cli(*arguments), "subject contains a line break")
    assert [each["subject"] for each in cli.json("ticket", "list")["tickets"]] == ["A printer"]
    assert cli.json("outbox", "list")["deliveries"] == []


@pytest.mark.parametrize("line_end", BREAKS, ids=ascii)
def test_names_and_addresses_hold_no_line_end(cli, ticket, line_end):
    """A name or address with a line break is refused; no part is dropped silently."""
    number = ticket("A printer", "--from", "ann@customer.example")
    cli.json("user", "add", "olga@ours.example", "--name", "Olga")
    odd = f"a{line_end}b"
    for arguments in (
        ("user", "add", "paul@ours.example", "--name", odd),
        ("user", "set", "olga@ours.example", "--name", odd),
        ("channel", "add", "sales@localhost", "--name", odd),
        ("channel", "set", "support@localhost", "--name", odd),
        ("pipeline", "add", odd, "--status", "New:open", "--status", "Done:closed"),
        ("pipeline", "status", "add", "Support", odd, "--state", "open"),
    ):
        refused(cli(*arguments), "name contains a line break")
    odd = f"bob@customer.example{line_end}Bcc: c@evil.example"
    for arguments in (
        ("ticket", "reply", number, "--text", "x", "--to", odd),
        ("ticket", "reply", number, "--text", "x", "--cc", odd),
        ("ticket", "create", "--subject", "x", "--from", odd),
        ("channel", "send", "support@localhost", "--to", odd, "--text", "x", "--subject", "x"),
        ("contact", "mail", odd, "--text", "x", "--subject", "x"),
    ):
        refused(cli(*arguments), "address contains a line break")
    assert cli.json("outbox", "list")["deliveries"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("contact", "show", "a\nb"),
        ("ticket", "set", 1, "--subject", "x", "--as", "a\nb"),
        ("--config", "a\nb.toml", "ticket", "list"),
    ],
)
def test_a_line_end_in_what_was_typed_splits_no_error(cli, ticket, arguments):
    """Each error stays on its line, whatever it quotes."""
    ticket()
    done = cli(*arguments)
    last = "1 problem in the configuration\n" if done.code == 78 else ""
    assert (done.code, done.err.removesuffix(last).count("\n")) == (done.code or 1, 1), done.err


@pytest.mark.parametrize(
    ("arguments", "code", "size"),
    [
        (("ticket", "reply", 1, "--text", "x", "--attach"), 65, 64),
        (("ticket", "reply", 1, "--text", "x", "--html-file"), 65, 64),
        (("pipeline", "import", "--yes"), 65, 64),
        (("workflow", "import", "--yes"), 65, 64),
        (("inspect", "--json"), 0, 64),
        (("--config",), 78, 1),
    ],
)
def test_no_more_of_a_file_is_read_than_its_limit(cli, tmp_path, arguments, code, size):
    """A file beyond the limit is refused by its size; inspect tells it as a defect."""
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", (size << 20) + 1)
    rest = ("ticket", "list") if arguments == ("--config",) else ()
    done = cli(*arguments, tmp_path / "large", *rest)
    assert (done.code, f"is larger than {size} MiB" in done.text + done.err) == (code, True)
