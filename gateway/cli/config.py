"""``ticketgate config check | show | schema``: what is set, where it came from, and everything that
is wrong with it.

What can go wrong is the configuration: then all problems are listed and the exit code is 78.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr

from config.load import Loaded, load
from config.problems import ConfigError
from config.settings import Section, Settings

app = typer.Typer(
    help="What is set, where it came from, and what is wrong with it.", no_args_is_help=True
)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
_HIDDEN: Final = "**********"
_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*(?=@)")


@app.command()
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Reads the configuration and lists every problem: file, key, reason, suggestion. Exit 78 when
    there is one.
    """
    try:
        loaded = load(_named_file(context), os.environ)
    except ConfigError as error:
        if as_json:
            print(
                json.dumps(
                    {"ok": False, "problems": [_problem(problem) for problem in error.problems]},
                    ensure_ascii=False,
                )
            )
        else:
            print(problems_text(error), file=sys.stderr)
        raise typer.Exit(os.EX_CONFIG) from None
    if as_json:
        print(json.dumps({"ok": True, "problems": []}))
    else:
        print(f"{loaded.file or 'built-in defaults'}: good")


@app.command()
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Prints what holds, with secrets hidden, and where each value that is no default came from."""
    try:
        loaded = load(_named_file(context), os.environ)
    except ConfigError as error:
        print(problems_text(error), file=sys.stderr)
        raise typer.Exit(os.EX_CONFIG) from None
    if as_json:
        document = {
            "file": str(loaded.file) if loaded.file else None,
            "settings": plain(loaded.settings),
            "sources": dict(loaded.sources),
        }
        print(json.dumps(document, ensure_ascii=False))
    else:
        print("\n".join(_toml_lines(loaded)))


@app.command()
# every showing command takes --json; this one has no other form
def schema(as_json: AsJson = False) -> None:  # noqa: ARG001
    """Prints the JSON schema of the file, for editors and for tools that write it."""
    print(json.dumps(Settings.model_json_schema(), ensure_ascii=False, indent=2))


def problems_text(error: ConfigError) -> str:
    """Every problem on a line of its own, and how many there are; the whole program uses it when a
    configuration cannot be used.
    """
    number = len(error.problems)
    return f"{error}\n{number} problem{'' if number == 1 else 's'} in the configuration"


def plain(section: Section) -> dict[str, Any]:
    """Settings as JSON values in which no secret is left: neither a password nor the one inside a
    URL.
    """
    return {key: _hide(getattr(section, key)) for key in type(section).model_fields}


def _hide(value: Any) -> Any:
    match value:
        case SecretStr():
            return _HIDDEN if value.get_secret_value() else ""
        case Section():
            return plain(value)
        case tuple():
            return [_hide(item) for item in value]
        case str():
            return _PASSWORD_IN_URL.sub(rf"\1:{_HIDDEN}", value)
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
            lines += [
                heading,
                *(_toml_line(section, key, item, loaded) for key, item in table.items()),
                "",
            ]
    return lines[:-1]


def _toml_line(section: str, key: str, item: Any, loaded: Loaded) -> str:
    source = loaded.sources.get(f"{section}.{key}") or loaded.sources.get(section)
    line = f"{key} = {json.dumps(item, ensure_ascii=False)}"
    return f"{line}  # {source}" if source else line


def _named_file(context: typer.Context) -> Path | None:
    """What ``--config`` before the sub-command named."""
    named = context.find_root().params.get("config")
    return Path(named) if named is not None else None
