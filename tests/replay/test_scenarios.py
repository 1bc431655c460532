"""Runs scenarios.md and behaviour.md, one folder for each example, through the real intake."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.replay.language import play
from tests.replay.world import World

# Rows of outgoing mail, workflows and other entries, which other tests cover.
LATER = {"E19", "E40"}
ROWS = {*(f"E{number:02d}" for number in range(1, 44)), "E17b", "E25b"} - LATER
EXAMPLES = set(
    "1 2 6 8 9 11 12 41 42 43 44 46 47 49 50 52 54 57 58 59 60 62 64 66 67 68 69 71 73 74".split()
)


@pytest.mark.asyncio(loop_scope="session")
async def test_scenario(scenario: Path, world: World) -> None:
    """The scenario keeps the promise of its title, on each database."""
    await play(scenario, world)


def test_every_row_is_shown() -> None:
    """Each inbound row of behaviour.md 2.2 and each inbound example is named by a scenario."""
    folders = Path(__file__).parent.glob("*/scenario.toml")
    shown = {row for path in folders for row in tomllib.loads(path.read_text())["rows"]}
    assert sorted((ROWS | EXAMPLES) - shown) == []
