"""Write, read and compare workflows as TOML (interfaces.md 2.4).

Raises Invalid (exit 65) for a file that cannot be read, is not TOML, or has unknown keys. The
message lists all problems.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from gateway.cli.toml_file import read_toml
from gateway.desk.workflows import WorkflowPlan
from gateway.errors import Invalid

KEYS = ("enabled", "re_enroll", "on_leave", "exclude_sources", "filter", "unenroll_when", "window")


def read_plans(file: Path) -> tuple[list[WorkflowPlan], list[str]]:
    """Return the plans in a file, and the problems of the file.

    Raises Invalid unless the file holds only [[workflow]] tables. The caller adds the problems of
    the plans, so that the user sees all problems at once.
    """
    given = read_toml(file)
    rows = given.get("workflow")
    if given.keys() != {"workflow"} or not isinstance(rows, list) or not rows:
        raise Invalid(f"{file} must hold [[workflow]] tables and nothing else")
    problems: list[str] = []
    plans = [
        plan
        for number, row in enumerate(rows, 1)
        if (plan := _plan(row, number, problems)) is not None
    ]
    named = Counter((plan.pipeline.casefold(), plan.status.casefold()) for plan in plans)
    problems += [
        f"{pipeline} / {status} occurs twice"
        for (pipeline, status), count in named.items()
        if count > 1
    ]
    return plans, problems


def _plan(row: Any, number: int, problems: list[str]) -> WorkflowPlan | None:
    if (
        not isinstance(row, dict)
        or not isinstance(row.get("pipeline"), str)
        or not isinstance(row.get("status"), str)
    ):
        problems.append(f"workflow {number}: pipeline or status is missing")
        return None
    unknown = row.keys() - {"pipeline", "status", "actions", *KEYS}
    problems.extend(f"workflow {number}: unknown key {key!r}" for key in sorted(unknown))
    return WorkflowPlan(
        row["pipeline"],
        row["status"],
        _plain(row.get("actions", [])),
        {key: _plain(row[key]) for key in KEYS if key in row},
    )


def _plain(value: Any) -> Any:
    """Return a TOML value as JSON; dates and times become text.

    Seconds that are 0 are left out of the text.
    """
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, time):
        return value.isoformat("auto" if value.second or value.microsecond else "minutes")
    return value.isoformat() if isinstance(value, datetime | date) else value


def toml_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return TOML for documents from :func:`gateway.cli.show_workflow.described`."""
    return "\n".join(_table(row) for row in rows)


def _table(row: Mapping[str, Any]) -> str:
    keys = ("pipeline", "status", *(key for key in KEYS if row[key] is not None))
    lines = ["[[workflow]]", *(f"{key} = {_value(row[key])}" for key in keys)]
    lines += ["actions = [", *(f"  {_value(action)}," for action in row["actions"]), "]"]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return "[" + ", ".join(_value(each) for each in value) + "]"
        case dict():
            return (
                "{ "
                + ", ".join(
                    f"{_key(key)} = {_value(each)}"
                    for key, each in value.items()
                    if each is not None
                )
                + " }"
            )
        case _:
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return (
        key
        if key.replace("_", "").replace("-", "").isalnum() and key.isascii()
        else json.dumps(key)
    )


def differences(
    before: Mapping[tuple[str, str], Mapping[str, Any]], plans: Sequence[WorkflowPlan]
) -> list[str]:
    """Return what an import would change, as lines of a diff."""
    found: list[str] = []
    for plan in plans:
        known = next(
            (
                row
                for (pipeline, status), row in before.items()
                if (pipeline.casefold(), status.casefold())
                == (plan.pipeline.casefold(), plan.status.casefold())
            ),
            None,
        )
        old = _lines(known) if known is not None else []
        defaults = {
            "re_enroll": False,
            "on_leave": "continue",
            "exclude_sources": ["chat", "messenger"],
            "filter": None,
            "unenroll_when": None,
            "window": None,
        }
        kept = {"enabled": known["enabled"] if known is not None else False}
        new = _lines({**defaults, **kept, **plan.settings, "actions": plan.actions})
        name = f"{plan.pipeline} / {plan.status}"
        found.extend(difflib.unified_diff(old, new, name, name, lineterm="", n=1))
    return found


def _lines(row: Mapping[str, Any]) -> list[str]:
    settings = [
        f"{key} = {_value(sorted(row[key]) if key == 'exclude_sources' else row[key])}"
        for key in KEYS
        if row.get(key) is not None
    ]
    return [*settings, *(_value(action) for action in row["actions"])]
