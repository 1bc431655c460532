"""Tests of conditions on a ticket: filters, branches, ends of runs (behaviour.md 3.1, 3.3)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model.condition import DEEPEST, FIELDS, OPERATORS, condition_problem, holds
from core.model.ticket import Contact, Ticket, User
from core.pipeline import Pipeline, Status
from core.state import State

ZONE = ZoneInfo("Europe/Amsterdam")
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
PIPELINE = Pipeline(1, "Support", (Status(1, "New", "open", 1), Status(2, "Closed", "closed", 2)))
UMA = User(7, "Uma", frozenset({"uma@desk.example", "u@desk.example"}), address="uma@desk.example")
STATE = State(
    {1: PIPELINE},
    ZONE,
    contacts={5: Contact(5, "ann@example.org", "Ann")},
    users={"uma@desk.example": UMA, "u@desk.example": UMA},
)
TICKET = Ticket(
    3,
    "A Broken Lamp",
    1,
    1,
    "email",
    NOW,
    priority="high",
    owner_id=7,
    requester_id=5,
    close_date=date(2026, 12, 1),
    reopened_count=2,
    flags=frozenset({"unread_reply"}),
    tags=("lamp", "Urgent Case"),
)
FACTS = STATE.facts(TICKET)


@pytest.mark.parametrize(
    ("field", "op", "value", "expected"),
    [
        ("subject", "eq", "a broken LAMP ", True),
        ("subject", "eq", "lamp", False),
        ("subject", "ne", "lamp", True),
        ("subject", "contains", "broken", True),
        ("subject", "contains", "whole", False),
        ("subject", "gt", "a", True),
        ("subject", "empty", None, False),
        ("priority", "eq", "high", True),
        ("priority", "empty", False, True),
        ("tags", "contains", "urgent case", True),
        ("tags", "contains", "urgent", False),
        ("tags", "eq", "lamp", True),
        ("tags", "ne", "lamp", False),
        ("tags", "empty", None, False),
        ("flags", "contains", "unread_reply", True),
        ("pipeline", "eq", "support", True),
        ("status", "eq", "new", True),
        ("source", "eq", "chat", False),
        ("owner", "eq", "UMA@desk.example", True),
        ("requester", "eq", "ann@example.org", True),
        ("requester_domain", "eq", "example.org", True),
        ("number", "gt", 2, True),
        ("number", "lt", "2.5", False),
        ("number", "gt", "many", False),
        pytest.param("number", "lt", 10**400, True, id="huge"),
        ("reopened_count", "eq", 2, True),
        ("reopened_count", "gt", True, True),
        ("created_at", "lt", "2026-11-22T12:00:00+01:00", True),
        ("created_at", "eq", "2026-11-22T11:00:00", True),  # no offset: in the zone of the account
        ("created_at", "gt", date(2026, 11, 22), True),
        ("created_at", "gt", "tomorrow", False),
        ("close_date", "eq", date(2026, 12, 1), True),
        ("close_date", "lt", "2026-12-02", True),
        ("closed_at", "empty", None, True),
        ("closed_at", "eq", "", True),
        ("closed_at", "ne", "x", True),
        ("closed_at", "gt", "2020-01-01", False),
        ("closed_at", "lt", "2020-01-01", False),
        ("closed_at", "contains", "2", False),
        ("first_response_at", "empty", False, False),
        ("times_contacted", "eq", 0, True),
    ],
)
def test_operators(field: str, op: str, value: Any, expected: bool) -> None:
    """3.1: text compares without case, lists by member, the rest by value; empty is lowest."""
    condition = {"field": field, "op": op} | ({"value": value} if value is not None else {})
    assert condition_problem(condition) is None
    assert holds(condition, FACTS) is expected


def test_groups() -> None:
    """A list means "all"; "all", "any" and "none" nest; an empty condition always holds."""
    yes, no = {"field": "priority", "value": "high"}, {"field": "priority", "value": "low"}
    for condition, expected in (
        (None, True),
        ([], True),
        ([yes, no], False),
        ([yes, yes], True),
        ({"all": [yes, {"any": [no, yes]}]}, True),
        ({"any": [no, [yes, no]]}, False),
        ({"any": []}, False),
        ({"all": []}, True),
    ):
        assert condition is None or condition_problem(condition) is None
        assert holds(condition, FACTS) is expected


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (None, "is a table"),
        ("priority", "is a table"),
        ({"field": "mood", "value": 1}, "unknown field 'mood'"),
        ({"field": ["x"], "value": 1}, "unknown field"),
        ({"field": "priority", "op": "like", "value": 1}, "unknown op 'like'"),
        ({"field": "priority"}, "eq needs a value"),
        ({"field": "priority", "value": ["high"]}, "a value must be"),
        ({"field": "priority", "value": None}, "a value must be"),
        ({"field": "priority", "value": 1, "unless": 2}, "no key 'unless'"),
        ({"all": [], "any": []}, "no other keys"),
        ({"any": {"field": "priority"}}, "takes a list"),
        ({"any": [{"field": "mood"}]}, "unknown field"),
    ],
)
def test_mistakes_are_reported(condition: Any, problem: str) -> None:
    """Each mistake in a condition is reported by name."""
    assert problem in (condition_problem(condition) or "")


def test_depth_is_bounded() -> None:
    """Conditions nested deeper than the limit are refused."""
    condition: Any = {"field": "number", "value": 3}
    for _ in range(DEEPEST):
        condition = [condition]
    assert condition_problem(condition) is None
    assert holds(condition, FACTS)
    assert "deep" in (condition_problem([condition]) or "")


def test_every_field_is_known_of_a_ticket() -> None:
    """Every field that a condition may name is a field of a ticket."""
    assert set(FIELDS) == set(FACTS)


def test_the_sender_of_a_first_mail_counts_as_requester() -> None:
    """3.2: while the first mail is decided, the sender counts as requester."""
    facts = STATE.facts(Ticket(0, "A question", 1, 1, "email", NOW), "new@example.net")
    assert (facts["requester"], facts["requester_domain"]) == ("new@example.net", "example.net")
    assert STATE.facts(Ticket(0, "A question", 1, 1, "email", NOW))["requester"] is None


VALUES = (
    st.text(max_size=12)
    | st.integers()
    | st.sampled_from(
        [
            10**400,
            -(10**400),
            True,
            "2026-11-22",
            "9999-12-31T23:59:59-12:00",
            "0001-01-01",
            "20261122",
            "nan",
        ]
    )
    | st.floats()
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(ZoneInfo("America/Lima")))
)
SINGLE = st.fixed_dictionaries(
    {"field": st.sampled_from(FIELDS), "op": st.sampled_from(OPERATORS), "value": VALUES}
)
TREES = st.recursive(
    SINGLE,
    lambda inside: (
        st.lists(inside, max_size=3) | st.fixed_dictionaries({"any": st.lists(inside, max_size=3)})
    ),
)
MOMENTS = st.none() | st.datetimes(
    datetime.fromisoformat("1990-01-01"),
    datetime.fromisoformat("2100-01-01"),
    timezones=st.just(UTC),
)
TICKETS = st.builds(
    Ticket,
    st.integers(1, 9),
    st.text(max_size=5),
    st.just(1),
    st.integers(1, 2),
    st.just("email"),
    st.just(NOW - timedelta(days=1)),
    owner_id=st.sampled_from([None, 7]),
    requester_id=st.sampled_from([None, 5, 6]),
    closed_at=MOMENTS,
    close_date=st.none() | st.dates(),
    last_customer_message_at=MOMENTS,
    tags=st.lists(st.text(max_size=3), max_size=2).map(tuple),
)


@given(
    TREES
    | st.recursive(
        VALUES | st.none(), lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside)
    ),
    TICKETS,
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_valid_conditions_are_evaluated(condition: Any, ticket: Ticket) -> None:
    """The check never raises, and every accepted condition can be evaluated on every ticket."""
    if condition_problem(condition) is None:
        assert holds(condition, STATE.facts(ticket)) in (True, False)
