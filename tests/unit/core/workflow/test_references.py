"""Tests of finding and replacing the names in a workflow (behaviour.md P04)."""

from __future__ import annotations

import copy

import pytest

from core.model.condition import FIELDS
from core.model.workflow import COMMON, KEYS
from core.pipeline import Pipeline, Status
from core.workflow import references
from core.workflow.references import renamed, uses


def pipeline(number, name, *statuses):
    made = (
        Status(number * 10 + place, each, "open", place)
        for place, each in enumerate((*statuses, "Closed"), 1)
    )
    return Pipeline(number, name, tuple(made))


SUPPORT, SALES = pipeline(1, "Support", "New", "Waiting"), pipeline(2, "Sales", "Lead", "Won")
LEGAL = pipeline(3, "Legal", "Won", "Lost")
KNOWN = (SUPPORT, SALES, LEGAL)
# Keys of actions and fields of conditions whose text names nothing that could be renamed.
PLAIN_KEYS = {
    "delay": "for until field weekday time event",
    "branch": "branches otherwise field",
    "set_field": "field value",
    "notify_internal_email": "subject text",
    "send_email": "to",
    "add_note": "text",
    "add_tag": "tag",  # a tag is nothing but its text
    "remove_tag": "tag",
    "create_task": "text due",
    "webhook": "url",
}
PLAIN_FIELDS = set(
    "number subject priority source requester requester_domain tags flags created_at closed_at"
    " close_date reopened_count last_customer_message_at last_agent_message_at first_response_at"
    " times_contacted".split()
)


def test_every_key_of_every_action_is_a_name_or_plain():
    """A new key of an action has to be put into one of the two tables: P04 walks the names."""
    for kind, (needed, possible) in KEYS.items():
        named = {key for of, key in references.IN_ACTIONS if of == kind}
        plain = set(PLAIN_KEYS.get(kind, "").split())
        assert named | plain == needed | possible, kind
        assert not named & plain
    assert set(COMMON) == {"id", "kind", "name", "stop_on_failure"}


def test_every_field_of_a_condition_is_a_name_or_plain():
    """A new field of conditions has to be put into one of the two tables: P04 walks the names."""
    assert set(references.IN_CONDITIONS) | PLAIN_FIELDS == set(FIELDS)
    assert not set(references.IN_CONDITIONS) & PLAIN_FIELDS


def status(value, op="eq"):
    return {"field": "status", "op": op, "value": value}


def fork(**branch):
    return {"id": "fork", "kind": "branch", "branches": [{"name": "x", **branch}]}


PLACES = {
    "filter": lambda name: {"filter": status(name)},
    "default op": lambda name: {"filter": {"field": "status", "value": name}},
    "not equal": lambda name: {"filter": status(name, "ne")},
    "contains": lambda name: {"filter": status(name, "contains")},
    "list": lambda name: {"filter": [status(name)]},
    "groups": lambda name: {"unenroll_when": {"any": [{"all": [status(name)]}]}},
    "when": lambda name: {"actions": [fork(when=status(name))]},
    "path per value": lambda name: {"actions": [fork(value=name) | {"field": "status"}]},
    "action": lambda name: {"actions": [{"id": "a", "kind": "set_status", "status": name}]},
    "in a path": lambda name: {
        "actions": [
            fork(when=status("Other"), actions=[{"id": "a", "kind": "set_status", "status": name}])
        ]
    },
    "otherwise": lambda name: {
        "actions": [
            fork(when=status("Other"))
            | {"otherwise": [{"id": "a", "kind": "set_status", "status": name}]}
        ]
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_a_status_is_renamed_in_every_place(place):
    """Each place that can name a status gets the new name; the given workflow stays as it is."""
    flow, kept = PLACES[place]("Waiting"), PLACES[place]("Waiting")
    made = renamed(flow, "Support", lambda use: "Ours" if use.names("status", "waiting ") else None)
    assert made == PLACES[place]("Ours")
    assert flow == kept


def test_templates_pipelines_and_users_are_found():
    """Names of templates, pipelines and users are found; "owner" and "none" are no users."""
    flow = {
        "actions": [
            {"id": "s", "kind": "set_status", "status": "Won", "pipeline": "Sales"},
            {"id": "m", "kind": "send_email", "template": "Hello"},
            {"id": "o", "kind": "set_owner", "owner": "Olga"},
            {"id": "n", "kind": "set_owner", "owner": "none"},
            {"id": "t", "kind": "notify_internal_email", "to": ["owner", "bea@ours.example"]},
        ],
        "filter": {"field": "owner", "op": "ne", "value": "olga@ours.example"},
    }
    assert {(use.what, use.name, use.place, use.pipeline) for use in uses(flow, "Support")} == {
        ("status", "Won", "s", "Sales"),
        ("pipeline", "Sales", "s", None),
        ("template", "Hello", "m", None),
        ("user", "Olga", "o", None),
        ("user", "bea@ours.example", "t", None),
        ("user", "olga@ours.example", "filter", None),
    }


@pytest.mark.parametrize(
    ("flow", "meant"),
    [
        (status("New"), [SUPPORT]),
        (status("Lead"), [SALES]),
        (status("Won"), [SALES, LEGAL]),
        (status("Closed"), [SUPPORT]),
        ([status("Won"), {"field": "pipeline", "value": "Legal"}], [LEGAL]),
        ([status("Closed"), {"field": "pipeline", "value": "legal"}], [LEGAL]),
        ([status("Won"), {"field": "pipeline", "op": "ne", "value": "Legal"}], [SALES, LEGAL]),
        ([{"any": [status("Won")]}, {"field": "pipeline", "value": "Legal"}], [LEGAL]),
        (status("Nowhere"), []),
    ],
    ids=str,
)
def test_a_condition_means_the_status_of_its_own_pipeline_first(flow, meant):
    """A status is that of the pipeline named beside it, else of the own one, else of any."""
    found = [use for use in uses({"filter": flow}, "Support") if use.what == "status"]
    assert found[0].pipelines(SUPPORT, KNOWN) == meant


@pytest.mark.parametrize(
    "flow",
    [
        {},
        {"filter": None, "actions": None},
        {"filter": "x", "actions": ["x", {}, {"kind": []}]},
        {"filter": {"all": "x"}, "actions": [{"kind": "branch", "branches": ["x", {"when": 1}]}]},
        {"filter": {"field": [], "value": 1}},
        {"filter": status("", "eq"), "unenroll_when": {"field": "status", "op": "empty"}},
        {"actions": [{"id": "o", "kind": "set_owner", "owner": 7}]},
    ],
    ids=str,
)
def test_what_cannot_be_read_names_nothing(flow):
    """Broken or empty parts of a workflow are kept as they are."""
    before = copy.deepcopy(flow)
    assert uses(flow, "Support") == []
    assert renamed(flow, "Support", lambda _: "x") == before
