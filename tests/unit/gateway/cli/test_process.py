"""Tests of the console script as a process of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store.engine import upgrade

SCRIPT = Path(sys.executable).with_name("ticketgate")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a database where the defaults look for one."""
    upgrade(f"sqlite:///{tmp_path}/var/ticketgate.db")
    return tmp_path


@pytest.fixture
def script(folder):
    """Run the installed script without any settings in that folder."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TICKETGATE_")
    }

    def call(*arguments, **more):
        return subprocess.run(
            [SCRIPT, *arguments],
            cwd=folder,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


def test_a_fresh_folder_gets_its_database_when_asked(script, tmp_path):
    """interfaces.md 2.1: db upgrade creates an absent database; stdout has only JSON."""
    (tmp_path / "var/ticketgate.db").unlink()
    assert script("db", "upgrade").returncode == 0
    listed = script("ticket", "list", "--json")
    assert (listed.returncode, json.loads(listed.stdout), listed.stderr) == (0, {"tickets": []}, "")
    assert script("ticket", "create", "--subject", "One").stdout == "1\n"


def test_a_missing_named_configuration_is_78(script):
    """interfaces.md 2.1: exit 78, with the file's name on stderr."""
    result = script("--config", "absent.toml", "ticket", "list")
    assert result.returncode == 78
    assert "absent.toml" in result.stderr


def test_the_environment_freezes_the_clock_of_a_command(script):
    """TICKETGATE_NOW freezes the clock of a command; an invalid value is 64."""
    made = script(
        "ticket", "create", "--subject", "One", "--json", TICKETGATE_NOW="2026-11-22T10:00:00Z"
    )
    assert json.loads(made.stdout)["ticket"]["created_at"] == "2026-11-22T10:00:00+00:00"
    assert script("ticket", "list", TICKETGATE_NOW="teatime").returncode == 64


def test_a_closed_pipe_is_no_error(folder):
    """`ticketgate ... | head`: a closed pipe ends the command without a traceback."""
    with subprocess.Popen(
        [SCRIPT, "ticket", "list"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_an_unforeseen_error_is_70(script, tmp_path):
    """interfaces.md 2: an unforeseen error is 70, with the place where it happened."""
    script("ticket", "create", "--subject", "One")
    with closing(sqlite3.connect(tmp_path / "var/ticketgate.db")) as database:
        database.execute("UPDATE ticket SET status_id = 999")
        database.commit()
    result = script("ticket", "list")
    assert (result.returncode, result.stdout) == (70, "")
    assert "Traceback" in result.stderr


def test_a_huge_number_is_refused_as_unknown(script):
    """A ticket, mail or thread number beyond any integer column is refused as unknown."""
    for command in (("ticket", "show"), ("ticket", "attach", "1", "--thread"), ("mail", "show")):
        assert script(*command, "9" * 30).returncode in {64, 65}


def test_a_folder_that_cannot_be_created_is_reported(script, tmp_path):
    """An impossible `[data] directory` is 78, with path and reason."""
    (tmp_path / "file").write_text("")
    for folder in ("/proc/nope", str(tmp_path / "file/var")):
        # deliver asks the mail server to try again, whatever the reason
        for code, *command in ((78, "serve"), (78, "replay", "mail.eml"), (75, "deliver")):
            result = script(*command, TICKETGATE_DATA__DIRECTORY=folder)
            told = (result.returncode, result.stdout, result.stderr.count("\n"))
            assert told == (code, "", 1), result
            assert folder in result.stderr
            reasons = ("No such file or directory", "Not a directory")
            assert any(each in result.stderr for each in reasons)


def test_a_backup_to_an_impossible_folder_is_reported(script, tmp_path):
    """`db backup` to an impossible folder is 65, with folder and reason."""
    script("ticket", "create", "--subject", "One")
    result = script("db", "backup", "absent/copy.db")
    assert (result.returncode, result.stdout) == (65, "")
    assert result.stderr == "ticketgate: cannot write to absent: No such file or directory\n"
    assert not (tmp_path / "absent").exists()


def redirected(folder, command, mail=None):
    """Run `ticketgate` in a shell, which redirects or closes its streams."""
    return subprocess.run(
        ["/bin/sh", "-c", f"{SCRIPT} {command}"],
        cwd=folder,
        input=mail,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["ticket list", "ticket list --json", "--help", "--version"])
def test_output_that_cannot_be_written_is_74(folder, command):
    """interfaces.md 2: a full disk behind stdout is one sentence and 74, not a traceback."""
    done = redirected(folder, f"{command} >/dev/full")
    sentence = "ticketgate: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (74, sentence)


@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_like_the_null_device(folder, closed):
    """A stream that is closed at the start takes everything and holds nothing."""
    done = redirected(folder, f"ticket list {closed}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("to", [">/dev/full", ">&-"])
def test_mail_that_is_stored_is_delivered_whatever_happens_to_the_output(tmp_path, to):
    """`deliver --json` is 0 once the mail is stored, or the transport would send it again."""
    done = redirected(tmp_path, f"deliver --json {to}", "From: a@b.example\n\nHello\n")
    assert (done.returncode, done.stderr) == (0, "")
