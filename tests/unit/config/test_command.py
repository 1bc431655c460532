"""Tests of ``ticketgate config``, run as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import Settings

BROKEN = sorted((Path(__file__).parent / "broken").iterdir())
ROOT = Path(__file__).parents[3]


def ticketgate(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, with no environment but what the test sets."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
        "COLUMNS": "200",
        **environ,
    }
    command = [sys.executable, "-m", "gateway.cli.main", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


CHECK_EACH = """
import os, sys
from gateway.cli.main import main
for folder in sys.argv[1:]:
    if (child := os.fork()) == 0:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), number)
        sys.argv = ["ticketgate", "--config", "ticketgate.toml", "config", "check"]
        main()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    open(os.path.join(folder, "code"), "w").write(str(code))
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory) -> Path:
    """Run ``config check`` on a copy of each broken folder, in forked processes to be quick."""
    root = tmp_path_factory.mktemp("broken")
    copies = [shutil.copytree(folder, root / folder.name) for folder in BROKEN]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    subprocess.run(
        [sys.executable, "-c", CHECK_EACH, *copies], env=environment, check=True, timeout=250
    )
    return root


@pytest.mark.parametrize("name", [folder.name for folder in BROKEN])
def test_a_broken_configuration_says_what_is_wrong(name, checked):
    """Each broken file gives its expected stderr, no stdout, and exit code 78."""
    answer = {part: (checked / name / part).read_text() for part in ("stdout", "stderr", "code")}
    assert answer == {
        "stdout": "",
        "stderr": (checked / name / "expected-error").read_text(),
        "code": str(os.EX_CONFIG),
    }


def test_there_are_enough_broken_configurations():
    """There are at least 25 broken files, and each has its expected text."""
    assert len(BROKEN) >= 25
    assert all((folder / "expected-error").read_text() for folder in BROKEN)


def test_check_as_json(tmp_path):
    """--json lists the problems with file, key, reason and suggestion."""
    (tmp_path / "ticketgate.toml").write_text('[smtp]\nlistn = []\n[log]\nlevel = "loud"\n')
    run = ticketgate("config", "check", "--json", cwd=tmp_path)
    answer = json.loads(run.stdout)
    assert run.returncode == os.EX_CONFIG
    assert [problem["key"] for problem in answer["problems"]] == ["smtp.listn", "log.level"]
    assert answer["problems"][0] == {
        "file": "ticketgate.toml",
        "key": "smtp.listn",
        "reason": "unknown key",
        "suggestion": "did you mean listen?",
    }


def test_check_of_a_good_one(tmp_path):
    """A valid configuration ends with 0, and the paths in force are printed."""
    run = ticketgate("config", "check", cwd=tmp_path, TICKETGATE_BLOBS__URL="s3://key:pw@bucket/x")
    assert run.returncode == 0
    assert run.stdout.splitlines() == [
        "built-in defaults: good",
        f"Data      {tmp_path}/var",
        f"Database  {tmp_path}/var/ticketgate.db",
        "Blobs     s3://key:**********@bucket/x",
    ]
    moved = {"TICKETGATE_DATA__DIRECTORY": "/srv/desk/"}
    answer = json.loads(ticketgate("config", "check", "--json", cwd=tmp_path, **moved).stdout)
    assert answer["paths"] == {
        "data": "/srv/desk",
        "database": "/srv/desk/ticketgate.db",
        "blobs": "/srv/desk/blobs",
    }


@pytest.mark.parametrize("command", [["config", "show"], ["ticket", "list"]])
def test_a_missing_named_file_is_78(command, tmp_path):
    """A named file that is missing ends any command with 78."""
    run = ticketgate("--config", "nowhere.toml", *command, cwd=tmp_path)
    assert run.returncode == os.EX_CONFIG
    assert "nowhere.toml: there is no such file" in run.stderr


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_show_hides_secrets(form, tmp_path):
    """No password is printed, not even one in a URL; sources are."""
    environ = {
        "TICKETGATE_OUTBOUND__HOST": "relay.example.org",
        "TICKETGATE_OUTBOUND__USERNAME": "desk",
        "TICKETGATE_OUTBOUND__PASSWORD": "hunter2",
        "TICKETGATE_DATABASE__URL": "postgresql://desk:hunter3@db.example.org/desk",
    }
    run = ticketgate("config", "show", *form, cwd=tmp_path, **environ)
    assert run.returncode == 0
    assert "hunter" not in run.stdout + run.stderr
    assert "relay.example.org" in run.stdout
    assert "environment" in run.stdout


def test_shown_text_is_a_valid_file(tmp_path):
    """The output of `config show` is a valid configuration file."""
    (tmp_path / "shown.toml").write_text(ticketgate("config", "show", cwd=tmp_path).stdout)
    assert ticketgate("--config", "shown.toml", "config", "check", cwd=tmp_path).returncode == 0


def test_schema_describes_every_section(tmp_path):
    """The JSON schema names each section of the settings."""
    schema = json.loads(ticketgate("config", "schema", cwd=tmp_path).stdout)
    assert set(schema["properties"]) == set(Settings.model_fields)
