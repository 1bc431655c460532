"""Write and read pipelines as TOML, with the keys of ``pipeline show --json``.

Raises Invalid (exit 65) for a file that cannot be read, is not TOML, or has unknown keys or values.
The message lists all problems.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.pipeline import Pipeline
from gateway.cli.toml_file import read_toml
from gateway.desk.pipelines import PipelinePlan, StatusPlan, Switches
from gateway.errors import Invalid

STATES = ("open", "closed")
KEYS = {
    "name",
    "statuses",
    "close_date",
    "on_email_sent",
    "on_customer_reply",
    "strangers",
    "allow_back",
    "relay",
}


def toml_of(pipelines: Iterable[Pipeline]) -> str:
    """Return pipelines as the text of a TOML file."""
    return "\n".join(_table(each) for each in pipelines)


def _table(pipeline: Pipeline) -> str:
    def target(status_id: int | None) -> str:
        return _text(pipeline.status(status_id).name if status_id is not None else "off")

    lines = [
        "[[pipeline]]",
        f"name = {_text(pipeline.name)}",
        f"close_date = {_flag(pipeline.set_close_date)}",
        f"on_email_sent = {target(pipeline.on_email_sent)}",
        f"on_customer_reply = {target(pipeline.on_customer_reply)}",
        f"strangers = {_text(pipeline.strangers)}",
        f"allow_back = {_flag(pipeline.allow_back)}",
        f"relay = {_flag(pipeline.relay)}",
        "statuses = [",
        *(
            f"  {{ name = {_text(each.name)}, state = {_text(each.state)} }},"
            for each in pipeline.statuses
        ),
        "]",
    ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _flag(value: bool) -> str:
    return "true" if value else "false"


def read_plans(file: Path) -> list[PipelinePlan]:
    """Return the plans in a file; raise Invalid with all problems if there are any."""
    given = read_toml(file)
    problems = [f"unknown key {key!r}" for key in given if key != "pipeline"]
    tables = given.get("pipeline")
    if (
        not isinstance(tables, list)
        or not tables
        or not all(isinstance(each, dict) for each in tables)
    ):
        raise Invalid("; ".join([*problems, "the file has no [[pipeline]] table"]))
    for number, table in enumerate(tables, 1):
        problems.extend(
            f"pipeline {table.get('name') or number}: {problem}" for problem in _problems(table)
        )
    names = [str(table.get("name")).casefold() for table in tables]
    problems.extend(
        f"pipeline {name} occurs twice"
        for name in sorted({each for each in names if names.count(each) > 1})
    )
    if problems:
        raise Invalid("; ".join(problems))
    return [_plan(table) for table in tables]


def _problems(table: dict[str, Any]) -> list[str]:
    problems = [f"unknown key {key!r}" for key in table if key not in KEYS]
    if not isinstance(table.get("name"), str) or not table["name"].strip():
        problems.append("name is missing")
    problems.extend(
        f"{key} must be true or false"
        for key in ("close_date", "allow_back", "relay")
        if not isinstance(table.get(key, True), bool)
    )
    problems.extend(
        f"{key} must be a status or off"
        for key in ("on_email_sent", "on_customer_reply")
        if not isinstance(table.get(key, ""), str)
    )
    if table.get("strangers", "move") not in ("move", "flag"):
        problems.append("strangers must be move or flag")
    statuses = table.get("statuses")
    if not isinstance(statuses, list) or not statuses:
        return [*problems, "statuses are missing"]
    found = (_status_problem(number, status) for number, status in enumerate(statuses, 1))
    return [*problems, *filter(None, found)]


def _status_problem(number: int, status: Any) -> str:
    """Return what is wrong with a status in a file; an empty text if nothing is."""
    named = isinstance(status, dict) and isinstance(status.get("name"), str)
    if not named or status.get("state") not in STATES:
        return f"status {number} needs a name and a state, open or closed"
    if unknown := status.keys() - {"name", "state", "was", "position"}:
        return f"status {number}: unknown key {', '.join(map(repr, sorted(unknown)))}"
    was, position = status.get("was", ""), status.get("position", 1)
    if not isinstance(was, str) or not isinstance(position, int):
        return f"status {number}: was must be a name, position a number"
    return ""


def _plan(table: dict[str, Any]) -> PipelinePlan:
    switches: Switches = {}
    if "close_date" in table:
        switches["set_close_date"] = table["close_date"]
    if "on_email_sent" in table:
        switches["on_email_sent"] = _target(table["on_email_sent"])
    if "on_customer_reply" in table:
        switches["on_customer_reply"] = _target(table["on_customer_reply"])
    if "strangers" in table:
        switches["strangers"] = table["strangers"]
    if "allow_back" in table:
        switches["allow_back"] = table["allow_back"]
    if "relay" in table:
        switches["relay"] = table["relay"]
    statuses = sorted(
        enumerate(table["statuses"], 1), key=lambda each: each[1].get("position", each[0])
    )
    return PipelinePlan(
        table["name"],
        tuple(StatusPlan(each["name"], each["state"], each.get("was")) for _, each in statuses),
        switches,
    )


def _target(given: str) -> str | None:
    return None if given in ("off", "") else given
