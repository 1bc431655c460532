"""Tests of who is heard on a thread: vouching, reused ids, joins (behaviour.md 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from core.mail.circle import Circle, Claim, Place, Writer, choose, join, vouch

ANN, BOB, CARL, EVE = 1, 2, 3, 4
PAIR = Circle(frozenset({ANN, BOB}), ticket=1, requester=BOB)
THREE = Circle(frozenset({ANN, BOB, CARL}), ticket=1, requester=BOB)
ALONE = Circle(frozenset({ANN}), ticket=1, requester=ANN)
TO_BOB = Writer(ANN, frozenset({BOB}))
NOBODY: frozenset[int] = frozenset()


def claim(contact: int, *, proven: bool = False) -> list[Claim]:
    return [Claim(contact, proven)]


@pytest.mark.parametrize(
    ("writer", "circle", "claims", "leaves"),
    [
        pytest.param(TO_BOB, PAIR, claim(BOB), NOBODY, id="names the member who claimed the id"),
        pytest.param(TO_BOB, PAIR, claim(ANN), NOBODY, id="claimed it before, names a member"),
        pytest.param(Writer(ANN), ALONE, claim(ANN), NOBODY, id="is the whole circle"),
        pytest.param(Writer(EVE), Circle(), [], NOBODY, id="only machines wrote"),
        pytest.param(Writer(EVE), Circle(ticket=1), [], None, id="a ticket of nobody"),
        pytest.param(Writer(EVE, frozenset({ANN, BOB})), PAIR, claim(BOB), None, id="outsider"),
        pytest.param(Writer(ANN), PAIR, claim(ANN), None, id="names nobody of a larger circle"),
        pytest.param(TO_BOB, PAIR, claim(EVE), None, id="claimed by an outsider only"),
        pytest.param(TO_BOB, THREE, claim(CARL), None, id="claimed by somebody not named"),
        pytest.param(TO_BOB, PAIR, [], None, id="claimed by nobody"),
        pytest.param(TO_BOB, THREE, claim(BOB, proven=True), NOBODY, id="a proven claim"),
        pytest.param(TO_BOB, THREE, claim(BOB), frozenset({CARL}), id="who is not named leaves"),
        pytest.param(
            TO_BOB, replace(THREE, fixed=True), claim(BOB), None, id="worked on: nobody leaves"
        ),
        pytest.param(
            TO_BOB, replace(THREE, requester=CARL), claim(BOB), None, id="the requester would leave"
        ),
        pytest.param(
            replace(TO_BOB, proven=True), PAIR, claim(ANN), None, id="perhaps forged in their name"
        ),
        pytest.param(
            replace(TO_BOB, proven=True), PAIR, claim(ANN, proven=True), NOBODY, id="proven twice"
        ),
    ],
)
def test_vouching(
    writer: Writer, circle: Circle, claims: list[Claim], leaves: frozenset[int] | None
) -> None:
    """Mail and thread vouch for each other only if the mail names who claimed its id there."""
    assert vouch(writer, circle, claims, late=False) == leaves


def test_a_late_parent_may_replace_the_requester() -> None:
    """A mail that a thread referenced before it came stands even if the requester leaves."""
    circle = replace(THREE, requester=CARL)
    assert vouch(TO_BOB, circle, claim(BOB), late=True) == {CARL}


def place(thread: int, circle: Circle, claims: Sequence[Claim] = (), *, held: bool = True) -> Place:
    return Place(thread, circle, tuple(claims), held)


OTHERS = Circle(frozenset({BOB, CARL}), ticket=2, requester=BOB)


@pytest.mark.parametrize(
    ("writer", "places", "chosen"),
    [
        pytest.param(Writer(EVE), [place(7, PAIR), place(3, OTHERS)], 3, id="outsider: oldest"),
        pytest.param(Writer(ANN), [place(7, PAIR), place(3, OTHERS)], 7, id="where one is inside"),
        pytest.param(
            TO_BOB, [place(7, PAIR, claim(BOB, proven=True)), place(3, PAIR)], 7, id="proven author"
        ),
        pytest.param(TO_BOB, [place(7, PAIR, claim(BOB)), place(3, PAIR)], 7, id="named author"),
        pytest.param(TO_BOB, [place(3, THREE), place(7, PAIR)], 7, id="the whole circle is named"),
        pytest.param(TO_BOB, [place(3, THREE), place(7, THREE)], None, id="cannot be told"),
        pytest.param(Writer(EVE), [place(3, PAIR, held=False)], None, id="heard is not held"),
    ],
)
def test_which_thread_a_named_id_leads_to(
    writer: Writer, places: list[Place], chosen: int | None
) -> None:
    """Of several threads with one id, the one that the mail itself points at is taken."""
    assert choose(writer, places) == chosen


@pytest.mark.parametrize(
    ("writer", "home", "other", "leaves"),
    [
        pytest.param(TO_BOB, PAIR, PAIR, NOBODY, id="the same circle"),
        pytest.param(Writer(EVE), PAIR, PAIR, None, id="outsider"),
        pytest.param(Writer(CARL), THREE, PAIR, None, id="inside one only"),
        pytest.param(TO_BOB, replace(PAIR, forward=True), PAIR, None, id="a forward"),
        pytest.param(Writer(ANN), PAIR, Circle(), NOBODY, id="a thread of machines"),
        pytest.param(Writer(EVE), PAIR, Circle(), None, id="a thread of machines, an outsider"),
        pytest.param(Writer(EVE), Circle(), PAIR, None, id="the own answering machine first"),
        pytest.param(Writer(EVE), Circle(), Circle(), NOBODY, id="two threads of machines"),
        pytest.param(TO_BOB, THREE, PAIR, frozenset({CARL}), id="no seat for a third"),
        pytest.param(
            Writer(ANN, frozenset({CARL}), proven=True), THREE, PAIR, NOBODY, id="proven names"
        ),
        pytest.param(
            Writer(ANN, frozenset({CARL})), THREE, PAIR, frozenset({CARL}), id="unproven does not"
        ),
        pytest.param(TO_BOB, replace(THREE, fixed=True), PAIR, None, id="worked on"),
        pytest.param(
            TO_BOB, replace(THREE, requester=CARL), PAIR, None, id="the requester would leave"
        ),
    ],
)
def test_joining(
    writer: Writer, home: Circle, other: Circle, leaves: frozenset[int] | None
) -> None:
    """A join needs the sender in both circles and gives nobody a seat."""
    assert join(writer, home, other, late=(False, False)) == leaves
