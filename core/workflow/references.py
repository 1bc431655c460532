"""Find the names of statuses, pipelines, templates and users in a workflow, and replace them.

Everything else refers to these by id. Workflows use their names, since people write and exchange
workflows as text. A name is found in any letter case. Nothing here raises for a workflow that
cannot be read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from core.pipeline import Pipeline

Named = Literal["status", "pipeline", "template", "user"]

# Keys of actions, by kind, and fields of conditions that hold a name. A test asks that each other
# key and field is known to hold none.
IN_ACTIONS: Final[Mapping[tuple[str, str], Named]] = {
    ("set_status", "status"): "status",
    ("set_status", "pipeline"): "pipeline",
    ("send_email", "template"): "template",
    ("set_owner", "owner"): "user",
    ("notify_internal_email", "to"): "user",
}
IN_CONDITIONS: Final[Mapping[str, Named]] = {
    "status": "status",
    "pipeline": "pipeline",
    "owner": "user",
}


@dataclass(frozen=True, slots=True)
class NameUse:
    """A name of a status, pipeline, template or user in a workflow.

    ``place`` is the id of the action with the name, or "filter" or "unenroll_when". ``pipeline``
    names the pipeline of a status; it is None if a condition does not say which. ``part``: the
    condition also holds for longer names that contain this one.
    """

    what: Named
    name: str
    place: str
    pipeline: str | None = None
    part: bool = False

    def names(self, what: Named, *names: str) -> bool:
        """Tell whether this is the name of a thing of kind ``what``, and one of ``names``."""
        key = self.name.strip().casefold()
        return self.what == what and key in {each.strip().casefold() for each in names}

    def pipelines(self, own: Pipeline, known: Iterable[Pipeline]) -> list[Pipeline]:
        """Return the pipelines whose status this name may mean, in a workflow of pipeline ``own``.

        If a condition names no pipeline, it means ``own``; if ``own`` has no such status, it means
        every pipeline that has one.
        """
        if self.pipeline is not None:
            wanted = self.pipeline.strip().casefold()
            return [each for each in known if each.name.strip().casefold() == wanted]
        name = self.name.strip()
        if own.named(name) is not None:
            return [own]
        return [each for each in known if each.named(name) is not None]


New = Callable[[NameUse], str | None]


def renamed(flow: Mapping[str, Any], own: str, new: New) -> dict[str, Any]:
    """Return actions, filter and unenroll_when of a workflow of pipeline ``own`` with new names.

    ``new`` returns the name to write instead, or None to keep it.
    """
    made = copy.deepcopy(dict(flow))
    for key in ("filter", "unenroll_when"):
        if made.get(key) is not None:
            _in_condition(made[key], key, None, new)
    _in_actions(made.get("actions"), own, new)
    return made


def uses(flow: Mapping[str, Any], own: str) -> list[NameUse]:
    """Return every name in the actions and conditions of a workflow of pipeline ``own``."""
    found: list[NameUse] = []
    renamed(flow, own, found.append)
    return found


def _in_actions(actions: Any, own: str, new: New) -> None:
    for action in actions if isinstance(actions, list) else []:
        if not isinstance(action, dict):
            continue
        _in_keys(action, own, new)
        for branch in action.get("branches") or []:
            if isinstance(branch, dict):
                _in_branch(action, branch, new)
                _in_actions(branch.get("actions"), own, new)
        _in_actions(action.get("otherwise"), own, new)


def _in_keys(action: dict[str, Any], own: str, new: New) -> None:
    """Replace the names in the keys of one action."""
    place, pipeline = str(action.get("id")), str(action.get("pipeline", own))
    for (kind, key), what in IN_ACTIONS.items():
        if kind != action.get("kind") or key not in action:
            continue
        where = pipeline if what == "status" else None
        held = action[key]
        if isinstance(held, list):
            action[key] = [_replaced(each, what, place, where, new) for each in held]
        else:
            action[key] = _replaced(held, what, place, where, new)


def _replaced(held: Any, what: Named, place: str, pipeline: str | None, new: New) -> Any:
    """Return a value of an action with its name replaced."""
    if not isinstance(held, str) or (what == "user" and held.strip().casefold() in _NOBODY):
        return held
    return new(NameUse(what, held, place, pipeline)) or held


_NOBODY: Final = frozenset({"none", "owner"})  # words that take the place of a user


def _in_branch(action: dict[str, Any], branch: dict[str, Any], new: New) -> None:
    """Replace the names in the condition of one path; a path without condition has just a value."""
    place = str(action.get("id"))
    if branch.get("when") is not None:
        _in_condition(branch["when"], place, None, new)
    elif "value" in branch and isinstance(action.get("field"), str):
        short = {"field": action["field"], "value": branch["value"]}
        _in_condition(short, place, None, new)
        branch["value"] = short["value"]


def _in_condition(condition: Any, place: str, pipeline: str | None, new: New) -> None:
    """Replace the names in a condition; ``pipeline`` is named by a condition around it, or None."""
    if isinstance(condition, list):
        condition = {"all": condition}
    if not isinstance(condition, dict):
        return
    for word in ("all", "any"):
        if isinstance(inside := condition.get(word), list):
            around = (_pipeline_in(inside) if word == "all" else None) or pipeline
            for each in inside:
                _in_condition(each, place, around, new)
            return
    what = IN_CONDITIONS.get(str(condition.get("field")))
    value, op = condition.get("value"), condition.get("op", "eq")
    if what is None or isinstance(value, bool) or value in (None, "") or op not in _COMPARED:
        return
    where = pipeline if what == "status" else None
    use = NameUse(what, str(value), place, where, part=op == "contains")
    condition["value"] = new(use) or value


_COMPARED: Final = frozenset({"eq", "ne", "contains"})


def _pipeline_in(conditions: Iterable[Any]) -> str | None:
    """Return the pipeline that one of these conditions requires; all of them have to hold."""
    for each in conditions:
        asks = isinstance(each, dict) and each.get("field") == "pipeline"
        if asks and each.get("op", "eq") == "eq" and isinstance(each.get("value"), str):
            return str(each["value"])
    return None
