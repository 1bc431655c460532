"""Tests of help pages, the version, shell completion, and which commands take --as."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command

from gateway.cli import main
from gateway.cli.option_values import As

ROOT = Path(__file__).parents[4]
READING = {
    "agenda run",
    "channel list",
    "channel test",
    "completion",
    "config check",
    "config schema",
    "config show",
    "contact list",
    "contact show",
    "inspect",
    "mail explain",
    "mail list",
    "mail raw",
    "mail show",
    "outbox list",
    "outbox show",
    "pipeline export",
    "pipeline list",
    "pipeline show",
    "template list",
    "template show",
    "ticket list",
    "ticket show",
    "user list",
    "workflow export",
    "workflow list",
    "workflow runs",
    "workflow show",
    "workflow test",
}
INSTALLATION = {
    "db backup",
    "db check",
    "db copy",
    "db upgrade",
    "deliver",
    "replay",
    "send-test",
    "serve",
}


def walk(name: str, command, found: dict[str, Any]) -> dict[str, Any]:
    """Yield all commands and groups below ``command``, with their words."""
    found[name] = command
    for each, inner in getattr(command, "commands", {}).items():
        walk(f"{name} {each}", inner, found)
    return found


def all_commands() -> dict[str, Any]:
    """Return every command and group, without the root."""
    found: dict[str, Any] = {}
    for name, (module, _) in main.MODULES.items():
        walk(name, get_command(import_module(f"gateway.cli.{module}").app), found)
    return found


COMMANDS = all_commands()
ACTING = sorted(
    name
    for name, command in COMMANDS.items()
    if not hasattr(command, "commands") and name not in READING | INSTALLATION
)


def is_sentence(text: str) -> bool:
    """Return whether a text begins with a capital letter and ends with a full stop."""
    return text[:1].isupper() and text.endswith((".", ".)"))


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_pages_tell_what_to_type(console, name, monkeypatch):
    """Pages show no types, integer limits or markup; -h is --help; every entry has a line."""
    monkeypatch.setenv("COLUMNS", "80")
    page = console(*name.split(), "--help")
    assert page.code == 0, page.err
    assert console(*name.split(), "-h").text == page.text
    assert not re.search(r"<\w[\w ]*>|\d{12}|\[\]|x<=", page.text), page.text
    assert max(map(len, page.text.splitlines())) <= 80
    listed = page.text.partition("Commands:\n")[2].splitlines()
    lines = [line.split(maxsplit=1)[1] for line in listed]
    assert all(is_sentence(line) and not line.endswith("...") for line in lines), page.text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name):
    """Every command, argument and option has a sentence, and every value a metavar."""
    command = COMMANDS[name]
    assert is_sentence(command.help), name
    for param in command.params:
        assert is_sentence(param.help or ""), (name, param.name)
        assert getattr(param, "is_flag", False) == (param.metavar is None), (name, param.name)


def test_the_first_page_says_the_same_as_the_pages():
    """The line of a command on the first page is the sentence on its own page."""
    for name, (_, line) in main.MODULES.items():
        first = line.removesuffix(".")
        assert COMMANDS[name].help.startswith(first), name


def test_tables_of_the_configuration_are_not_taken_for_markup(console):
    """A name in square brackets is printed unchanged."""
    for command in ("login", "test", "import"):
        assert "[[imap]]" in console("channel", command, "--help").text


def test_the_version_is_that_of_the_package(console):
    """--version prints name and version."""
    assert console("--version").text == "ticketgate 0.1.0\n"


def test_reading_and_installation_commands_exist():
    """The commands that this test lists exist."""
    assert set(COMMANDS) >= READING | INSTALLATION


@pytest.mark.parametrize("name", ACTING)
def test_acting_commands_take_the_user_who_acts(name):
    """--as has the same text on every command that is not listed above."""
    params = [each for each in COMMANDS[name].params if "--as" in each.opts]
    assert [each.help for each in params] == [get_args(As)[1].help]


@pytest.mark.parametrize("name", sorted(READING | INSTALLATION))
def test_other_commands_do_not_take_it(name):
    """Commands that only read, or manage the installation, take no --as."""
    assert all("--as" not in each.opts for each in COMMANDS[name].params)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["ticketgate", "wor"], ["workflow"]),
        (["ticketgate", "ticket", "m"], ["move", "merge"]),
        (["ticketgate", "pipeline", "status", "re"], ["rename"]),
        (["ticketgate", "mail", "list", "--st"], ["--state"]),
        (["ticketgate", "db", "upgrade", "--"], ["--json", "--help"]),
    ],
    ids=" ".join,
)
def test_bash_completes_command_lines(console, tmp_path, typed, offered):
    """The script of `completion bash` also completes groups that are imported on demand."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ticketgate"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway.cli.main "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(console("completion", "bash").text)
    words = " ".join(f'"{each}"' for each in typed)
    ask = (
        f"source ./script; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; "
        '_ticketgate_completion ticketgate; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", ask],
        cwd=tmp_path,
        env={"PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == offered, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(console, shell):
    """Each shell gets a script that calls this program; unknown shells are refused."""
    assert "_TICKETGATE_COMPLETE" in console("completion", shell).text
    refused = console("completion", "csh")
    wanted = "ticketgate: invalid shell 'csh': must be bash, zsh or fish\n"
    assert (refused.code, refused.err) == (64, wanted)
