"""Tests of `ticketgate pipeline`: its output, and imports of files, all or nothing."""

from __future__ import annotations

import tomllib

import pytest

NONE = {
    "ticket": None,
    "message": None,
    "changes": [],
}  # interfaces.md 2.1, for commands that change no ticket


def test_show_has_the_keys_of_the_interface(cli):
    """interfaces.md 2.3: the default pipeline of behaviour.md."""
    shown = cli.json("pipeline", "show", "Support")
    assert {
        key: shown[key]
        for key in (
            "name",
            "statuses",
            "close_date",
            "on_email_sent",
            "on_customer_reply",
            "strangers",
            "channels",
        )
    } == {
        "name": "Support",
        "statuses": [
            {"name": "New", "state": "open", "position": 1},
            {"name": "Waiting on contact", "state": "open", "position": 2},
            {"name": "Waiting on us", "state": "open", "position": 3},
            {"name": "Closed", "state": "closed", "position": 4},
        ],
        "close_date": True,
        "on_email_sent": "Waiting on contact",
        "on_customer_reply": "Waiting on us",
        "strangers": "move",
        "channels": ["support@localhost"],
    }
    assert cli("pipeline", "show", "Nowhere").code == 65
    assert "Waiting on us" in cli("pipeline", "show", "support").text
    assert [each["name"] for each in cli.json("pipeline", "list")["pipelines"]] == ["Support"]


def test_switches_are_set_and_told(cli):
    """Each switch has its option; an unknown status is refused without any other change."""
    shown = cli.json(
        "pipeline",
        "set",
        "Support",
        *(
            "--close-date",
            "off",
            "--on-email-sent",
            "off",
            "--on-customer-reply",
            "new",
            "--strangers",
            "flag",
            "--allow-back",
            "off",
        ),
    )
    assert (shown["close_date"], shown["on_email_sent"], shown["on_customer_reply"]) == (
        False,
        None,
        "New",
    )
    assert (shown["strangers"], shown["allow_back"]) == ("flag", False)
    assert (
        cli("pipeline", "set", "Support", "--close-date", "on", "--on-email-sent", "Nowhere").code
        == 65
    )
    assert cli.json("pipeline", "show", "Support").items() <= shown.items()


def test_statuses_are_renamed_moved_and_deleted(cli):
    """`pipeline status`: rename, move and delete; an unused status needs no option."""
    cli.json("pipeline", "status", "add", "Support", "Parked", "--state", "open")
    cli.json("pipeline", "status", "rename", "Support", "Parked", "On hold")
    shown = cli.json("pipeline", "status", "move", "Support", "On hold", "--position", 2)
    assert [each["name"] for each in shown["statuses"]] == [
        "New",
        "On hold",
        "Waiting on contact",
        "Waiting on us",
        "Closed",
    ]
    assert cli("pipeline", "status", "move", "Support", "On hold", "--position", 9).code == 65
    assert cli("pipeline", "status", "rename", "Support", "On hold", "new").code == 65
    assert cli.json("pipeline", "status", "delete", "Support", "On hold")["moved"] == []
    assert len(cli.json("pipeline", "show", "Support")["statuses"]) == 4


def test_an_export_imports_as_nothing_new(cli, tmp_path):
    """An exported file is TOML, and importing it changes nothing."""
    cli.json(
        "pipeline", "add", 'Odd "name" \\ é', "--status", "Ein \t Tab:open", "--status", "Zu:closed"
    )
    written = cli("pipeline", "export").text
    assert [each["name"] for each in tomllib.loads(written)["pipeline"]] == [
        "Support",
        'Odd "name" \\ é',
    ]
    (tmp_path / "p.toml").write_text(written)
    assert (
        cli.json("pipeline", "import", tmp_path / "p.toml", "--yes")
        == {"diff": "", "changed": False} | NONE
    )
    assert cli("pipeline", "export").text == written
    assert (
        tomllib.loads(cli("pipeline", "export", "support").text)["pipeline"][0]["name"] == "Support"
    )


PLAN = """
[[pipeline]]
name = "Support"
close_date = false
on_email_sent = "off"
on_customer_reply = "Ours"
strangers = "flag"
allow_back = false
statuses = [
  { name = "Done", state = "open", was = "Closed" },
  { name = "New", state = "closed" },
  { name = "Ours", state = "open", was = "Waiting on us" },
  { name = "Parked", state = "open" },
]

[[pipeline]]
name = "Sales"
statuses = [{ name = "Lead", state = "open" }, { name = "Won", state = "closed" }]
"""


def test_an_import_shows_its_diff_and_does_all_of_it(cli, ticket, tmp_path):
    """A dry run only shows the diff; --yes applies all of it at once, and tickets stay."""
    number = ticket("x", "--status", "Waiting on us")
    (tmp_path / "p.toml").write_text(PLAN)
    before = cli("pipeline", "export").text
    dry = cli.json("pipeline", "import", tmp_path / "p.toml", "--dry-run")
    assert dry["changed"] is False
    assert '+  { name = "Parked", state = "open" },' in dry["diff"]
    assert '-  { name = "Waiting on contact", state = "open" },' in dry["diff"]
    assert cli("pipeline", "export").text == before
    assert (
        cli.json("pipeline", "import", tmp_path / "p.toml", "--yes")
        == {"diff": dry["diff"], "changed": True} | NONE
    )
    shown = cli.json("pipeline", "show", "Support")
    assert [(each["name"], each["state"]) for each in shown["statuses"]] == [
        ("Done", "open"),
        ("New", "closed"),
        ("Ours", "open"),
        ("Parked", "open"),
    ]
    assert (
        shown["close_date"],
        shown["on_email_sent"],
        shown["on_customer_reply"],
        shown["strangers"],
        shown["allow_back"],
    ) == (False, None, "Ours", "flag", False)
    assert cli.json("ticket", "show", number)["status"] == "Ours"
    assert [each["name"] for each in cli.json("pipeline", "list")["pipelines"]] == [
        "Support",
        "Sales",
    ]


def test_an_import_that_is_refused_changes_nothing(cli, ticket, tmp_path):
    """A file that leaves out a used status is refused whole, with its valid pipelines."""
    ticket("x", "--status", "Waiting on contact")
    (tmp_path / "p.toml").write_text(PLAN)
    before = cli("pipeline", "export").text
    for how in ("--yes", "--dry-run"):
        refused = cli("pipeline", "import", tmp_path / "p.toml", how)
        assert (refused.code, refused.out) == (65, b"")
        assert "1 ticket" in refused.err
    assert cli("pipeline", "export").text == before


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[pipeline]\n", "not TOML"),
        ("pipeline = 3\n", "no [[pipeline]]"),
        ("[[pipline]]\nname = 'x'\n", "unknown key 'pipline'"),
        (
            "[[pipeline]]\nname = ' '\nstatuses = []\ncolor = 1\n",
            "unknown key 'color'; pipeline  : name is missing; pipeline  : statuses are missing",
        ),
        (
            "[[pipeline]]\nname = 'x'\nstatuses = [{name='a', state='ajar'}]\n",
            "status 1 needs a name and a state",
        ),
        (
            "[[pipeline]]\nname = 'x'\nstatuses = [{name='a', state='open', colour='red'}]\n",
            "status 1: unknown key 'colour'",
        ),
        (
            "[[pipeline]]\nname = 'x'\nstatuses = [{name='a', state='open'}]\n",
            "at least one closed status",
        ),
        (
            "[[pipeline]]\nname = 'x'\nclose_date = 'yes'\nstatuses = [{name='a', state='open'}]\n",
            "close_date must be true or false",
        ),
        ("[[pipeline]]\nname = 'x'\nstatuses = [{name='a', state='open'}]\n" * 2, "twice"),
        (
            (
                "[[pipeline]]\nname = 'x'\non_email_sent = 'b'\nstatuses = [{name='a', "
                "state='open'}, {name='c', state='closed'}]\n"
            ),
            "no status 'b'",
        ),
    ],
)
def test_a_wrong_file_is_65_and_says_what_is_wrong(cli, tmp_path, text, said):
    """All problems of a file are listed at once, and nothing is changed."""
    (tmp_path / "p.toml").write_text(text)
    refused = cli("pipeline", "import", tmp_path / "p.toml", "--yes")
    assert refused.code == 65
    assert said in refused.err
    assert [each["name"] for each in cli.json("pipeline", "list")["pipelines"]] == ["Support"]


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_without_a_terminal_an_import_needs_an_option(cli, tmp_path):
    """interfaces.md 2.3: without a terminal, neither or both of --yes and --dry-run is 64."""
    (tmp_path / "p.toml").write_text(PLAN)
    assert cli("pipeline", "import", tmp_path / "p.toml").code == 64
    assert cli("pipeline", "import", tmp_path / "p.toml", "--yes", "--dry-run").code == 64
    assert cli("pipeline", "import", tmp_path / "absent.toml", "--yes").code == 65
