"""Check values against their types, and describe each invalid one in a plain sentence."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.problems import Problem
from config.settings import Section, Settings
from config.sources import ITEMS, Gathered, did_you_mean, section_model

_EXPECTED: Final = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
}
_SUGGESTED: Final = {
    "string_type": "write it in quotes",
    "int_type": "write it without quotes",
    "bool_type": "write it without quotes",
    "tuple_type": 'write ["..."]',
    "missing": "add it",
    "string_too_short": "write some text",
    "string_too_long": "shorten it",
}


def validate(gathered: Gathered) -> tuple[Settings, list[Problem]]:
    """Return the settings without their invalid values, and a problem for each invalid value.

    The remaining values are valid, so that the rules can check them.
    """
    values = deepcopy(gathered.values)
    problems: list[Problem] = []
    for attempt in range(3):
        try:
            return Settings.model_validate(values), problems
        except ValidationError as error:
            details = error.errors(include_url=False)
        if attempt == 0:
            problems = [_describe(detail, gathered) for detail in details]
        for detail in details:
            _remove(values, detail["loc"], missing=detail["type"] == "missing")
        for section in ITEMS:
            if isinstance(values.get(section), list):
                values[section] = [table for table in values[section] if table is not None]
    return Settings(), problems


def _remove(values: dict[str, Any], loc: tuple[int | str, ...], *, missing: bool) -> None:
    """Remove the value at ``loc``.

    If a table of a list lacks a required key, the whole table is removed.
    """
    match loc:
        case (str(section), int(number), *_) if not isinstance(values[section][number], dict):
            values[section][number] = None  # no table, or removed for another mistake
        case (str(section), int(number), str(key), *_) if not missing:
            values[section][number].pop(key, None)
        case (str(section), int(number), *_):
            values[section][number] = None
        case (str(section), str(key), *_) if isinstance(values.get(section), dict):
            values[section].pop(key, None)
        case (section, *_):
            values.pop(str(section), None)
        case _:
            values.clear()


def _describe(detail: ErrorDetails, gathered: Gathered) -> Problem:
    loc, kind = detail["loc"], detail["type"]
    key = shown_key(loc, gathered.values)
    file = gathered.source(loc)
    model = _model(loc)
    if kind == "extra_forbidden":
        if len(loc) == 1:
            return Problem(
                file, key, "unknown section", did_you_mean(str(loc[0]), list(Settings.model_fields))
            )
        return Problem(
            file, key, "unknown key", did_you_mean(str(loc[-1]), list(model.model_fields))
        )
    if kind in {"model_type", "model_attributes_type"} or (len(loc) == 1 and kind == "tuple_type"):
        form = f"[[{loc[0]}]]" if loc[0] in ITEMS else f"[{loc[0]}]"
        return Problem(
            file,
            key,
            "must be a section" if loc[0] not in ITEMS else "must be a list of tables",
            f"write {form} and its keys below it",
        )
    if kind == "literal_error":
        allowed = [str(word) for word in get_args(model.model_fields[str(loc[-1])].annotation)]
        value = detail["input"]
        near = did_you_mean(value, allowed) if isinstance(value, str) else ""
        return Problem(
            file,
            key,
            f"must be one of {', '.join(allowed)}",
            near if near.startswith("did") else f"choose one of these instead of {value!r}",
        )
    if kind in {"greater_than_equal", "less_than_equal"}:
        context = detail.get("ctx", {})
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return Problem(file, key, f"{detail['input']} is out of range", f"set {bound}")
    return Problem(file, key, _EXPECTED.get(kind, detail["msg"]), _SUGGESTED.get(kind, ""))


def _model(loc: tuple[int | str, ...]) -> type[Section]:
    name = str(loc[0])
    return ITEMS.get(name) or section_model(name) or Settings


def shown_key(loc: tuple[int | str, ...], values: dict[str, Any]) -> str:
    """Return the key as users write it: ``smtp.listen[0]``, ``imap.NAME.port``.

    Tables of a list that have no name are counted from 1.
    """
    parts = [str(loc[0])]
    rest = loc[1:]
    if loc[0] in ITEMS and rest and isinstance(rest[0], int):
        table = values[parts[0]][rest[0]]
        name = table.get("name") if isinstance(table, dict) else None
        parts.append(name if isinstance(name, str) and name else str(rest[0] + 1))
        rest = rest[1:]
    for part in rest:
        if isinstance(part, int):
            parts[-1] += f"[{part}]"
        else:
            parts.append(part)
    return ".".join(parts)
