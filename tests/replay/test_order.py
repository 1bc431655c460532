"""Tests that the order and repetition of mail change no thread or ticket (behaviour.md 5; INV8)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.desk import views
from gateway.store.tickets import threads
from tests.replay.correspondence import Letter, conversations
from tests.replay.world import Json, World, start_again

RUNS = count(1)
QUICK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
pytestmark = pytest.mark.asyncio(loop_scope="session")


async def arrive(
    world: World, run: str, letters: Sequence[Letter], sizes: Sequence[int]
) -> list[int]:
    """Receive mails in this order, in batches of these sizes; return their numbers."""
    rest = [letter.message(run) for letter in letters]
    ids: list[int] = []
    for size in (*sizes, len(rest)):
        batch, rest = rest[:size], rest[size:]
        ids += [line["mail_id"] for line in await world.file(batch)] if batch else []
    return ids


async def partition(world: World, ids: Sequence[int], letters: Sequence[Letter]) -> Any:
    """Return the sets of mails on one thread, with requester and subject of its ticket, if any."""
    placed = {mail.id: mail.thread_id for mail in await world.register.listing(ids=ids)}
    async with world.database.read() as connection:
        final = await threads.finally_at(
            connection, {each for each in placed.values() if each is not None}
        )
        shown = {
            each["number"]: each
            for each in await views.some(
                connection, {ticket for _, ticket in final.values() if ticket}
            )
        }
    groups: dict[int, list[str]] = {}
    told: dict[int, Any] = {}
    for mail, letter in zip(ids, letters, strict=True):
        assert placed[mail] is not None, f"{letter.name} is on no thread"
        thread, ticket = final[placed[mail]]
        groups.setdefault(thread, []).append(letter.name)
        told[thread] = _named(shown[ticket]) if ticket is not None else ()
    return sorted((sorted(names), told[thread]) for thread, names in groups.items())


def _named(ticket: Json) -> tuple[str | None, str]:
    assert ticket["merged_into"] is None
    return ticket["requester"]["name"] if ticket["requester"] else None, ticket["subject"]


@pytest.mark.parametrize("database_kind", ["sqlite"])
@given(letters=conversations(), data=st.data())
@settings(QUICK, max_examples=60)
async def test_any_order_gives_the_same_threads_and_tickets(
    world: World, letters: list[Letter], data: st.DataObject
) -> None:
    """With join = anyone, any order and batches give the same tickets, requesters and subjects."""
    world.let_anyone_join()
    await _same_in_any_order(world, letters, data)


@pytest.mark.parametrize("database_kind", ["sqlite"])
@given(letters=conversations(vouched=True), data=st.data())
@settings(QUICK, max_examples=60)
async def test_any_order_of_vouched_mails_gives_the_same_tickets(
    world: World, letters: list[Letter], data: st.DataObject
) -> None:
    """Mails that name all people of their conversation give the same tickets in any order."""
    await _same_in_any_order(world, letters, data)


async def _same_in_any_order(world: World, letters: list[Letter], data: st.DataObject) -> None:
    other = data.draw(st.permutations(letters))
    sizes = data.draw(st.lists(st.integers(1, 4), max_size=4))
    run = next(RUNS)
    first = await partition(world, await arrive(world, f"r{run}a", letters, []), letters)
    assert await partition(world, await arrive(world, f"r{run}b", other, sizes), other) == first


@given(letters=conversations(), data=st.data())
@settings(QUICK, max_examples=12)
async def test_a_second_time_changes_nothing(
    world: World, letters: list[Letter], data: st.DataObject
) -> None:
    """INV8, E33: repeated mails, in any order, are duplicates; only the mail register changes."""
    await start_again(world.database)
    await arrive(world, "run", letters, [])
    before = await world.dump()
    again = data.draw(st.permutations(letters))
    await arrive(world, "run", again, [2, 1])
    assert await world.dump() == before
    assert [row[0] for row in await world.rows("mail", "state")].count("duplicate") == len(letters)


@given(letters=conversations(), sizes=st.lists(st.integers(1, 3), max_size=8))
@settings(QUICK, max_examples=12)
async def test_a_batch_equals_one_by_one(
    world: World, letters: list[Letter], sizes: list[int]
) -> None:
    """A batch in one transaction leaves the same rows and lines as one mail per transaction."""
    assert await _all_rows(world, letters, sizes) == await _all_rows(world, letters, [])


async def _all_rows(world: World, letters: Sequence[Letter], sizes: Sequence[int]) -> Any:
    await start_again(world.database)
    ids = await arrive(world, "run", letters, sizes)
    rows = await world.dump(
        without=(
            "channel",
            "signing_key",
            "counter",
            "merge",
            "mail",
            "raw_mail",
            "workflow_version",
        )
    )
    return (
        rows,
        await world.rows("mail", "state", "kind", "message", "original_id", "reason", "outcome"),
        ids,
    )
