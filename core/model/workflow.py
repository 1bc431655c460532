"""Workflows of a status: trees of actions with stable ids (behaviour.md 3.1, 3.4).

A run stands *after* an action or at the start of a list of actions, never *on* an action. After an
edit :func:`carry` walks back to the nearest place that still exists. Workflows have no loops, so
every run ends. :func:`read` reports every problem of a tree and raises nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from core.model.condition import condition_problem
from core.model.delay import delay_problem

Kind = Literal[
    "send_email", "notify_internal_email", "delay", "branch", "set_status", "set_field",
    "set_owner", "add_note", "add_tag", "remove_tag", "create_task", "webhook", "stop",
]  # fmt: skip
EnrolmentState = Literal["ACTIVE", "DONE", "UNENROLLED", "ENDED_BY_EDIT", "FAILED"]
RunOutcome = Literal[
    "OK", "SKIPPED_OFF", "SKIPPED_FILTER", "SKIPPED_NO_RECIPIENT", "SKIPPED_NO_CONSENT",
    "SKIPPED_CAP", "SKIPPED_LOOP", "RETRY", "FAILED"
]  # fmt: skip
START: Final = ""
OTHERWISE: Final = ""  # the name of the path that is taken when no other is
MOST_BRANCHES: Final = 20
MOST_ACTIONS: Final = 500
DEEPEST: Final = 20
CHAIN_DEPTH: Final = 10  # behaviour.md 3.3, loop guard
RECIPIENTS: Final = ("requester", "associated")
SETTABLE: Final = ("subject", "priority", "close_date")
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)

# The keys that each kind must have, and those that it may have besides COMMON.
KEYS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "send_email": (frozenset({"template"}), frozenset({"to"})),
    "notify_internal_email": (frozenset({"to", "subject", "text"}), frozenset()),
    "delay": (frozenset(), frozenset({"for", "until", "field", "weekday", "time", "event"})),
    "branch": (frozenset({"branches"}), frozenset({"otherwise", "field"})),
    "set_status": (frozenset({"status"}), frozenset({"pipeline"})),
    "set_field": (frozenset({"field", "value"}), frozenset()),
    "set_owner": (frozenset({"owner"}), frozenset()),
    "add_note": (frozenset({"text"}), frozenset()),
    "add_tag": (frozenset({"tag"}), frozenset()),
    "remove_tag": (frozenset({"tag"}), frozenset()),
    "create_task": (frozenset({"text"}), frozenset({"due"})),
    "webhook": (frozenset({"url"}), frozenset()),
    "stop": (frozenset(), frozenset()),
}
COMMON: Final = frozenset({"id", "kind", "name", "stop_on_failure"})


@dataclass(frozen=True, slots=True)
class Branch:
    """One path of a branch action.

    A run takes it if the condition ``when`` holds (:mod:`core.model.condition`).
    """

    name: str
    when: Any
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """An action of a workflow.

    ``config`` holds the settings of the action, as a person wrote them. ``branches`` and
    ``otherwise`` belong to a branch action: a run takes ``otherwise`` if no condition holds.
    """

    id: str
    kind: str
    config: Mapping[str, Any]
    branches: tuple[Branch, ...] = ()
    otherwise: tuple[Action, ...] = ()

    @property
    def steers(self) -> bool:
        """Whether the action is a delay or branch.

        Both are also executed outside the execution window, and while the workflow is switched off
        (behaviour.md 3.3, 3.5).
        """
        return self.kind in ("delay", "branch")


@dataclass(frozen=True, slots=True)
class Graph:
    """A tree of actions and its places; a place is the id of an action or the start of a list.

    ``lists`` maps the start of a list to its actions. ``home`` maps the id of an action to (start
    of its list, index in it).
    """

    lists: Mapping[str, tuple[Action, ...]]
    home: Mapping[str, tuple[str, int]]

    def __contains__(self, place: object) -> bool:
        return place in self.lists or place in self.home

    def action(self, action_id: str) -> Action | None:
        """Return the action with this id, or None."""
        found = self.home.get(action_id)
        return self.lists[found[0]][found[1]] if found is not None else None

    def following(self, place: str) -> Action | None:
        """Return the action after a place, None at the end of the run.

        After the end of a path comes the action after its branch.
        """
        while True:
            if place in self.lists:
                actions, index = self.lists[place], 0
                start = place
            else:
                start, before = self.home[place]
                actions, index = self.lists[start], before + 1
            if index < len(actions):
                return actions[index]
            if start == START:
                return None
            place = start.partition("/")[0]

    def before(self, place: str) -> str:
        """Return the place before this; for the start of a path, the place before its branch."""
        if place in self.lists and place != START:
            place = place.partition("/")[0]
        start, index = self.home[place]
        return self.lists[start][index - 1].id if index else start

    def below(self, action_id: str, *, following: bool) -> frozenset[str]:
        """Return the places of an action and of all actions in its paths.

        With ``following``, the places of the later actions of its list are added.
        """
        start, index = self.home[action_id]
        return frozenset(_places(self.lists[start][index : None if following else index + 1]))

    def all(self) -> Iterator[Action]:
        """Yield all actions, in the order in which they are written."""
        return _walk(self.lists[START])


@dataclass(frozen=True, slots=True)
class Workflow:
    """The workflow of a status, in its current version (behaviour.md 3.1)."""

    id: int
    pipeline_id: int
    status_id: int
    version: int
    graph: Graph
    enabled: bool = False
    re_enroll: bool = False
    on_leave: Literal["continue", "unenroll"] = "continue"
    exclude_sources: frozenset[str] = frozenset({"chat", "messenger"})
    filter: Any = None
    unenroll_when: Any = None
    window: Mapping[str, Any] | None = None
    name: str = ""  # "pipeline / status", for causes


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One run of a workflow for a ticket.

    ``silent``: why people outside get no mail from this run. ``chain``: the workflows whose moves
    led to the run.
    """

    id: int
    workflow_id: int
    ticket: int
    state: EnrolmentState
    place: str
    entered_at: datetime
    due_at: datetime | None
    started_at: datetime
    wait_for: str | None = None
    attempts: int = 0
    silent: str | None = None
    chain: tuple[int, ...] = ()
    cause: Mapping[str, str | None] = field(default_factory=dict)
    ended_at: datetime | None = None
    end_reason: str | None = None

    @property
    def began(self) -> str | None:
        """The rule that began the chain of workflows leading to this run."""
        return self.cause.get("began") or self.cause.get("rule")


def graph_of(actions: Sequence[Action]) -> Graph:
    """Return the graph of a valid tree of actions."""
    lists: dict[str, tuple[Action, ...]] = {}
    home: dict[str, tuple[str, int]] = {}

    def index(start: str, inside: tuple[Action, ...]) -> None:
        lists[start] = inside
        for place, action in enumerate(inside):
            home[action.id] = (start, place)
            for branch in action.branches:
                index(f"{action.id}/{branch.name}", branch.actions)
            if action.kind == "branch":
                index(f"{action.id}/{OTHERWISE}", action.otherwise)

    index(START, tuple(actions))
    return Graph(lists, home)


def read(raw: Any) -> tuple[Graph, tuple[str, ...]]:
    """Read a list of actions from TOML or JSON; return (graph of the valid ones, problems)."""
    problems: list[str] = []
    seen: set[str] = set()
    actions = _read_list(raw, "actions", problems, seen, 0)
    if len(seen) > MOST_ACTIONS:
        problems.append(f"a workflow has at most {MOST_ACTIONS} actions, this one has {len(seen)}")
    return graph_of(actions), tuple(problems)


def _read_list(
    raw: Any, where: str, problems: list[str], seen: set[str], depth: int
) -> tuple[Action, ...]:
    if not isinstance(raw, list):
        problems.append(f"{where}: a list of actions is expected")
        return ()
    if depth > DEEPEST:
        problems.append(f"{where}: branches are nested more than {DEEPEST} deep")
        return ()
    found = (
        _read_action(each, f"{where}[{place}]", problems, seen, depth)
        for place, each in enumerate(raw, 1)
    )
    return tuple(action for action in found if action is not None)


def _read_action(
    raw: Any, where: str, problems: list[str], seen: set[str], depth: int
) -> Action | None:
    if not isinstance(raw, dict):
        problems.append(f"{where}: an action is a table with id and kind")
        return None
    action_id, kind = raw.get("id"), raw.get("kind")
    if not isinstance(action_id, str) or not _ID.fullmatch(action_id):
        problems.append(f"{where}: an action needs an id of letters, digits, '-', '_' and '.'")
        return None
    if action_id in seen:
        problems.append(f"{where}: the id {action_id!r} is used twice")
        return None
    seen.add(action_id)
    if not isinstance(kind, str) or kind not in KEYS:
        problems.append(f"{action_id}: unknown kind {kind!r}; the kinds are {', '.join(KEYS)}")
        return None
    _check_keys(raw, action_id, kind, problems)
    config = {
        key: value
        for key, value in raw.items()
        if key not in ("id", "kind", "branches", "otherwise")
    }
    if kind != "branch":
        problems.extend(f"{action_id}: {each}" for each in _check_values(kind, config))
        return Action(action_id, kind, config)
    branches = _read_branches(raw, action_id, problems, seen, depth)
    otherwise = _read_list(
        raw.get("otherwise", []), f"{action_id}.otherwise", problems, seen, depth + 1
    )
    return Action(action_id, kind, config, branches, otherwise)


def _check_keys(raw: Mapping[str, Any], action_id: str, kind: str, problems: list[str]) -> None:
    needed, possible = KEYS[kind]
    problems.extend(f"{action_id}: {kind} needs {key}" for key in sorted(needed - raw.keys()))
    unknown = sorted(raw.keys() - needed - possible - COMMON)
    problems.extend(f"{action_id}: {kind} has no key {key!r}" for key in unknown)


def _read_branches(
    raw: Mapping[str, Any], action_id: str, problems: list[str], seen: set[str], depth: int
) -> tuple[Branch, ...]:
    given = raw.get("branches")
    if not isinstance(given, list) or not given or len(given) > MOST_BRANCHES:
        problems.append(f"{action_id}: branches must be a list of 1 to {MOST_BRANCHES} tables")
        return ()
    found: list[Branch] = []
    for place, each in enumerate(given, 1):
        name = each.get("name") if isinstance(each, dict) else None
        if (
            not isinstance(each, dict)
            or not isinstance(name, str)
            or not name
            or name in {branch.name for branch in found}
        ):
            problems.append(f"{action_id}: branch {place} needs a name of its own")
            continue
        when = each.get("when")
        if when is None and "field" in raw and "value" in each:
            # a branch on one field, with a path for each of its values
            when = {"field": raw["field"], "op": "eq", "value": each["value"]}
        if problem := condition_problem(when):
            problems.append(f"{action_id}: branch {name!r}: {problem}")
        unknown = each.keys() - {"name", "when", "value", "actions"}
        problems.extend(
            f"{action_id}: branch {name!r} has no key {key!r}" for key in sorted(unknown)
        )
        actions = _read_list(
            each.get("actions", []), f"{action_id}.{name}", problems, seen, depth + 1
        )
        found.append(Branch(name, when, actions))
    return tuple(found)


def _check_values(kind: str, config: Mapping[str, Any]) -> Iterator[str]:
    for key in ("template", "subject", "status", "pipeline", "owner", "tag", "url", "name", "text"):
        if key in config and (problem := _text_problem(key, config[key])):
            yield f"{key} {problem}"
    if not isinstance(config.get("stop_on_failure", False), bool):
        yield "stop_on_failure must be true or false"
    match kind:
        case "send_email" if config.get("to", RECIPIENTS[0]) not in RECIPIENTS:
            yield f"to must be one of {', '.join(RECIPIENTS)}"
        case "notify_internal_email" if not _texts(config.get("to")):
            yield 'to must be a list of addresses of users or others, or "owner"'
        case "set_field" if config.get("field") not in SETTABLE:
            yield f"field must be one of {', '.join(SETTABLE)}"
        case "create_task" if "due" in config and delay_problem({"for": config["due"]}):
            yield "due must be a span like 2d, 12h or 1d 30m"
        case "webhook" if not str(config.get("url", "")).startswith(("https://", "http://")):
            yield "url must start with https:// or http://"
        case "delay" if problem := delay_problem(config):
            yield problem


def _text_problem(key: str, value: Any) -> str | None:
    """Return why a text is not valid, or None; a subject must be one line (reliability.md 25)."""
    if not isinstance(value, str) or (key != "text" and not value.strip()):
        return "must be text"
    one_line = "".join(value.splitlines()) == value and "\0" not in value
    return None if key != "subject" or one_line else "must be one line"


def _texts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, str) and each.strip() for each in value)
    )


def carry(old: Graph, new: Graph, place: str, ended: frozenset[str] = frozenset()) -> str | None:
    """Return where a run at ``place`` stands after an edit; None if the run ends (table 3.4).

    A run ends if it is at an ``ended`` place, or on a path that was deleted while its branch was
    kept. If a branch was replaced with one of its paths, a run that stood after the branch then
    stands at the end of that path.
    """
    while True:
        if place in ended:
            return None
        if place in new:
            return place
        if place in old.lists and place.partition("/")[0] in new.home:
            return None
        kept = [each.id for each in _inside(old.action(place)) if each.id in new.home]
        place = kept[-1] if kept else old.before(place)


def _inside(action: Action | None) -> tuple[Action, ...]:
    """Return the actions in the paths of a branch, without those in paths of inner branches."""
    return (
        tuple(each for branch in action.branches for each in branch.actions) + action.otherwise
        if action is not None
        else ()
    )


def _places(actions: Iterable[Action]) -> Iterator[str]:
    """Yield the places of these actions and of all actions and paths inside them."""
    for action in _walk(actions):
        yield action.id
        yield from (f"{action.id}/{branch.name}" for branch in action.branches)
        if action.kind == "branch":
            yield f"{action.id}/{OTHERWISE}"


def _walk(actions: Iterable[Action]) -> Iterator[Action]:
    for action in actions:
        yield action
        for branch in action.branches:
            yield from _walk(branch.actions)
        yield from _walk(action.otherwise)
