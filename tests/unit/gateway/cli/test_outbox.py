"""Tests of `ticketgate outbox` and `agenda run` without a smarthost (interfaces.md 2.2)."""

from __future__ import annotations

import pytest

KEYS = {
    "id",
    "ticket",
    "message_id",
    "recipient",
    "state",
    "attempts",
    "due_at",
    "last_reply",
    "automatic",
    "template",
    "subject",
}


@pytest.fixture
def waiting(cli, ticket):
    """Create ticket 1 with a receipt, a reply to two people, and a scheduled reply."""
    cli.json("workflow", "set", "Support", "New", "--enabled", "on")
    ticket("Fire", "--from", "Ann Example <ann@example.org>")
    cli.json("agenda", "run")
    cli.json("ticket", "reply", 1, "--text", "We look.", "--cc", "bob@example.org")
    cli.json("ticket", "reply", 1, "--text", "Later.", "--at", "2026-11-23T10:00:00Z")
    return cli.json("outbox", "list")["deliveries"]


def test_list_has_the_keys_of_the_interface(cli, waiting):
    """One line for each recipient, newest first; automatic mail names its template."""
    assert all(each.keys() == KEYS for each in waiting)
    assert [
        (each["recipient"], each["state"], each["automatic"], each["template"]) for each in waiting
    ] == [
        (
            "bob@example.org",
            "scheduled",
            False,
            None,
        ),  # recipients of a user's mail are participants
        ("ann@example.org", "scheduled", False, None),
        ("bob@example.org", "queued", False, None),
        ("ann@example.org", "queued", False, None),
        ("ann@example.org", "queued", True, "Ticket received"),
    ]
    assert {each["ticket"] for each in waiting} == {1}
    assert waiting[0]["due_at"] == "2026-11-23T10:00:00+00:00"
    assert [
        each["state"] for each in cli.json("outbox", "list", "--state", "scheduled")["deliveries"]
    ] == ["scheduled"] * 2
    assert [each["id"] for each in cli.json("outbox", "list", "--limit", 2)["deliveries"]] == [
        each["id"] for each in waiting[:2]
    ]
    assert cli("outbox", "list", "--state", "lost").code == 64
    assert "bob@example.org" in cli("outbox", "list").text


def test_without_a_smarthost_mail_stays_queued(cli, waiting):
    """`agenda run` executes workflows and leaves mail queued; a second pass does nothing."""
    ran = cli.json("agenda", "run")
    assert ran == {"ran": []}
    assert cli.json("outbox", "list")["deliveries"] == waiting
    cli.at("2026-11-23T10:00:00Z")
    assert [each["what"] for each in cli.json("agenda", "run")["ran"]] == ["scheduled mail"]
    assert {each["state"] for each in cli.json("outbox", "list")["deliveries"]} == {"queued"}
    assert cli.json("ticket", "show", 1)["status"] == "Waiting on contact"
    assert "nothing more is due" in cli("agenda", "run").text


def test_show_prints_the_mail_that_goes_out(cli, waiting):
    """`outbox show` prints the keys of the list, headers and bytes; a scheduled mail has none."""
    shown = cli.json("outbox", "show", waiting[4]["id"])
    assert shown.keys() >= KEYS
    headers = {each["name"]: each["value"] for each in shown["headers"]}
    assert (headers["Auto-Submitted"], headers["X-Auto-Response-Suppress"]) == (
        "auto-replied",
        "All",
    )
    assert headers["Message-ID"] == shown["message_id"] or headers["Message-ID"].strip(
        "<>"
    ) == shown["message_id"].strip("<>")
    assert "Fire" in cli("outbox", "show", waiting[4]["id"]).text
    assert cli.json("outbox", "show", waiting[0]["id"])["raw"] is None
    assert cli("outbox", "show", 99).code == 65


def test_cancelled_mail_is_never_sent(cli, waiting):
    """`outbox cancel` takes scheduled replies too; all or none; a second time is 65."""
    scheduled, other, queued = (waiting[each]["id"] for each in (0, 1, 2))
    assert cli("outbox", "cancel", scheduled, 99).code == 65
    assert cli.json("outbox", "list")["deliveries"] == waiting
    done = cli.json("outbox", "cancel", scheduled, queued)
    assert [(each["id"], each["state"]) for each in done["deliveries"]] == [
        (scheduled, "cancelled"),
        (queued, "cancelled"),
    ]
    assert {each["type"] for each in done["changes"]} == {"mail_cancelled"}
    assert cli("outbox", "cancel", scheduled).code == 65
    cli.at("2026-11-24T10:00:00Z")
    assert [each["detail"] for each in cli.json("agenda", "run")["ran"]] == [
        "queued"
    ]  # the other recipient's
    states = {each["id"]: each["state"] for each in cli.json("outbox", "list")["deliveries"]}
    assert (states[scheduled], states[other], states[queued]) == (
        "cancelled",
        "queued",
        "cancelled",
    )


def test_a_scheduled_mail_without_recipients_does_nothing(cli, waiting):
    """Scenario 38: once all recipients are cancelled nothing happens, also no status move."""
    cli.json("ticket", "move", 1, "--status", "New")
    cli.json("outbox", "cancel", waiting[0]["id"], waiting[1]["id"])
    cli.at("2026-11-24T10:00:00Z")
    assert cli.json("agenda", "run")["ran"] == []
    assert cli.json("ticket", "show", 1)["status"] == "New"


def test_queued_mail_cannot_be_retried(cli, waiting):
    """`outbox retry` takes only failed or deferred mail; anything else is 65 and unchanged."""
    assert cli("outbox", "retry", waiting[0]["id"]).code == 65
    assert cli("outbox", "retry", 99).code == 65
    assert cli.json("outbox", "list")["deliveries"] == waiting
