"""Tests of `ticketgate template`: texts, previews, unknown tokens (interfaces.md 2.4)."""

from __future__ import annotations

import pytest

KEYS = {"name", "transactional", "builtin", "languages", "subject", "text", "html"}


def test_the_built_in_templates_are_there(cli):
    """behaviour.md 3.3: both are transactional and exist in several languages."""
    rows = cli.json("template", "list")["templates"]
    assert [(row["name"], row["transactional"], row["builtin"]) for row in rows] == [
        ("Ticket closed", True, True),
        ("Ticket received", True, True),
    ]
    assert all("(general)" in row["languages"] for row in rows)
    assert "Ticket received" in cli("template", "list").text
    assert cli.json("template", "show", "ticket received").keys() == KEYS


def test_a_template_is_made_and_changed_part_by_part(cli, tmp_path):
    """`template set` keeps what is not given; a new text alone removes an old HTML part."""
    made = cli.json("template", "set", "Reminder", "--subject", "Hello", "--text", "First.")
    assert (made["template"].keys(), made["unknown"]) == (KEYS, [])
    assert (
        made["template"]["transactional"],
        made["template"]["builtin"],
        made["template"]["languages"],
    ) == (False, False, ["(general)"])
    (tmp_path / "t.html").write_text("<p>First.</p>")
    (tmp_path / "t.txt").write_text("Second.\n")
    assert (
        cli.json("template", "set", "reminder", "--html-file", tmp_path / "t.html")["template"][
            "html"
        ]
        == "<p>First.</p>"
    )
    shown = cli.json(
        "template", "set", "REMINDER", "--text-file", tmp_path / "t.txt", "--transactional", "on"
    )["template"]
    assert (
        shown["name"],
        shown["subject"],
        shown["text"],
        shown["html"],
        shown["transactional"],
    ) == ("Reminder", "Hello", "Second.\n", None, True)
    assert (
        cli.json("template", "set", "Reminder", "--text", "-", stdin="Third.")["template"]["text"]
        == "Third."
    )
    german = cli.json(
        "template",
        "set",
        "Reminder",
        "--language",
        "DE",
        "--subject",
        "Hallo",
        "--text",
        "Erstens.",
    )["template"]
    assert (german["languages"], german["text"]) == (["(general)", "de"], "Erstens.")
    assert cli.json("template", "show", "Reminder")["text"] == "Third."
    assert cli.json("template", "show", "Reminder", "--language", "de")["subject"] == "Hallo"


def test_unknown_tokens_are_told_and_bad_templates_refused(cli):
    """3.3: an unknown token is a warning; an invalid template is 65 and not saved."""
    made = cli.json(
        "template",
        "set",
        "R",
        "--subject",
        "{{ ticket.tag }}",
        "--text",
        "{{ ticket.colour }} {{ nobody }} {{ contact.name }}",
    )
    assert made["unknown"] == ["nobody", "ticket.colour"]
    assert "ticket.colour" in cli("template", "set", "R", "--text", "{{ ticket.colour }}").err
    for text in (
        "{% for x in y %}{% endfor %}",
        "{{ x",
        "{{ ticket.__class__ }}",
        "{% include 'x' %}",
    ):
        assert cli("template", "set", "R", "--text", text).code == 65
        assert cli("template", "set", "Other", "--subject", "x", "--text", text).code == 65
    assert cli.json("template", "show", "R")["text"] == "{{ ticket.colour }}"
    assert cli("template", "show", "Other").code == 65


def test_a_preview_fills_in_a_ticket(cli, ticket):
    """`template show --ticket` renders all parts, lists missing values, changes nothing."""
    number = ticket("Fire", "--from", "Ann Example <ann@example.org>")
    cli.setting("account__public_url", "https://desk.example.net")
    cli.json(
        "template",
        "set",
        "R",
        "--subject",
        "{{ticket.id}}: {{ticket.subject}}",
        "--text",
        (
            "Dear {{contact.first_name}}, {{ticket.url}} {{owner.name | default('us')}} "
            "{{ticket.colour}}."
        ),
    )
    before = cli.json("ticket", "show", number)
    shown = cli.json("template", "show", "R", "--ticket", number)
    assert shown.keys() == {"name", "subject", "text", "html", "unknown"}
    assert (shown["subject"], shown["text"]) == (
        f"{number}: Fire",
        f"Dear Ann, https://desk.example.net/t/{number} us .",
    )
    assert "ticket.colour" in shown["unknown"]
    printed = cli("template", "show", "R", "--ticket", number)
    assert printed.text.startswith(f"Subject: {number}: Fire\n")
    assert "ticket.colour" in printed.err
    assert cli.json("ticket", "show", number) == before
    assert cli("template", "show", "R", "--ticket", 99).code == 65


def test_a_built_in_template_is_edited_and_stays_built_in(cli, ticket):
    """Its text can be replaced, other languages stay, and it cannot become non-transactional."""
    cli.json(
        "template",
        "set",
        "Ticket received",
        "--subject",
        "Got it",
        "--text",
        "We have {{ticket.subject}}.",
    )
    shown = cli.json("template", "show", "Ticket received")
    assert (shown["subject"], shown["builtin"], shown["transactional"]) == ("Got it", True, True)
    assert "de" in shown["languages"]
    number = ticket("Fire", "--from", "ann@example.org")
    [mail] = cli.json("workflow", "test", "Support", "New", "--ticket", number)["mails"]
    assert "We have Fire." in mail["text"]


def test_a_template_that_is_used_is_not_deleted(cli):
    """`template delete`: refused while a workflow sends it."""
    cli.json("template", "set", "R", "--subject", "x", "--text", "x")
    cli.json(
        "workflow",
        "add",
        "Support",
        "New",
        "--after",
        "start",
        "--json-action",
        '{"id": "r", "kind": "send_email", "template": "R"}',
    )
    assert cli("template", "delete", "R").code == 65
    cli.json("workflow", "delete", "Support", "New", "r")
    assert cli("template", "delete", "R").text == "deleted\n"
    assert cli("template", "show", "R").code == 65
    assert cli("template", "delete", "R").code == 65


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_impossible_options_are_refused(cli, tmp_path):
    """64 for options that exclude each other, 65 for missing or unknown values."""
    assert cli("template", "set", "R", "--text", "x", "--text-file", tmp_path / "t").code == 64
    assert cli("template", "set", "R", "--transactional", "perhaps").code == 64
    assert cli("template", "set", "R", "--text", "only").code == 65
    assert cli("template", "set", "Ticket received").code == 65
    assert cli("template", "set", " ", "--subject", "x", "--text", "x").code == 65
    assert (
        cli("template", "set", "R", "--subject", "x", "--text-file", tmp_path / "absent").code == 65
    )
    assert cli("template", "show", "Ticket received", "--language", "xx").code == 65
