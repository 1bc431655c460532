"""Property tests of workflow histories: nothing sent twice, moves have a rule, runs end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.desk.correspondence import MailDraft
from gateway.errors import Rejected
from gateway.store.schema import tables
from tests.replay.office import Office
from tests.replay.world import start_again

pytestmark = pytest.mark.asyncio(loop_scope="session")
QUICK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
STATUSES = ("New", "Waiting on contact", "Waiting on us", "Closed")
START = datetime(2026, 11, 22, 10, tzinfo=UTC)


def actions(prefix: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Draw a few actions, perhaps with a delay or a branch; the ids depend on the prefix only."""
    kinds: list[dict[str, Any]] = [
        {"id": f"{prefix}-mail", "kind": "send_email", "template": "Ticket received"},
        {"id": f"{prefix}-bye", "kind": "send_email", "template": "Ticket closed"},
        {"id": f"{prefix}-tag", "kind": "add_tag", "tag": prefix}, {"id": f"{prefix}-wait",
        "kind": "delay", "for": "2h"}, {"id": f"{prefix}-long", "kind": "delay", "for": "3d"},
        {"id": f"{prefix}-heard", "kind": "delay", "event": "customer_reply", "for": "5d"},
        {"id": f"{prefix}-stop", "kind": "stop"}, *({"id": f"{prefix}-to{place}",
        "kind": "set_status", "status": name} for place, name in enumerate(STATUSES)),
        { "id": f"{prefix}-if", "kind": "branch", "branches": [{"name": "tagged",
        "when": {"field": "tags", "op": "contains", "value": prefix},
        "actions": [{"id": f"{prefix}-in", "kind": "add_note", "text": "n"}]}],
        "otherwise": [{"id": f"{prefix}-else", "kind": "send_email", "template": "Ticket closed"}],
        },
    ]  # fmt: skip
    return st.lists(st.sampled_from(kinds), max_size=5, unique_by=lambda each: each["id"])


steps = st.one_of(
    st.tuples(st.just("mail"), st.integers(0, 2)),
    st.tuples(st.just("answer"), st.integers(1, 3)),
    st.tuples(st.just("agent"), st.integers(1, 3)),
    st.tuples(st.just("later mail"), st.integers(1, 3)),
    st.tuples(st.just("move"), st.integers(1, 3), st.sampled_from(STATUSES)),
    st.tuples(st.just("clock"), st.sampled_from((1, 59, 7300, 90_000, 400_000))),
    st.tuples(st.just("run")),
    st.tuples(st.just("delete"), st.integers(1, 3)),
    st.tuples(st.just("restore"), st.integers(1, 3)),
    st.tuples(st.just("merge"), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.just("edit"), st.sampled_from(STATUSES), actions("a")),
    st.tuples(
        st.just("switch"),
        st.sampled_from(STATUSES),
        st.booleans(),
        st.booleans(),
        st.sampled_from(("continue", "unenroll")),
    ),
    st.tuples(st.just("enroll"), st.sampled_from(STATUSES), st.integers(1, 3)),
)


# one case a step
async def do(office: Office, step: Sequence[Any]) -> None:  # noqa: C901, PLR0912
    """Do one step; a forbidden or impossible one changes nothing."""
    desk = office.world.desk()
    match step:
        case ("mail", person):
            await office.mail(
                f"p{person}@example.org",
                Authentication_Results="mx.example.net; dmarc=pass header.from=example.org",
            )
        case ("answer", number):
            ticket = await office.world.ticket(number)
            await office.mail("p0@example.org", To=str(ticket["reply_address"]))
        case ("agent", number):
            await office.reply(number, to=("p0@example.org",))
        case ("later mail", number):
            await office.person().reply(
                number,
                MailDraft(
                    "later", to=("p1@example.org",), at=office.clock.now() + timedelta(hours=1)
                ),
            )
        case ("move", number, status):
            await desk.move([number], status)
        case ("clock", seconds):
            office.clock.set(office.clock.now() + timedelta(seconds=seconds))
        case ("run",):
            while await office.agenda.run_due():
                pass
        case ("delete", number):
            await desk.delete(number)
        case ("restore", number):
            await desk.restore(number)
        case ("merge", number, into):
            await desk.merge(number, into)
        case ("edit", status, wanted):
            await office.workflow(status, wanted, re_enroll=True)
        case ("switch", status, enabled, again, leave):
            await office.editor().set(
                "Support", status, {"enabled": enabled, "re_enroll": again, "on_leave": leave}
            )
        case ("enroll", status, number):
            await office.editor().enroll("Support", status, number)


async def everything_holds(office: Office) -> None:
    """Assert INV9, INV12, INV13, and that no action took effect twice for one enrolment."""
    await office.world.check()
    async with office.database.read() as connection:
        runs = (await connection.execute(sa.select(tables.action_run))).all()
        active = (
            await connection.execute(
                sa.select(tables.enrolment).where(tables.enrolment.c.state == "ACTIVE")
            )
        ).all()
        mails = (
            await connection.execute(sa.select(tables.outgoing).where(tables.outgoing.c.automatic))
        ).all()
    assert max(Counter((row.workflow_id, row.ticket) for row in active).values(), default=1) == 1
    assert all(row.due_at is not None for row in active)
    sent = Counter(
        row.key.rsplit(":", 1)[0] for row in mails if row.key is not None
    )  # enrolment:action
    assert max(sent.values(), default=1) == 1
    recorded = Counter((row.enrolment_id, row.action) for row in runs if row.key is not None)
    assert max(recorded.values(), default=1) == 1
    done = {(row.enrolment_id, row.action) for row in runs if row.outcome == "OK"}
    assert {tuple(key.split(":")) for key in sent} <= {
        (str(enrolment), action) for enrolment, action in done
    }


async def live(office: Office, history: Sequence[Sequence[Any]]) -> None:
    """Play a history from an empty desk to the end of all its runs."""
    await start_again(office.database)
    office.clock.set(START)
    for status in STATUSES[:2]:
        await office.workflow(
            status,
            [
                {"id": "a-mail", "kind": "send_email", "template": "Ticket received"},
                {"id": "a-wait", "kind": "delay", "for": "2h"},
            ],
            re_enroll=True,
        )
    for step in history:
        try:
            await do(office, step)
        except (Rejected, KeyError):
            continue
    await everything_holds(office)
    office.clock.set(office.clock.now() + timedelta(days=1500))
    for _ in range(200):
        if not await office.agenda.run_due():
            break
        office.clock.set(office.clock.now() + timedelta(days=30))
    async with office.database.read() as connection:
        states = set((await connection.execute(sa.select(tables.enrolment.c.state))).scalars())
    assert "ACTIVE" not in states, "a run never ends"
    await everything_holds(office)


@given(history=st.lists(steps, min_size=4, max_size=14))
@settings(QUICK, max_examples=25)
async def test_no_history_sends_twice_or_never_ends(
    office: Office, history: Sequence[Sequence[Any]]
) -> None:
    """A sample of histories: mails, answers, moves, edits, switches, merges, clock jumps."""
    await live(office, history)


@pytest.mark.sweep
@given(history=st.lists(steps, min_size=4, max_size=30))
@settings(QUICK, max_examples=2000)
async def test_many_histories_send_nothing_twice_and_end(
    office: Office, history: Sequence[Sequence[Any]]
) -> None:
    """The same with many more and longer histories."""
    await live(office, history)
