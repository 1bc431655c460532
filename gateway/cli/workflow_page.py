"""The actions of a workflow as a person reads them at a terminal: one a line, what is inside a
branch further to the right. Nothing can go wrong here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gateway.cli.output import said

STEP = "    "
LONGEST = 80  # characters of one value; export prints all of it
SHAPE = ("id", "kind", "branches", "otherwise", "comments")


def outline(actions: Sequence[dict[str, Any]], margin: str = "") -> Iterator[str]:
    """The lines."""
    for action in actions:
        words = "  ".join(
            f"{name} {_short(value)}" for name, value in action.items() if name not in SHAPE
        )
        yield f"{margin}{action['id']}  {action['kind']}{'  ' if words else ''}{words}"
        for each in action.get("comments", ()):
            settled = " (settled)" if each["resolved_at"] else ""
            yield (
                f"{margin}{STEP}# {each['id']} {each['author']}, {said(each['at'])}{settled}: "
                f"{_short(each['text'])}"
            )
        for branch in action.get("branches", ()):
            yield f"{margin}{STEP}{branch['name']}: when {condition(branch['when'])}"
            yield from outline(branch.get("actions", ()), margin + 2 * STEP)
        if action["kind"] == "branch":
            yield f"{margin}{STEP}otherwise"
            yield from outline(action.get("otherwise", ()), margin + 2 * STEP)


def condition(given: dict[str, Any] | list[Any]) -> str:
    """A condition in a line."""
    if isinstance(given, list):
        given = {"all": given}
    for name, word in (("all", " and "), ("any", " or ")):
        if name in given:
            return f"({word.join(map(condition, given[name]))})"
    return " ".join(
        _short(each)
        for each in (given["field"], given.get("op", "eq"), given.get("value"))
        if each is not None
    )


def _short(value: object) -> str:
    text = said(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
