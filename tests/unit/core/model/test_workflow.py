"""Tests of action trees: reading, order, and places after an edit (behaviour.md 3.1, 3.4)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model.workflow import (
    DEEPEST,
    KEYS,
    MOST_ACTIONS,
    MOST_BRANCHES,
    START,
    Graph,
    carry,
    read,
)

YES = {"field": "priority", "value": "high"}


def note(name: str) -> dict[str, Any]:
    return {"id": name, "kind": "add_note", "text": name}


def branch(
    name: str, *, otherwise: list[dict[str, Any]] | None = None, **paths: list[dict[str, Any]]
) -> dict[str, Any]:
    made = {
        "id": name,
        "kind": "branch",
        "branches": [
            {"name": path, "when": YES, "actions": inside} for path, inside in paths.items()
        ],
    }
    return made | ({"otherwise": otherwise} if otherwise is not None else {})


def tree(*actions: dict[str, Any]) -> Graph:
    graph, problems = read(list(actions))
    assert problems == ()
    return graph


NESTED = (
    note("a"),
    branch(
        "b", x=[note("x1"), branch("c", y=[note("y1")]), note("x2")], z=[], otherwise=[note("o1")]
    ),
    note("d"),
)
GOOD: dict[str, list[dict[str, Any]]] = {
    "send_email": [{"template": "Ticket received"}, {"template": "News", "to": "associated"}],
    "notify_internal_email": [{"to": ["owner", "team@desk.example"], "subject": "s", "text": ""}],
    "delay": [
        {"for": "2d"},
        {"until": "2026-12-24"},
        {"field": "close_date", "for": "1d"},
        {"weekday": "mon", "time": "09:00"},
    ],
    "branch": [
        {"branches": [{"name": "x", "when": [YES]}]},
        {"field": "priority", "branches": [{"name": "x", "value": "low"}]},
    ],
    "set_status": [{"status": "Closed"}, {"status": "Won", "pipeline": "Sales"}],
    "set_field": [{"field": "priority", "value": "high"}, {"field": "close_date", "value": "none"}],
    "set_owner": [{"owner": "uma@desk.example"}],
    "add_note": [{"text": "hello"}],
    "add_tag": [{"tag": "lamp"}],
    "remove_tag": [{"tag": "lamp"}],
    "create_task": [{"text": "call"}, {"text": "call", "due": "1d 4h"}],
    "webhook": [{"url": "https://hook.example/a"}],
    "stop": [{}],
}


def test_every_kind_can_be_written() -> None:
    """3.1, S11: each kind takes its required and optional keys, a name and stop_on_failure."""
    assert GOOD.keys() == KEYS.keys()
    for kind, configs in GOOD.items():
        for config in configs:
            graph, problems = read(
                [{"id": "a", "kind": kind, "name": "A step", "stop_on_failure": True, **config}]
            )
            assert (problems, [each.kind for each in graph.all()]) == ((), [kind])


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        ("a", "an action is a table"),
        ({"kind": "stop"}, "needs an id"),
        ({"id": "a/b", "kind": "stop"}, "needs an id"),
        ({"id": "a", "kind": "dance"}, "unknown kind 'dance'"),
        ({"id": "a", "kind": ["stop"]}, "unknown kind"),
        ({"id": "a", "kind": "stop", "now": True}, "no key 'now'"),
        (
            {"id": "a", "kind": "stop", "stop_on_failure": "yes"},
            "stop_on_failure must be true or false",
        ),
        ({"id": "a", "kind": "stop", "name": ""}, "name must be text"),
        ({"id": "a", "kind": "send_email"}, "needs template"),
        ({"id": "a", "kind": "send_email", "template": " "}, "template must be text"),
        (
            {"id": "a", "kind": "send_email", "template": "T", "to": "everybody"},
            "to must be one of",
        ),
        (
            {"id": "a", "kind": "notify_internal_email", "to": [], "subject": "s", "text": "t"},
            "to must be a list",
        ),
        (
            {"id": "a", "kind": "notify_internal_email", "to": "owner", "subject": "s", "text": 5},
            "text must be text",
        ),
        (
            {
                "id": "a",
                "kind": "notify_internal_email",
                "to": ["owner"],
                "subject": "s\r\nBcc: x@y",
                "text": "t",
            },
            "subject must be one line",
        ),
        (
            {
                "id": "a",
                "kind": "notify_internal_email",
                "to": ["owner"],
                "subject": "s\u2028",
                "text": "t",
            },
            "subject must be one line",
        ),
        ({"id": "a", "kind": "delay", "for": "soon"}, "for must be a span"),
        ({"id": "a", "kind": "set_field", "field": "number", "value": 1}, "field must be one of"),
        ({"id": "a", "kind": "create_task", "text": "call", "due": 5}, "due must be a span"),
        ({"id": "a", "kind": "create_task", "text": "call", "due": "soon"}, "due must be a span"),
        ({"id": "a", "kind": "webhook", "url": "file:///etc/passwd"}, "url must start with"),
        ({"id": "a", "kind": "branch", "branches": []}, "a list of 1 to 20 tables"),
        (
            {
                "id": "a",
                "kind": "branch",
                "branches": [{"name": str(each), "when": YES} for each in range(MOST_BRANCHES + 1)],
            },
            "1 to 20",
        ),
        ({"id": "a", "kind": "branch", "branches": ["x"]}, "needs a name"),
        (
            {
                "id": "a",
                "kind": "branch",
                "branches": [{"name": "x", "when": YES}, {"name": "x", "when": YES}],
            },
            "a name of its own",
        ),
        (
            {"id": "a", "kind": "branch", "branches": [{"name": "x"}]},
            "branch 'x': a condition is a table",
        ),
        (
            {"id": "a", "kind": "branch", "branches": [{"name": "x", "value": "low"}]},
            "branch 'x': a condition is a table",
        ),
        (
            {"id": "a", "kind": "branch", "branches": [{"name": "x", "when": YES, "then": []}]},
            "no key 'then'",
        ),
        (
            {"id": "a", "kind": "branch", "branches": [{"name": "x", "when": YES, "actions": {}}]},
            "a list of actions",
        ),
        (branch("a", x=[note("a")]), "the id 'a' is used twice"),
    ],
)
def test_mistakes_are_reported(action: Any, problem: str) -> None:
    """Each mistake is reported with the action it is in, and nothing is raised."""
    assert any(problem in each for each in read([action])[1])


def test_trees_are_bounded() -> None:
    """The number of actions and the depth of branches are limited."""
    assert "at most" in read([note(str(each)) for each in range(MOST_ACTIONS + 1)])[1][0]
    deep = [note("inmost")]
    for level in range(DEEPEST):
        deep = [branch(str(level), x=deep)]
    assert read(deep)[1] == ()
    assert "deep" in read([branch("outmost", x=deep)])[1][0]


def test_what_follows_what() -> None:
    """3.3: actions follow one another as written; after a path comes what follows its branch."""
    graph = tree(*NESTED)
    following = {
        place: action.id if (action := graph.following(place)) is not None else None
        for place in (*graph.lists, *graph.home)
    }
    assert following == {
        START: "a",
        "a": "b",
        "b/x": "x1",
        "x1": "c",
        "c/y": "y1",
        "y1": "x2",
        "c/": "x2",
        "c": "x2",
        "x2": "d",
        "b/z": "d",
        "b/": "o1",
        "o1": "d",
        "b": "d",
        "d": None,
    }
    assert [each.id for each in graph.all()] == ["a", "b", "x1", "c", "y1", "x2", "o1", "d"]
    assert graph.action("y1") is not None
    assert graph.action("y2") is None


def test_actions_before_and_below() -> None:
    """The way back ends at the start; an action takes its paths and the rest of its list along."""
    graph = tree(*NESTED)
    for start in (*graph.lists, *graph.home):
        place, steps = start, 0
        while place != START:
            place, steps = graph.before(place), steps + 1
        assert steps <= len(graph.home)
    assert [graph.before(each) for each in ("a", "b", "x1", "b/x", "o1", "d")] == [
        START,
        "a",
        "b/x",
        "a",
        "b/",
        "b",
    ]
    assert graph.below("x1", following=False) == {"x1"}
    assert graph.below("c", following=True) == {"c", "c/y", "c/", "y1", "x2"}
    assert graph.below("b", following=False) == {
        "b",
        "b/x",
        "b/z",
        "b/",
        "x1",
        "c",
        "c/y",
        "c/",
        "y1",
        "x2",
        "o1",
    }


@pytest.mark.parametrize(
    ("place", "new", "expected"),
    [
        pytest.param("d", [note("a"), note("new"), note("d")], "d", id="it-still-is-there"),
        pytest.param("d", [note("a")], "a", id="back-over-a-branch-that-is-gone"),
        pytest.param("a", [note("d")], START, id="back-to-the-start"),
        pytest.param("x2", [note("a"), note("d")], "a", id="out-of-a-branch-that-is-gone"),
        pytest.param(
            "x1",
            [note("a"), branch("b", x=[note("x2")]), note("d")],
            "b/x",
            id="back-to-the-start-of-its-path",
        ),
        pytest.param("x1", [note("a"), branch("b", z=[])], None, id="its-path-is-gone"),
        pytest.param(
            "b/x", [note("a"), branch("b", z=[])], None, id="at-the-start-of-a-path-that-is-gone"
        ),
        pytest.param(
            "y1", [note("a"), branch("b", x=[note("x1")])], "x1", id="out-of-an-inner-branch"
        ),
        pytest.param("o1", [note("a"), branch("b", x=[])], "b/", id="otherwise-is-always-there"),
        pytest.param(
            "b",
            [note("a"), note("x1"), note("x2"), note("d")],
            "x2",
            id="past-a-branch-whose-path-was-kept",
        ),
        pytest.param("b", [note("a"), note("d")], "a", id="past-a-branch-that-is-gone"),
    ],
)
def test_the_place_after_an_edit(
    place: str, new: list[dict[str, Any]], expected: str | None
) -> None:
    """3.4: a run stays at its place or the nearest before it, never inside a removed path."""
    assert carry(tree(*NESTED), tree(*new), place) == expected


def test_a_run_in_a_deleted_place_ends() -> None:
    """3.4: a run at a deleted place ends, also when it was moved to that place."""
    old, new = tree(*NESTED), tree(note("a"))
    assert carry(old, new, "x1", frozenset({"x1"})) is None
    assert carry(old, new, "d", frozenset({"b"})) is None
    assert carry(old, new, "d", frozenset({"x1"})) == "a"


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(list(KEYS)),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "kind",
                    "branches",
                    "actions",
                    "otherwise",
                    "name",
                    "when",
                    "value",
                    "for",
                    "to",
                    "due",
                ]
            ),
            inside,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.lists(
        JUNK
        | st.fixed_dictionaries(
            {"id": st.sampled_from("abc"), "kind": st.sampled_from(list(KEYS)), "branches": JUNK}
        )
    )
)
@settings(deadline=None, derandomize=True, max_examples=120)
def test_anything_can_be_read(raw: Any) -> None:
    """Any input is read: problems are reported, and the rest is a valid tree."""
    graph, problems = read(raw)
    assert all(isinstance(each, str) for each in problems)
    for action in graph.all():
        assert action.id in graph
        graph.following(action.id)
