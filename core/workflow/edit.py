"""Edit the actions of a workflow, and move or end the affected runs (behaviour.md 3.4).

Actions are a list of tables, as people write them. Each edit returns a new list and changes nothing
in place; :class:`Impossible` says why an edit cannot be done.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from core.decisions.outgoing import FinishRun, MoveRun
from core.decisions.tickets import Decision
from core.events import WorkflowEdited
from core.model import delay
from core.model.workflow import OTHERWISE, START, Enrolment, Graph, carry
from core.state import State
from core.workflow.run import PAST

Raw = list[dict[str, Any]]


class Impossible(Exception):
    """The edit cannot be done; the text is shown to the user."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The new actions, and the ``ended`` places: a run that stands at one of them ends."""

    actions: Raw
    ended: frozenset[str] = frozenset()


def insert(actions: Sequence[Mapping[str, Any]], after: str, action: Mapping[str, Any]) -> Edited:
    """Insert an action after the one with the id ``after``.

    Pass "start" to insert it before all others, or "branch/path" to insert it as the first action
    in this path of this branch.
    """
    made: Raw = copy.deepcopy(list(actions))  # type: ignore[arg-type]  # tables of JSON
    if after in (START, "start"):
        return Edited([dict(action), *made])
    branch, slash, path = after.partition("/")
    for held, index in _lists(made):
        if held[index].get("id") == after:
            held.insert(index + 1, dict(action))
            return Edited(made)
        if (
            slash
            and held[index].get("id") == branch
            and (inside := _path(held[index], path)) is not None
        ):
            inside.insert(0, dict(action))
            return Edited(made)
    raise Impossible(f"unknown action {after!r}")


def change(
    actions: Sequence[Mapping[str, Any]], action_id: str, values: Mapping[str, Any]
) -> Edited:
    """Set values of an action; None removes a key.

    The id stays: history and waiting tickets refer to it.
    """
    if values.keys() & {"id", "kind"}:
        raise Impossible("id and kind of an action cannot be changed: delete it and insert another")
    made: Raw = copy.deepcopy(list(actions))  # type: ignore[arg-type]  # tables of JSON
    held, index = _find(made, action_id)
    held[index] = {
        key: value for key, value in {**held[index], **values}.items() if value is not None
    }
    return Edited(made)


def remove(
    actions: Sequence[Mapping[str, Any]],
    graph: Graph,
    action_id: str,
    *,
    following: bool,
    keep: str | None = None,
) -> Edited:
    """Remove an action, or with ``following`` also all later actions of its list.

    If a branch is removed without ``following``, the actions of its path ``keep`` stay (S12).
    """
    made: Raw = copy.deepcopy(list(actions))  # type: ignore[arg-type]  # tables of JSON
    held, index = _find(made, action_id)
    if following:
        del held[index:]
        return Edited(made, graph.below(action_id, following=True))
    if held[index].get("kind") != "branch":
        del held[index]
        return Edited(made)
    if keep is None:
        names = ", ".join(
            [*(str(each.get("name")) for each in held[index].get("branches", [])), "otherwise"]
        )
        raise Impossible(f"{action_id} is a branch: say which of its paths to keep ({names})")
    kept = _path(held[index], keep)
    if kept is None:
        raise Impossible(f"{action_id} has no path {keep!r}")
    held[index : index + 1] = kept
    path = OTHERWISE if keep == "otherwise" else keep
    inside = {
        f"{action_id}/{path}",
        *(
            place
            for action in graph.lists[f"{action_id}/{path}"]
            for place in graph.below(action.id, following=False)
        ),
    }
    return Edited(made, graph.below(action_id, following=False) - inside - {action_id})


def _lists(actions: Raw) -> Iterator[tuple[Raw, int]]:
    for index, action in enumerate(actions):
        yield actions, index
        for branch in action.get("branches", []):
            yield from _lists(branch.setdefault("actions", []))
        if action.get("kind") == "branch":
            yield from _lists(action.setdefault("otherwise", []))


def _find(actions: Raw, action_id: str) -> tuple[Raw, int]:
    for held, index in _lists(actions):
        if held[index].get("id") == action_id:
            return held, index
    raise Impossible(f"unknown action {action_id!r}")


def _path(action: dict[str, Any], name: str) -> Raw | None:
    if name in (OTHERWISE, "otherwise") and action.get("kind") == "branch":
        found: Raw = action.setdefault("otherwise", [])
        return found
    inside = next((each for each in action.get("branches", []) if each.get("name") == name), None)
    return inside.setdefault("actions", []) if inside is not None else None


def affected(old: Graph, new: Graph, run: Enrolment, ended: frozenset[str]) -> bool:
    """Tell whether an edit removed the place of a run, or changed the delay in which it waits."""
    if run.place not in new or run.place in ended:
        return True
    return _waits_in(old, run) and _config(old, run.place) != _config(new, run.place)


def edited(event: WorkflowEdited, state: State) -> list[Decision]:
    """Move or end a run whose workflow was edited (table 3.4)."""
    new, run, fields = event.workflow, event.enrolment, state.facts(event.ticket)
    zone, window = state.zone, new.window
    after = after_edit(event.before, new.graph, run, event.ended, zone, window, fields)
    return [after] if after is not None else []


def after_edit(
    old: Graph,
    new: Graph,
    run: Enrolment,
    ended: frozenset[str],
    zone: tzinfo,
    window: Mapping[str, Any] | None,
    fields: Mapping[str, Any],
) -> MoveRun | FinishRun | None:
    """Return how an edit moves or ends a run, or None if the run is not affected (table 3.4).

    If the edit made a delay longer, the delay ends later. If the edit made it shorter, its end
    stays as it was.
    """
    place = carry(old, new, run.place, ended)
    if place is None:
        return FinishRun(run.id, "ENDED_BY_EDIT", "the actions that the ticket was in were deleted")
    due: datetime = run.due_at or run.entered_at
    if place != run.place:
        return MoveRun(run.id, place, due, run.entered_at, run.wait_for or PAST, run.attempts)
    if not _waits_in(old, run):
        return None
    action, before = new.action(place), _config(old, place)
    if action is None or action.kind != "delay":  # another action has the id now
        return MoveRun(run.id, place, due, run.entered_at, run.wait_for or PAST, run.attempts)
    config = action.config
    if "event" in before and "for" not in before:  # without a length there is no shorter one
        due = run.entered_at
    longer = max(due, delay.due(config, run.entered_at, zone, window, fields))
    return MoveRun(run.id, place, longer, run.entered_at, delay.awaited(config), run.attempts)


def _waits_in(graph: Graph, run: Enrolment) -> bool:
    """Tell whether a run waits for the end of the delay at its place, and for nothing else."""
    action = graph.action(run.place)
    if action is None or action.kind != "delay" or run.attempts:
        return False
    return run.wait_for == delay.awaited(action.config)


def _config(graph: Graph, action_id: str) -> Mapping[str, Any]:
    action = graph.action(action_id)
    return action.config if action is not None else {}
