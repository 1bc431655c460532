"""Tests of importing files that were made to break the reader (interfaces.md 2)."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])
BOMBS = {
    "lists": "x = " + "[" * 100_000,
    "deep value": "[[workflow]]\npipeline = 'Support'\nstatus = 'New'\nactions = "
    + "[" * 300
    + "]" * 300,
    "key": ".".join(["a"] * 100_000) + " = 1",
    "digits": "x = 0x" + "f" * 100_000,
    "bytes": "x = \udcff",
}


@pytest.mark.parametrize("command", ["pipeline", "workflow"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_65_with_one_sentence(cli, tmp_path, command, name):
    """Every bomb ends an import with exit 65 and one line, without a traceback."""
    (tmp_path / "bomb.toml").write_text(BOMBS[name], errors="surrogateescape")
    done = cli(command, "import", tmp_path / "bomb.toml", "--yes")
    assert (done.code, done.text, done.err.count("\n")) == (65, "", 1), done.err
    assert done.err.startswith(f"ticketgate: {tmp_path}/bomb.toml ")


def test_a_json_bomb_is_64(cli):
    """`workflow add --json-action` takes no bomb either."""
    bomb = '{"id": "a", "kind": "add_note", "text": ' + "[" * 900 + "]" * 900 + "}"
    place = ("workflow", "add", "Support", "New", "--after", "start", "--json-action")
    done = cli(*place, bomb)
    assert (done.code, "nested more than 200 deep" in done.err) == (64, True)
