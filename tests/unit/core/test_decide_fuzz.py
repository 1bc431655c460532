"""Property tests of `decide`: every mail is answered (R6), invariants hold (behaviour.md 2.7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from core.decide import decide
from core.decisions.tickets import (
    AppendMessage,
    Decision,
    Finish,
    MergeTicket,
    OpenTicket,
    SetClosure,
    SetStatus,
    SkipRule,
)
from core.events import MailArrived, Original, Sender
from core.mail.threading import Tie
from core.model.message import (
    MACHINE_KINDS,
    Address,
    Attachment,
    AuthenticationResults,
    Bounce,
    BounceRecipient,
    Forwarded,
    Message,
)
from core.model.ticket import Channel, Contact, Thread, Ticket, User
from core.pipeline import Pipeline, Status
from core.rules.joining import survivor
from core.state import State

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
STEPS = (
    Status(1, "New", "open", 1),
    Status(2, "Waiting", "open", 2),
    Status(3, "Closed", "closed", 3),
    Status(4, "Gone", "closed", 4),
)
OTHER = (Status(11, "Lead", "open", 1), Status(12, "Won", "closed", 2))
CHANNELS = (
    Channel(
        1,
        "support@localhost",
        "Support",
        1,
        is_default=True,
        deny=frozenset({"@evil.example"}),
        allow=frozenset({"ann@example.org"}),
    ),
    Channel(2, "sales@localhost", "Sales", 2, status_id=12, tickets=False),
    Channel(3, "lost@localhost", "Lost", 2, status_id=1),  # a status of another pipeline
)
TEXT = st.text(max_size=12)
IDS = st.sampled_from(["a@x", "b@x", "c@x", "tg.x.1.aaaaaaaaaaaaaaaa@localhost", ""]) | TEXT
ADDRESSES = st.builds(
    Address,
    TEXT,
    st.sampled_from(["ann@example.org", "bob@evil.example", "uma@desk.example", "@", ""])
    | st.none()
    | TEXT,
)
TUPLE_OF_IDS = st.lists(IDS, max_size=3).map(tuple)
PEOPLE = st.lists(ADDRESSES, max_size=3).map(tuple)
MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))
MESSAGES = st.builds(
    Message,
    message_id=st.none() | IDS,
    in_reply_to=TUPLE_OF_IDS,
    references=TUPLE_OF_IDS,
    date=MOMENTS,
    sender=st.none() | ADDRESSES,
    sender_header=st.none() | TEXT,
    reply_to=PEOPLE,
    to=PEOPLE,
    cc=PEOPLE,
    subject=TEXT,
    text=TEXT,
    html=st.none(),
    reply_text=TEXT,
    quoted_text=TEXT,
    attachments=st.lists(
        st.builds(
            Attachment,
            st.none() | TEXT,
            TEXT,
            st.integers(0, 9),
            TEXT,
            st.booleans(),
            st.none(),
            TEXT,
        ),
        max_size=1,
    ).map(tuple),
    kind=st.sampled_from(
        ["human", "forward", "auto_reply", "auto_generated", "bulk", "bounce", "report", "loop"]
    ),
    evidence=st.lists(TEXT, max_size=2).map(tuple),
    auto_respond_ok=st.booleans(),
    forward=st.none()
    | st.builds(
        Forwarded,
        st.none() | ADDRESSES,
        PEOPLE,
        PEOPLE,
        st.none() | TEXT,
        st.none(),
        TEXT,
        TEXT,
        TEXT,
    ),
    bounce=st.none()
    | st.builds(
        Bounce,
        st.sampled_from(["failed", "unknown"]),
        st.lists(
            st.builds(
                BounceRecipient,
                st.none() | TEXT,
                st.none(),
                st.just("failed"),
                st.none(),
                st.none(),
            ),
            max_size=1,
        ).map(tuple),
        st.none() | IDS,
    ),
    defects=st.lists(TEXT, max_size=1).map(tuple),
    return_path=st.none() | TEXT,
    delivered_to=TUPLE_OF_IDS,
    authentication=st.lists(
        st.builds(AuthenticationResults, TEXT, st.none(), st.none(), st.none(), st.booleans()),
        max_size=1,
    ).map(tuple),
    spam_flag=st.booleans(),
    loop_marks=TUPLE_OF_IDS,
    over_limit=st.booleans(),
)


@st.composite
def tickets(draw: st.DrawFn, number: int) -> Ticket:
    """Generate tickets that a database could hold: status of their pipeline, consistent dates."""
    pipeline, status = draw(
        st.sampled_from([(1, step.id) for step in STEPS] + [(2, step.id) for step in OTHER])
    )
    reopened = draw(st.integers(0, 2))
    closed = status in (3, 4, 12)
    return Ticket(
        number,
        "A question",
        pipeline,
        status,
        "email",
        NOW - timedelta(days=3),
        requester_id=draw(st.none() | st.integers(1, 3)),
        closed_at=NOW if closed else None,
        close_date=NOW.date() if closed else None,
        first_closed_at=NOW - timedelta(days=1) if closed or reopened else None,
        reopened_count=reopened,
        deleted_at=draw(st.sampled_from([None, None, None, NOW])),
        worked=draw(st.booleans()),
    )


@st.composite
def arrivals(draw: st.DrawFn) -> MailArrived:
    """Generate a mail with a consistent state around it: its threads and their tickets exist."""
    message = draw(MESSAGES)
    thread = ticket = None
    joined = []
    if draw(st.booleans()):
        thread, ticket = draw(_pairs(1))
        joined = [draw(_pairs(number)) for number in range(2, 2 + draw(st.integers(0, 2)))]
    elif draw(st.booleans()):
        ticket = draw(tickets(1))
    how = draw(
        st.sampled_from(
            ["reply_address", "own_id", "in_reply_to", "references", "late_parent", "subject_tag"]
        )
    )
    tie = Tie()
    if thread is not None or ticket is not None:
        ids = tuple(each.id for each, _ in joined)
        number = ticket.number if ticket else None
        tie = Tie(
            how,
            thread.id if thread else None,
            number,
            ids,
            strangers=frozenset(draw(st.sets(st.integers(1, 3), max_size=2))),
            first=draw(st.booleans()),
            late=how == "late_parent",
            answers_forward=draw(st.booleans()),
            names=draw(st.booleans()),
            renames=draw(st.booleans()),
        )
    contact = draw(
        st.none()
        | st.builds(
            Contact, st.integers(1, 3), st.just("ann@example.org"), TEXT, blocked=st.booleans()
        )
    )
    user = draw(st.sampled_from([None, None, User(1, "Uma", frozenset({"uma@desk.example"}))]))
    return MailArrived(
        message=message,
        received_at=NOW,
        channels=tuple(draw(st.lists(st.sampled_from(CHANNELS), max_size=2, unique=True))),
        sender=Sender(
            contact,
            user,
            draw(st.integers(0, 9)) == 0,
            contact is not None or user is not None,
            draw(st.sampled_from([None, "requester", "associated", "participant", "stranger"]))
            if contact
            else None,
        ),
        verdict=draw(st.sampled_from(["pass", "fail", "none"])),
        tie=tie,
        duplicate_of=draw(
            st.sampled_from(
                [None] * 9 + [Original(1, None, None, None), Original(2, CHANNELS[0], 1, 1)]
            )
        ),
        reused_id=draw(st.booleans()),
        own_copy=draw(st.sampled_from([None] * 9 + [Original(0, None, 1, None)])),
        looped=draw(st.integers(0, 9)) == 0,
        spam=draw(st.integers(0, 9)) == 0,
        trusted_user=draw(st.booleans()),
        thread=thread,
        ticket=ticket,
        joined=tuple(joined),
        earlier_open=draw(st.sampled_from([(), (7,)])),
        released=draw(st.booleans()),
        automation=draw(st.booleans()),
    )


@st.composite
def _pairs(draw: st.DrawFn, number: int) -> tuple[Thread, Ticket | None]:
    ticket = draw(st.none() | tickets(number))
    kind = draw(st.sampled_from(["normal", "normal", "forward"])) if number == 1 else "normal"
    attached = NOW - timedelta(days=draw(st.integers(0, 3))) if ticket else None
    return Thread(
        number, kind, NOW, 1, ticket.number if ticket else None, draw(st.booleans()), attached
    ), ticket


@st.composite
def states(draw: st.DrawFn) -> State:
    """Generate states of two pipelines with any switches."""
    switches = {
        "set_close_date": st.booleans(),
        "strangers": st.sampled_from(["move", "flag"]),
        "allow_back": st.booleans(),
    }
    support = draw(
        st.builds(
            Pipeline,
            st.just(1),
            st.just("Support"),
            st.just(STEPS),
            on_customer_reply=st.none() | st.integers(1, 4),
            **switches,
        )
    )
    sales = draw(
        st.builds(
            Pipeline,
            st.just(2),
            st.just("Sales"),
            st.just(OTHER),
            on_customer_reply=st.none() | st.integers(11, 12),
            **switches,
        )
    )
    return State({1: support, 2: sales}, ZoneInfo("Europe/Amsterdam"))


def of(decisions: tuple[Decision, ...], *kinds: type) -> list[Decision]:
    return [each for each in decisions if isinstance(each, kinds)]


@given(arrivals(), states())
@settings(
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_mail_is_decided(event: MailArrived, state: State) -> None:
    """R6, INV1, INV2, INV5, INV7, INV14: a mail ends once and moves one ticket at most."""
    decisions = decide(event, state, NOW)
    assert [type(each) for each in decisions].count(Finish) == 1
    ended = decisions[-1]
    assert isinstance(ended, Finish)
    assert ended.reason.endswith(".")
    moves = of(decisions, SetStatus)
    opened = of(decisions, OpenTicket)
    assert len(moves) + len(opened) <= 1
    if (
        event.message.kind in MACHINE_KINDS
        or ended.role in ("user", "self")
        or not event.automation
    ):
        assert not moves
    if event.message.kind in MACHINE_KINDS:
        assert not opened
    if ended.state in ("quarantined", "duplicate") or event.own_copy is not None:
        assert not of(decisions, OpenTicket, SetStatus, AppendMessage, MergeTicket, SkipRule)
    if ended.state == "done":
        assert len(of(decisions, AppendMessage)) == 1
    for each in of(decisions, SetClosure):
        assert isinstance(each, SetClosure)
        cause = next(move for move in (*moves, *opened))
        assert isinstance(cause, SetStatus | OpenTicket)
        if not state.pipelines[cause.pipeline_id].set_close_date:
            assert each.close_date in (None, "keep")


@given(arrivals(), states())
@settings(
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_a_human_reply_never_leaves_a_closed_ticket_closed(
    event: MailArrived, state: State
) -> None:
    """INV3, INV4, S9: a person's reply reopens a closed ticket and clears its date."""
    decisions = decide(event, state, NOW)
    ended = decisions[-1]
    ticket = survivor(event)
    assert isinstance(ended, Finish)
    if event.tie.thread is None:
        ticket = event.ticket
    if (
        ticket is None
        or ticket.deleted_at is not None
        or ended.state != "done"
        or not event.automation
        or event.tie.late
    ):
        return
    pipeline = state.pipelines[ticket.pipeline_id]
    thread = event.thread
    forwards = (
        event.message.kind == "forward"
        or event.tie.answers_forward
        or (thread is not None and thread.kind == "forward")
    )
    silent = (
        event.message.kind in {*MACHINE_KINDS, "loop"}
        or forwards
        or ended.role not in ("contact", "stranger")
    )
    if (
        silent
        or (ended.role == "stranger" and pipeline.strangers == "flag")
        or pipeline.status(ticket.status_id).state == "open"
    ):
        return
    moves = of(decisions, SetStatus)
    assert [
        (move.ticket, move.status_id, move.cause.rule)
        for move in moves
        if isinstance(move, SetStatus)
    ] == [(ticket.number, pipeline.first_open().id, "S9")]
    closures = of(decisions, SetClosure)
    assert [
        (each.closed_at, each.close_date, each.reopened)
        for each in closures
        if isinstance(each, SetClosure)
    ] == [(None, None, True)]
