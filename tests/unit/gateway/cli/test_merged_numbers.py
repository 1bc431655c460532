"""Tests of acting commands that name a merged ticket: refused, or said (interfaces.md 2.1)."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])


@pytest.fixture
def merged(cli, imported):
    """Merge ticket 2, with a mail of Bob, into ticket 1 of Ann, and add ticket 3."""
    cli.json("workflow", "set", "Support", "Waiting on us", "--enabled", "on")
    cli.replay("ann@customer.example", "1")
    cli.replay("bob@customer.example", "2")
    cli.json("ticket", "create", "--subject", "Third")
    cli.json("ticket", "merge", 2, "--into", 1)
    return cli.json("ticket", "list", "--all")


@pytest.mark.parametrize(
    "arguments",
    [
        ("delete", 2),
        ("restore", 2),
        ("split", 2, "--message", 1),
        ("merge", 2, "--into", 3),
        ("merge", 3, "--into", 2),
    ],
    ids=lambda arguments: " ".join(map(str, arguments)),
)
def test_harm_to_the_survivor_is_refused(cli, merged, arguments):
    """A merged number is refused by name where the act would hit the other ticket; all stays."""
    result = cli("ticket", *arguments, "--json")
    assert (result.code, result.text) == (65, "")
    assert result.err == (
        "ticketgate: ticket 2 was merged into ticket 1: name ticket 1, or undo the merge with: "
        "ticketgate ticket unmerge 2\n"
    )
    assert cli.json("ticket", "list", "--all") == merged


FOLLOWING = {
    "note": ("ticket", "note", 2, "--text", "x"),
    "move": ("ticket", "move", 2, 3, "--status", "Waiting on us"),
    "set": ("ticket", "set", 2, "--priority", "low"),
    "contact": ("ticket", "contact", "add", 2, "carl@customer.example"),
    "reply": ("ticket", "reply", 2, "--text", "x"),
    "scheduled": ("ticket", "reply", 2, "--text", "x", "--at", "2026-12-01T10:00:00Z"),
    "forward": ("ticket", "forward", 2, "--to", "sue@supplier.example", "--text", "x"),
    "enroll": ("workflow", "enroll", "Support", "Waiting on us", "--ticket", 2),
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_other_acts_say_which_ticket_they_concern(cli, merged, name):
    """Acts that do no harm follow the merge, and say so in the text and in the JSON."""
    said = "ticket 2 was merged into ticket 1: this concerns ticket 1\n"
    done = cli(*FOLLOWING[name])
    assert (done.code, done.text.startswith(said)) == (0, True), done.err or done.text


def test_the_json_names_the_ticket_acted_on(cli, merged):
    """`redirected` has each merged number; without one the key is absent."""
    moved = cli.json(*FOLLOWING["move"])
    assert moved["redirected"] == [{"number": 2, "ticket": 1}]
    assert "redirected" not in cli.json("ticket", "note", 1, "--text", "x")


def test_tasks_and_threads_of_a_merged_number_say_it_too(cli, merged):
    """`ticket attach` and `ticket task` follow the merge and say so."""
    cli.json("channel", "set", "support@localhost", "--tickets", "off")
    thread = cli.replay("ann@customer.example", "3")["thread"]
    assert cli.json("ticket", "attach", 2, "--thread", thread)["redirected"]


def test_a_forward_by_a_merged_number_holds_the_mail(cli, merged):
    """The forwarded mail is found although its thread moved to the other ticket."""
    cli.json(*FOLLOWING["forward"])
    assert "Message-ID: <2@mail.example>" in cli.json("outbox", "show", 1)["raw"]
