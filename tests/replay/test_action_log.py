"""Tests of the workflow log, tasks and resolved comments (behaviour.md 3.1, 3.6, 3.7)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway.agenda.worker import Agenda
from gateway.desk.tickets import TicketDesk
from gateway.errors import Conflict, NotFound
from gateway.store.setup import workflow_history
from tests.replay.office import Office
from tests.replay.workflows import by_hand, outcomes, tag, tags, wait
from tests.replay.world import ZONE

pytestmark = pytest.mark.asyncio(loop_scope="session")
TASK: dict[str, Any] = {"id": "call", "kind": "create_task", "text": "Call her.", "due": "1d"}


async def kept(office: Office, days: int) -> None:
    """Run the agenda of an installation that keeps the log for ``days`` days."""
    office.agenda = Agenda(office.database, office.clock, office.house, log_days=days)
    await office.run()


async def test_old_log_entries_are_deleted(office: Office):
    """3.7: entries of ended runs are deleted after ninety days and not earlier; 0 keeps them."""
    await office.workflow("New", [tag("a")])
    await by_hand(office)
    await office.run()
    office.clock.set(office.clock.now() + timedelta(days=90))
    await kept(office, 90)
    await kept(office, 0)
    assert await outcomes(office, "New") == ["OK"]
    office.clock.set(office.clock.now() + timedelta(microseconds=1))
    await kept(office, 0)
    assert await outcomes(office, "New") == ["OK"]
    await kept(office, 90)
    assert await outcomes(office, "New") == []
    assert [each.state for each in await office.enrolments("New")] == ["DONE"]


async def test_the_log_is_checked_once_an_hour(office: Office):
    """3.7: entries that become too old later are deleted at the next hourly check."""
    await office.workflow("New", [tag("a")])
    await by_hand(office)
    await office.run()
    office.clock.set(office.clock.now() + timedelta(days=1) - timedelta(minutes=10))
    await kept(office, 1)
    await office.later(minutes=20)
    assert await outcomes(office, "New") == ["OK"]
    await office.later(minutes=40)
    assert await outcomes(office, "New") == []


async def test_the_log_of_an_active_run_is_kept(office: Office):
    """3.3: the log of a run is kept while the run lasts, and expires after that like the rest."""
    await office.workflow("New", [tag("a"), wait("200d"), tag("b")])
    await by_hand(office)
    await office.run()
    office.clock.set(office.clock.now() + timedelta(days=150))
    await kept(office, 90)
    assert await outcomes(office, "New") == ["OK", "OK"]
    office.clock.set(office.clock.now() + timedelta(days=50))
    await kept(office, 90)
    assert (await tags(office), await outcomes(office, "New")) == (["a", "b"], ["OK", "OK", "OK"])
    office.clock.set(office.clock.now() + timedelta(hours=2))
    await office.run()
    assert await outcomes(office, "New") == ["OK"]


async def test_a_long_log_is_emptied_in_one_pass(office: Office, monkeypatch: pytest.MonkeyPatch):
    """3.7: a very long log is emptied in one pass, in several transactions."""
    monkeypatch.setattr("gateway.agenda.worker.FORGOTTEN_AT_ONCE", 2)
    await office.workflow("New", [tag(each) for each in "abcde"])
    await by_hand(office)
    await office.run()
    office.clock.set(office.clock.now() + timedelta(days=2))
    await kept(office, 1)
    assert await outcomes(office, "New") == []


async def test_the_log_is_filtered_by_ticket_action_outcome_and_time(office: Office):
    """3.7: each filter works alone and together with the others."""
    await office.workflow("New", [tag("a"), tag("b")])
    begin = office.clock.now()
    await by_hand(office)
    await office.run()
    office.clock.set(begin + timedelta(days=1))
    await by_hand(office)
    await office.run()

    async def asked(**wanted: Any) -> list[tuple[int, str | None]]:
        async with office.database.read() as connection:
            own = await office._id(connection, "Support", "New")
            return [
                (each.ticket, each.action)
                for each in await workflow_history.runs(
                    connection, [own], workflow_history.Wanted(**wanted)
                )
            ]

    assert await asked() == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert await asked(ticket=2) == [(2, "a"), (2, "b")]
    assert await asked(action="b") == [(1, "b"), (2, "b")]
    assert await asked(outcome="FAILED") == []
    assert await asked(since=begin + timedelta(days=1)) == [(2, "a"), (2, "b")]
    assert await asked(until=begin) == [(1, "a"), (1, "b")]
    assert await asked(action="a", outcome="OK", since=begin + timedelta(seconds=1), ticket=2) == [
        (2, "a")
    ]


async def test_a_task_is_done_once(office: Office):
    """3.1: the history shows who finished a task; again, or for another ticket, is refused."""
    await office.user()
    await office.workflow("New", [TASK])
    await by_hand(office)
    await by_hand(office)
    await office.run()
    desk = TicketDesk(office.database, office.clock, ZONE, "agent@desk.example")
    assert [
        (each.type, each.actor, each.after) for each in (await desk.finish_task(1, 1)).events
    ] == [("task_done", "agent@desk.example", "Call her.")]
    [task] = (await office.world.ticket(1))["tasks"]
    assert (task["text"], task["done_at"], task["due_at"]) == (
        "Call her.",
        office.clock.now(),
        office.clock.now() + timedelta(days=1),
    )
    [other] = (await office.world.ticket(2))["tasks"]
    assert other["done_at"] is None
    with pytest.raises(Conflict, match="task 1 of ticket 1 is already done"):
        await desk.finish_task(1, 1)
    with pytest.raises(NotFound, match="ticket 2 has no task 1"):
        await desk.finish_task(2, 1)


async def test_tasks_follow_a_merge(office: Office):
    """P10: tasks of a merged ticket are shown and finished on the surviving ticket."""
    await office.workflow("New", [TASK])
    for _ in range(3):
        await by_hand(office)
    await office.run()
    desk = TicketDesk(office.database, office.clock, ZONE)
    await desk.merge(3, 2)
    await desk.merge(2, 1)
    await desk.finish_task(1, 3)
    assert [
        (each["id"], each["done_at"] is None) for each in (await office.world.ticket(1))["tasks"]
    ] == [(1, True), (2, True), (3, False)]


async def test_a_comment_is_settled_once(office: Office):
    """3.6: a comment keeps the time of its first resolution; one of another action is not found."""
    await office.workflow("New", [tag("a"), tag("b")])
    number = await office.editor().comment("Support", "New", "a", "Is this right?")
    settled = office.clock.now()
    await office.editor().resolve("Support", "New", "a", number)
    await office.later(days=1)
    await office.editor().resolve("Support", "New", "a", number)
    async with office.database.read() as connection:
        [comment] = await workflow_history.comments(
            connection, await office._id(connection, "Support", "New")
        )
    assert comment.resolved_at == settled
    with pytest.raises(NotFound, match=r"action 'b' of .* has no comment 1"):
        await office.editor().resolve("Support", "New", "b", number)
