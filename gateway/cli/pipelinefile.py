"""Pipelines as TOML: what ``pipeline export`` writes and ``pipeline import`` reads; the keys are
those of ``pipeline show --json``.

What can go wrong: the file cannot be read, is no TOML, has keys or values that mean nothing.
Everything that is wrong is told at once (exit 65).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.pipeline import Pipeline
from gateway.desk.pipelines import PipelinePlan, StatusPlan, Switches
from gateway.errors import Refused

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


def written(pipelines: Iterable[Pipeline]) -> str:
    """The file of these pipelines."""
    return "\n".join(_written(each) for each in pipelines)


def _written(pipeline: Pipeline) -> str:
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


def read(file: Path) -> list[PipelinePlan]:
    """The plans in a file; Refused with everything that is wrong in it."""
    try:
        given = tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"{file} is not TOML: {error}") from None
    wrong = [f"unknown key {key!r}" for key in given if key != "pipeline"]
    tables = given.get("pipeline")
    if (
        not isinstance(tables, list)
        or not tables
        or not all(isinstance(each, dict) for each in tables)
    ):
        raise Refused("; ".join([*wrong, "the file has no [[pipeline]]"]))
    for number, table in enumerate(tables, 1):
        wrong.extend(
            f"pipeline {table.get('name') or number}: {problem}" for problem in _problems(table)
        )
    names = [str(table.get("name")).casefold() for table in tables]
    wrong.extend(
        f"pipeline {name} stands there twice"
        for name in sorted({each for each in names if names.count(each) > 1})
    )
    if wrong:
        raise Refused("; ".join(wrong))
    return [_plan(table) for table in tables]


def _problems(table: dict[str, Any]) -> list[str]:
    wrong = [f"unknown key {key!r}" for key in table if key not in KEYS]
    if not isinstance(table.get("name"), str) or not table["name"].strip():
        wrong.append("it needs a name")
    wrong.extend(
        f"{key} is true or false"
        for key in ("close_date", "allow_back", "relay")
        if not isinstance(table.get(key, True), bool)
    )
    wrong.extend(
        f"{key} is a status or off"
        for key in ("on_email_sent", "on_customer_reply")
        if not isinstance(table.get(key, ""), str)
    )
    if table.get("strangers", "move") not in ("move", "flag"):
        wrong.append("strangers is move or flag")
    statuses = table.get("statuses")
    if not isinstance(statuses, list) or not statuses:
        return [*wrong, "it needs statuses"]
    for number, status in enumerate(statuses, 1):
        if (
            not isinstance(status, dict)
            or not isinstance(status.get("name"), str)
            or status.get("state") not in STATES
        ):
            wrong.append(f"status {number} needs a name and a state, open or closed")
        elif unknown := status.keys() - {"name", "state", "was", "position"}:
            wrong.append(f"status {number} has unknown keys {', '.join(sorted(unknown))}")
        elif not isinstance(status.get("was", ""), str) or not isinstance(
            status.get("position", 1), int
        ):
            wrong.append(f"status {number}: was is a name, position a number")
    return wrong


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
