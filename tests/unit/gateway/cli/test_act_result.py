"""Tests of the --json output of acting commands: ticket, message, changes (interfaces.md 2.1)."""

from __future__ import annotations

import pytest

FLOW = (
    '[[workflow]]\npipeline = "Sales"\nstatus = "Lead"\nenabled = true\nactions = [{id = '
    '"n", kind = "add_note", text = "x"}]\n'
)


def test_acting_commands_have_the_common_keys(cli, tmp_path):
    """Every acting command prints the same three keys beside its own."""
    cli.replay("ann@customer.example", "1")
    (tmp_path / "flow.toml").write_text(FLOW)
    place = ("Sales", "Lead")
    acts = (
        (
            ("pipeline", "add", "Sales", "--status", "Lead:open", "--status", "Won:closed"),
            "statuses",
        ),
        (("pipeline", "set", "Sales", "--close-date", "off"), "close_date"),
        (("pipeline", "status", "add", "Sales", "Lost", "--state", "closed"), "statuses"),
        (("pipeline", "status", "set", "Sales", "Lost", "--state", "open"), "backfill_offered"),
        (("pipeline", "status", "rename", "Sales", "Lost", "Gone"), "statuses"),
        (("pipeline", "status", "move", "Sales", "Gone", "--position", "1"), "statuses"),
        (("pipeline", "status", "delete", "Sales", "Gone"), "moved"),
        (("workflow", "import", tmp_path / "flow.toml", "--yes"), "diff"),
        (("workflow", "set", *place, "--enabled", "off"), "tickets_in_status"),
        (
            (
                "workflow",
                "add",
                *place,
                "--after",
                "n",
                "--json-action",
                '{"id": "s", "kind": "stop"}',
            ),
            "version",
        ),
        (("workflow", "edit", *place, "n", "--set", "text=y"), "version"),
        (("workflow", "delete", *place, "s"), "version"),
        (("workflow", "restore", *place, 1), "version"),
        (("workflow", "delete", *place, "--whole"), "ended"),
        (("template", "set", "Reminder", "--subject", "Hello", "--text", "First."), "template"),
        (("template", "rename", "Reminder", "Nudge"), "template"),
        (("template", "delete", "Nudge"), "deleted"),
        (("pipeline", "rename", "Sales", "Trade"), "statuses"),
        (("channel", "add", "sales@localhost"), "channel"),
        (("channel", "set", "sales@localhost", "--tickets", "off"), "channel"),
        (("user", "add", "olga@ours.example", "--name", "Olga"), "user"),
        (("user", "set", "olga@ours.example", "--role", "admin"), "still_named_by"),
        (("contact", "set", "ann@customer.example", "--block", "on"), "contact"),
        (("contact", "erase", "ann@customer.example", "--yes"), "erased"),
    )
    for arguments, own in acts:
        done = cli.json(*arguments)
        assert (done["ticket"], done["message"], done["changes"]) == (None, None, []), arguments
        assert own in done, arguments


def test_an_imported_pipeline_has_the_common_keys(cli, tmp_path):
    """`pipeline import` reads an exported file and prints the common keys."""
    (tmp_path / "all.toml").write_text(cli("pipeline", "export").text)
    done = cli.json("pipeline", "import", tmp_path / "all.toml", "--yes")
    assert done == {"ticket": None, "message": None, "changes": [], "diff": "", "changed": False}


def test_showing_commands_stay_as_they_are(cli):
    """Commands that only show print no changes."""
    assert "changes" not in cli.json(
        "pipeline", "show", cli.json("pipeline", "list")["pipelines"][0]["name"]
    )


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    "line",
    [
        "pipeline add Sales --status Lead:open --status Won:closed",
        "pipeline set Support --close-date off",
        "pipeline rename Support Help",
        "template rename Reminder Nudge",
        "pipeline status add Support Lost --state closed",
        "pipeline status set Support New --state closed",
        "pipeline status rename Support New Fresh",
        "pipeline status move Support New --position 2",
        "pipeline status delete Support New",
        "channel add sales@localhost",
        "channel set support@localhost --tickets off",
        "contact set ann@customer.example --block on",
        "contact erase ann@customer.example --yes",
        "user add olga@ours.example --name Olga",
        "user set bea@ours.example --role admin",
        "template set Reminder --subject x --text x",
        "template delete Reminder",
        "workflow set Support New --enabled on",
        "mail retry 1",
        "mail release 1",
        "mail discard 1",
        "outbox cancel 1",
        "outbox retry 1",
        "ticket note 1 --text x",
    ],
)
def test_acting_as_an_unknown_user_is_refused(cli, line):
    """An unknown address after --as ends with 65 and changes nothing."""
    cli.json("user", "add", "bea@ours.example", "--name", "Bea")
    cli.replay("ann@customer.example", "1")
    refused = cli(*line.split(), "--as", "nobody@ours.example")
    assert (refused.code, refused.text) == (65, "")
    assert "nobody@ours.example" in refused.err
    assert cli(*line.split()).code in (0, 65)
