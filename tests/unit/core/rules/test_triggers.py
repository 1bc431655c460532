"""Tests of the status rules S7, S8, S9 in order (behaviour.md 2.1, step 9), all combinations."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from core.model.ticket import Thread, Ticket
from core.pipeline import Pipeline, Status
from core.rules.triggers import IncomingReply, qualifies, status_rule

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
NEW, WAITING, US, CLOSED = 1, 2, 3, 4
PIPELINE = Pipeline(
    1,
    "Support",
    (
        Status(1, "New", "open", 1),
        Status(2, "Waiting", "open", 2),
        Status(3, "Us", "open", 3),
        Status(4, "Closed", "closed", 4),
    ),
    on_customer_reply=US,
)
OPEN = Ticket(1, "A question", 1, NEW, "email", NOW)
ORIGIN = Thread(1, "normal", NOW, ticket=1, origin=True, attached_at=NOW)
REPLY = IncomingReply(
    "human", "contact", ORIGIN, answers_forward=False, late=False, automation=True
)


@pytest.mark.parametrize(
    ("change", "why", "flags"),
    [
        pytest.param({"kind": "bounce"}, "report", (), id="E29-bounce"),
        pytest.param({"kind": "report"}, "report", (), id="E29-report"),
        pytest.param({"kind": "auto_reply"}, "auto-reply", (), id="E26"),
        pytest.param({"role": "self"}, "written by us", (), id="self"),
        pytest.param({"role": "user"}, "user's own mail", (), id="E18-S8d"),
        pytest.param(
            {"thread": replace(ORIGIN, kind="forward")},
            "reply to a forward",
            ("needs_attention",),
            id="E17-S8b",
        ),
        pytest.param(
            {"answers_forward": True}, "reply to a forward", ("needs_attention",), id="E17b-S8b"
        ),
        pytest.param({"kind": "forward"}, "forward", ("needs_attention",), id="E16-S8a"),
        pytest.param({"role": "machine"}, "machine", (), id="machine"),
        pytest.param({"late": True}, "earlier mail arrived late", (), id="late-parent"),
        pytest.param({"automation": False}, "automation off", (), id="import"),
    ],
)
def test_what_never_moves_a_ticket(
    change: dict[str, Any], why: str, flags: tuple[str, ...]
) -> None:
    """INV2, C4, C11: these mails move no ticket, open or closed; the reason is reported."""
    for status, target in product((NEW, CLOSED), (None, US, CLOSED)):
        ruling = status_rule(
            replace(REPLY, **change),
            replace(OPEN, status_id=status),
            replace(PIPELINE, on_customer_reply=target),
        )
        assert (ruling.status_id, ruling.why, ruling.flags) == (None, why, flags)


@pytest.mark.parametrize("kind", ["human", "bulk", "auto_generated"])
@pytest.mark.parametrize("role", ["contact", "stranger"])
def test_what_people_write_moves_it(kind: Any, role: Any) -> None:
    """E04 to E06, E10, E11, E22 to E24, E42, C3, C6: they move the ticket by S9 or trigger B."""
    reply = replace(REPLY, kind=kind, role=role)
    assert status_rule(reply, OPEN, PIPELINE).status_id == US
    assert status_rule(reply, replace(OPEN, status_id=US), PIPELINE).why == "already in target"
    off = status_rule(reply, OPEN, replace(PIPELINE, on_customer_reply=None))
    assert (off.status_id, off.flags) == (None, ("unread_reply",))
    for target in (None, US, CLOSED):
        closed = status_rule(
            reply, replace(OPEN, status_id=CLOSED), replace(PIPELINE, on_customer_reply=target)
        )
        assert (closed.rule, closed.status_id) == ("S9", NEW)


def test_strangers_may_be_flagged_instead() -> None:
    """Section 5: with strangers flagged only a contact moves a ticket, also a closed one."""
    pipeline = replace(PIPELINE, strangers="flag")
    for status in (NEW, CLOSED):
        ruling = status_rule(
            replace(REPLY, role="stranger"), replace(OPEN, status_id=status), pipeline
        )
        assert (ruling.status_id, ruling.flags) == (None, ("needs_attention", "unread_reply"))
    assert status_rule(REPLY, replace(OPEN, status_id=CLOSED), pipeline).status_id == NEW


@pytest.mark.parametrize(
    ("origin", "reopened", "attached", "expected"),
    [
        pytest.param(True, 0, -1, True, id="origin"),
        pytest.param(False, 0, 1, False, id="E07-never-reopened"),
        pytest.param(False, 1, 1, True, id="E08-attached-after-the-first-close"),
        pytest.param(False, 1, 0, True, id="E08-at-its-instant"),
        pytest.param(False, 1, -1, False, id="E09-attached-before"),
        pytest.param(False, 3, -1, False, id="E09-however-often"),
        pytest.param(False, 1, None, False, id="unattached"),
    ],
)
def test_which_threads_trigger_b_looks_at(
    origin: bool, reopened: int, attached: int | None, expected: bool
) -> None:
    """S7, C2: the origin thread, and after a reopening those attached since the first close."""
    closed_at = NOW + timedelta(days=1)
    thread = replace(
        ORIGIN,
        origin=origin,
        attached_at=closed_at + timedelta(hours=attached) if attached is not None else None,
    )
    ticket = replace(OPEN, reopened_count=reopened, first_closed_at=closed_at if reopened else None)
    assert qualifies(thread, ticket) is expected
    assert (
        status_rule(replace(REPLY, thread=thread), ticket, PIPELINE).status_id == US
    ) is expected


def test_the_first_open_status_is_read_now() -> None:
    """P01, scenarios 68 and 69: the first open status is read when the reply arrives."""
    steps = (
        Status(3, "Us, renamed", "open", 1),
        *(step for step in PIPELINE.statuses if step.id != US),
    )
    assert (
        status_rule(
            REPLY, replace(OPEN, status_id=CLOSED), replace(PIPELINE, statuses=steps)
        ).status_id
        == US
    )
