"""Tests of the table of rights, and of the sentence that a refused user reads."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from core.rules.rights import RIGHTS, Right, may, who_may, why_not

PAGE = Path(__file__).parents[4] / "docs" / "rights.md"


def test_each_role_has_all_rights_of_the_role_before():
    """A greater role has every right of a smaller one."""
    assert list(RIGHTS) == ["reader", "agent", "automation", "admin"]
    held = list(RIGHTS.values())
    assert all(fewer < more for fewer, more in pairwise(held))
    assert (held[0], held[-1]) == (frozenset(), frozenset(Right))


@pytest.mark.parametrize(
    ("role", "right", "sentence"),
    [
        (
            "reader",
            Right.DELETE_TICKETS,
            "a reader cannot delete tickets: an agent, automation or admin user can",
        ),
        (
            "agent",
            Right.EDIT_WORKFLOWS,
            "an agent cannot edit workflows: an automation or admin user can",
        ),
        (
            "automation",
            Right.MANAGE_USERS,
            "an automation user cannot change users: an admin user can",
        ),
        ("admin", Right.MANAGE_USERS, None),
    ],
)
def test_a_refusal_says_who_may(role, right, sentence):
    """The sentence names the user's role, the act, and the roles that may do it."""
    assert why_not(role, right) == sentence


@pytest.mark.parametrize("right", Right)
def test_every_right_belongs_to_somebody(right):
    """An administrator has every right, and a reader none of the table."""
    assert who_may(right)[-1] == "admin"
    assert not may("reader", right)


def test_the_page_tells_the_same_table():
    """The table of docs/rights.md equals the one in the rules, cell by cell."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    head, _, *lines = rows
    assert head[1:-1] == list(RIGHTS)
    told = {line[0]: dict(zip(head[1:-1], line[1:-1], strict=True)) for line in lines}
    assert told == {
        right.value: {role: "yes" if may(role, right) else "no" for role in RIGHTS}
        for right in Right
    }
