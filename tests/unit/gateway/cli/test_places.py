"""Tests that a command creates no database unless that is what it is for (interfaces.md 2.1)."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from gateway.store.engine import upgrade

EXAMPLE = Path(config.__file__).with_name("ticketgate.example.toml")
COMMANDS = [
    "ticket list",
    "ticket create --subject x",
    "ticket show 1",
    "mail list",
    "contact list",
    "channel list",
    "channel add a@b.example",
    "pipeline list",
    "pipeline add X --status A:open --status B:closed",
    "workflow list",
    "template list",
    "user list",
    "user add a@b.example --name A",
    "outbox list",
    "agenda run",
    "db check",
    "db backup copy.db",
    "db copy sqlite:///other.db",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_creates_no_database(console, tmp_path, line):
    """Each command says which file it looked for and where that was configured; 78, no file."""
    done = console(*line.split())
    assert (done.code, done.text) == (78, "")
    assert done.err == (
        f"ticketgate: there is no database at {tmp_path}/var/ticketgate.db (the built-in default, "
        "inside the present folder): name another configuration with --config, or create the "
        "database with: ticketgate db upgrade\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["db upgrade", "replay mail.eml", "deliver"])
def test_these_commands_create_it(console, tmp_path, line):
    """`db upgrade`, `replay` and `deliver` create a missing database, and then all commands run."""
    (tmp_path / "mail.eml").write_text("From: ann@customer.example\n\nHello.\n")
    done = console(*line.split(), stdin="From: ann@customer.example\n\nHello.\n")
    assert done.code == 0, done.err
    assert console("ticket", "list").code == 0


def test_an_empty_file_is_no_database(console, tmp_path):
    """A file without content, as `touch` makes it, is not taken for a database."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/ticketgate.db").touch()
    assert console("ticket", "list").code == 78


def test_the_setting_that_led_there_is_named(console, tmp_path, monkeypatch):
    """The message names the key and the file or variable that gave it."""
    upgrade(f"sqlite:///{tmp_path}/var/ticketgate.db")
    (tmp_path / "ticketgate.toml").write_text(
        EXAMPLE.read_text().replace('directory = "var"', 'directory = "elsewhere"')
    )
    told = console("ticket", "list").err
    assert f"{tmp_path}/elsewhere/ticketgate.db (data.directory of ticketgate.toml)" in told
    monkeypatch.setenv("TICKETGATE_DATABASE__URL", "sqlite:///other.db")
    told = console("ticket", "list").err
    assert f"{tmp_path}/other.db (database.url of " in told
