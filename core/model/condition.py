"""Conditions on a ticket: ``{field, op, value}``, lists of them, ``{all = [...]}``, ``{any =
[...]}``.

They filter who is enrolled, choose branches and end runs (behaviour.md 3.1). Nothing raises for a
condition that :func:`condition_problem` accepts. An empty field is neither less nor greater than
anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

OPERATORS: Final = ("eq", "ne", "contains", "empty", "gt", "lt")
FIELDS: Final = (
    "number", "subject", "pipeline", "status", "priority", "source", "owner", "requester",
    "requester_domain", "tags", "flags", "created_at", "closed_at", "close_date", "reopened_count",
    "last_customer_message_at", "last_agent_message_at", "first_response_at", "times_contacted",
)  # fmt: skip
DEEPEST: Final = 5


def condition_problem(condition: Any, depth: int = 0) -> str | None:
    """Return a clause that says why a condition is not valid, or None."""
    if isinstance(condition, list):
        condition = {"all": condition}
    if not isinstance(condition, dict):
        return "a condition is a table with field, op and value, or a list of conditions"
    for word in ("all", "any"):
        if word in condition:
            return _group_problem(condition, word, depth)
    if condition.keys() - {"field", "op", "value"}:
        return f"a condition has no key {min(condition.keys() - {'field', 'op', 'value'})!r}"
    if condition.get("field") not in FIELDS:
        return f"unknown field {condition.get('field')!r}; the fields are {', '.join(FIELDS)}"
    op = condition.get("op", "eq")
    if op not in OPERATORS:
        return f"unknown op {op!r}; the ops are {', '.join(OPERATORS)}"
    if op != "empty" and "value" not in condition:
        return f"{op} needs a value"
    if not isinstance(condition.get("value", ""), str | int | float | bool | date):
        return "a value must be text, a number, a date, true or false"
    return None


def _group_problem(condition: Mapping[str, Any], word: str, depth: int) -> str | None:
    inside = condition[word]
    if len(condition) != 1 or not isinstance(inside, list):
        return f"{word} takes a list of conditions and no other keys"
    if depth >= DEEPEST:
        return f"conditions are nested more than {DEEPEST} deep"
    problems = (condition_problem(each, depth + 1) for each in inside)
    return next((problem for problem in problems if problem is not None), None)


def holds(condition: Any, facts: Mapping[str, Any]) -> bool:
    """Tell whether a valid condition holds for the fields of a ticket; True if it is None."""
    if condition is None:
        return True
    if isinstance(condition, list):
        return all(holds(each, facts) for each in condition)
    if "all" in condition:
        return all(holds(each, facts) for each in condition["all"])
    if "any" in condition:
        return any(holds(each, facts) for each in condition["any"])
    return _compare(
        condition.get("op", "eq"), facts.get(condition["field"]), condition.get("value")
    )


def _compare(op: str, held: Any, wanted: Any) -> bool:
    if op == "empty":
        return _empty(held) == (wanted is not False)  # value = false asks for the opposite
    if op in ("eq", "ne"):
        return _equal(held, wanted) == (op == "eq")
    return _contains(held, wanted) if op == "contains" else _ordered(op, held, wanted)


def _empty(held: Any) -> bool:
    return held is None or held == "" or (isinstance(held, list | tuple | frozenset) and not held)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value).casefold().strip()


def _equal(held: Any, wanted: Any) -> bool:
    if _empty(held):
        return _empty(wanted)
    if isinstance(held, list | tuple | frozenset):
        return any(_plain(each) == _plain(wanted) for each in held)
    if isinstance(held, datetime) and (instant := _instant(wanted, held)) is not None:
        return held == instant
    return _plain(held) == _plain(wanted)


def _contains(held: Any, wanted: Any) -> bool:
    if _empty(held):
        return False
    if isinstance(held, list | tuple | frozenset):
        return any(_plain(each) == _plain(wanted) for each in held)
    return _plain(wanted) in _plain(held)


def _ordered(op: str, held: Any, wanted: Any) -> bool:
    if _empty(held):
        return False
    left, right = _comparable(held, wanted)
    if right is None:
        return False
    return bool(left > right) if op == "gt" else bool(left < right)


def _comparable(held: Any, wanted: Any) -> tuple[Any, Any]:
    """Convert two values so that they can be compared; the second is None if that fails."""
    if isinstance(held, datetime):
        return held, _instant(wanted, held)
    if isinstance(held, int):
        return held, _number(wanted)
    return _plain(held), _plain(wanted)


def _number(value: Any) -> float | None:
    if isinstance(value, int):
        return value  # one that no float can hold compares all the same
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _instant(value: Any, like: datetime) -> datetime | None:
    """Return an instant or a date as an instant; if it has no offset, ``like`` gives the zone."""
    text = value.isoformat() if isinstance(value, date) else str(value)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=like.tzinfo)
