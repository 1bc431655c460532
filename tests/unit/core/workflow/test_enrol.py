"""Tests of entering and leaving a workflow: every row of behaviour.md 3.2, INV12, INV13."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import pytest

from core.decide import decide
from core.decisions.outgoing import CancelRuns, Enrol, FinishRun
from core.decisions.tickets import Decision, SetClosure
from core.events import (
    Cause,
    DryRunStarted,
    EnrolAsked,
    Event,
    FieldsSet,
    MailArrived,
    MergeAsked,
    MoveAsked,
    Sender,
    SplitAsked,
    TicketOpened,
    UnenrolAsked,
)
from core.mail.threading import Tie
from core.model.message import Address, Forwarded, Message
from core.model.ticket import Channel, Contact, Source, Thread, Ticket, User
from core.model.workflow import START, Enrolment, Workflow, read
from core.pipeline import Pipeline, Status
from core.state import State
from core.workflow.enrol import OURS

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
STEPS = (
    Status(1, "New", "open", 1),
    Status(2, "Waiting", "open", 2),
    Status(3, "Closed", "closed", 3),
)
OTHER = (Status(11, "Lead", "open", 1), Status(12, "Won", "closed", 2))
SUPPORT = Pipeline(1, "Support", STEPS, on_customer_reply=2)
SALES = Pipeline(2, "Sales", OTHER)
ANN = Contact(5, "ann@example.org", "Ann")
UMA = User(7, "Uma", frozenset({"uma@desk.example"}), address="uma@desk.example")
GRAPH = read([{"id": "a", "kind": "stop"}])[0]
NEW, WAITING, CLOSED, LEAD = (
    Workflow(10 + each, 1 if each < 9 else 2, each, 1, GRAPH, enabled=True)
    for each in (1, 2, 3, 11)
)
TICKET = Ticket(3, "A lamp", 1, 1, "email", NOW - timedelta(days=1), requester_id=5)
BY_UMA = Cause("user", user="uma@desk.example")


def state(*workflows: Workflow, runs: tuple[Enrolment, ...] = ()) -> State:
    made = {each.status_id: each for each in workflows or (NEW, WAITING, CLOSED, LEAD)}
    people = {"uma@desk.example": UMA}
    return State({1: SUPPORT, 2: SALES}, UTC, made, {3: runs}, contacts={5: ANN}, users=people)


def run(of: Workflow, held: Any = "ACTIVE") -> Enrolment:
    return Enrolment(50 + of.id, of.id, 3, held, START, NOW, NOW, NOW)


def move(to: int = 2, ticket: Ticket = TICKET, **more: Any) -> MoveAsked:
    return replace(MoveAsked(ticket, SALES if to > 9 else SUPPORT, to, BY_UMA, person=True), **more)


def enrolled(event: Event, known: State) -> list[int]:
    return [each.workflow for each in decide(event, known, NOW) if isinstance(each, Enrol)]


def opened(source: Source = "manual", status: int = 1) -> TicketOpened:
    return TicketOpened("A lamp", SUPPORT, status, source, BY_UMA, requester=ANN)


MESSAGE = Message(
    message_id="a@x",
    in_reply_to=(),
    references=(),
    date=NOW,
    sender=Address("Ann", "ann@example.org"),
    sender_header=None,
    reply_to=(),
    to=(Address("", "support@localhost"),),
    cc=(),
    subject="A lamp",
    text="It is broken",
    html=None,
    reply_text="It is broken",
    quoted_text="",
    attachments=(),
    kind="human",
    evidence=(),
    auto_respond_ok=True,
    forward=None,
    bounce=None,
    defects=(),
    return_path=None,
    delivered_to=(),
    authentication=(),
    spam_flag=False,
    loop_marks=(),
    over_limit=False,
)


def mail(message: Message = MESSAGE, **more: Any) -> MailArrived:
    """Return a first mail of a new sender."""
    arrived = MailArrived(
        message=message,
        received_at=NOW,
        channels=(Channel(1, "support@localhost", "Support", 1),),
        sender=Sender(None, None, own_channel=False, known=False, held_role=None),
        verdict="none",
        tie=Tie(),
        duplicate_of=None,
        reused_id=False,
        own_copy=None,
        looped=False,
        spam=False,
        trusted_user=False,
        thread=None,
        ticket=None,
        joined=(),
        earlier_open=(),
    )
    return replace(arrived, **more)


def test_reaching_a_status_enrols() -> None:
    """3.2, S11, scenario 79: by creation or any move, whoever or whatever caused it."""
    assert enrolled(opened(), state()) == [11]
    assert enrolled(opened(status=3), state()) == [13]
    assert enrolled(mail(), state()) == [11]
    assert enrolled(move(), state()) == [12]
    assert enrolled(move(3, person=False, cause=Cause("api")), state()) == [13]
    assert enrolled(move(11), state()) == [21]
    thread = Thread(1, "normal", NOW, 1, 3, origin=True, attached_at=NOW)
    reply = mail(
        tie=Tie("own_id", 1, 3),
        thread=thread,
        ticket=TICKET,
        sender=Sender(ANN, None, own_channel=False, known=True, held_role="requester"),
    )
    assert enrolled(reply, state()) == [12]
    found = next(each for each in decide(reply, state(), NOW) if isinstance(each, Enrol))
    assert found == Enrol(3, 12, Cause("B", "a@x"))


def test_the_same_status_again_does_not() -> None:
    """3.2, C06: setting the current status again does not enrol."""
    assert enrolled(move(1), state()) == []


def test_off_enrols_nobody() -> None:
    """3.2, 3.5, INV12, scenario 82: a disabled workflow, or none, enrols nobody."""
    assert enrolled(move(), state(replace(WAITING, enabled=False))) == []
    assert enrolled(move(), state(NEW)) == []


@pytest.mark.parametrize("source", get_args(Source))
def test_chat_is_left_out_until_it_is_let_in(source: Source) -> None:
    """S13, scenario 94: tickets of chat and messenger enter once the source filter says so."""
    assert enrolled(opened(source), state()) == ([] if source in ("chat", "messenger") else [11])
    assert enrolled(opened(source), state(replace(NEW, exclude_sources=frozenset()))) == [11]


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        ({"field": "status", "value": "Waiting"}, True),
        ({"field": "status", "value": "New"}, False),
        ({"field": "pipeline", "value": "Support"}, True),
        ({"field": "requester_domain", "value": "example.org"}, True),
        ({"field": "subject", "op": "contains", "value": "chair"}, False),
    ],
)
def test_the_filters(condition: dict[str, Any], passes: bool) -> None:
    """3.2: the filter must hold and unenroll_when must not, for the ticket in its new status."""
    assert enrolled(move(), state(replace(WAITING, filter=condition))) == ([12] if passes else [])
    assert enrolled(move(), state(replace(WAITING, unenroll_when=condition))) == (
        [] if passes else [12]
    )


def test_the_filter_knows_the_requester_of_a_first_mail() -> None:
    """3.2: there is no contact yet when a first mail opens the ticket."""
    wants = replace(NEW, filter={"field": "requester", "value": "ann@example.org"})
    assert enrolled(mail(), state(wants)) == [11]
    assert enrolled(opened(), state(wants)) == [11]


def test_the_filter_knows_what_the_move_did() -> None:
    """3.3: the close date is set before the enrolment, so a filter sees it and the reopening."""
    closed = replace(TICKET, status_id=3, closed_at=NOW, close_date=NOW.date(), first_closed_at=NOW)
    again = replace(
        WAITING,
        filter=[
            {"field": "reopened_count", "op": "gt", "value": 0},
            {"field": "closed_at", "op": "empty"},
        ],
    )
    assert enrolled(move(ticket=closed), state(again)) == [12]
    assert enrolled(move(), state(again)) == []
    dated = replace(CLOSED, filter={"field": "close_date", "value": "2026-11-22"})
    assert enrolled(move(3), state(dated)) == [13]
    assert enrolled(move(3, close_date=date(2026, 12, 1)), state(dated)) == []
    assert enrolled(opened(status=3), state(dated)) == [13]


@pytest.mark.parametrize(
    ("held", "once", "again"),
    [
        ("ACTIVE", [], []),
        ("DONE", [], [12]),
        ("UNENROLLED", [], [12]),
        ("ENDED_BY_EDIT", [], [12]),
        ("FAILED", [], [12]),
    ],
)
def test_enrolment_is_once_unless_repeatable(held: str, once: list[int], again: list[int]) -> None:
    """3.2, C9, C16, INV13, scenario 77: once at a time, and once ever unless re_enroll is on."""
    runs = (run(NEW, "DONE"), run(WAITING, held))
    assert enrolled(move(), state(WAITING, runs=runs)) == once
    assert enrolled(move(), state(replace(WAITING, re_enroll=True), runs=runs)) == again
    assert enrolled(move(), state(WAITING, runs=(run(NEW),))) == [12]


def test_by_hand() -> None:
    """3.2: an admin bypasses all rules but one run at a time, and can take a ticket out."""
    strict = replace(
        WAITING,
        enabled=False,
        filter={"field": "subject", "value": "x"},
        exclude_sources=frozenset({"email"}),
    )
    ask = EnrolAsked(TICKET, strict, BY_UMA)
    assert enrolled(ask, state(strict)) == [12]
    assert enrolled(ask, state(strict, runs=(run(WAITING, "DONE"),))) == [12]
    assert enrolled(ask, state(strict, runs=(run(WAITING),))) == []
    leave = UnenrolAsked(TICKET, WAITING, BY_UMA)
    assert decide(leave, state(runs=(run(NEW), run(WAITING))), NOW) == (
        FinishRun(62, "UNENROLLED", "a person took the ticket out"),
    )
    assert decide(leave, state(runs=(run(WAITING, "DONE"),)), NOW) == ()


def test_a_dry_run_is_the_only_run_of_its_ticket() -> None:
    """3.7: a dry run bypasses every rule of entering."""
    known = state(WAITING, runs=(run(WAITING), run(NEW, "DONE")))
    assert decide(DryRunStarted(TICKET, WAITING, BY_UMA), known, NOW) == (
        CancelRuns(3, "tried"),
        Enrol(3, 12, BY_UMA),
    )


@pytest.mark.parametrize(
    ("on_leave", "to", "leaves"),
    [("continue", 2, False), ("unenroll", 2, True), ("unenroll", 11, True)],
)
def test_leaving_the_status(on_leave: Any, to: int, leaves: bool) -> None:
    """3.2, C10, P08, scenario 92: the run goes on, unless its workflow stops on leaving."""
    known = state(replace(NEW, on_leave=on_leave), runs=(run(NEW), run(WAITING, "DONE")))
    left = [each for each in decide(move(to), known, NOW) if isinstance(each, FinishRun)]
    assert left == ([FinishRun(61, "UNENROLLED", "the ticket left the status")] if leaves else [])


def test_the_order_of_what_follows_a_move() -> None:
    """3.3: close date, then leaving, then entering; nobody leaves the workflow just entered."""
    leaving = tuple(replace(each, on_leave="unenroll") for each in (NEW, CLOSED))
    kinds: list[type[Decision]] = [
        type(each) for each in decide(move(3), state(*leaving, runs=(run(NEW),)), NOW)
    ]
    assert kinds[1:] == [SetClosure, FinishRun, Enrol]
    assert not any(
        isinstance(each, FinishRun)
        for each in decide(move(3), state(*leaving, runs=(run(CLOSED),)), NOW)
    )


def test_merge_split_migration_and_import_never_enrol() -> None:
    """3.2, P05, P10, P11: nobody enters; merged tickets' runs end; in a migration some leave."""
    into = replace(TICKET, number=2)
    merged = decide(MergeAsked(TICKET, into, BY_UMA), state(runs=(run(NEW),)), NOW)
    assert CancelRuns(3, "the ticket was merged") in merged
    assert not any(isinstance(each, Enrol) for each in merged)
    split = SplitAsked(TICKET, SUPPORT, (1,), frozenset({1, 2}), "A lamp", 5, (), None, BY_UMA)
    assert enrolled(split, state()) == []
    assert enrolled(move(migration=True), state()) == []
    assert enrolled(mail(automation=False), state()) == []


def test_the_trash_ends_runs() -> None:
    """3.2, P12, scenario 105: a deleted ticket's runs end and are not restored with it."""
    assert CancelRuns(3, "the ticket was deleted") in decide(
        FieldsSet(TICKET, BY_UMA, (("deleted_at", NOW),)), state(), NOW
    )
    back = decide(
        FieldsSet(replace(TICKET, deleted_at=NOW), BY_UMA, (("deleted_at", None),)),
        state(runs=(run(NEW, "UNENROLLED"),)),
        NOW,
    )
    assert not any(isinstance(each, Enrol | CancelRuns) for each in back)


FORWARD = Forwarded(Address("Bob", "bob@example.net"), (), (), "A lamp", None, "text", "", "rule")
BY_USER = Sender(None, UMA, own_channel=False, known=True, held_role=None)


@pytest.mark.parametrize(
    ("event", "silent"),
    [
        pytest.param(mail(), None, id="a-person"),
        pytest.param(
            mail(replace(MESSAGE, auto_respond_ok=False)), "must not be answered", id="E28-E43"
        ),
        pytest.param(
            mail(replace(MESSAGE, kind="bulk", auto_respond_ok=False)),
            "must not be answered",
            id="E42",
        ),
        pytest.param(mail(replace(MESSAGE, sender=None)), "no usable From", id="no-From"),
        pytest.param(mail(verdict="fail"), "forged", id="E25b"),
        pytest.param(
            mail(
                replace(MESSAGE, kind="forward", forward=FORWARD), sender=BY_USER, trusted_user=True
            ),
            None,
            id="E21",
        ),
        pytest.param(
            mail(replace(MESSAGE, kind="forward", forward=FORWARD), sender=BY_USER),
            "not known for certain",
            id="E21-unproven",
        ),
        pytest.param(
            mail(replace(MESSAGE, kind="forward"), sender=BY_USER, trusted_user=True),
            "not known for certain",
            id="E21-unread",
        ),
    ],
)
def test_who_hears_nothing(event: MailArrived, silent: str | None) -> None:
    """3.3 never to: the workflow runs, but sends no mail to people outside."""
    found = [each.silent for each in decide(event, state(), NOW) if isinstance(each, Enrol)]
    assert len(found) == 1
    assert (
        (silent in found[0]) if silent is not None and found[0] is not None else found[0] == silent
    )
    assert found[0] != OURS
