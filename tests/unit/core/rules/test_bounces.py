"""Tests of reports about our mail: which deliveries end, who is told (behaviour.md O12, E29)."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from core.decisions.outgoing import FailDelivery, Notify
from core.decisions.tickets import RaiseFlags, Remark
from core.events import Cause, Delivered, MailArrived
from core.model.message import Bounce, BounceRecipient, Message
from core.rules.bounces import handle_report

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ANN = Delivered(1, "ann@example.org", "sent", "r@x", 3, 7, automatic=False)
BOB = Delivered(2, "Bob@Example.org", "sent", "r@x", 3, 7, automatic=False)
WHY = "5.1.1 no such user"


def about(
    address: str | None, action: Any = "failed", original: str | None = None
) -> BounceRecipient:
    return BounceRecipient(address, original, action, "5.1.1", "no such user")


def report(
    *recipients: BounceRecipient,
    action: Any = "failed",
    deliveries: tuple[Delivered, ...] = (ANN, BOB),
    **more: Any,
) -> MailArrived:
    """Return a report as it arrives; fields that `handle_report` does not read stay empty."""
    empty = dict.fromkeys([each.name for each in fields(Message)], "")
    message = Message(
        **(empty | {"message_id": "b@x", "bounce": Bounce(action, recipients, "r@x")})
    )  # type: ignore[arg-type]
    arrived: dict[str, Any] = dict.fromkeys([each.name for each in fields(MailArrived)])
    return MailArrived(
        **(
            arrived
            | {
                "message": message,
                "received_at": NOW,
                "deliveries": deliveries,
                "channels": (),
                "joined": (),
            }
            | more
        )
    )


def failures(event: MailArrived, ticket: int | None = 3) -> list[int]:
    return [
        each.delivery for each in handle_report(event, ticket) if isinstance(each, FailDelivery)
    ]


def test_it_came_back() -> None:
    """O12: the delivery fails, the ticket is flagged, its owner told, and nothing moves."""
    assert handle_report(report(about("ANN@example.org")), 3) == [
        FailDelivery(1, "ann@example.org", WHY, hard=True),
        RaiseFlags(3, ("delivery_failed",)),
        Notify(3, "failure", f"mail to ann@example.org failed: {WHY}"),
    ]


def test_it_is_late() -> None:
    """O12: a delay report is noted on the ticket and ends no delivery."""
    decided = handle_report(report(about("ann@example.org", "delayed")), 3)
    assert decided == [
        Remark(3, Cause("mail", "b@x"), f"mail to ann@example.org is delayed: {WHY}")
    ]


@pytest.mark.parametrize("action", ["delivered", "relayed", "expanded", "unknown"])
def test_success_reports_change_nothing(action: Any) -> None:
    """E29: reports of success and unreadable reports end no delivery."""
    assert handle_report(report(about("ann@example.org", action)), 3) == []


@pytest.mark.parametrize(
    ("recipients", "more", "expected"),
    [
        pytest.param([about("bob@example.org")], {}, [2], id="by-address"),
        pytest.param(
            [about("b@relay.example", original="bob@example.org")],
            {},
            [2],
            id="by-what-it-was-before",
        ),
        pytest.param([about("ann@example.org"), about("bob@example.org")], {}, [1, 2], id="both"),
        pytest.param([about("b@relay.example")], {"returned": 2}, [2], id="by-the-return-path"),
        pytest.param([], {"returned": 2}, [2], id="by-the-return-path-alone"),
        pytest.param([], {"deliveries": (ANN,)}, [1], id="the-only-one"),
        pytest.param([], {}, [], id="which-one"),
        pytest.param([about("eve@example.org")], {}, [], id="nobody-we-wrote-to"),
        pytest.param([about("ann@example.org")], {"deliveries": ()}, [], id="nothing-sent"),
        pytest.param(
            [about("ann@example.org")],
            {"deliveries": (replace(ANN, state="failed"),)},
            [],
            id="known-already",
        ),
        pytest.param(
            [about("b1@relay.example"), about("b2@relay.example")],
            {"returned": 2},
            [2],
            id="an-alias-of-two",
        ),
    ],
)
def test_which_delivery_it_is_about(
    recipients: list[BounceRecipient], more: dict[str, Any], expected: list[int]
) -> None:
    """E29: the delivery is found by address, return path, or as the only one; it ends once."""
    assert failures(report(*recipients, **more)) == expected


def test_a_report_without_thread_reaches_the_ticket_of_its_delivery() -> None:
    """E29: a report on no thread reaches the delivery's ticket, if there is one."""
    flagged = [
        each
        for each in handle_report(report(about("ann@example.org")), None)
        if isinstance(each, RaiseFlags)
    ]
    assert flagged == [RaiseFlags(3, ("delivery_failed",))]
    loose = report(about("ann@example.org"), deliveries=(replace(ANN, ticket=None),))
    assert handle_report(loose, None) == [FailDelivery(1, "ann@example.org", WHY, hard=True)]


def test_a_report_without_words() -> None:
    """E29: an empty report still yields a text, and a long diagnostic is cut."""
    bare = handle_report(report(action="failed", deliveries=(ANN,)), 3)
    assert bare[0] == FailDelivery(
        1, "ann@example.org", "a report says that it could not be delivered", hard=False
    )
    long = handle_report(
        report(BounceRecipient("ann@example.org", None, "failed", None, "x" * 9000)), 3
    )
    assert all(len(getattr(each, "reply", getattr(each, "detail", ""))) <= 500 for each in long)
    quiet = report(about("ann@example.org"))
    assert handle_report(replace(quiet, message=replace(quiet.message, bounce=None)), 3) == []
