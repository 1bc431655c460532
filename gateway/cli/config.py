"""``ticketgate config check | show | schema``: the settings, their sources and problems.

An invalid configuration ends a command with exit code 78 and a list of all problems.
"""

from __future__ import annotations

import json
import os
from typing import Any

import typer
from pydantic import SecretStr

from config.load import Loaded, load
from config.problems import ConfigError
from config.settings import Section, Settings
from gateway.cli.group import App
from gateway.cli.opening import named_file
from gateway.cli.option_values import AsJson
from gateway.cli.output import count, emit, facts, say, visible
from gateway.cli.places import HIDDEN, places, without_password

app = App("Check and show the configuration.")


@app.command()
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Check the configuration and list all problems. Any problem makes the exit code 78."""
    try:
        loaded = load(named_file(context), os.environ)
    except ConfigError as error:
        if as_json:
            problems = [_problem(each) for each in error.problems]
            emit({"ok": False, "problems": problems})
        else:
            say(problems_text(error), error=True)
        raise typer.Exit(os.EX_CONFIG) from None
    if as_json:
        emit({"ok": True, "problems": [], "paths": places(loaded)})
    else:
        say(f"{loaded.file or 'built-in defaults'}: good")
        facts((name.capitalize(), place) for name, place in places(loaded).items())


@app.command()
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Print all settings, and where each value was set. Secrets are hidden."""
    try:
        loaded = load(named_file(context), os.environ)
    except ConfigError as error:
        say(problems_text(error), error=True)
        raise typer.Exit(os.EX_CONFIG) from None
    if as_json:
        document = {
            "file": str(loaded.file) if loaded.file else None,
            "settings": plain(loaded.settings),
            "sources": dict(loaded.sources),
        }
        emit(document)
    else:
        say("\n".join(_toml_lines(loaded)))


@app.command()
def schema(as_json: AsJson = False) -> None:  # noqa: ARG001  # JSON is its only form
    """Print the JSON schema of the configuration file. Editors and tools can use the schema."""
    emit(Settings.model_json_schema(), indent=2)


def problems_text(error: ConfigError) -> str:
    """Return each problem on a line, and a last line with the number of problems."""
    lines = "\n".join(visible(str(each)) for each in error.problems)
    return f"{lines}\n{count(len(error.problems), 'problem')} in the configuration"


def plain(section: Section) -> dict[str, Any]:
    """Return settings as JSON values; secrets are hidden, and so are passwords in URLs."""
    return {key: _hide(getattr(section, key)) for key in type(section).model_fields}


def _hide(value: Any) -> Any:
    match value:
        case SecretStr():
            return HIDDEN if value.get_secret_value() else ""
        case Section():
            return plain(value)
        case tuple():
            return [_hide(item) for item in value]
        case str():
            return without_password(value)
        case _:
            return value


def _problem(problem: Any) -> dict[str, str]:
    return {
        "file": problem.file,
        "key": problem.key,
        "reason": problem.reason,
        "suggestion": problem.suggestion,
    }


def _toml_lines(loaded: Loaded) -> list[str]:
    lines: list[str] = []
    for section, value in plain(loaded.settings).items():
        heading = f"[[{section}]]" if isinstance(value, list) else f"[{section}]"
        for table in value if isinstance(value, list) else [value]:
            body = (_toml_line(section, key, item, loaded) for key, item in table.items())
            lines += [heading, *body, ""]
    return lines[:-1]


def _toml_line(section: str, key: str, item: Any, loaded: Loaded) -> str:
    source = loaded.sources.get(f"{section}.{key}") or loaded.sources.get(section)
    line = f"{key} = {json.dumps(item, ensure_ascii=False)}"
    return f"{line}  # {source}" if source else line
