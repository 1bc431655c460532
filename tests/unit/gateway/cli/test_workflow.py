"""`ticketgate workflow`: files in and out, edits by command, tickets in and out, and the shapes of
what it prints (interfaces.md 2.4).
"""

from __future__ import annotations

import json
import tomllib

import pytest

PLAN = """
[[workflow]]
pipeline = "Support"
status = "Waiting on contact"
enabled = true
re_enroll = true
on_leave = "unenroll"
exclude_sources = ["chat"]
filter = { any = [{ field = "priority", op = "eq", value = "high" }, { field = "subject", op = "contains", value = "fire" }] }
unenroll_when = { field = "owner", op = "empty", value = false }
window = { days = ["mon", "fri"], hours = "09:00-17:00", holidays = [2026-12-25] }
actions = [
  { id = "wait", kind = "delay", for = "2d" },
  { id = "until", kind = "delay", until = 2026-12-24 },
  { id = "clock", kind = "delay", time = 09:30:00 },
  { id = "fork", kind = "branch", branches = [
    { name = "high", when = { field = "priority", op = "eq", value = "high" }, actions = [{ id = "tag", kind = "add_tag", tag = "a \\"b\\" \\\\ é" }] },
  ], otherwise = [{ id = "note", kind = "add_note", text = "two\\nlines" }] },
  { id = "mail", kind = "send_email", template = "Ticket received", to = "associated", stop_on_failure = true },
]

[[workflow]]
pipeline = "Support"
status = "Waiting on us"
actions = [{ id = "tell", kind = "notify_internal_email", to = ["owner", "team@desk.example"], subject = "Look", text = "{{ticket.url}}" }]
"""
KEYS = {
    *(
        "pipeline",
        "status",
        "enabled",
        "re_enroll",
        "on_leave",
        "exclude_sources",
        "filter",
        "unenroll_when",
        "window",
    ),
    *("actions", "version"),
}
DONE = {"ticket": None, "message": None, "changes": []}
TAG = '{"id": "x", "kind": "add_tag", "tag": "x"}'


@pytest.fixture
def imported(cli, tmp_path):
    """The workflows of PLAN are there."""
    (tmp_path / "w.toml").write_text(PLAN)
    return cli.json("workflow", "import", tmp_path / "w.toml", "--yes")


def test_a_new_desk_has_its_ready_workflows_and_they_are_off(cli):
    """behaviour.md 3.3: Ticket received on the first open, Ticket closed on the first closed
    status; neither is on.
    """
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
    """interfaces.md 2.4: the keys of the file, the version, and the comments of each action, those
    inside branches too.
    """
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
    assert "nothing changes" in cli("workflow", "import", tmp_path / "again.toml", "--yes").text
    assert cli("workflow", "export", "--pipeline", "support").text == written


def test_a_dry_run_shows_the_diff_and_changes_nothing(cli, imported, tmp_path):
    """What would be added and removed, line by line; --yes then makes a new version of what changed
    only.
    """
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


def test_without_a_terminal_an_import_has_to_be_told_what_to_do(cli, tmp_path):
    """Neither --yes nor --dry-run is 64, and so are both; a file that is not there is 65."""
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


def test_everything_that_is_wrong_is_told_at_once(cli, tmp_path):
    """interfaces.md 2.4: exit 65 with each problem of the file, whichever check finds it; nothing
    was changed.
    """
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
        ("[[workflow]\n", "no TOML"),
        ("workflow = 3\n", "[[workflow]]"),
        ("x = 1\n" + PLAN, "nothing else"),
        ("[[workflow]]\nstatus = 'New'\n", "pipeline and status are needed"),
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
    """Each way in which a file can be wrong."""
    (tmp_path / "w.toml").write_text(text)
    refused = cli("workflow", "import", tmp_path / "w.toml", "--yes")
    assert refused.code == 65
    assert said in refused.err


def test_switches_are_set_and_tickets_may_come_along(cli, ticket):
    """`workflow set`: each switch, and --enroll-existing only when it is said (scenario 98)."""
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
    """`workflow add|edit|delete|restore`: each is a version; what cannot be is 65, what is no
    command is 64.
    """
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
    """`workflow edit --set`: a subject of digits is a text; lists and true or false are JSON."""
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
def test_no_value_of_an_action_upsets_the_database(cli, value):
    """Whatever JSON holds is taken and given back, or refused; never an error of ours."""
    action = f'{{"id": "x", "kind": "set_field", "field": "subject", "value": {value}}}'
    done = cli("workflow", "add", "Support", "New", "--after", "start", "--json-action", action)
    assert done.code in (0, 64, 65), done.err
    shown = cli("workflow", "show", "Support", "New", "--json")
    assert shown.code == 0, shown.err
    assert shown.json["version"] == (2 if done.code == 0 else 1)
    cli.json("ticket", "create", "--subject", "x")
    tried = cli("workflow", "test", "Support", "New", "--ticket", 1)
    assert tried.code == 0, tried.err


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_numbers_that_are_none_are_refused_in_a_file(cli, tmp_path):
    """TOML has nan and inf; in an action or a filter they are 65."""
    head = '[[workflow]]\npipeline = "Support"\nstatus = "New"\n'
    for text in (
        'filter = { field = "number", op = "gt", value = nan }',
        'actions = [{ id = "x", kind = "set_field", field = "subject", value = inf }]',
    ):
        (tmp_path / "w.toml").write_text(head + text)
        refused = cli("workflow", "import", tmp_path / "w.toml", "--yes")
        assert (refused.code, "NaN and infinity are not allowed" in refused.err) == (65, True)


def test_runs_are_listed_with_the_keys_of_the_interface(cli, ticket):
    """`workflow runs`: enrolments and runs, oldest first, of one ticket or all; where each stands
    and until when.
    """
    cli.json("workflow", "set", "Support", "New", "--enabled", "on")
    cli.json("workflow", "add", "Support", "New", "--after", "start", "--json-action", TAG)
    cli.json(
        "workflow",
        "add",
        "Support",
        "New",
        "--after",
        "x",
        "--json-action",
        '{"id": "wait", "kind": "delay", "for": "2d"}',
    )
    first, second = (
        ticket("a", "--from", "ann@example.org"),
        ticket("b", "--from", "bob@example.org"),
    )
    cli.json("agenda", "run")
    shown = cli.json("workflow", "runs", "Support", "New")
    assert [each["ticket"] for each in shown["enrolments"]] == [first, second]
    enrolment = shown["enrolments"][0]
    assert enrolment.keys() >= {
        "id",
        "ticket",
        "state",
        "at_action",
        "due_at",
        "cause",
        "end_reason",
    }
    assert (
        enrolment["state"],
        enrolment["at_action"],
        enrolment["due_at"],
        enrolment["end_reason"],
    ) == ("ACTIVE", "wait", "2026-11-24T10:00:00+00:00", None)
    assert enrolment["cause"]["rule"] == "user"
    assert shown["runs"][0].keys() >= {"at", "ticket", "action", "version", "outcome", "detail"}
    own = cli.json("workflow", "runs", "Support", "New", "--ticket", second)
    assert (
        [each["ticket"] for each in own["enrolments"]],
        [each["action"] for each in own["runs"]],
    ) == ([second], ["x", "wait"])
    assert "ACTIVE" in cli("workflow", "runs", "Support", "New").text
    assert cli("workflow", "runs", "Support", "Waiting on us").code == 65


def test_tickets_are_put_in_and_taken_out(cli, ticket):
    """`workflow enroll|unenroll`: the ticket as acting commands print it; in already, not in, off,
    or not there is 65 (interfaces.md 2.1).
    """
    number = ticket("a", "--from", "ann@example.org")
    place = ("Support", "New", "--ticket", number)
    cli.json("workflow", "set", "Support", "New", "--enabled", "on")
    done = cli.json("workflow", "enroll", *place)
    assert (done["enrolled"], done["ticket"]["number"], done["message"], done["changes"]) == (
        True,
        number,
        None,
        [],
    )
    again = cli("workflow", "enroll", *place, "--json")
    assert (again.code, again.text, "already in workflow Support / New" in again.err) == (
        65,
        "",
        True,
    )
    assert cli.json("workflow", "unenroll", *place)["unenrolled"] is True
    assert cli("workflow", "unenroll", *place).code == 65
    assert cli("workflow", "enroll", *place).text == "enrolled\n"
    assert cli("workflow", "enroll", "Support", "New", "--ticket", 99).code == 65
    assert cli("workflow", "enroll", "Support", "Closed", "--ticket", number).code == 65


def test_the_history_of_a_deleted_workflow_is_shown(cli, ticket, tmp_path):
    """behaviour.md 3.5: runs that ended with it stay, also when the status has another workflow by
    now.
    """
    number = ticket("a", "--from", "ann@example.org")
    cli.json("workflow", "set", "Support", "New", "--enabled", "on", "--enroll-existing")
    assert cli.json("workflow", "delete", "Support", "New", "--whole")["ended"] == 1
    [held] = cli.json("workflow", "runs", "Support", "New")["enrolments"]
    assert (held["ticket"], held["state"]) == (number, "UNENROLLED")
    (tmp_path / "w.toml").write_text(
        '[[workflow]]\npipeline = "Support"\nstatus = "New"\nenabled = true\nactions = []\n'
    )
    cli.json("workflow", "import", tmp_path / "w.toml", "--yes")
    cli.json("workflow", "enroll", "Support", "New", "--ticket", number)
    assert [
        each["state"] for each in cli.json("workflow", "runs", "Support", "New")["enrolments"]
    ] == ["UNENROLLED", "ACTIVE"]
    assert cli("workflow", "show", "Support", "Waiting on us").code == 65


def test_a_dry_run_prints_path_and_mails(cli, ticket):
    """Scenario 101, interfaces.md 2.4: while it is off; the ticket, the runs and the outbox are as
    before.
    """
    number = ticket("Fire", "--from", "Ann <ann@example.org>")
    before = (
        cli.json("ticket", "show", number),
        cli.json("workflow", "runs", "Support", "New"),
        cli.json("outbox", "list"),
    )
    shown = cli.json("workflow", "test", "Support", "New", "--ticket", number)
    [step] = shown["path"]
    assert (step["kind"], step["outcome"]) == ("send_email", "OK")
    [mail] = shown["mails"]
    assert mail.keys() == {"to", "subject", "text"}
    assert (mail["to"], "Fire" in mail["subject"]) == (["ann@example.org"], True)
    assert (
        "To: ann@example.org" in cli("workflow", "test", "Support", "New", "--ticket", number).text
    )
    assert (
        cli.json("ticket", "show", number),
        cli.json("workflow", "runs", "Support", "New"),
        cli.json("outbox", "list"),
    ) == before
    assert cli("workflow", "test", "Support", "Waiting on us", "--ticket", number).code == 65


def test_an_agent_comments_and_does_not_edit(cli, imported):
    """behaviour.md 3.6, 3.8: --as names the user; his comment bears his address, his edit is
    refused.
    """
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


def test_a_comment_is_settled_by_command(cli, imported):
    """behaviour.md 3.6: --resolve takes its number; it and --text are one or the other."""
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
    """One action a line, what is inside a branch further to the right, conditions and comments in
    words.
    """
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


def test_a_tryout_counts_days_of_the_window(cli, tmp_path):
    """behaviour.md 3.7: the delay it shows is the one that would be waited."""
    write = (
        '[[workflow]]\npipeline = "Support"\nstatus = "New"\nwindow = { days = ["tue"], '
        'hours = "09:00-17:00" }\n'
    )
    (tmp_path / "w.toml").write_text(
        write
        + (
            'actions = [{ id = "d", kind = "delay", for = "1d" }, { id = "t", kind = '
            '"add_tag", tag = "x" }]\n'
        )
    )
    cli.json("workflow", "import", tmp_path / "w.toml", "--yes")
    cli.json("ticket", "create", "--subject", "Fire")
    path = cli.json("workflow", "test", "Support", "New", "--ticket", "1")["path"]
    assert [(each["action"], each["detail"]) for each in path] == [
        ("d", "until 2026-11-24T10:00:00+00:00"),
        ("t", None),
    ]


def test_the_action_log_is_asked_for_a_part(cli, tmp_path):
    """behaviour.md 3.7: by action, outcome and day; days are the account's, the last one counts
    whole.
    """
    write = '[[workflow]]\npipeline = "Support"\nstatus = "New"\nenabled = true\nactions = ['
    write += (
        '{ id = "a", kind = "add_tag", tag = "x" }, { id = "b", kind = "delay", for = "1m" '
        '}, { id = "c", kind = "stop" }]\n'
    )
    (tmp_path / "w.toml").write_text(write)
    cli.json("workflow", "import", tmp_path / "w.toml", "--yes")
    cli.json("ticket", "create", "--subject", "Fire")
    cli.json("agenda", "run", "--until", "2026-11-22T10:05:00Z")

    def asked(*options):
        return [
            each["action"]
            for each in cli.json("workflow", "runs", "Support", "New", *options)["runs"]
        ]

    whole = asked()
    assert whole[0] == "a"
    assert asked("--action", "a", "--outcome", "OK") == ["a"]
    assert asked("--outcome", "FAILED") == []
    assert asked("--since", "2026-11-22", "--until", "2026-11-22") == whole
    assert asked("--since", "2026-11-23") == asked("--until", "2026-11-21") == []
    assert asked("--since", "0001-01-01", "--until", "9999-12-31") == whole
    assert cli("workflow", "runs", "Support", "New", "--outcome", "fine").code == 64
    assert cli("workflow", "runs", "Support", "New", "--since", "yesterday").code == 64


def test_the_agenda_lives_through_the_time(cli, tmp_path):
    """interfaces.md 2.1: a pass until an instant does what a daemon would have done by then, each
    thing at its time, mail in the spool first.
    """
    write = '[[workflow]]\npipeline = "Support"\nstatus = "New"\nenabled = true\nactions = ['
    write += (
        '{ id = "w", kind = "delay", for = "2d" }, { id = "a", kind = "add_note", text = '
        '"first" }, '
    )
    write += (
        '{ id = "x", kind = "delay", for = "1d" }, { id = "b", kind = "set_status", status = '
        '"Closed" }]\n'
    )
    (tmp_path / "w.toml").write_text(write)
    cli.json("workflow", "import", tmp_path / "w.toml", "--yes")
    assert cli("deliver", stdin=cli.mail("Ann <ann@example.org>", "a1").read_text()).code == 0
    cli.json("agenda", "run", "--until", "2026-12-24T00:00:00Z")
    runs = cli.json("workflow", "runs", "Support", "New")["runs"]
    assert [(each["action"], each["at"]) for each in runs] == [
        ("w", "2026-11-22T10:00:00+00:00"),
        ("a", "2026-11-24T10:00:00+00:00"),
        ("x", "2026-11-24T10:00:00+00:00"),
        ("b", "2026-11-25T10:00:00+00:00"),
    ]
    ticket = cli.json("ticket", "show", "1")
    assert (ticket["created_at"], ticket["close_date"]) == (
        "2026-11-22T10:00:00+00:00",
        "2026-11-25",
    )


def test_a_pass_that_comes_late_does_what_is_due_by_then(cli, tmp_path):
    """behaviour.md 3.4: nothing ran for three days; the delay of two days began when the ticket
    reached it.
    """
    write = '[[workflow]]\npipeline = "Support"\nstatus = "New"\nenabled = true\n'
    write += (
        'actions = [{ id = "w", kind = "delay", for = "2d" }, { id = "a", kind = "add_tag", '
        'tag = "late" }]\n'
    )
    (tmp_path / "w.toml").write_text(write)
    cli.json("workflow", "import", tmp_path / "w.toml", "--yes")
    cli.json("ticket", "create", "--subject", "Fire")
    cli.at("2026-11-25T10:00:00Z")
    cli.json("agenda", "run")
    assert cli.json("ticket", "show", "1")["tags"] == ["late"]


def test_a_task_is_done_by_command(cli, tmp_path):
    """behaviour.md 3.1: ticket task --done takes its number; show tells it."""
    write = '[[workflow]]\npipeline = "Support"\nstatus = "New"\nenabled = true\n'
    write += 'actions = [{ id = "t", kind = "create_task", text = "Call her." }]\n'
    (tmp_path / "w.toml").write_text(write)
    cli.json("workflow", "import", tmp_path / "w.toml", "--yes")
    cli.json("ticket", "create", "--subject", "Fire")
    cli.json("agenda", "run")
    assert "Task 1: Call her." in cli("ticket", "show", "1").text
    assert [each["type"] for each in cli.json("ticket", "task", "1", "--done", "1")["changes"]] == [
        "task_done"
    ]
    assert "Task 1 (done): Call her." in cli("ticket", "show", "1").text
    assert cli("ticket", "task", "1", "--done", "1").code == 65


def test_an_import_of_every_kind_of_action(cli, tmp_path):
    """interfaces.md 2.4: each kind with its keys is taken and comes back as it was."""
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
