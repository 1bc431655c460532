"""Tests of `ticketgate channel`, `contact`, `user` and `mail`."""

from __future__ import annotations

import pytest

from gateway.desk.passwords import hashed, verifies
from gateway.errors import Invalid


def test_channels_are_added_and_set(cli):
    """interfaces.md 2.2: keys of the list; sender lists are replaced and emptied."""
    cli.json("pipeline", "add", "Sales", "--status", "Lead:open", "--status", "Won:closed")
    added = cli.json(
        "channel",
        "add",
        "Sales@Localhost",
        "--name",
        "The sales team",
        "--pipeline",
        "Sales",
        "--status",
        "Won",
    )["channel"]
    assert (added["address"], added["name"], added["pipeline"], added["status"]) == (
        "sales@localhost",
        "The sales team",
        "Sales",
        "Won",
    )
    changed = cli.json(
        "channel",
        "set",
        "sales@localhost",
        "--allow",
        "Ann@customer.example",
        "--deny",
        "@evil.example",
        "--deny",
        "x@y.example",
    )
    assert (changed["channel"]["allow"], changed["channel"]["deny"]) == (
        ["ann@customer.example"],
        ["@evil.example", "x@y.example"],
    )
    assert cli.json("channel", "set", "sales@localhost", "--deny", "none")["channel"]["deny"] == []
    for arguments in (
        ("add", "sales@localhost"),
        ("add", "no address"),
        ("add", "new@localhost", "--pipeline", "Nowhere"),
        ("set", "absent@localhost", "--tickets", "off"),
        ("set", "sales@localhost", "--status", "New"),
        ("set", "sales@localhost", "--deny", "evil"),
    ):
        assert cli("channel", *arguments).code == 65, arguments
    listed = cli.json("channel", "list")["channels"]
    assert [each["address"] for each in listed] == ["sales@localhost", "support@localhost"]
    assert all(
        each.keys() >= {"address", "name", "pipeline", "tickets", "health"} for each in listed
    )
    assert "sales@localhost" in cli("channel", "list").text


def test_moving_a_channel_moves_its_new_tickets(cli):
    """A channel's pipeline and status are where its next ticket starts."""
    cli.json(
        "pipeline",
        "add",
        "Sales",
        "--status",
        "Lead:open",
        "--status",
        "Talks:open",
        "--status",
        "Won:closed",
    )
    cli.json("channel", "set", "support@localhost", "--pipeline", "Sales", "--status", "Talks")
    cli.replay("ann@customer.example", "1")
    shown = cli.json("ticket", "show", 1)
    assert (shown["pipeline"], shown["status"]) == ("Sales", "Talks")


def test_users_and_their_addresses(cli):
    """Given addresses are verified and belong to one user; no password is shown or stored."""
    added = cli.json(
        "user",
        "add",
        "Olga@ours.example",
        "--name",
        "Olga",
        "--also",
        "o@ours.example",
        "--role",
        "admin",
        "--password-stdin",
        stdin="correct horse\n",
    )["user"]
    assert added == {
        "name": "Olga",
        "address": "olga@ours.example",
        "addresses": ["olga@ours.example", "o@ours.example"],
        "role": "admin",
        "active": True,
        "signature": None,
        "notify": {"new": True, "reply": True, "failure": True, "digest": "off"},
        "password": True,
    }
    assert cli("user", "add", "o@ours.example", "--name", "Other").code == 65
    assert cli("user", "add", "support@localhost", "--name", "Other").code == 65
    assert cli("user", "add", "nobody", "--name", "Other").code == 65
    assert cli("user", "set", "o@ours.example", "--also", "no address").code == 65
    assert (
        cli(
            "user", "add", "p@ours.example", "--name", "Paul", "--password-stdin", stdin="short\n"
        ).code
        == 65
    )
    changed = cli.json(
        "user",
        "set",
        "o@ours.example",
        "--role",
        "reader",
        "--active",
        "off",
        "--also",
        "third@ours.example",
        "--name",
        "O.",
    )["user"]
    assert (changed["role"], changed["active"], changed["name"]) == ("reader", False, "O.")
    assert changed["addresses"] == ["olga@ours.example", "o@ours.example", "third@ours.example"]
    assert [each["address"] for each in cli.json("user", "list")["users"]] == ["olga@ours.example"]
    assert cli("user", "set", "absent@ours.example", "--name", "x").code == 65
    assert "olga@ours.example" in cli("user", "list").text


def test_passwords_are_verified_against_their_hash():
    """Only the right password passes, and two hashes of one password differ."""
    stored = hashed("correct horse")
    assert verifies("correct horse", stored)
    assert not verifies("wrong horse", stored)
    assert not verifies("", None)
    assert not verifies("correct horse", "something else")
    assert hashed("correct horse") != stored
    with pytest.raises(Invalid):
        hashed("short")


def test_contacts_are_listed_shown_and_blocked(cli):
    """E30: a contact shows their tickets; when blocked, their next mail is quarantined."""
    cli.replay("Ann <ann@customer.example>", "1")
    assert cli.json("contact", "list")["contacts"][0] == {
        "address": "ann@customer.example",
        "name": "Ann",
        "blocked": False,
        "marketing": False,
        "automated": False,
        "proven": False,
        "bounced_at": None,
        "language": None,
    }
    shown = cli.json("contact", "show", "Ann@customer.example")
    assert [each["number"] for each in shown["tickets"]] == [1]
    changed = cli.json(
        "contact", "set", "ann@customer.example", "--marketing", "on", "--block", "on"
    )["contact"]
    assert (changed["marketing"], changed["blocked"]) == (True, True)
    assert cli("contact", "show", "absent@customer.example").code == 65
    assert cli.replay("ann@customer.example", "2", answers="1")["outcome"] == "quarantined"
    assert "ann@customer.example" in cli("contact", "list").text
    assert "ann@customer.example" in cli("contact", "show", "ann@customer.example").text


def test_mail_is_listed_explained_and_printed(cli):
    """`mail list|show|raw|explain`: documented keys, steps of behaviour.md 2.1, exact bytes."""
    path = cli.mail("ann@customer.example", "1")
    assert cli("replay", path).code == 0
    listed = cli.json("mail", "list")
    assert listed["total"] == 1
    (row,) = listed["mail"]
    assert row.keys() >= set(
        "id received_at channel source message_id from subject state kind ticket reason".split()
    )
    assert (row["state"], row["ticket"], row["channel"], row["source"], row["kind"]) == (
        "done",
        1,
        "support@localhost",
        "replay",
        "human",
    )
    assert cli("mail", "raw", row["id"]).out == path.read_bytes()
    explained = cli.json("mail", "explain", row["id"])
    assert [each["step"] for each in explained["steps"]][:4] == [
        "duplicate",
        "own mail",
        "report",
        "sender",
    ]
    assert all(each.keys() == {"step", "verdict", "why"} for each in explained["steps"])
    assert explained["rule"] is None
    assert cli.json("mail", "show", row["id"])["size"] == len(path.read_bytes())
    assert "opened a ticket" in cli("mail", "explain", row["id"]).text
    assert "ann@customer.example" in cli("mail", "list").text
    for verb in ("show", "raw", "explain", "retry", "release", "discard"):
        assert cli("mail", verb, 99).code == 65
    for verb in ("retry", "release", "discard"):
        assert cli("mail", verb, row["id"]).code == 65, (
            "it is done: there is nothing to be done again"
        )


def test_quarantined_mail_is_retried_discarded_and_retried_again(cli):
    """A retry uses the current rules; a discarded mail stays so until it is retried."""
    cli.json("channel", "set", "support@localhost", "--deny", "eve@evil.example")
    mail = cli.replay("eve@evil.example", "1")["mail_id"]
    again = cli.json("mail", "retry", mail)
    assert (again["mail"]["state"], again["ticket"]) == ("quarantined", None)
    discarded = cli.json("mail", "discard", mail)
    assert (discarded["mail"]["state"], discarded["mail"]["reason"]) == (
        "ignored",
        "Discarded by console.",
    )
    assert cli("mail", "release", mail).code == 65
    cli.json("channel", "set", "support@localhost", "--deny", "none")
    assert cli.json("mail", "retry", mail)["ticket"]["number"] == 1


def test_a_mail_names_its_current_ticket(cli):
    """After a merge the list names the surviving ticket."""
    numbers = [cli.replay("ann@customer.example", key)["ticket"] for key in "ab"]
    cli.json("ticket", "merge", numbers[1], "--into", numbers[0])
    assert [each["ticket"] for each in cli.json("mail", "list", "--limit", 1)["mail"]] == [
        numbers[0]
    ]


@pytest.mark.parametrize(
    ("written", "name"),
    [('"unclosed', "unclosed"), ('unopened"', "unopened"), ('"Ann B."', "Ann B."), ("Ann", "Ann")],
)
def test_a_stray_quote_is_no_part_of_a_name(cli, written, name):
    """A From with an unbalanced quote still names a person."""
    cli.replay(f"{written} <ann@customer.example>", "1")
    assert cli.json("contact", "show", "ann@customer.example")["name"] == name


@pytest.mark.parametrize("given", ["", "  ", "console", "Console"])
def test_nobody_acts_as_the_administrator_by_naming_nobody(cli, given):
    """A blank --as and the administrator's own name are refused, and nothing is changed."""
    refused = cli("user", "add", "z@ours.example", "--name", "Z", "--as", given)
    assert (refused.code, refused.err) == (
        65,
        f"ticketgate: no active user has the address {given.strip()!r}\n",
    )
    assert cli.json("user", "list")["users"] == []


def test_names_have_a_length(cli):
    """A name that the database would cut is refused."""
    refused = cli("template", "set", "y" * 201, "--subject", "s", "--text", "t")
    assert (refused.code, "longer than 200 characters" in refused.err) == (65, True)
    assert cli("template", "set", "y" * 200, "--subject", "s", "--text", "t").code == 0


@pytest.mark.parametrize("verb", ["retry", "release"])
def test_mail_that_the_daemon_holds_is_said_to_be_in_its_hands(cli, monkeypatch, verb):
    """Beside a daemon that took the mail first, the line tells who processes it."""
    cli.json("channel", "set", "support@localhost", "--deny", "eve@evil.example")
    mail = cli.replay("eve@evil.example", "1")["mail_id"]

    async def taken(*_):
        return None

    monkeypatch.setattr("gateway.intake.worker.Intake.drain", taken)
    done = cli("mail", verb, mail)
    assert (done.code, done.text) == (0, f"mail {mail} is pending: the daemon processes it\n")


def test_a_user_who_is_locked_out_but_still_named_is_told(cli, tmp_path):
    """behaviour.md P04: `user set --active off` lists the actions that still name the user."""
    cli.json("user", "add", "olga@ours.example", "--name", "Olga")
    flow = (
        '[[workflow]]\npipeline = "Support"\nstatus = "New"\n'
        'actions = [{id = "own", kind = "set_owner", owner = "olga"}]\n'
    )
    (tmp_path / "flow.toml").write_text(flow)
    cli.json("workflow", "import", tmp_path / "flow.toml", "--yes")
    assert cli.json("user", "set", "olga@ours.example", "--role", "admin")["still_named_by"] == []
    told = cli("user", "set", "olga@ours.example", "--active", "off").text
    assert told.endswith("\nstill named by the action own of Support / New\n")
