"""The table of rights, and the sentence that a refused user reads."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from core.rules.rights import RIGHTS, Right, may, who_may, why_not

PAGE = Path(__file__).parents[4] / "docs" / "rights.md"


def test_each_role_has_all_rights_of_the_role_before():
    """Roles are ordered: nobody loses a right by being given a greater role."""
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
    """The sentence names the role that is too small, the act, and the roles that suffice."""
    assert why_not(role, right) == sentence


@pytest.mark.parametrize("right", Right)
def test_every_right_belongs_to_somebody(right):
    """An administrator may everything, and a reader nothing."""
    assert who_may(right)[-1] == "admin"
    assert not may("reader", right)


def test_the_page_tells_the_same_table():
    """The table of docs/rights.md and the one of the rules agree, cell by cell."""
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
