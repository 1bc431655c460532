"""Tests of `ticketgate workflow runs | test | enroll`, and the agenda (interfaces.md 2.4)."""

from __future__ import annotations

TAG = '{"id": "x", "kind": "add_tag", "tag": "x"}'


def test_runs_are_listed_with_the_keys_of_the_interface(cli, ticket):
    """`workflow runs`: enrolments and runs, oldest first, of one ticket or all."""
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
    """`workflow enroll|unenroll` prints the ticket; an impossible request is 65."""
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
    """behaviour.md 3.5: its runs stay, also when the status has another workflow."""
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
    """Scenario 101: works while the workflow is off, and changes nothing."""
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


def test_a_tryout_counts_days_of_the_window(cli, tmp_path):
    """behaviour.md 3.7: the delay shown is the one that a run would wait."""
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


def test_the_action_log_is_filtered(cli, tmp_path):
    """behaviour.md 3.7: filters by action, outcome and day of the account's zone."""
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


def test_the_agenda_does_each_thing_at_its_time(cli, tmp_path):
    """interfaces.md 2.1: --until does each thing at its time, spooled mail first."""
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


def test_a_late_pass_does_all_that_is_due(cli, tmp_path):
    """behaviour.md 3.4: after three days without a run, a delay of two days is over."""
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
    """behaviour.md 3.1: `ticket task --done` takes its number; show prints it."""
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
