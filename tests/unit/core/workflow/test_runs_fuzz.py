"""Property tests of edited runs: all end, nothing happens twice (behaviour.md 3.3 to 3.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from core.decide import decide
from core.decisions.outgoing import FinishRun, MoveRun, Notify, RecordRun
from core.decisions.tickets import Decision, SetFields, SetStatus
from core.events import Cause, Prepared, RunDue, WorkflowEdited
from core.model.condition import holds
from core.model.ticket import Ticket
from core.model.workflow import START, Action, Enrolment, Graph, Workflow, carry, read
from core.pipeline import Pipeline, Status
from core.rules.retry import RETRIES
from core.state import State
from core.workflow.edit import Edited, Impossible, affected, change, insert, remove
from core.workflow.run import ahead, run_due

NOW = datetime(2026, 10, 23, 10, 0, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Amsterdam")
STATE = State(
    {1: Pipeline(1, "Support", (Status(1, "New", "open", 1), Status(2, "Closed", "closed", 2)))},
    ZONE,
)
TICKET = Ticket(3, "A lamp", 1, 1, "email", NOW - timedelta(days=3), tags=("red",))
Raw = list[dict[str, Any]]

NOTE: dict[str, Any] = {"kind": "add_note", "text": "n"}
DELAYS: tuple[dict[str, Any], ...] = (
    {"for": "2d"},
    {"for": "1d 3h"},
    {"for": "0m"},
    {"until": "2026-10-25T02:30"},
    {"until": "2020-01-01"},
    {"field": "closed_at", "for": "1d"},
    {"weekday": "sun", "time": "02:30"},
    {"time": "09:00"},
    {"event": "customer_reply"},
    {"event": "agent_reply", "for": "6h"},
)
LEAVES: tuple[dict[str, Any], ...] = (
    NOTE,
    *({"kind": "delay", **each} for each in DELAYS),
    {"kind": "send_email", "template": "Ticket received"},
    {"kind": "send_email", "template": "News", "stop_on_failure": True},
    {"kind": "add_tag", "tag": "blue"},
    {"kind": "remove_tag", "tag": "red"},
    {"kind": "set_status", "status": "Closed"},
    {"kind": "set_status", "status": "Gone"},
    {"kind": "create_task", "text": "call", "due": "1d"},
    {"kind": "webhook", "url": "https://hook.example/"},
    {"kind": "stop"},
)
WHEN = (
    {"field": "tags", "value": "red"},
    {"field": "tags", "value": "blue"},
    {"field": "status", "value": "Closed"},
)
WINDOWS = (
    None,
    None,
    None,
    {"hours": "09:00-17:00", "days": ["mon", "tue"]},
    {"hours": "11:00-11:04"},
    {"hours": "02:00-03:00"},
)


def skeletons(leaves: tuple[dict[str, Any], ...]) -> st.SearchStrategy[list[Any]]:
    """Generate trees without ids; a branch is (condition numbers, paths), otherwise last."""
    leaf = st.just(NOTE) | st.sampled_from(leaves)
    return st.lists(
        st.recursive(
            leaf,
            lambda inside: st.tuples(
                st.lists(st.integers(0, 2), min_size=1, max_size=2),
                st.lists(st.lists(inside, max_size=3), min_size=3, max_size=3),
            ),
            max_leaves=8,
        ),
        min_size=2,
        max_size=5,
    )


def built(skeleton: list[Any], shift: int = 0) -> Raw:
    """Return the tree with ids; ``shift`` permutes them, an odd one reverses them."""
    ids = iter(f"i{(each * (7 if shift % 2 else -7) + shift) % 61}" for each in range(61))

    def action(each: Any) -> dict[str, Any]:
        if isinstance(each, dict):
            return {"id": next(ids), **each}
        conditions, paths = each
        name = next(ids)
        made = [
            {"name": f"p{at}", "when": WHEN[which], "actions": list(map(action, paths[at]))}
            for at, which in enumerate(conditions)
        ]
        return {
            "id": name,
            "kind": "branch",
            "branches": made,
            "otherwise": list(map(action, paths[2])),
        }

    return [action(each) for each in skeleton]


def graph(raw: Raw) -> Graph:
    found, problems = read(raw)
    assert problems == ()
    return found


class World:
    """One ticket in one workflow: executes and checks what is decided."""

    def __init__(self, raw: Raw, window: Any, broken: int) -> None:
        self.raw = raw
        self.workflow = Workflow(
            1, 1, 1, 1, graph(raw), enabled=True, window=window, name="Support / New"
        )
        self.run = Enrolment(5, 1, 3, "ACTIVE", START, NOW, NOW, NOW)
        self.ticket, self.now, self.broken = TICKET, NOW, broken
        self.keys: set[str] = set()
        self.did: list[str] = []

    @property
    def active(self) -> bool:
        return self.run.state == "ACTIVE"

    def turn(self) -> None:
        """Execute one step of the run, if it is due."""
        if not self.active or self.run.due_at is None or self.run.due_at > self.now:
            return
        event = RunDue(
            self.ticket,
            self.workflow,
            self.run,
            frozenset(key.partition(":")[2] for key in self.keys),
            Cause("workflow"),
        )
        action = ahead(event, STATE, self.now).action
        if action is not None and action.kind == "send_email":
            fails = (action.config["template"] == "News") is bool(self.broken)
            event = replace(
                event,
                prepared=Prepared((), "FAILED", "broken", retry=True) if fails else Prepared(),
            )
        decided = run_due(event, STATE, self.now)
        assert sum(isinstance(each, MoveRun | FinishRun) for each in decided) == 1
        for each in decided:
            self.perform(each)

    def perform(self, decision: Decision) -> None:
        match decision:
            case MoveRun():
                assert decision.due_at >= self.now
                self.move(decision)
            case FinishRun(state=state):
                self.run = replace(self.run, state=state, due_at=None)
            case RecordRun(action=action, outcome=outcome, key=key):
                assert action is not None
                assert (found := self.workflow.graph.action(action)) is not None
                assert (key is None) is (found.steers or outcome == "RETRY")
                assert outcome != "SKIPPED_OFF" or not self.workflow.enabled
                if key is not None:
                    assert key not in self.keys
                    self.keys.add(key)
                    self.did.append(action)
            case Notify():
                pass
            case _:
                assert self.workflow.enabled  # INV12
                if isinstance(decision, SetFields):
                    self.ticket = replace(self.ticket, **dict(decision.fields))
                elif isinstance(decision, SetStatus):
                    self.ticket = replace(
                        self.ticket, status_id=decision.status_id, closed_at=self.now
                    )

    def move(self, to: MoveRun) -> None:
        assert to.place in self.workflow.graph
        assert 0 <= to.attempts <= RETRIES
        self.run = replace(
            self.run,
            place=to.place,
            due_at=to.due_at,
            entered_at=to.entered_at,
            wait_for=to.wait_for,
            attempts=to.attempts,
        )

    def edit(self, edited: Edited) -> None:
        """Apply a new version to the run, as the desk does."""
        old, new = self.workflow.graph, graph(edited.actions)
        self.raw = edited.actions
        self.workflow = replace(self.workflow, graph=new, version=self.workflow.version + 1)
        if not self.active:
            return
        place = carry(old, new, self.run.place, edited.ended)
        assert place is None or place in new
        if not affected(old, new, self.run, edited.ended):
            assert place == self.run.place
            return
        event = WorkflowEdited(self.ticket, self.workflow, old, self.run, edited.ended)
        after = next(iter(decide(event, STATE, self.now)), None)
        assert isinstance(after, FinishRun) is (place is None)
        if isinstance(after, MoveRun):
            assert after.due_at >= min(self.run.due_at or NOW, self.run.entered_at)
            self.move(after)
        elif after is not None:
            self.perform(after)

    def wake(self, event: str) -> None:
        """Make the run due if it waits for ``event``."""
        if self.active and self.run.wait_for == event:
            self.run = replace(self.run, due_at=self.now, wait_for=None)


def edits(world: World, kind: str, which: int, what: int) -> Edited | None:
    """Return the edit that the numbers choose, or None where it is impossible."""
    tree = world.workflow.graph
    actions = list(tree.all())
    places = [*tree.lists, *tree.home]
    if kind == "insert":
        fresh = {"id": f"new{world.workflow.version}", **LEAVES[what % len(LEAVES)]}
        return insert(world.raw, places[which % len(places)], fresh)
    if not actions:
        return None
    chosen: Action = actions[which % len(actions)]
    if kind == "change" and chosen.kind == "delay":
        keys = dict.fromkeys(("for", "until", "field", "weekday", "time", "event"))
        return change(world.raw, chosen.id, keys | DELAYS[what % len(DELAYS)])
    if kind == "change" and chosen.kind == "branch":
        return change(
            world.raw,
            chosen.id,
            {"branches": [{"name": "p0", "when": WHEN[what % 3], "actions": []}]},
        )
    try:
        return remove(
            world.raw,
            tree,
            chosen.id,
            following=kind == "following",
            keep=("p0", "p1", "otherwise")[what % 3],
        )
    except Impossible:
        return None


SKELETONS = skeletons(LEAVES)
NUMBERS = st.integers(0, 30)
SHIFTS = st.sampled_from([0, 54, 47, 33, 7])
TURNS = st.tuples(st.just("turn"), NUMBERS, NUMBERS)
EDITS = st.tuples(
    st.sampled_from(["insert", "change", "only", "following", "reverse"]), NUMBERS, NUMBERS
)
OTHERS = st.tuples(
    st.sampled_from(["jump", "jump", "switch", "wake"]), st.integers(-30, 200), NUMBERS
)
STEPS = st.lists(
    st.one_of(
        TURNS, TURNS, TURNS, EDITS, EDITS, OTHERS, st.tuples(st.just("import"), SHIFTS, SKELETONS)
    ),
    min_size=4,
    max_size=14,
)


def step(world: World, kind: str, which: int, what: Any) -> None:
    match kind:
        case "jump":
            world.now += timedelta(hours=which, minutes=what)
        case "turn":
            for _ in range(1 + which % 4):
                world.now = max(world.now, world.run.due_at or world.now) if what % 3 else world.now
                world.turn()
        case "switch":
            world.workflow = replace(world.workflow, enabled=not world.workflow.enabled)
        case "wake":
            world.wake(("customer_reply", "agent_reply")[what % 2])
        case "import":
            world.edit(Edited(built(what, which)))
        case "reverse":
            world.edit(Edited(world.raw[::-1]))
        case _:
            edited = edits(world, kind, which, what)
            if edited is not None:
                world.edit(edited)


@given(SKELETONS, st.sampled_from(WINDOWS), st.integers(0, 1), STEPS)
@settings(deadline=None, derandomize=True, max_examples=220)
def test_every_run_ends_and_does_nothing_twice(
    skeleton: list[Any], window: Any, broken: int, steps: list[Any]
) -> None:
    """3.3 to 3.5, INV12: whatever happens, a run ends within a bounded number of steps."""
    world = World(built(skeleton), window, broken)
    for kind, which, what in steps:
        step(world, kind, which, what)
    left = 0
    while world.active:
        assert world.run.due_at is not None
        world.now = max(world.now, world.run.due_at)
        world.turn()
        left += 1
        assert left <= (2 * RETRIES + 4) * (len(world.workflow.graph.home) + 1)
    assert len(world.did) == len(set(world.did))


def taken(raw: Raw, facts: dict[str, Any]) -> Iterator[str]:
    """Yield the ids of the actions that a ticket which does not change goes through."""
    for action in raw:
        if action["kind"] == "branch":
            inside = next(
                (each["actions"] for each in action["branches"] if holds(each["when"], facts)),
                action["otherwise"],
            )
            yield from taken(inside, facts)
        elif action["kind"] != "delay":
            yield action["id"]


@given(
    skeletons((NOTE, *LEAVES[1:11])),
    st.sampled_from(WINDOWS),
    st.lists(st.sampled_from(["red", "blue"])),
)
@settings(deadline=None, derandomize=True, max_examples=70)
def test_a_path_is_taken_once_in_the_written_order(
    skeleton: list[Any], window: Any, tags: list[str]
) -> None:
    """3.3: an unedited run does each action of its path once, in the written order."""
    raw = built(skeleton)
    world = World(raw, window, 0)
    world.ticket = replace(TICKET, tags=tuple(tags))
    while world.active:
        assert world.run.due_at is not None
        world.now = max(world.now, world.run.due_at)
        world.turn()
    assert world.run.state == "DONE"
    assert world.did == list(taken(raw, STATE.facts(world.ticket)))


@given(SKELETONS, SKELETONS, SHIFTS, st.lists(st.integers(0, 60), max_size=3))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_anybody_is_carried_anywhere(
    before: list[Any], after: list[Any], shift: int, gone: list[int]
) -> None:
    """3.4: a run is carried to an existing place, never to a deleted one, or it ends."""
    old, new = graph(built(before)), graph(built(after, shift))
    ended = frozenset(f"i{each}" for each in gone)
    for place in (*old.lists, *old.home):
        found = carry(old, new, place, ended)
        assert found is None or (found in new and found not in ended)
        assert place not in new or place in ended or found == place
        assert place not in ended or found is None
