"""Tests of the structural changes that behaviour.md 2.5 refuses, row by row, without a database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.pipeline import Pipeline, Status
from core.rules import structure
from core.rules.structure import References

NEW, WAITING, CLOSED = (
    Status(1, "New", "open", 1),
    Status(2, "Waiting", "open", 2),
    Status(3, "Closed", "closed", 3),
)
SUPPORT = Pipeline(1, "Support", (NEW, WAITING, CLOSED), is_default=True)
SALES = Pipeline(2, "Sales", (Status(4, "Lead", "open", 1), Status(5, "Won", "closed", 2)))
SOUND = [("A", "open"), ("B", "closed")]


def kind(found) -> tuple[str, str] | None:
    """Return the (kind, rule) of each refusal."""
    return (found.kind, found.rule) if found is not None else None


@pytest.mark.parametrize(
    ("name", "statuses", "refused"),
    [
        ("Help", SOUND, None),
        ("support", SOUND, ("conflict", "")),
        ("X", [("A", "open")], ("rule", "P03")),
        ("X", [("B", "closed")], ("rule", "P03")),
        ("X", [("A", "open"), ("a", "closed")], ("rule", "P03")),
    ],
)
def test_p03_a_new_pipeline_is_sound(name, statuses, refused):
    """P03: a new pipeline needs an open and a closed status; names are unique without case."""
    assert kind(structure.refuse_new_pipeline(name, statuses, [SUPPORT])) == refused


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"on_email_sent": 2, "on_customer_reply": None}, None),
        ({"on_email_sent": 4}, ("invalid", "")),
        ({"name": "SALES"}, ("conflict", "")),
        ({"name": "SUPPORT"}, None),
        ({"is_default": False}, ("rule", "")),
        ({"is_default": True}, None),
    ],
)
def test_switches_lead_to_statuses_of_the_same_pipeline(settings, refused):
    """A trigger's target is in its pipeline, names are unique, one pipeline is the default."""
    assert kind(structure.refuse_switches(SUPPORT, settings, [SUPPORT, SALES])) == refused


def test_p03_the_last_of_a_kind_stays():
    """P03: a pipeline keeps one open and one closed status, even when unused."""
    unused = References(0)
    assert kind(structure.refuse_state(SUPPORT, CLOSED, "open")) == ("rule", "P03")
    assert structure.refuse_state(SUPPORT, NEW, "closed") is None
    assert kind(structure.refuse_status_deletion(SUPPORT, CLOSED, unused)) == ("rule", "P03")
    assert kind(structure.refuse_missing_status(SUPPORT, CLOSED)) == ("rule", "P03")
    assert structure.refuse_status_deletion(SUPPORT, NEW, unused) is None


def test_p04_a_status_in_use_is_refused_with_its_references():
    """P04: the refusal names and counts everything that uses the status."""
    uses = References(2, ("on_customer_reply",), ("support@localhost",), ("a of Support / New",))
    refused = structure.refuse_status_deletion(SUPPORT, WAITING, uses)
    assert refused.rule == "P04"
    assert refused.reason == (
        "the status 'Waiting' is in use: 2 tickets, the trigger on_customer_reply, "
        "the channel support@localhost, the action a of Support / New"
    )
    assert str(References(1)) == "1 ticket"


def test_p06_a_pipeline_goes_only_when_it_is_empty_and_not_the_default():
    """P06: a pipeline with tickets or channels stays, and so does the default one."""
    assert kind(structure.refuse_pipeline_deletion(SUPPORT, References(0))) == ("rule", "P06")
    refused = structure.refuse_pipeline_deletion(SALES, References(1, (), ("a@b.example",)))
    assert (refused.rule, "1 ticket, the channel a@b.example" in refused.reason) == ("P06", True)
    assert structure.refuse_pipeline_deletion(SALES, References(0)) is None


def test_p01_names_and_positions_of_statuses():
    """P01: status names are unique without case, but may change case; positions must exist."""
    assert kind(structure.refuse_status_name(SUPPORT, "WAITING")) == ("conflict", "")
    assert structure.refuse_status_name(SUPPORT, "WAITING", WAITING) is None
    assert [kind(structure.refuse_position(SUPPORT, at)) for at in (0, 1, 3, 4)] == [
        ("invalid", ""),
        None,
        None,
        ("invalid", ""),
    ]


def test_p04_the_tickets_of_a_deleted_status_go_elsewhere():
    """P04: the tickets of a deleted status cannot go to that same status."""
    assert kind(structure.refuse_replacement(NEW, NEW)) == ("invalid", "")
    assert structure.refuse_replacement(NEW, CLOSED) is None


@pytest.mark.parametrize(
    ("wanted", "refused"),
    [
        ([(1, "New", "open"), (None, "Done", "closed")], None),
        ([(1, "New", "open")], ("rule", "P03")),
        ([(1, "New", "open"), (1, "Done", "closed")], ("rule", "")),
        ([(4, "New", "open"), (3, "Done", "closed")], ("rule", "")),
    ],
)
def test_p03_an_arrangement_is_sound_and_has_each_status_once(wanted, refused):
    """P03: an arrangement keeps the pipeline valid and lists each of its statuses once."""
    assert kind(structure.refuse_arrangement(SUPPORT, wanted)) == refused


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("help@example.com", None),
        ("nonsense", ("invalid", "")),
        ("a b@example.com", ("invalid", "")),
        ("", ("invalid", "")),
        ("support@localhost", ("conflict", "")),
        ("uma@example.com", ("conflict", "")),
    ],
)
def test_a_channel_is_one_address_and_no_users(address, refused):
    """An invalid address, another channel's or a user's address cannot become a channel."""
    found = structure.refuse_channel(address, {"support@localhost"}, {"uma@example.com"})
    assert kind(found) == refused


def test_lists_of_a_channel_hold_addresses_and_domains():
    """Lists take addresses and @domain; the status must be in the channel's pipeline."""
    assert structure.refuse_sender_rules({"a@b.example", "@b.example"}) is None
    assert kind(structure.refuse_sender_rules({"no address"})) == ("invalid", "")
    assert structure.refuse_foreign_status(SUPPORT, None) is None
    assert structure.refuse_foreign_status(SUPPORT, 1) is None
    assert kind(structure.refuse_foreign_status(SUPPORT, 4)) == ("invalid", "")


@pytest.mark.parametrize(
    ("addresses", "refused"),
    [
        (["new@example.org"], None),
        ([], ("invalid", "")),
        ([""], ("invalid", "")),
        (["nonsense"], ("invalid", "")),
        (["new@example.org", "u@example.org"], ("conflict", "")),
        (["support@localhost"], ("conflict", "")),
    ],
)
def test_users_have_addresses_of_their_own(addresses, refused):
    """An address belongs to one user, and never to a channel as well."""
    found = structure.refuse_user_addresses(addresses, {"u@example.org"}, {"support@localhost"})
    assert kind(found) == refused


def test_templates_in_use_and_built_in_ones_stay():
    """A template that a workflow sends, or a built-in one, cannot be deleted."""
    free = structure.refuse_template_deletion("Hello", builtin=False, senders=())
    used = structure.refuse_template_deletion("Hello", builtin=False, senders=("hi of S / New",))
    built_in = structure.refuse_template_deletion("Hello", builtin=True, senders=())
    assert (free, used.reason) == (None, "the template 'Hello' is sent by hi of S / New")
    assert "built in" in built_in.reason


def test_an_unused_status_has_no_references():
    """An unused status reports no reference of any kind."""
    assert not References(0)
    one = References(0, ("a",), ("b",), ("c",))
    assert all(map(bool, (References(1), replace(one, triggers=()), replace(one, channels=()))))
