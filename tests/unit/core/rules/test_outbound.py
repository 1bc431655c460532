"""Tests of mail that users send: rows O01 to O16 of behaviour.md 2.3."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from core.decide import decide
from core.decisions.outgoing import (
    DropNotices,
    Enrol,
    FailDelivery,
    FailDraft,
    Notify,
    QueueMail,
    ReplyRecorded,
    SettleDeliveries,
    WakeRuns,
)
from core.decisions.tickets import NEW as NEW_TICKET
from core.decisions.tickets import (
    AddNote,
    Decision,
    OpenTicket,
    RaiseFlags,
    SetClosure,
    SetFields,
    SetStatus,
    SkipRule,
)
from core.events import (
    Cause,
    Delivered,
    DeliveryFailed,
    DraftFailed,
    EmailSent,
    NoteWritten,
    NoticesUnsendable,
    NoticesWritten,
    Prepared,
    RunDue,
    TicketOpened,
)
from core.model.message import Address
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Contact, Thread, Ticket, User
from core.model.workflow import START, Enrolment, Workflow, read
from core.pipeline import Pipeline, Status
from core.rules.outbound import is_hard
from core.state import State
from core.workflow.enrol import OURS

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
NEW, WAITING, CLOSED = 1, 2, 3
STEPS = (
    Status(1, "New", "open", 1),
    Status(2, "Waiting", "open", 2),
    Status(3, "Closed", "closed", 3),
)
PIPELINE = Pipeline(1, "Support", STEPS, on_email_sent=WAITING)
UMA = User(7, "Uma", frozenset({"uma@desk.example"}), address="uma@desk.example")
TICKET = Ticket(3, "A lamp", 1, NEW, "email", NOW, owner_id=7)
SHUT = replace(
    TICKET, status_id=CLOSED, closed_at=NOW, close_date=date(2026, 11, 22), first_closed_at=NOW
)
ORIGIN = Thread(1, "normal", NOW, 1, 3, origin=True, attached_at=NOW)
MAIL = Outgoing(
    message_id="r@x",
    sender=Address("", "s@x"),
    to=(),
    cc=(),
    subject="Re: A lamp",
    text="t",
    date=NOW,
    raw=b"",
    recipients=("ann@example.org",),
    kind="human",
    thread=ORIGIN,
)
USER, A = Cause("user", user="uma@desk.example"), Cause("A", "r@x", "uma@desk.example")
SENT = EmailSent(MAIL, USER, TICKET, PIPELINE, associated=True, author=UMA)
GRAPH = read([{"id": "m", "kind": "send_email", "template": "Ticket received"}])[0]
WORKFLOWS = {
    each: Workflow(10 + each, 1, each, 1, GRAPH, enabled=True) for each in (NEW, WAITING, CLOSED)
}


def sent(event: Any = SENT, pipeline: Pipeline = PIPELINE, **more: Any) -> list[Decision]:
    if isinstance(event, EmailSent):
        event = replace(
            event, **({"pipeline": pipeline} if event.pipeline is not None else {}), **more
        )
    return list(decide(event, State({1: pipeline}, UTC, WORKFLOWS), NOW))


def moves(decided: list[Decision]) -> list[Decision]:
    return [each for each in decided if isinstance(each, SetStatus | SetClosure | Enrol | SkipRule)]


def test_o01_a_user_writes_to_a_contact_of_the_ticket() -> None:
    """O01, S6: once the mail is queued the ticket moves to A's target, whose workflow starts."""
    assert sent() == [
        QueueMail(3, MAIL, USER),
        ReplyRecorded(3, contact=True),
        WakeRuns(3, "agent_reply"),
        SetStatus(3, 1, WAITING, A),
        Enrol(3, 12, A),
    ]


def test_o01_who_answers_owns_it() -> None:
    """2.6: a user who replies becomes owner of a ticket without one; a program does not."""
    free = replace(TICKET, owner_id=None)
    assert SetFields(3, (("owner_id", 7),), USER) in sent(ticket=free)
    assert not any(
        isinstance(each, SetFields)
        for each in [*sent(ticket=free, author=None), *sent(ticket=replace(TICKET, owner_id=8))]
    )


@pytest.mark.parametrize(
    ("target", "status", "why"), [(None, NEW, "trigger A is off"), (NEW, NEW, "already in target")]
)
def test_o02_off_or_there_already(target: int | None, status: int, why: str) -> None:
    """O02: with A off, or the ticket already there, nothing moves; the reason is reported."""
    assert moves(
        sent(
            pipeline=replace(PIPELINE, on_email_sent=target),
            ticket=replace(TICKET, status_id=status),
        )
    ) == [SkipRule(3, A, why)]


def test_o03_from_the_contact_record() -> None:
    """O03, S6, INV11: mail from the contact record belongs to no ticket and changes none."""
    assert sent(ticket=None, pipeline=PIPELINE) == [QueueMail(None, MAIL, USER)]
    assert list(
        decide(EmailSent(MAIL, USER, associated=True, author=UMA), State({1: PIPELINE}, UTC), NOW)
    ) == [QueueMail(None, MAIL, USER)]


def test_o04_to_nobody_associated() -> None:
    """O04, C20: mail to a supplier is kept on the ticket, but answers no contact of the ticket."""
    decided = sent(associated=False)
    assert decided[:2] == [QueueMail(3, MAIL, USER), ReplyRecorded(3, contact=False)]
    assert decided[2:] == [SkipRule(3, A, "no associated contact among the recipients")]


@pytest.mark.parametrize("ticket", [TICKET, SHUT])
def test_o05_forwarding_out_of_the_ticket(ticket: Ticket) -> None:
    """O05, S8a, INV2: a forward moves nothing, also to a contact or when closed, nor answers."""
    mail = replace(
        MAIL, kind="forward", fresh=True, thread=replace(ORIGIN, id=0, kind="forward", origin=False)
    )
    assert sent(ticket=ticket, mail=mail) == [QueueMail(3, mail, USER), SkipRule(3, A, "forward")]


def test_o07_a_note() -> None:
    """O07: a note moves nothing."""
    assert sent(NoteWritten(TICKET, "hello", USER)) == [AddNote(3, "hello", USER)]


def test_o08_automated_mail() -> None:
    """O08, INV7: mail of a workflow moves nothing, is no answer and wakes no run."""
    run = Enrolment(5, 11, 3, "ACTIVE", START, NOW, NOW, NOW)
    prepared = Prepared((replace(MAIL, kind="auto_generated", automatic=True),))
    decided = sent(
        RunDue(TICKET, WORKFLOWS[NEW], run, frozenset(), Cause("workflow"), prepared=prepared)
    )
    assert any(isinstance(each, QueueMail) for each in decided)
    assert not any(
        isinstance(each, SetStatus | ReplyRecorded | WakeRuns | SetFields) for each in decided
    )


def test_o09_from_a_closed_ticket() -> None:
    """O09, C5: a closed ticket is reopened into the target of A, and its close date is cleared."""
    assert moves(sent(ticket=SHUT)) == [
        SetStatus(3, 1, WAITING, A),
        SetClosure(3, A, None, None, reopened=True),
        Enrol(3, 12, A),
    ]


@pytest.mark.parametrize("target", [None, WAITING, CLOSED])
def test_o10_send_and_close(target: int | None) -> None:
    """O10: the explicit status wins over A; its workflow starts once the reply is queued."""
    decided = sent(pipeline=replace(PIPELINE, on_email_sent=target), status_id=CLOSED)
    assert decided[0] == QueueMail(3, MAIL, USER)
    assert moves(decided) == [
        SetStatus(3, 1, CLOSED, USER),
        SetClosure(3, USER, NOW, date(2026, 11, 22)),
        Enrol(3, 13, USER),
    ]
    assert moves(sent(ticket=SHUT, status_id=CLOSED)) == []
    assert moves(sent(associated=False, status_id=WAITING))[0] == SetStatus(3, 1, WAITING, USER)


def test_o11_a_scheduled_mail() -> None:
    """O11: a scheduled mail is decided on the ticket as it is at the time of sending."""
    mail = replace(MAIL, draft=9)
    assert moves(sent(mail=mail, ticket=replace(TICKET, status_id=WAITING))) == [
        SkipRule(3, A, "already in target")
    ]
    assert sent(mail=mail)[0] == QueueMail(3, mail, USER)


def test_o12_it_comes_back_later() -> None:
    """O12: the ticket is flagged, its owner told, each delivery settled; the status stays."""
    found = (
        Delivered(1, "ann@example.org", "failed", "r@x", 3, 7, automatic=False),
        Delivered(2, "b@x", "failed", "r@x", 3, 7, automatic=False),
    )
    event = DeliveryFailed(
        TICKET, found, {1: "550 5.1.1 no such user", 2: "452 4.2.2 full"}, Cause("mail")
    )
    assert sent(event) == [
        FailDelivery(1, "ann@example.org", "550 5.1.1 no such user", hard=True),
        RaiseFlags(3, ("delivery_failed",)),
        Notify(3, "failure", "mail to ann@example.org failed: 550 5.1.1 no such user"),
        FailDelivery(2, "b@x", "452 4.2.2 full", hard=False),
        RaiseFlags(3, ("delivery_failed",)),
        Notify(3, "failure", "mail to b@x failed: 452 4.2.2 full"),
        SettleDeliveries((1, 2)),
    ]
    assert sent(replace(event, ticket=None)) == [SettleDeliveries((1, 2))]


def test_a_scheduled_mail_that_cannot_be_built_fails() -> None:
    """O11: it is not sent, and its failed deliveries report that to the ticket."""
    assert sent(DraftFailed(9, "ticket 3 is in the trash")) == [
        FailDraft(9, "ticket 3 is in the trash")
    ]


def test_notices_become_one_mail_or_are_dropped() -> None:
    """Several notifications of a user become one mail; those of nobody reachable are dropped."""
    assert sent(NoticesWritten(3, MAIL, (1, 2))) == [QueueMail(3, MAIL, Cause("mail"), (1, 2))]
    assert sent(NoticesUnsendable((1, 2))) == [DropNotices((1, 2))]


def test_o13_a_new_conversation_from_a_channel() -> None:
    """O13, C13: it opens a ticket in the given status without A; its workflow sends no receipt."""
    opens = TicketOpened(
        "A lamp", PIPELINE, NEW, "email", USER, requester=Contact(5, "ann@example.org", "Ann")
    )
    decided = sent(EmailSent(MAIL, USER, associated=True, author=UMA, opens=opens))
    assert [type(each) for each in decided] == [OpenTicket, QueueMail, Enrol]
    assert decided[1:] == [QueueMail(NEW_TICKET, MAIL, USER), Enrol(NEW_TICKET, 11, USER, OURS)]


def test_o15_a_second_thread_from_the_ticket() -> None:
    """O15: a new thread to a contact of the ticket moves it as in O01; the thread is no origin."""
    mail = replace(MAIL, fresh=True, thread=replace(ORIGIN, id=0, origin=False))
    decided = sent(mail=mail)
    assert (decided[0], moves(decided)[0]) == (
        QueueMail(3, mail, USER),
        SetStatus(3, 1, WAITING, A),
    )


def test_o16_on_behalf_of_a_user() -> None:
    """O16: a program that writes for a user moves the ticket and names that user as cause."""
    decided = sent(cause=Cause("api", user="uma@desk.example"))
    assert moves(decided)[0] == SetStatus(3, 1, WAITING, A)


@pytest.mark.parametrize(
    ("reply", "hard"),
    [
        ("550 5.1.1 User unknown", True),
        ("550-5.1.1 The account does not exist", True),
        ("5.1.1 smtp; 550 unknown", True),
        ("5.1.0", True),
        ("553 5.1.2 bad domain", True),
        ("554 5.1.10 null MX", True),
        ("550 5.2.1 disabled", True),
        ("551 User not local", True),
        ("550 5.1.7 bad sender", False),
        ("501 5.1.8 sender's domain does not exist", False),
        ("250 2.1.5 5.1.5 valid", False),
        ("552 5.2.2 full", False),
        ("550 5.7.1 policy", False),
        ("450 4.1.1 later", False),
        ("550 5.1.2.3 is listed", False),
        ("550 No such user", False),
        ("", False),
    ],
)
def test_replies_that_mark_a_dead_address(reply: str, hard: bool) -> None:
    """O12, RFC 3463 3.2: only a status about the recipient's address marks it as dead."""
    assert is_hard(reply) is hard
