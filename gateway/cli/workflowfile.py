"""Workflows as TOML: what ``workflow export`` writes and ``workflow import`` reads (interfaces.md
2.4), and what an import would change.

What can go wrong: the file cannot be read, is no TOML, has keys that mean nothing. Everything that
is wrong is told at once (exit 65).
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from gateway.desk.workflows import WorkflowPlan
from gateway.errors import Refused

KEYS = ("enabled", "re_enroll", "on_leave", "exclude_sources", "filter", "unenroll_when", "window")


def read(file: Path) -> tuple[list[WorkflowPlan], list[str]]:
    """(plans, problems) of a file: what its tables say wrong, for whoever also knows what is wrong
    with the plans. Refused when it has no tables.
    """
    try:
        given = tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"{file} is no TOML: {error}") from None
    rows = given.get("workflow")
    if given.keys() != {"workflow"} or not isinstance(rows, list) or not rows:
        raise Refused(f"{file}: a list of [[workflow]] tables is expected, and nothing else")
    wrong: list[str] = []
    plans = [
        plan
        for number, row in enumerate(rows, 1)
        if (plan := _plan(row, number, wrong)) is not None
    ]
    named = Counter((plan.pipeline.casefold(), plan.status.casefold()) for plan in plans)
    wrong += [
        f"{pipeline} / {status} is there twice"
        for (pipeline, status), count in named.items()
        if count > 1
    ]
    return plans, wrong


def _plan(row: Any, number: int, wrong: list[str]) -> WorkflowPlan | None:
    if (
        not isinstance(row, dict)
        or not isinstance(row.get("pipeline"), str)
        or not isinstance(row.get("status"), str)
    ):
        wrong.append(f"workflow {number}: pipeline and status are needed")
        return None
    unknown = row.keys() - {"pipeline", "status", "actions", *KEYS}
    wrong.extend(f"workflow {number}: there is no key {key!r}" for key in sorted(unknown))
    return WorkflowPlan(
        row["pipeline"],
        row["status"],
        _plain(row.get("actions", [])),
        {key: _plain(row[key]) for key in KEYS if key in row},
    )


def _plain(value: Any) -> Any:
    """A value of TOML as JSON has it: dates and times as text. TOML wants seconds in a time of day,
    our delays have none.
    """
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, time):
        return value.isoformat("auto" if value.second or value.microsecond else "minutes")
    return value.isoformat() if isinstance(value, datetime | date) else value


def written(rows: Iterable[Mapping[str, Any]]) -> str:
    """The file of these workflows, as :func:`gateway.cli.workflow_runs.described` gives them."""
    return "\n".join(_written(row) for row in rows)


def _written(row: Mapping[str, Any]) -> str:
    lines = [
        "[[workflow]]",
        f"pipeline = {_value(row['pipeline'])}",
        f"status = {_value(row['status'])}",
    ]
    lines += [f"{key} = {_value(row[key])}" for key in KEYS if row[key] is not None]
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
    """Line by line what an import changes; empty where it changes nothing."""
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
