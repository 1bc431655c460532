"""Tests of `ticketgate workflow show | export | import` (interfaces.md 2.4)."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

PLAN = (Path(__file__).parent / "workflows.toml").read_text()
KEYS = set(
    "pipeline status enabled re_enroll on_leave exclude_sources filter unenroll_when window "
    "actions version".split()
)


def test_a_new_desk_has_its_default_workflows_off(cli):
    """behaviour.md 3.3: Ticket received and Ticket closed exist, and are off."""
    rows = cli.json("workflow", "list")["workflows"]
    assert [(row["status"], row["enabled"], row["actions"][0]["template"]) for row in rows] == [
        ("Closed", False, "Ticket closed"),
        ("New", False, "Ticket received"),
    ]
    assert "Ticket" not in cli("workflow", "list").text
    cli.json("pipeline", "add", "Sales", "--status", "Lead:open", "--status", "Won:closed")
    assert [(row["pipeline"], row["status"]) for row in cli.json("workflow", "list")["workflows"]][
        :2
    ] == [("Sales", "Lead"), ("Sales", "Won")]


def test_show_has_the_keys_of_the_interface(cli, imported):
    """interfaces.md 2.4: keys of the file, version, comments of all actions."""
    assert [each["version"] for each in imported["workflows"]] == [1, 1]
    cli.json("workflow", "comment", "Support", "Waiting on contact", "tag", "--text", "Why?")
    shown = cli.json("workflow", "show", "support", "waiting on contact")
    assert shown.keys() - {"versions"} == KEYS
    given = tomllib.loads(PLAN)["workflow"][0]
    assert {
        key: shown[key]
        for key in (
            "enabled",
            "re_enroll",
            "on_leave",
            "exclude_sources",
            "filter",
            "unenroll_when",
        )
    } == {
        key: given[key]
        for key in (
            "enabled",
            "re_enroll",
            "on_leave",
            "exclude_sources",
            "filter",
            "unenroll_when",
        )
    }
    assert shown["window"]["holidays"] == ["2026-12-25"]
    assert [shown["actions"][0][key] for key in ("id", "kind", "comments")] == ["wait", "delay", []]
    fork = shown["actions"][3]
    [comment] = fork["branches"][0]["actions"][0]["comments"]
    assert {key: comment[key] for key in ("author", "text", "at")} == {
        "author": "console",
        "text": "Why?",
        "at": "2026-11-22T10:00:00+00:00",
    }
    assert fork["otherwise"][0]["comments"] == []
    assert cli("workflow", "show", "Support", "Nowhere").code == 65
    assert cli("workflow", "show", "Nowhere", "New").code == 65
    assert "fork  branch" in cli("workflow", "show", "Support", "Waiting on contact").text


def test_an_export_imports_as_nothing_new(cli, imported, tmp_path):
    """Export, import, export: the same file, no difference, no new version."""
    written = cli("workflow", "export").text
    assert {row["status"] for row in tomllib.loads(written)["workflow"]} == {
        "New",
        "Closed",
        "Waiting on contact",
        "Waiting on us",
    }
    (tmp_path / "again.toml").write_text(written)
    dry = cli.json("workflow", "import", tmp_path / "again.toml", "--dry-run")
    assert (dry["imported"], dry["diff"]) == (False, [])
    again = cli.json("workflow", "import", tmp_path / "again.toml", "--yes")
    assert (again["imported"], again["diff"], {each["version"] for each in again["workflows"]}) == (
        True,
        [],
        {1},
    )
    assert cli("workflow", "export").text == written
    assert "nothing to change" in cli("workflow", "import", tmp_path / "again.toml", "--yes").text
    assert cli("workflow", "export", "--pipeline", "support").text == written


def test_a_dry_run_shows_the_diff_and_changes_nothing(cli, imported, tmp_path):
    """--dry-run shows the diff; --yes makes a new version of what changed only."""
    (tmp_path / "w.toml").write_text(
        PLAN.replace('for = "2d"', 'for = "3d"').replace("re_enroll = true", "re_enroll = false")
    )
    before = cli("workflow", "export").text
    dry = cli.json("workflow", "import", tmp_path / "w.toml", "--dry-run")
    assert dry["imported"] is False
    assert [line for line in dry["diff"] if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        "-re_enroll = true",
        "+re_enroll = false",
        '-{ id = "wait", kind = "delay", for = "2d" }',
        '+{ id = "wait", kind = "delay", for = "3d" }',
    ]
    assert cli("workflow", "export").text == before
    done = cli.json("workflow", "import", tmp_path / "w.toml", "--yes")
    assert [(each["status"], each["version"]) for each in done["workflows"]] == [
        ("Waiting on contact", 2),
        ("Waiting on us", 1),
    ]


def test_without_a_terminal_an_import_needs_an_option(cli, tmp_path):
    """Neither or both of --yes and --dry-run is 64; a missing file is 65."""
    (tmp_path / "w.toml").write_text(PLAN)
    assert cli("workflow", "import", tmp_path / "w.toml").code == 64
    assert cli("workflow", "import", tmp_path / "w.toml", "--yes", "--dry-run").code == 64
    assert cli("workflow", "import", tmp_path / "absent.toml", "--yes").code == 65


WRONG = """
[[workflow]]
pipeline = "Support"
status = "New"
colour = "red"
window = { hours = "9-5" }
actions = [
  { id = "a", kind = "dance" },
  { id = "b", kind = "send_email", template = "Nothing" },
  { id = "c", kind = "add_tag", tag = "t", colour = "red" },
  { id = "c", kind = "delay", for = "soon" },
]

[[workflow]]
pipeline = "Nowhere"
status = "New"
"""


def test_all_problems_are_reported_at_once(cli, tmp_path):
    """interfaces.md 2.4: exit 65 with all problems of the file; nothing was changed."""
    (tmp_path / "w.toml").write_text(WRONG)
    before = cli("workflow", "export").text
    for how in ("--yes", "--dry-run"):
        refused = cli("workflow", "import", tmp_path / "w.toml", how)
        assert (refused.code, refused.out) == (65, b"")
        for said in (
            "'colour'",
            "'dance'",
            "'Nothing'",
            "'c' is used twice",
            "hours of a window",
            "unknown pipeline 'Nowhere'",
        ):
            assert said in refused.err, said
    assert cli("workflow", "export").text == before


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[workflow]\n", "not TOML"),
        ("workflow = 3\n", "[[workflow]]"),
        ("x = 1\n" + PLAN, "nothing else"),
        ("[[workflow]]\nstatus = 'New'\n", "pipeline or status is missing"),
        ("[[workflow]]\npipeline = 'Support'\nstatus = 'New'\nactions = 7\n", "list of actions"),
        (
            "[[workflow]]\npipeline = 'Support'\nstatus = 'New'\nenabled = 'yes'\n",
            "enabled is true or false",
        ),
        (
            "[[workflow]]\npipeline = 'Support'\nstatus = 'New'\nexclude_sources = ['fax']\n",
            "exclude_sources is a list",
        ),
        (
            (
                "[[workflow]]\npipeline = 'Support'\nstatus = 'New'\nfilter = { field = 'colour', "
                "value = 1 }\n"
            ),
            "unknown field 'colour'",
        ),
        (
            (
                "[[workflow]]\npipeline = 'Support'\nstatus = 'New'\n"
                "[[workflow]]\npipeline = 'support'\nstatus = 'new'\n"
            ),
            "twice",
        ),
    ],
)
def test_a_wrong_file_is_65_and_says_what_is_wrong(cli, tmp_path, text, said):
    """Each way in which a file can be wrong is 65, with the reason."""
    (tmp_path / "w.toml").write_text(text)
    refused = cli("workflow", "import", tmp_path / "w.toml", "--yes")
    assert refused.code == 65
    assert said in refused.err


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_nan_and_infinity_are_refused_in_a_file(cli, tmp_path):
    """NaN and infinity of TOML in an action or a filter are 65."""
    head = '[[workflow]]\npipeline = "Support"\nstatus = "New"\n'
    for text in (
        'filter = { field = "number", op = "gt", value = nan }',
        'actions = [{ id = "x", kind = "set_field", field = "subject", value = inf }]',
    ):
        (tmp_path / "w.toml").write_text(head + text)
        refused = cli("workflow", "import", tmp_path / "w.toml", "--yes")
        assert (refused.code, "NaN and infinity are not allowed" in refused.err) == (65, True)


def test_an_import_of_every_kind_of_action(cli, tmp_path):
    """interfaces.md 2.4: each kind with all its keys survives import and export."""
    kinds = [
        {"id": "a", "kind": "send_email", "template": "Ticket closed", "to": "requester"},
        {"id": "b", "kind": "delay", "weekday": "mon", "time": "09:30"},
        {"id": "c", "kind": "delay", "event": "customer_reply", "for": "3d"},
        {"id": "d", "kind": "delay", "field": "created_at", "for": "1d"},
        {"id": "e", "kind": "set_status", "status": "Closed", "pipeline": "Support"},
        {"id": "f", "kind": "set_field", "field": "priority", "value": "high"},
        {"id": "g", "kind": "set_owner", "owner": "none"},
        {"id": "h", "kind": "add_note", "text": "x"},
        {"id": "i", "kind": "remove_tag", "tag": "x", "name": "No x"},
        {"id": "j", "kind": "create_task", "text": "x", "due": "2d"},
        {"id": "k", "kind": "webhook", "url": "https://hooks.example.org/"},
        {"id": "l", "kind": "stop"},
    ]
    for each in kinds:
        cli.json(
            "workflow",
            "add",
            "Support",
            "Closed",
            "--after",
            "start",
            "--json-action",
            json.dumps(each),
        )
    written = cli("workflow", "export").text
    found = next(row for row in tomllib.loads(written)["workflow"] if row["status"] == "Closed")
    assert found["actions"][: len(kinds)] == kinds[::-1]
