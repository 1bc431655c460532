"""Tests of the scenarios of people at the command line, numbered as in scenarios.md."""

from __future__ import annotations

import json


def closure(cli, number):
    shown = cli.json("ticket", "show", number)
    return shown["status"], shown["close_date"]


def test_scenario_3_the_pipeline_lists_the_channels_that_make_tickets_in_it(cli):
    """Scenario 3: exactly its own channels, sorted by address."""
    cli.json("pipeline", "add", "Sales", "--status", "Lead:open", "--status", "Won:closed")
    cli.json("channel", "add", "help@localhost", "--pipeline", "Support")
    cli.json("channel", "add", "sales@localhost", "--pipeline", "Sales")
    assert cli.json("pipeline", "show", "Support")["channels"] == [
        "help@localhost",
        "support@localhost",
    ]
    assert cli.json("pipeline", "show", "sales")["channels"] == ["sales@localhost"]


def test_scenario_4_a_channel_that_is_switched_off_is_gone_from_the_pipeline(cli):
    """Scenario 4: a channel switched off leaves the list, and returns when switched on."""
    cli.json("channel", "set", "support@localhost", "--tickets", "off")
    assert cli.json("pipeline", "show", "Support")["channels"] == []
    assert cli.json("channel", "list")["channels"][0]["tickets"] is False
    cli.json("channel", "set", "support@localhost", "--tickets", "on")
    assert cli.json("pipeline", "show", "Support")["channels"] == ["support@localhost"]


def test_scenario_12_an_agent_makes_a_conversation_a_ticket(cli):
    """Scenario 12: the thread becomes the origin, and trigger B works on it."""
    cli.json("channel", "set", "support@localhost", "--tickets", "off")
    line = cli.replay("Ann <ann@customer.example>", "1")
    assert (line["ticket"], line["outcome"]) == (None, "done")
    made = cli.json("ticket", "create", "--thread", line["thread"])
    number = made["ticket"]["number"]
    assert [each["type"] for each in made["changes"]] == ["ticket_created"]
    assert made["ticket"]["requester"] == {"name": "Ann", "address": "ann@customer.example"}
    assert cli("ticket", "create", "--thread", line["thread"]).code == 65
    assert cli.replay("ann@customer.example", "2", answers="1")["status"] == {
        "before": "New",
        "after": "Waiting on us",
    }
    assert [thread["origin"] for thread in cli.json("ticket", "show", number)["threads"]] == [True]


def test_scenario_14_closing_sets_today(cli, ticket):
    """Scenario 14: moved to Closed, the close date is today in the account's zone."""
    number = ticket()
    moved = cli.json("ticket", "move", number, "--status", "Closed")
    assert (moved["ticket"]["status"], moved["ticket"]["close_date"]) == ("Closed", "2026-11-22")
    assert moved["ticket"]["closed_at"] == "2026-11-22T10:00:00+00:00"
    assert [
        (each["type"], each["before"], each["after"], each["cause"]["rule"])
        for each in moved["changes"]
    ] == [
        ("status_changed", "New", "Closed", "user"),
        ("close_date_changed", None, "2026-11-22", "user"),
    ]
    assert moved["message"] is None


def test_scenario_15_reopening_empties_the_date(cli, ticket):
    """Scenario 15: moved from Closed to New, the close date is empty."""
    number = ticket("Closed one", "--status", "Closed")
    assert closure(cli, number) == ("Closed", "2026-11-22")
    cli.json("ticket", "move", number, "--status", "New")
    assert closure(cli, number) == ("New", None)


def test_scenario_16_with_the_switch_off_no_date_is_set(cli, ticket):
    """Scenario 16: with the switch off, the close date stays empty."""
    cli.json("pipeline", "set", "Support", "--close-date", "off")
    number = ticket()
    cli.json("ticket", "move", number, "--status", "Closed")
    assert closure(cli, number) == ("Closed", None)


def test_scenario_18_switching_on_again_changes_no_ticket(cli, ticket):
    """Scenario 18: switching off and on changes no existing ticket."""
    ticket("One", "--status", "Closed")
    cli.json("pipeline", "set", "Support", "--close-date", "off")
    ticket("Two", "--status", "Closed")
    before = cli.json("ticket", "list")
    cli.json("pipeline", "set", "Support", "--close-date", "on")
    assert cli.json("ticket", "list") == before
    assert [each["close_date"] for each in before["tickets"]] == ["2026-11-22", None]


def test_scenario_19_the_switch_of_one_pipeline_leaves_the_other_alone(cli, ticket):
    """Scenario 19: with the switch off in X only, a ticket closed in Y gets its date."""
    cli.json("pipeline", "add", "Y", "--status", "Open:open", "--status", "Done:closed")
    cli.json("pipeline", "set", "Support", "--close-date", "off")
    number = ticket("In Y", "--pipeline", "Y")
    cli.json("ticket", "move", number, "--status", "Done")
    assert closure(cli, number) == ("Done", "2026-11-22")


def test_scenario_21_a_ticket_created_closed_has_today(cli, ticket):
    """Scenario 21: a ticket created in Closed has today as its close date."""
    assert closure(cli, ticket("Done at once", "--status", "Closed")) == ("Closed", "2026-11-22")


def test_scenario_22_an_explicit_date_stays(cli, ticket):
    """Scenario 22: a date given with the status is kept."""
    number = ticket()
    cli.json("ticket", "move", number, "--status", "Closed", "--close-date", "2026-01-02")
    assert closure(cli, number) == ("Closed", "2026-01-02")


def test_scenario_23_today_is_the_day_of_the_account(cli, ticket):
    """Scenario 23: closed at 23:30 UTC, an account in Amsterdam gets the next day."""
    cli.setting("account__time_zone", "Europe/Amsterdam")
    cli.at("2026-11-22T23:30:00Z")
    number = ticket()
    cli.json("ticket", "move", number, "--status", "Closed")
    assert closure(cli, number) == ("Closed", "2026-11-23")


def test_scenario_25_flipping_a_status_keeps_dates_and_offers_a_back_fill(cli, ticket):
    """Scenario 25: when "Done" becomes closed, its tickets keep empty dates and are counted."""
    cli.json("pipeline", "status", "add", "Support", "Done", "--state", "open")
    numbers = [ticket("Done", "--status", "Done") for _ in range(3)]
    flipped = cli.json("pipeline", "status", "set", "Support", "Done", "--state", "closed")
    assert flipped["backfill_offered"] == 3
    assert flipped["status"]["state"] == "closed"
    assert [closure(cli, number) for number in numbers] == [("Done", None)] * 3


def test_scenario_73_a_merged_ticket_reopens_with_its_survivor(cli):
    """Scenario 73: a reply on merged B's thread moves closed A to New; B's number leads to A."""
    a, b = (
        cli.replay("ann@customer.example", "a")["ticket"],
        cli.replay("bob@customer.example", "b")["ticket"],
    )
    cli.json("ticket", "merge", b, "--into", a)
    cli.json("ticket", "move", a, "--status", "Closed")
    line = cli.replay("bob@customer.example", "c", answers="b")
    assert (line["ticket"], line["status"]) == (a, {"before": "Closed", "after": "New"})
    assert cli.json("ticket", "show", b)["number"] == a


def test_scenario_103_a_status_in_use_is_refused_with_the_list(cli, ticket):
    """Scenario 103: four tickets and a trigger are named; the migration sends no mail."""
    for _ in range(4):
        ticket("One", "--status", "Waiting on us")
    refused = cli("pipeline", "status", "delete", "Support", "Waiting on us", "--json")
    assert (refused.code, refused.out) == (65, b"")
    assert "4 tickets" in refused.err
    assert "on_customer_reply" in refused.err
    deleted = cli.json(
        "pipeline", "status", "delete", "Support", "Waiting on us", "--move-to", "Closed"
    )
    assert len(deleted["moved"]) == 4
    shown = cli.json("pipeline", "show", "Support")
    assert [(each["name"], each["position"]) for each in shown["statuses"]] == [
        ("New", 1),
        ("Waiting on contact", 2),
        ("Closed", 3),
    ]
    assert shown["on_customer_reply"] == "Closed"
    assert {each["close_date"] for each in cli.json("ticket", "list")["tickets"]} == {"2026-11-22"}


def test_scenario_9_a_denied_sender_is_held_back_until_released(cli):
    """Scenario 9, INV14: no ticket, no change; a released mail is processed as if new."""
    cli.json("channel", "set", "support@localhost", "--deny", "@evil.example")
    assert cli.replay("eve@evil.example", "1")["outcome"] == "quarantined"
    held = cli.json("mail", "list", "--state", "quarantined")
    assert (held["total"], held["mail"][0]["ticket"], held["mail"][0]["from"]) == (
        1,
        None,
        "eve@evil.example",
    )
    assert cli.json("ticket", "list")["tickets"] == []
    cli.at("2026-11-23T10:00:00Z")
    released = cli.json("mail", "release", held["mail"][0]["id"])
    assert released["ticket"]["created_at"] == "2026-11-23T10:00:00+00:00"
    assert released["message"]["date"] == "2026-11-22T09:00:00+00:00"
    assert [each["type"] for each in released["changes"]] == ["ticket_created"]
    assert json.loads(cli("mail", "list", "--state", "quarantined", "--json").text)["total"] == 0


def test_replay_puts_mail_without_a_channel_into_the_given_one(cli):
    """``--channel`` serves only mail that names no channel; an unknown channel is refused."""
    cli.json("channel", "add", "sales@localhost")
    nowhere = cli.mail("ann@customer.example", "1", to="somebody@elsewhere.example")
    named = cli.mail("ann@customer.example", "2", to="support@localhost")
    ran = cli("replay", nowhere, named, "--channel", "sales@localhost", "--json")
    assert ran.code == 0, ran.err
    by_channel = {each["message_id"]: each["channel"] for each in cli.json("mail", "list")["mail"]}
    assert sorted(by_channel.values()) == ["sales@localhost", "support@localhost"]
    assert (
        next(channel for key, channel in by_channel.items() if key.startswith("1"))
        == "sales@localhost"
    )
    assert cli("replay", nowhere, "--channel", "nobody@localhost").code == 65
