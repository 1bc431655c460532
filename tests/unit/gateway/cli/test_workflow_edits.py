"""Tests of `ticketgate workflow set | add | edit | delete | comment` (interfaces.md 2.4)."""

from __future__ import annotations

import pytest

KEYS = set(
    "pipeline status enabled re_enroll on_leave exclude_sources filter unenroll_when window "
    "actions version".split()
)
DONE = {"ticket": None, "message": None, "changes": []}
TAG = '{"id": "x", "kind": "add_tag", "tag": "x"}'


def test_switches_are_set_and_tickets_may_come_along(cli, ticket):
    """`workflow set`: each switch, and --enroll-existing (scenario 98)."""
    for _ in range(3):
        ticket("x", "--from", "ann@example.org")
    shown = cli.json(
        "workflow",
        "set",
        "Support",
        "New",
        "--enabled",
        "on",
        "--re-enroll",
        "on",
        "--on-leave",
        "unenroll",
    )
    assert shown.keys() - {"versions"} == KEYS | {
        "tickets_in_status",
        "enrolled",
        "ticket",
        "message",
        "changes",
    }
    assert (
        shown["enabled"],
        shown["re_enroll"],
        shown["on_leave"],
        shown["tickets_in_status"],
        shown["enrolled"],
    ) == (True, True, "unenroll", 3, 0)
    assert "--enroll-existing" in cli("workflow", "set", "Support", "New", "--enabled", "on").text
    shown = cli.json(
        "workflow", "set", "Support", "New", "--include-source", "chat", "--enroll-existing"
    )
    assert (shown["exclude_sources"], shown["enrolled"]) == (["messenger"], 3)
    assert cli.json("workflow", "set", "Support", "New", "--exclude-source", "api")[
        "exclude_sources"
    ] == ["api", "messenger"]
    assert cli("workflow", "set", "Support", "New").code == 64
    assert cli("workflow", "set", "Support", "New", "--enabled", "perhaps").code == 64
    assert cli("workflow", "set", "Support", "New", "--on-leave", "perhaps").code == 64
    assert cli("workflow", "set", "Support", "New", "--exclude-source", "fax").code == 65
    assert cli("workflow", "set", "Support", "Waiting on us", "--enabled", "on").code == 65


def test_actions_are_added_edited_and_deleted(cli, imported):
    """`workflow add|edit|delete|restore`: each makes a version; 65 and 64 on errors."""
    place = ("Support", "Waiting on contact")
    assert cli.json("workflow", "add", *place, "--after", "start", "--json-action", TAG) == {
        "pipeline": "Support",
        "status": "Waiting on contact",
        "version": 2,
        "waiting": 0,
        "ended": 0,
        "ticket": None,
        "message": None,
        "changes": [],
    }
    cli.json(
        "workflow",
        "add",
        *place,
        "--after",
        "fork/high",
        "--json-action",
        TAG.replace('"id": "x"', '"id": "y"'),
    )
    cli.json("workflow", "edit", *place, "x", "--set", "tag=z", "--set", "stop_on_failure=true")
    shown = cli.json("workflow", "show", *place)
    assert {key: shown["actions"][0][key] for key in ("id", "tag", "stop_on_failure")} == {
        "id": "x",
        "tag": "z",
        "stop_on_failure": True,
    }
    assert [each["id"] for each in shown["actions"][4]["branches"][0]["actions"]] == ["y", "tag"]
    assert cli("workflow", "delete", *place, "fork").code == 65
    cli.json("workflow", "delete", *place, "fork", "--keep", "high")
    cli.json("workflow", "delete", *place, "tag", "--following")
    shown = cli.json("workflow", "show", *place)
    assert ([each["id"] for each in shown["actions"]], shown["version"]) == (
        ["x", "wait", "until", "clock", "y"],
        6,
    )
    assert [(each["version"], each["note"]) for each in shown["versions"]][-1] == (
        6,
        "delete tag and following",
    )
    assert cli.json("workflow", "restore", *place, 1)["version"] == 7
    assert cli("workflow", "add", *place, "--after", "start", "--json-action", "{").code == 64
    assert cli("workflow", "add", *place, "--after", "start", "--json-action", "[]").code == 64
    assert cli("workflow", "add", *place, "--after", "start", "--json-action", "{}").code == 65
    assert cli("workflow", "add", *place, "--after", "nowhere", "--json-action", TAG).code == 65
    assert cli("workflow", "edit", *place, "wait", "--set", "for").code == 64
    assert cli("workflow", "edit", *place, "wait", "--set", "for=soon").code == 65
    assert cli("workflow", "delete", *place).code == 64
    assert cli("workflow", "delete", *place, "--whole").code == 0
    assert cli("workflow", "show", *place).code == 65


def test_a_value_that_looks_like_a_number_stays_what_was_typed(cli, imported):
    """`workflow edit --set`: digits stay text; lists and booleans are JSON."""
    place = ("Support", "Waiting on us")
    cli.json(
        "workflow",
        "edit",
        *place,
        "tell",
        "--set",
        "subject=2026",
        "--set",
        'to=["team@desk.example"]',
    )
    [tell] = cli.json("workflow", "show", *place)["actions"]
    assert (tell["subject"], tell["to"]) == ("2026", ["team@desk.example"])
    cli.json(
        "workflow",
        "edit",
        *place,
        "tell",
        "--set",
        "subject=NaN",
        "--set",
        "stop_on_failure=true",
        "--set",
        "text=true",
    )
    [tell] = cli.json("workflow", "show", *place)["actions"]
    assert (tell["subject"], tell["stop_on_failure"], tell["text"]) == ("NaN", True, "true")


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    "value",
    ["NaN", "-Infinity", '"\\ud800"', '"a\\u0000b"', "1e999", "9" * 400, '"' + "x" * 100_000 + '"'],
    ids=["nan", "infinity", "surrogate", "nul", "too large", "digits", "long"],
)
def test_any_value_of_an_action_is_stored_or_refused(cli, value):
    """Any JSON value of an action is stored and returned, or refused."""
    action = f'{{"id": "x", "kind": "set_field", "field": "subject", "value": {value}}}'
    done = cli("workflow", "add", "Support", "New", "--after", "start", "--json-action", action)
    assert done.code in (0, 64, 65), done.err
    shown = cli("workflow", "show", "Support", "New", "--json")
    assert shown.code == 0, shown.err
    assert shown.json["version"] == (2 if done.code == 0 else 1)
    cli.json("ticket", "create", "--subject", "x")
    tried = cli("workflow", "test", "Support", "New", "--ticket", 1)
    assert tried.code == 0, tried.err


def test_an_agent_comments_and_does_not_edit(cli, imported):
    """behaviour.md 3.6, 3.8: an agent's comment is stored, their edit refused."""
    cli.json("user", "add", "agent@desk.example", "--name", "Bob", "--role", "agent")
    place, who = ("Support", "Waiting on us"), ("--as", "agent@desk.example")
    assert cli.json("workflow", "comment", *place, "tell", "--text", "Good.", *who) == DONE | {
        "comment": 1
    }
    assert (
        cli.json("workflow", "show", *place)["actions"][0]["comments"][0]["author"]
        == "agent@desk.example"
    )
    assert cli("workflow", "delete", *place, "tell", *who).code == 65
    assert cli("workflow", "set", *place, "--enabled", "on", *who).code == 65
    assert cli("workflow", "comment", *place, "nothing", "--text", "x").code == 65
    assert cli("workflow", "comment", *place, "tell", "--text", " ").code == 65


def test_a_comment_is_resolved_by_command(cli, imported):
    """behaviour.md 3.6: --resolve takes a comment's number, and excludes --text."""
    place = ("Support", "Waiting on us", "tell")
    cli.json("workflow", "comment", *place, "--text", "Right?")
    assert cli.json("workflow", "comment", *place, "--resolve", "1") == DONE | {"comment": 1}
    assert (
        cli.json("workflow", "show", *place[:2])["actions"][0]["comments"][0]["resolved_at"]
        is not None
    )
    assert cli("workflow", "comment", *place, "--resolve", "2").code == 65
    assert cli("workflow", "comment", *place).code == 64
    assert cli("workflow", "comment", *place, "--resolve", "1", "--text", "x").code == 64


def test_a_workflow_is_shown_as_a_person_reads_it(cli, imported):
    """One action a line, those of a branch indented, conditions and comments in words."""
    cli.json("workflow", "comment", "Support", "Waiting on contact", "tag", "--text", "Why?")
    shown = cli("workflow", "show", "Support", "Waiting on contact").text.splitlines()
    assert "Filter           (priority eq high or subject contains fire)" in shown
    assert "Enabled          yes" in shown
    at = shown.index("fork  branch")
    assert shown[at + 1 : at + 3] == [
        "    high: when priority eq high",
        '        tag  add_tag  tag a "b" \\ é',
    ]
    assert shown[at + 3].startswith("            # 1 console, ")
    assert shown[at + 4 : at + 6] == ["    otherwise", "        note  add_note  text two lines"]
