"""Tests of `ticketgate ticket`: JSON, text for people, exit codes, and refusals without change.

Tests of the desk check the stored rows on both databases; for the output one is enough.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])
T_KEYS = set(
    "number tag reply_address subject pipeline status status_state owner requester "
    "participants source priority tags"
    " created_at closed_at close_date reopened_count flags links".split()
)
M_KEYS = set(
    (
        "id message_id direction kind from to cc subject date text reply_text html attachments "
        "sender_role auth flags evidence"
    ).split()
)
E_KEYS = set("at type actor cause before after detail".split())


def test_create_prints_the_number_alone(cli):
    """interfaces.md 2.1: without --json the number and nothing else; numbers grow."""
    assert cli("ticket", "create", "--subject", "One").text == "1\n"
    assert cli("ticket", "create", "--subject", "Two").text == "2\n"


def test_a_ticket_made_with_every_option(cli):
    """interfaces.md 2.2: all options of create reach the ticket."""
    made = cli.json(
        "ticket",
        "create",
        *(
            "--subject",
            "All",
            "--from",
            "Ann <Ann@Customer.example>",
            "--pipeline",
            "support",
            "--status",
            "closed",
        ),
        *("--source", "phone", "--close-date", "2026-01-02", "--priority", "urgent"),
    )["ticket"]
    assert (made["subject"], made["status"], made["status_state"], made["pipeline"]) == (
        "All",
        "Closed",
        "closed",
        "Support",
    )
    assert (made["source"], made["close_date"], made["priority"]) == (
        "phone",
        "2026-01-02",
        "urgent",
    )
    assert made["requester"] == {"name": "Ann", "address": "ann@customer.example"}
    assert made["participants"] == [
        {"name": "Ann", "address": "ann@customer.example", "role": "requester"}
    ]


def test_show_has_the_keys_of_the_interface(cli):
    """interfaces.md 2.5: T with M and E, a signed tag, sanitised HTML."""
    page = "<p>Hello <b>there</b><script>alert(1)</script></p>"
    path = cli.mail(
        "Ann <ann@customer.example>", "1", more="Content-Type: text/html; charset=utf-8"
    )
    path.write_text(path.read_text().replace("The text of 1.", page))
    assert cli("replay", path).code == 0
    cli.json("ticket", "note", 1, "--text", "for us")
    shown = cli.json("ticket", "show", 1)
    assert shown.keys() >= T_KEYS | {"threads", "events"}
    assert shown["tag"].startswith("#1.")
    assert shown["reply_address"].startswith("support+1-1.")
    (thread,) = shown["threads"]
    assert (thread["kind"], thread["origin"]) == ("normal", True)
    mail, note = thread["messages"]
    assert mail.keys() >= M_KEYS
    assert (mail["message_id"], mail["direction"], mail["from"]) == (
        "1@mail.example",
        "inbound",
        {"name": "Ann", "address": "ann@customer.example"},
    )
    assert "<b>there</b>" in mail["html"]
    assert "script" not in mail["html"]
    assert (note["direction"], note["html"], note["text"]) == ("note", None, "for us")
    assert [each["type"] for each in shown["events"]] == ["ticket_created", "note_added"]
    assert all(each.keys() >= E_KEYS for each in shown["events"])
    assert shown["events"][0]["cause"]["message_id"] == "1@mail.example"
    assert cli.json("ticket", "list")["tickets"] == [
        {key: value for key, value in shown.items() if key not in ("threads", "events", "tasks")}
    ]


def test_people_see_tables(cli, ticket):
    """Without --json there is a table and a page; control characters in subjects are inert."""
    number = ticket("Printer \x1b[31mburns", "--from", "Ann <ann@customer.example>")
    listed = cli("ticket", "list")
    assert listed.code == 0
    assert "ann@customer.example" in listed.text
    assert "\x1b[31m" not in listed.text
    page = cli("ticket", "show", number)
    assert "Ann <ann@customer.example>" in page.text
    assert "\x1b[31m" not in page.text
    moved = cli("ticket", "move", number, "--status", "Closed")
    assert "status changed from New to Closed" in moved.text
    assert cli("ticket", "move", number, "--status", "Closed").text == "nothing changed\n"


def test_several_tickets_move_together_or_not_at_all(cli, ticket):
    """Several tickets move in one act; one that cannot move stops all."""
    numbers = [ticket(), ticket(), ticket()]
    refused = cli("ticket", "move", *numbers, 99, "--status", "Closed")
    assert (refused.code, refused.out) == (65, b"")
    assert "no ticket 99" in refused.err
    assert {each["status"] for each in cli.json("ticket", "list")["tickets"]} == {"New"}
    moved = cli.json("ticket", "move", *numbers, "--status", "Closed")
    assert moved["ticket"] is None
    assert [each["number"] for each in moved["tickets"]] == numbers
    assert [
        each["ticket"] for each in moved["changes"] if each["type"] == "status_changed"
    ] == numbers


def test_refused_means_65_and_nothing_changed(cli, ticket):
    """interfaces.md 2.1: the reason on stderr, stdout empty, the database as before."""
    number = ticket()
    cli.json("pipeline", "set", "Support", "--allow-back", "off")
    cli.json("ticket", "move", number, "--status", "Closed")
    before = cli.json("ticket", "show", number)
    for arguments in (
        ("move", number, "--status", "New"),
        ("move", number, "--status", "Nowhere"),
        ("move", 99, "--status", "New"),
        ("set", number, "--owner", "nobody"),
        ("set", number, "--requester", "no address"),
        ("attach", number, "--thread", 99),
        ("merge", number, "--into", number),
        ("unmerge", number),
        ("restore", number),
        ("contact", "remove", number, "ann@customer.example"),
        ("note", number, "--text", " "),
        ("note", number, "--text", "x", "--as", "nobody@ours.example"),
        ("show", 99),
        ("create", "--subject", "x", "--pipeline", "Nowhere"),
    ):
        result = cli("ticket", *arguments, "--json")
        assert (result.code, result.out) == (65, b""), arguments
        assert result.err.startswith("ticketgate: "), arguments
    assert cli.json("ticket", "show", number) == before
    assert len(cli.json("ticket", "list", "--all")["tickets"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("ticket", "create"),
        ("ticket", "create", "--subject", "x", "--source", "carrier pigeon"),
        ("ticket", "create", "--subject", "x", "--priority", "huge"),
        ("ticket", "create", "--subject", "x", "--close-date", "tomorrow"),
        ("ticket", "move", "1"),
        ("ticket", "move", "one", "--status", "Closed"),
        ("ticket", "set", "1"),
        ("ticket", "set", "1", "--close-date", "never"),
        ("ticket", "show"),
        ("ticket", "fly"),
        ("channel", "set", "support@localhost"),
        ("channel", "set", "support@localhost", "--tickets", "maybe"),
        ("pipeline", "set", "Support", "--close-date", "perhaps"),
        ("pipeline", "add", "X", "--status", "no colon"),
        ("pipeline", "status", "add", "Support", "X", "--state", "ajar"),
        ("user", "add", "a@b.example", "--name", "A", "--role", "king"),
        ("contact", "set", "a@b.example"),
        ("mail", "list", "--state", "lost"),
    ],
    ids=" ".join,
)
def test_usage_errors_are_64(cli, arguments):
    """A wrong command line is 64 with a message, and nothing is done."""
    result = cli(*arguments)
    assert (result.code, result.out) == (64, b"")
    assert result.err


def test_set_none_empties_a_field(cli, ticket):
    """`--close-date none`, `--owner none`, `--priority none` empty the field."""
    cli.json("user", "add", "olga@ours.example", "--name", "Olga")
    number = ticket("x", "--priority", "low", "--status", "Closed")
    shown = cli.json("ticket", "set", number, "--owner", "olga@ours.example", "--subject", "y")[
        "ticket"
    ]
    assert (shown["owner"], shown["subject"]) == ("olga@ours.example", "y")
    shown = cli.json(
        "ticket", "set", number, "--owner", "none", "--priority", "none", "--close-date", "none"
    )["ticket"]
    assert (shown["owner"], shown["priority"], shown["close_date"], shown["status"]) == (
        None,
        None,
        None,
        "Closed",
    )


def test_acting_as_a_user_is_told_in_the_history(cli, ticket):
    """`--as` makes the user actor and cause; without it the built-in user acts."""
    cli.json("user", "add", "olga@ours.example", "--name", "Olga")
    number = ticket()
    changes = cli.json("ticket", "move", number, "--status", "Closed", "--as", "Olga@ours.example")[
        "changes"
    ]
    assert {(each["actor"], each["cause"]["user"]) for each in changes} == {
        ("olga@ours.example", "olga@ours.example")
    }
    assert cli.json("ticket", "note", number, "--text", "x")["changes"][0]["actor"] == "console"


def test_merge_delete_contact_by_command(cli, ticket):
    """These commands act and print what they changed."""
    first, second = ticket("First", "--from", "ann@customer.example"), ticket("Second")
    assert cli.json("ticket", "merge", second, "--into", first)["ticket"]["number"] == first
    assert [each["number"] for each in cli.json("ticket", "list")["tickets"]] == [first]
    assert [each["merged_into"] for each in cli.json("ticket", "list", "--all")["tickets"]] == [
        None,
        first,
    ]
    assert cli.json("ticket", "unmerge", second)["ticket"]["number"] == second
    assert (
        cli.json("ticket", "delete", second)["ticket"]["deleted_at"] == "2026-11-22T10:00:00+00:00"
    )
    assert cli.json("ticket", "show", second)["deleted_at"] is not None
    assert cli.json("ticket", "restore", second)["ticket"]["deleted_at"] is None
    added = cli.json("ticket", "contact", "add", first, "bob@customer.example")
    assert [each["role"] for each in added["ticket"]["participants"]] == ["requester", "associated"]
    removed = cli.json("ticket", "contact", "remove", first, "bob@customer.example")
    assert [each["role"] for each in removed["ticket"]["participants"]] == ["requester"]
    assert [
        each["number"] for each in cli.json("ticket", "list", "--search", "secon")["tickets"]
    ] == [second]


def test_attach_by_command(cli, ticket):
    """`ticket attach`: a thread without a ticket is attached once; then it is refused."""
    cli.json("channel", "set", "support@localhost", "--tickets", "off")
    thread = cli.replay("ann@customer.example", "1")["thread"]
    number = ticket("By phone", "--source", "phone")
    attached = cli.json("ticket", "attach", number, "--thread", thread)["ticket"]
    assert attached["requester"]["address"] == "ann@customer.example"
    assert cli("ticket", "attach", number, "--thread", thread).code == 65


def test_split_by_command(cli):
    """`ticket split` prints the new ticket's number; the mail register then names it."""
    cli.replay("ann@customer.example", "1")
    cli.replay("ann@customer.example", "2", answers="1")
    messages = [each["id"] for each in cli.json("ticket", "show", 1)["threads"][0]["messages"]]
    assert cli("ticket", "split", 1, "--message", messages[1]).text == "2\n"
    assert [each["ticket"] for each in cli.json("mail", "list")["mail"]] == [2, 1]
    assert cli("ticket", "split", 1, "--message", messages[0]).code == 65


def test_a_ticket_without_mail_has_nothing_to_forward(cli, ticket):
    """A ticket without mail has nothing to forward: refused, and nothing is sent."""
    number = ticket("By hand", "--from", "ann@customer.example")
    cli.json("ticket", "note", number, "--text", "Only a note.")
    result = cli(
        "ticket", "forward", number, "--to", "bob@customer.example", "--text", "See below."
    )
    assert (result.code, result.err) == (
        65,
        f"ticketgate: ticket {number} has no mail to forward\n",
    )
    assert cli.json("outbox", "list")["deliveries"] == []


def test_a_reply_to_our_own_address_is_refused_by_name(cli, ticket):
    """A reply to a channel of ours is refused with a reason that names the address."""
    number = ticket("By hand", "--from", "ann@customer.example")
    result = cli("ticket", "reply", number, "--text", "x", "--to", "Support@localhost")
    assert (result.code, result.text) == (65, "")
    assert result.err == (
        "ticketgate: Support@localhost is one of our channels: name somebody outside with --to\n"
    )


def test_derived_times_of_a_ticket_are_shown(cli):
    """behaviour.md 2.6: first and last answer, close and reopening; spans in seconds or none."""
    cli.replay("ann@customer.example", "1")
    spans = (
        "first_response_at",
        "time_to_first_response",
        "time_to_close",
        "first_closed_at",
        "last_reopened_at",
    )
    new = cli.json("ticket", "show", 1)
    assert [new[key] for key in spans] == [None] * len(spans)
    assert new["times_contacted"] == 0
    cli.at("2026-11-22T10:01:30Z")
    cli.json("ticket", "reply", 1, "--text", "We look at it.")
    cli.at("2026-11-22T11:00:00Z")
    closed = cli.json("ticket", "move", 1, "--status", "Closed")["ticket"]
    assert (closed["first_response_at"], closed["time_to_first_response"]) == (
        "2026-11-22T10:01:30+00:00",
        90,
    )
    assert (closed["time_to_close"], closed["times_contacted"]) == (3600, 1)
    cli.at("2026-11-22T12:00:00Z")
    cli.json("ticket", "reply", 1, "--text", "It is back.", "--status", "New")
    again = cli.json("ticket", "show", 1)
    assert (again["time_to_close"], again["times_contacted"], again["time_to_first_response"]) == (
        None,
        2,
        90,
    )
    assert (again["first_closed_at"], again["last_reopened_at"]) == (
        "2026-11-22T11:00:00+00:00",
        "2026-11-22T12:00:00+00:00",
    )
    assert (again["last_customer_message_at"], again["last_agent_message_at"]) == (
        new["last_customer_message_at"],
        "2026-11-22T12:00:00+00:00",
    )
