"""The examples of scenarios.md and the rows of behaviour.md 2.2, each written down in a folder of its own and played through the real intake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replay.language import play
from tests.replay.world import World


@pytest.mark.asyncio(loop_scope="session")
async def test_scenario(scenario: Path, world: World) -> None:
    """What the title of the scenario promises, on each database."""
    await play(scenario, world)
