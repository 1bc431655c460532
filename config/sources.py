"""Where settings come from: one file, systemd credentials, the environment. Each gives plain values
and the problems of reading it.

Order, later wins: built-in defaults, the file, credentials
(``$CREDENTIALS_DIRECTORY/section.key``), environment (``TICKETGATE_SECTION__KEY``).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_origin

from config.problems import Problem
from config.settings import ImapSettings, OauthSettings, Section, Settings

PREFIX: Final = "TICKETGATE_"
RESERVED: Final = frozenset({"TICKETGATE_NOW", "TICKETGATE_REQUIRE_ALL", "TICKETGATE_CONFIG"})
PLACES: Final = (Path("ticketgate.toml"), Path("/etc/ticketgate/ticketgate.toml"))
ITEMS: Final[dict[str, type[Section]]] = {"imap": ImapSettings, "oauth": OauthSettings}
SECRETS: Final = {
    "outbound": "password",
    "webhooks": "secret",
    "imap": "password",
    "oauth": "client_secret",
}
Key = tuple[str, ...]
# stands in for a secret whose file is a problem already, so that no rule calls it missing as well
_UNREAD: Final = "unread"


@dataclass(slots=True)
class Gathered:
    """The values of all sources laid over one another, where each came from, and what could not be
    read.
    """

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def put(self, key: Key, value: Any, source: str) -> None:
        """Lays one value over what earlier sources said."""
        if len(key) == 1:
            self.values[key[0]] = value
        else:
            table = self.values.get(key[0])
            self.values[key[0]] = {**(table if isinstance(table, dict) else {}), key[1]: value}
        self.sources[key] = source

    def source(self, loc: tuple[int | str, ...]) -> str:
        """Where the value at a place came from; a value that is not there belongs to the source
        that its section has.
        """
        exact = self.sources.get(tuple(str(part) for part in loc[:2])) or self.sources.get(
            (str(loc[0]),)
        )
        if exact:
            return exact
        return next(
            (source for key, source in self.sources.items() if key[0] == loc[0]), "defaults"
        )


def section_model(name: str) -> type[Section] | None:
    """The model of a plain section (not of a list of tables), or None where there is none of that
    name.
    """
    about = Settings.model_fields.get(name)
    model = about.annotation if about is not None else None
    return model if isinstance(model, type) and issubclass(model, Section) else None


def did_you_mean(name: str, known: Iterator[str] | list[str]) -> str:
    """A suggestion for a misspelt name: the nearest known one, or all of them."""
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(names)}"


def find_file(named: Path | None) -> Path | None:
    """The file to read: the named one, else the first usual place that has one."""
    return (
        named if named is not None else next((place for place in PLACES if place.is_file()), None)
    )


def read_file(path: Path, gathered: Gathered) -> None:
    """Lays the file's values in; a file that is missing, unreadable or no TOML is a problem."""
    name = str(path)
    try:
        given = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        gathered.problems.append(
            Problem(
                name, "", "there is no such file", "name an existing file, or leave --config out"
            )
        )
        return
    except OSError as error:
        gathered.problems.append(
            Problem(
                name,
                "",
                f"cannot be read: {os.strerror(error.errno or 0)}",
                "check the path and its permissions",
            )
        )
        return
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        gathered.problems.append(
            Problem(name, f"line {line}", "is not UTF-8 text", "save the file as UTF-8")
        )
        return
    except tomllib.TOMLDecodeError as error:
        suggestion = (
            'text stands in quotes, as in name = "Support"' if "Invalid value" in str(error) else ""
        )
        gathered.problems.append(Problem(name, "", f"is not TOML: {error}", suggestion))
        return
    for section, table in given.items():
        if isinstance(table, dict):
            gathered.values.setdefault(section, {})
            for key, value in table.items():
                gathered.put((section, key), value, name)
        else:
            gathered.put((section,), table, name)


def read_environment(environ: Mapping[str, str], gathered: Gathered) -> None:
    """Lays in ``TICKETGATE_SECTION__KEY``; lists, numbers and truth values are JSON (an empty list
    may be empty text), everything else is taken as it stands.
    """
    for name in sorted(environ):
        section, double, key = name.removeprefix(PREFIX).lower().partition("__")
        if not name.startswith(PREFIX) or name in RESERVED or not (double or section in ITEMS):
            continue
        _put_text(
            (section, key) if double else (section,), environ[name], "environment", name, gathered
        )


def read_credentials(folder: str, gathered: Gathered) -> None:
    """Lays in the files named ``section.key`` of systemd's credentials folder; files of other names
    are not ours.
    """
    for path in sorted(Path(folder).glob("*.*")):
        section, _, key = path.name.partition(".")
        if section not in Settings.model_fields:
            continue
        try:
            text = path.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            gathered.problems.append(
                Problem(
                    "credentials",
                    path.name,
                    "cannot be read as text",
                    "check LoadCredential= of the unit",
                )
            )
            continue
        if section in ITEMS:
            _put_list_secret(section, key, text, gathered)
        else:
            _put_text((section, key), text, "credentials", path.name, gathered)


def _put_list_secret(section: str, key: str, text: str, gathered: Gathered) -> None:
    """``imap.NAME.password``: the secret of the table of that name."""
    name, _, secret = key.rpartition(".")
    tables = gathered.values.get(section)
    if isinstance(tables, list):
        for number, table in enumerate(tables):
            if isinstance(table, dict) and table.get("name") == name:
                tables[number] = {**table, secret: text}
                return
    suggestion = f"the name is {section}.NAME.password, with the NAME of a [[{section}]] table"
    gathered.problems.append(
        Problem("credentials", f"{section}.{key}", "belongs to no table of the file", suggestion)
    )


def _put_text(key: Key, text: str, source: str, shown: str, gathered: Gathered) -> None:
    """Lays in a value that came as text, converted to what its key takes; unknown names become
    problems here, where their spelling is known.
    """
    if len(key) == 1:
        wanted: Any = tuple
    else:
        model = section_model(key[0])
        if model is None:
            known = [name for name in Settings.model_fields if name not in ITEMS]
            gathered.problems.append(
                Problem(
                    source, shown, f"there is no section {key[0]!r}", did_you_mean(key[0], known)
                )
            )
            return
        if key[1] not in model.model_fields:
            suggestion = did_you_mean(key[1], list(model.model_fields))
            gathered.problems.append(
                Problem(source, shown, f"unknown key {key[1]!r} in [{key[0]}]", suggestion)
            )
            return
        wanted = model.model_fields[key[1]].annotation
    is_list = wanted is tuple or get_origin(wanted) is tuple
    if is_list and not text.strip():
        gathered.put(key, [], source)  # interfaces.md 6: an empty value switches a listener off
    elif is_list or wanted in {int, bool}:
        try:
            gathered.put(key, json.loads(text), source)
        except ValueError:
            form = {int: "a whole number", bool: "true or false"}.get(
                wanted, 'a JSON list, as in ["a", "b"]'
            )
            gathered.problems.append(
                Problem(
                    source,
                    shown,
                    f"is not {form}",
                    "lists, numbers and true/false are written as JSON",
                )
            )
    else:
        gathered.put(key, text, source)


def read_secret_files(gathered: Gathered) -> None:
    """Reads what ``password_file`` and ``client_secret_file`` name into the key without ``_file``;
    both at once is a problem, unless a stronger source set it.
    """
    for section, secret in SECRETS.items():
        given = gathered.values.get(section)
        for table in given if isinstance(given, list) else [given]:
            if isinstance(table, dict) and table.get(f"{secret}_file"):
                _read_secret(section, secret, table, gathered)


def _read_secret(section: str, secret: str, table: dict[str, Any], gathered: Gathered) -> None:
    path, key = table[f"{secret}_file"], f"{section}.{secret}_file"
    if section in ITEMS:
        key = f"{section}.{table.get('name', '?')}.{secret}_file"
    source = gathered.source((section, f"{secret}_file"))
    if not isinstance(path, str):
        return
    if table.get(secret):
        if gathered.source((section, secret)) == source:
            gathered.problems.append(
                Problem(source, key, f"{secret} is set as well", "leave one of them out")
            )
        return
    try:
        text = Path(path).read_text().rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is not text"
        gathered.problems.append(
            Problem(
                source, key, f"{path!r} cannot be read: {why}", "check the path and its permissions"
            )
        )
        table[secret] = _UNREAD
        return
    if not text:
        gathered.problems.append(
            Problem(source, key, f"{path!r} is empty", "put the secret into the file's first line")
        )
        text = _UNREAD
    table[secret] = text
