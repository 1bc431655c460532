"""Tests of rows C01 to C13 of behaviour.md 2.4 in the pure rule (the desk's tests: by people)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from core.closure import after_move
from core.decide import decide, refusal
from core.decisions.tickets import SetClosure, SetFields, SetStatus
from core.events import Cause, MoveAsked, StatusChanged
from core.model.ticket import Ticket
from core.pipeline import Pipeline, Status
from core.state import State

NEW, WAITING, CLOSED, DROPPED = (
    Status(1, "New", "open", 1),
    Status(2, "Waiting", "open", 2),
    Status(3, "Closed", "closed", 3),
    Status(4, "Dropped", "closed", 4),
)
ON = Pipeline(1, "Support", (NEW, WAITING, CLOSED, DROPPED))
OFF = replace(ON, id=2, name="Off", set_close_date=False)
NOW = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
BY = Cause("user", user="someone")
TICKET = Ticket(7, "A question", 1, 1, "email", NOW)


def moved(
    was: str | None,
    now: str,
    pipeline: Pipeline = ON,
    given: date | None = None,
    zone: str = "UTC",
    ticket: Ticket = TICKET,
) -> SetClosure | None:
    moved = StatusChanged(ticket, pipeline, was, now, BY, given)  # type: ignore[arg-type]
    return after_move(moved, NOW, ZoneInfo(zone))


@pytest.mark.parametrize(
    ("was", "now", "pipeline", "expected"),
    [
        pytest.param("open", "closed", ON, date(2026, 11, 23), id="C01-on"),
        pytest.param("open", "closed", OFF, "keep", id="C01-off"),
        pytest.param("closed", "open", ON, None, id="C02-on"),
        pytest.param("closed", "open", OFF, None, id="C02-off"),
        pytest.param("closed", "closed", ON, date(2026, 11, 23), id="C04-on"),
        pytest.param("closed", "closed", OFF, "keep", id="C04-off"),
        pytest.param(None, "closed", ON, date(2026, 11, 23), id="C05-on"),
        pytest.param(None, "closed", OFF, "keep", id="C05-off"),
    ],
)
def test_a_move_sets_or_clears_the_close_date(
    was: str | None, now: str, pipeline: Pipeline, expected: object
) -> None:
    """Each kind of move sets, clears or keeps the date as its row says, switch on and off."""
    after = moved(was, now, pipeline)
    assert after is not None
    assert after.close_date == expected


def test_a_move_between_open_statuses_leaves_the_date() -> None:
    """C03: a move from open to open changes nothing else."""
    assert moved("open", "open") is None
    assert moved(None, "open") is None


def test_the_same_status_again_is_no_move() -> None:
    """C06: setting the status that a ticket has decides nothing."""
    assert decide(MoveAsked(TICKET, ON, NEW.id, BY, person=True), State({1: ON}, UTC), NOW) == ()


@pytest.mark.parametrize("pipeline", [ON, OFF], ids=["on", "off"])
@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("open", "closed"),
        ("closed", "closed"),
        ("closed", "open"),
        (None, "closed"),
        ("open", "open"),
    ],
)
def test_an_explicit_date_wins(was: str | None, now: str, pipeline: Pipeline) -> None:
    """C07: a date given with the move is kept, whatever the move and the switch."""
    after = moved(was, now, pipeline, given=date(2026, 1, 2))
    assert after is not None
    assert after.close_date == date(2026, 1, 2)


def test_a_date_without_a_move_is_an_edit() -> None:
    """C08: a close date given with the current status is stored as it is."""
    decided = decide(
        MoveAsked(TICKET, ON, NEW.id, BY, person=True, close_date=date(2026, 1, 2)),
        State({1: ON}, UTC),
        NOW,
    )
    assert decided == (SetFields(7, (("close_date", date(2026, 1, 2)),), BY),)


def test_the_landing_pipeline_decides() -> None:
    """C09: a move to another pipeline's closed status follows that pipeline's switch."""
    off = replace(OFF, statuses=(Status(11, "Open", "open", 1), Status(12, "Done", "closed", 2)))
    decided = decide(MoveAsked(TICKET, off, 12, BY, person=True), State({1: ON, 2: off}, UTC), NOW)
    assert [type(each) for each in decided] == [SetStatus, SetClosure]
    assert isinstance(decided[1], SetClosure)
    assert decided[1].close_date == "keep"


def test_today_is_the_accounts_day() -> None:
    """C12: 23:30 UTC is the next day in Amsterdam."""
    after = moved("open", "closed", zone="Europe/Amsterdam")
    assert after is not None
    assert after.close_date == date(2026, 11, 24)
    assert after.closed_at == NOW


def test_no_moving_back_binds_people_only() -> None:
    """P09: with moving back forbidden a person is refused, an automatic move is not."""
    strict = replace(ON, allow_back=False)
    ticket = replace(TICKET, status_id=WAITING.id)
    back = MoveAsked(ticket, strict, NEW.id, BY, person=True)
    assert refusal(back, State({1: strict}, UTC)) is not None
    assert refusal(replace(back, person=False), State({1: strict}, UTC)) is None
    assert refusal(replace(back, status_id=CLOSED.id), State({1: strict}, UTC)) is None
